"""Where collectors take the catalogue from: YAML files (one base), the database (all bases), or files with what the database
adds to them (`park up`); all are watched."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from collectors.park_devices import FieldDevice, field_devices
from park.catalogue import Catalogue, catalogue_files, read_catalogue
from park.catalogue_store import export
from park.database import connect, queries
from park.errors import InputError, StorageError

QUERIES = queries(Path(__file__).parent / "queries.sql")
log = logging.getLogger(__name__)


class CatalogueSource(Protocol):
    """A catalogue that can be loaded again when it changes. Both calls block: use a thread."""

    def load(self) -> list[FieldDevice]:
        """All devices; InputError with every mistake."""

    def wait_for_change(self, timeout_s: float) -> bool:
        """True as soon as the catalogue has changed since the last load, False after the time."""


class FileCatalogue:
    """YAML files; a folder stands for all its YAML files. Template files that devices name by path are watched too."""

    def __init__(self, paths: Sequence[Path], poll_s: float = 1.0) -> None:
        self.paths = list(paths)
        self.poll_s = poll_s
        self._loaded = ""
        self._templates: list[Path] = []

    def _mark(self) -> str:
        marks = []
        for file in (*catalogue_files(self.paths), *self._templates):
            try:
                stat = file.stat()
                marks.append(f"{file}:{stat.st_mtime_ns}:{stat.st_size}")
            except OSError:
                marks.append(f"{file}:gone")
        return "\n".join(marks)

    def load(self) -> list[FieldDevice]:
        return field_devices(self.read())

    def read(self) -> Catalogue:
        """The catalogue of the base; InputError with every mistake."""
        self._loaded = before = self._mark()  # also when the catalogue is wrong: it is read again when it changes
        catalogue = read_catalogue(self.paths)
        if catalogue.base is None:
            raise InputError(f"expected a `base:` section in {', '.join(map(str, self.paths))}")
        known = self._templates
        self._templates = sorted({Path(d.template) for d in catalogue.devices
                                  if d.template is not None and d.template.endswith((".yaml", ".yml"))})
        self._loaded = before if known == self._templates else self._mark()
        return catalogue

    def wait_for_change(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while True:
            if self._mark() != self._loaded:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(self.poll_s, max(0.01, deadline - time.monotonic())))


class DatabaseCatalogue:
    """The catalogue tables of all bases; `park catalogue apply` notifies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._listener: Connection[TupleRow] | None = None

    def load(self) -> list[FieldDevice]:
        return [d for catalogue in self.read() for d in field_devices(catalogue)]

    def read(self) -> list[Catalogue]:
        """The catalogue of every base; a change after this is heard."""
        self._listen()
        with connect(self.url, name="park collect") as conn:
            codes = conn.execute(sql.SQL(QUERIES["base_codes"])).fetchall()  # type: ignore[arg-type]
            return [Catalogue.model_validate(export(conn, code)) for (code,) in codes]

    def _listen(self) -> Connection[TupleRow]:
        if self._listener is None:
            self._listener = connect(self.url, autocommit=True, name="park collect watch")
            self._listener.execute("LISTEN park_catalogue")
        return self._listener

    def wait_for_change(self, timeout_s: float) -> bool:
        if self._listener is None:
            self._listen()
            return True  # what changed since the last load passed unheard
        try:
            return any(True for _ in self._listener.notifies(timeout=timeout_s, stop_after=1))
        except psycopg.OperationalError as exc:
            self._listener.close()
            self._listener = None
            raise StorageError(f"the database is away: {exc}") from exc


class FilesAndDatabase:
    """Files, and what the database has of their base beside them: adopted data loggers, other files that were applied.

    What the files say of a device or point counts; they also serve alone while the database is away, with what it said last.
    """

    def __init__(self, files: FileCatalogue, database: DatabaseCatalogue) -> None:
        self.files = files
        self.database = database
        self._beside: Catalogue | None = None
        self._away = True

    def load(self) -> list[FieldDevice]:
        own = self.files.read()
        assert own.base is not None
        code = own.base.code
        try:
            self._beside = next((c for c in self.database.read() if c.base is not None and c.base.code == code), None)
            self._away = False
        except (StorageError, psycopg.Error) as exc:
            self._lost(exc)
        return field_devices(own if self._beside is None else beside(own, self._beside))

    def wait_for_change(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if self.files.wait_for_change(0):
                return True
            try:
                if self.database.wait_for_change(min(self.files.poll_s, left)):
                    return True
            except StorageError as exc:
                self._lost(exc)
                time.sleep(min(self.files.poll_s, left))
        return False

    def _lost(self, exc: Exception) -> None:
        if not self._away:
            log.warning("the catalogue's files are read alone: %s", exc)
        self._away = True


def beside(own: Catalogue, stored: Catalogue) -> Catalogue:
    """`own` with the points and devices that only `stored` has. A device that its points left for one of `own` (it was given
    another code), or whose MN one of `own` has, stays out."""
    codes = {p.code for p in own.points}
    points = [p for p in stored.points if p.code not in codes and p.source is not None]
    feeding = {p.source.device for p in points if p.source is not None}
    left = {p.source.device for p in stored.points if p.source is not None} - feeding
    names, mns = {d.code for d in own.devices}, {d.mn for d in own.devices if d.mn}
    devices = [d for d in stored.devices if d.code not in names | left and d.mn not in mns]
    return own.model_copy(update={"points": [*own.points, *points], "devices": [*own.devices, *devices]})


@dataclass(frozen=True)
class OwnPart:
    """What one of several collectors reads of a catalogue that all of them have.

    Devices whose attribute `collector` names it, where any does; otherwise those that name none.
    """

    catalogue: CatalogueSource
    collector: str

    def load(self) -> list[FieldDevice]:
        devices = self.catalogue.load()
        told = [(d, d.device.attributes.get("collector")) for d in devices]
        mine = [d for d, name in told if name == self.collector]
        return mine or [d for d, name in told if name is None]

    def wait_for_change(self, timeout_s: float) -> bool:
        return self.catalogue.wait_for_change(timeout_s)
