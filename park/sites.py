"""The bases that one `park up` serves: a catalogue each, with a collector and a port for data loggers of its own.

A base keeps its place among those of the data folder (`bases.json`), in whatever order later starts name them: its spool and
the port of its loggers hang on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from park.broker_access import OWN_SOURCE
from park.catalogue import Catalogue, catalogue_files, read_catalogue
from park.errors import InputError, ParkError

PLACES = "bases.json"
BASE = re.compile(r"^base\s*:", re.MULTILINE)


@dataclass(frozen=True)
class Site:
    """A base with its catalogue and the files that it was read from; `place` counts from 0 within the data folder."""

    catalogue: Catalogue
    files: list[Path]
    place: int = 0

    @property
    def code(self) -> str:
        """The base's code."""
        return self.catalogue.base.code if self.catalogue.base is not None else ""

    @property
    def source(self) -> str:
        """The name of the base's collector, for ever: batches are counted by it."""
        return self.code if self.place else OWN_SOURCE


def read_sites(files: Sequence[Path]) -> tuple[list[Site], list[str]]:
    """The catalogues of files and folders, and what is wrong with those of several that cannot be read.

    They are one catalogue, unless more than one of them has a `base:`: then each is a catalogue of its own, and one with
    mistakes does not keep the others from starting. A single one with mistakes raises them.
    """
    found: list[Site] = []
    wrong: list[str] = []
    parts = _parts(files)
    for part in parts:
        try:
            found.append(_read(part))
        except ParkError as exc:
            if len(parts) == 1:
                raise
            wrong += str(exc).splitlines()
    if not found:
        raise InputError("\n".join(wrong))
    codes = [site.code for site in found]
    for code in {c for c in codes if codes.count(c) > 1}:
        raise InputError(f"two of the catalogues are of base {code}: put their files into one folder")
    return found, wrong


def _read(files: list[Path]) -> Site:
    catalogue = read_catalogue(files)
    if catalogue.base is None:
        raise InputError(f"expected a `base:` section in {', '.join(map(str, files))}")
    return Site(catalogue, files)


def _parts(files: Sequence[Path]) -> list[list[Path]]:
    heads = [f for f in files if any(BASE.search(p.read_text("utf-8", errors="replace")) for p in catalogue_files([f]))]
    if len(heads) < 2:
        return [list(files)]
    for file in files:
        if file not in heads:
            raise InputError(f"{file} has no `base:`, and with several bases nothing says whose it is: put it into the folder "
                             "of its base")
    return [[f] for f in heads]


def placed(sites: Sequence[Site], data_dir: Path) -> list[Site]:
    """The sites with their places in the data folder, a new one after those that are known."""
    known = _known(data_dir)
    known += [site.code for site in sites if site.code not in known]
    return [Site(s.catalogue, s.files, known.index(s.code)) for s in sites]


def keep_places(sites: Sequence[Site], data_dir: Path) -> None:
    """Remember the places of the sites in the data folder."""
    known = _known(data_dir)
    known += [site.code for site in sorted(sites, key=lambda site: site.place) if site.code not in known]
    (data_dir / PLACES).write_text(json.dumps(known), encoding="utf-8")


def _known(data_dir: Path) -> list[str]:
    path = data_dir / PLACES
    codes: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return codes
