"""Where collectors take the catalogue from: YAML files (one base), or the database (all bases); both are watched."""

from __future__ import annotations

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
        self._loaded = before = self._mark()  # also when the catalogue is wrong: it is read again when it changes
        catalogue = read_catalogue(self.paths)
        if catalogue.base is None:
            raise InputError(f"expected a `base:` section in {', '.join(map(str, self.paths))}")
        known = self._templates
        self._templates = sorted({Path(d.template) for d in catalogue.devices
                                  if d.template is not None and d.template.endswith((".yaml", ".yml"))})
        self._loaded = before if known == self._templates else self._mark()
        return field_devices(catalogue)

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
        self._heard = False
        self._listener: Connection[TupleRow] | None = None

    def load(self) -> list[FieldDevice]:
        with connect(self.url, name="park collect") as conn:
            devices: list[FieldDevice] = []
            for (code,) in conn.execute(sql.SQL(QUERIES["base_codes"])).fetchall():  # type: ignore[arg-type]
                devices += field_devices(Catalogue.model_validate(export(conn, code)))
            return devices

    def wait_for_change(self, timeout_s: float) -> bool:
        if self._listener is None:
            self._listener = connect(self.url, autocommit=True, name="park collect watch")
            self._listener.execute("LISTEN park_catalogue")
            return self._heard  # after a loss of the connection a change may have passed unheard
        try:
            self._heard = True
            return any(True for _ in self._listener.notifies(timeout=timeout_s, stop_after=1))
        except psycopg.OperationalError as exc:
            self._listener.close()
            self._listener = None
            raise StorageError(f"the database is away: {exc}") from exc


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
