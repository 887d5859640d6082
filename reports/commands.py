"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from park.choices import some_of

if TYPE_CHECKING:
    from reports.facts import Connection
    from reports.model import Kind, Language
    from reports.store import Edition

GROUPS: dict[str, str] = {}


class KindChoice(enum.StrEnum):
    """Kinds of reports."""

    annual = "annual"
    midterm = "midterm"
    final = "final"


class LanguageChoice(enum.StrEnum):
    """Languages of documents."""

    zh = "zh"
    en = "en"


def _formats(text: str) -> str:
    from reports.write import FORMATS

    return some_of(text, FORMATS)


def report(
    base: Annotated[str, typer.Argument(help="code of the base")],
    kind: Annotated[KindChoice, typer.Argument(help="annual summary, midterm or final self-assessment")],
    year: Annotated[int, typer.Argument(help="the year, or the last year of the period", min=2000, max=2100)],
    lang: Annotated[LanguageChoice | None, typer.Option(help="language; default: PARK_LANGUAGE")] = None,
    format: Annotated[
        str, typer.Option(help="some of docx, xlsx, pdf, html, json, by commas", callback=_formats)] = "docx,xlsx,html",
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the files")] = Path(),
    seal: Annotated[bool, typer.Option("--seal", help="seal this version: it is kept with its hash and never edited")] = False,
    as_of: Annotated[
        str | None,
        typer.Option(help="figures, factors, targets, limits and ledger as known at this instant (2026-11-23T00:00:00Z) "
                          "or at the end of this base-local day (2026-11-22)"),
    ] = None,
    reason: Annotated[str, typer.Option(help="why a sealed report is restated")] = "",
    by: Annotated[str, typer.Option(help="who seals it; default: the login of this machine")] = "",
    version: Annotated[int | None, typer.Option(help="write a sealed version again from its stored data", min=1)] = None,
    diff: Annotated[str | None, typer.Option(help="print what changed between two sealed versions, such as 1,2")] = None,
) -> None:
    """Write the report that a base files: targets, energy and carbon, resources, pollution, operation, incidents.

    Every figure carries its coverage and grade; what is missing is a dash with its reason, never a zero. The paths of the
    files are printed on standard output. 发改办环资〔2020〕519号要求的年度总结及中期、终期评估自评报告。
    """
    from park.database import connect
    from park.settings import load_settings
    from reports.write import check_folder, write_files

    settings = load_settings()
    language: Language = "en" if (lang.value if lang else settings.language) == "en" else "zh"
    _check_use(seal=seal, as_of=as_of, version=version, diff=diff)
    with connect(settings.database_url, autocommit=True, name="park report") as conn:
        if diff is not None:
            _print_changes(conn, base, kind.value, year, diff, language)
            return
        check_folder(output)
        with _Progress() as progress:
            from reports import store

            if version is not None:
                edition = store.sealed(conn, base, kind.value, year, version)
            else:
                edition = _edition(conn, base, kind.value, year, as_of, seal, by, reason, progress)
            paths = write_files(edition, language, format.split(","), output, progress.tell)
    for path in paths:
        print(path.resolve())


def _check_use(*, seal: bool, as_of: str | None, version: int | None, diff: str | None) -> None:
    asked = [n for n, given in (("--version", version is not None), ("--diff", diff is not None)) if given]
    if asked and (seal or as_of is not None or len(asked) > 1):
        raise typer.BadParameter(f"{asked[0]} reads sealed versions: it does not go together with --seal, --as-of or the other")


def _edition(
    conn: Connection, base: str, kind: Kind, year: int, as_of: str | None, seal: bool, by: str, reason: str, progress: _Progress
) -> Edition:
    import getpass

    from park.clock import parse_as_of, utc_now
    from reports import store
    from reports.facts import find_base

    now = utc_now()
    instant = (parse_as_of(as_of, find_base(conn, base).timezone, now) if as_of else now).replace(microsecond=0)
    if not seal:
        return store.draft(conn, base, kind, year, instant, pinned=as_of is not None, progress=progress.tell)
    return store.seal(
        conn,
        base,
        kind,
        year,
        instant,
        by=by or getpass.getuser(),
        reason=reason,
        now=now,
        pinned=as_of is not None,
        progress=progress.tell,
    )


def _print_changes(conn: Connection, base: str, kind: Kind, year: int, versions: str, language: Language) -> None:
    from park.errors import InputError
    from reports.present import note, number
    from reports.store import diff, sealed

    parts = versions.split(",")
    if len(parts) != 2 or not all(p.strip().isdigit() for p in parts):
        raise InputError(f"expected two versions such as 1,2, got {versions!r}")
    a, b = (sealed(conn, base, kind, year, int(p)) for p in parts)
    for change in diff(a.report, b.report):
        before, after = (f"{number(c)} {c.unit} [{note(c, language)}]" if c else "∅" for c in (change.before, change.after))
        print(f"{change.place.of(language)}: {before} -> {after}  ({change.cause.of(language)})")


class _Progress:
    """A spinner on standard error while a person watches, nothing in a pipe."""

    def __init__(self) -> None:
        from rich.console import Console

        self._status = Console(stderr=True).status("report")

    def tell(self, step: str) -> None:
        """Name the present step."""
        self._status.update(f"report: {step}")

    def __enter__(self) -> _Progress:
        self._status.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.__exit__(None, None, None)


COMMANDS: dict[str, Callable[..., None]] = {"report": report}
