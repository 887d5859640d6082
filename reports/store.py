"""Sealed reports: made once, kept whole, read back and checked against their hash, compared with each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime

import msgspec

from park.errors import Conflict, InputError, NotFound, StorageError
from reports.build import Progress, assemble, read
from reports.facts import SQL, Connection, find_base
from reports.model import Cell, Change, Kind, Place, Report, Sealing, Text, as_sealed, canonical, hash_of, places
from reports.model import read as parse

NOT_COMPARED = ("missing", "versions")
"""Sections that speak about the other figures: comparing them would list every change twice."""


class Edition(msgspec.Struct, frozen=True):
    """A report with its hash and, when it is sealed, its sealing; `data`: what a version that is read back was sealed as."""

    report: Report
    hash: str
    sealing: Sealing | None = None
    data: bytes = b""


def draft(
    conn: Connection,
    base: str,
    kind: Kind,
    year: int,
    as_of: datetime,
    *,
    pinned: bool = False,
    progress: Progress = lambda _: None,
) -> Edition:
    """The report as the data stand at `as_of`, with what differs from the last sealed version; nothing is written."""
    ctx = read(conn, base, kind, year, as_of, pinned=pinned, progress=progress)
    history = versions(conn, base, kind, year)
    first = assemble(ctx)
    if not history:
        return Edition(first, hash_of(first))
    report = assemble(ctx, history, diff(sealed(conn, base, kind, year, history[-1].version).report, first))
    return Edition(report, hash_of(report))


def seal(
    conn: Connection,
    base: str,
    kind: Kind,
    year: int,
    as_of: datetime,
    *,
    by: str,
    reason: str,
    now: datetime,
    pinned: bool = False,
    progress: Progress = lambda _: None,
) -> Edition:
    """Write the next version in one transaction. A first version needs no reason, a restatement does (InputError);
    a restatement that changes no figure is refused (Conflict)."""
    with conn.transaction():
        conn.execute(SQL["lock_reports"], {"base": find_base(conn, base).base_id})
        edition = draft(conn, base, kind, year, as_of, pinned=pinned, progress=progress)
        history = edition.report.history
        if history and not edition.report.restated:
            raise Conflict(
                f"no figure differs from version {history[-1].version}, sealed {history[-1].sealed_at:%Y-%m-%d %H:%M}Z: "
                "nothing to restate"
            )
        if history and not reason:
            raise InputError(
                f"version {history[-1].version} is sealed and {len(edition.report.restated)} figures differ: "
                "a restatement needs --reason"
            )
        sealing = Sealing(history[-1].version + 1 if history else 1, edition.hash, now, by, as_of, reason)
        conn.execute(
            SQL["seal"],
            msgspec.structs.asdict(sealing)
            | {"base": find_base(conn, base).base_id, "kind": kind, "year": year, "data": canonical(edition.report).decode()},
        )
    return Edition(edition.report, edition.hash, sealing)


def versions(conn: Connection, base: str, kind: Kind, year: int) -> list[Sealing]:
    """Sealed versions, oldest first."""
    rows = conn.execute(SQL["versions"], {"base": find_base(conn, base).base_id, "kind": kind, "year": year})
    return [Sealing(v, digest, at, by, as_of, why) for v, digest, at, by, as_of, why in rows]


def sealed(conn: Connection, base: str, kind: Kind, year: int, version: int) -> Edition:
    """One sealed version from its stored data; NotFound naming the versions there are, StorageError when the hash is wrong."""
    of = {"base": find_base(conn, base).base_id, "kind": kind, "year": year, "version": version}
    row = conn.execute(SQL["sealed"], of).fetchone()
    if row is None:
        known = ", ".join(str(s.version) for s in versions(conn, base, kind, year)) or "none"
        raise NotFound(f"there is no sealed version {version} of the {kind} report {base} {year}; sealed: {known}")
    report = parse(row[6].encode())
    data = as_sealed(report, row[6].encode())
    found = hashlib.sha256(data).hexdigest()
    if found != row[1]:
        raise StorageError(
            f"version {version} of {kind} {base} {year} does not match its hash: stored {row[1]}, its data give {found}"
        )
    return Edition(report, row[1], Sealing(*row[:6]), data)


def diff(before: Report, after: Report) -> list[Change]:
    """Figures that differ in value, unit, coverage, grade, factors or reason, in the later report's order; then the gone."""
    old, new = dict(_compared(before)), dict(_compared(after))
    changes = [
        Change(key, place.label, old[key].cell if key in old else None, place.cell, _cause(old.get(key), place))
        for key, place in new.items()
        if key not in old or _differs(old[key].cell, place.cell)
    ]
    return changes + [
        Change(key, place.label, place.cell, None, Text("新版本不再列出", "no longer listed"))
        for key, place in old.items()
        if key not in new
    ]


def _compared(report: Report) -> Iterator[tuple[str, Place]]:
    skipped = {s.title for s in report.sections if s.id in NOT_COMPARED}
    return ((p.cell.id, p) for p in places(report) if p.section not in skipped)


def _differs(a: Cell, b: Cell) -> bool:
    return any(getattr(a, f) != getattr(b, f) for f in ("value", "unit", "coverage", "grade", "factors", "reason"))


def _cause(before: Place | None, after: Place) -> Text:
    """What the cells themselves tell about a change; the writer's reason stands beside the version."""
    if before is None:
        return Text("新增数据", "new figure")
    old, new = before.cell, after.cell
    if old.factors != new.factors:
        gone, come = set(old.factors) - set(new.factors), set(new.factors) - set(old.factors)
        return Text(f"因子行更换：{_ids(gone)} → {_ids(come)}", f"factor rows changed: {_ids(gone)} → {_ids(come)}")
    if old.coverage != new.coverage:
        return Text("补充或更正了监测数据（覆盖率变化）", "data added or corrected (coverage changed)")
    if new.basis in ("declared", "plan", "reference"):
        return Text("填报、计划或参考值更正", "entry, plan or reference corrected")
    return Text("数据更正", "data corrected")


def _ids(factors: set[int]) -> str:
    return ", ".join(f"F{f}" for f in sorted(factors)) or "—"
