"""Files of an edition in the asked formats, each written beside its final name first: a reader never finds half a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from park.errors import InputError
from reports.model import Language, canonical
from reports.present import Document, present
from reports.store import Edition

FORMATS = ("docx", "xlsx", "pdf", "html", "json")


def file_stem(edition: Edition, language: Language) -> str:
    """`mini-annual-2026-v1-zh`, or `-draft-` for a report that is not sealed."""
    report, s = edition.report, edition.sealing
    return f"{report.base.code}-{report.kind}-{report.year}-{'draft' if s is None else f'v{s.version}'}-{language}"


def write_files(
    edition: Edition, language: Language, formats: Sequence[str], folder: Path, progress: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Write the formats and return their paths in the order asked for; InputError for a folder that cannot be written."""
    check_folder(folder)
    document, paths = present(edition, language), []
    for name in formats:
        progress(name)
        path = folder / f"{file_stem(edition, language)}.{name}"
        part = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            _write(edition, document, name, part)
            part.replace(path)
        except OSError as exc:
            raise InputError(f"cannot write {path}: {exc}") from exc
        finally:
            part.unlink(missing_ok=True)
        paths.append(path)
    return paths


def check_folder(folder: Path) -> None:
    """Make the folder; InputError when it is not one that can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}-probe"
        probe.touch()
        probe.unlink()
    except OSError as exc:
        raise InputError(f"cannot write to the folder {folder}: {exc}") from exc


def _write(edition: Edition, document: Document, name: str, path: Path) -> None:
    if name == "docx":
        from reports.docx_file import write_docx

        write_docx(document, path)
    elif name == "xlsx":
        from reports.xlsx_file import write_xlsx

        write_xlsx(edition, document, path)
    elif name == "html":
        from reports.html_file import write_html

        write_html(document, path)
    elif name == "pdf":
        from reports.pdf_file import write_pdf

        write_pdf(document, path)
    else:
        path.write_bytes(edition.data or canonical(edition.report))
