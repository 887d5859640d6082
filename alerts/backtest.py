"""`park backtest`: what the present instant rules would have done over stored readings; nothing is written.

The same plan and the same `tick` as live, fed with each instant's readings in order. Rules over hours (emission, baseline,
balance) read tables that accounting has already judged, and are not run again here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from alerts import live
from alerts.context import Context, load
from alerts.evaluator import Floats, Ints, Pair, State, compile_rules, fresh, tick
from alerts.rules import INSTANT, Rule, covers
from alerts.store import Connection, Q
from park.catalogue_store import base_id_of
from park.errors import NotFound

CHUNK = timedelta(days=2)
STEP_S = 1.0        # instants nearer than this are one tick


@dataclass
class Episode:
    """One raise and its return (None: still active at the end), by the readings' own clock."""

    pair: Pair
    raised_at: float
    returned_at: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it: episodes in order of their raise, readings and ticks judged."""

    episodes: list[Episode]
    n_readings: int
    n_ticks: int
    devices: dict[int, str]


def backtest(conn: Connection, base: str, start: datetime, end: datetime, rule: str | None = None) -> Outcome:
    """Run the base's instant rules (or one of them) over [start, end); NotFound names the rules there are."""
    base_id = base_id_of(conn, base)
    context = load(conn, end)
    rules = [r for r in context.rules if r.base_id == base_id and r.kind in INSTANT]
    if rule is not None:
        chosen = [r for r in rules if r.code == rule]
        if not chosen:
            raise NotFound(f"base {base} has no rule {rule!r} that can be run over readings; there are: "
                           f"{', '.join(r.code for r in rules) or 'none'}")
        rules = chosen
    return _run(conn, context, base_id, rules, start, end)


def _run(conn: Connection, context: Context, base_id: int, rules: Sequence[Rule], start: datetime, end: datetime) -> Outcome:
    points = [p for p in context.points if p.base_id == base_id]
    covered = [[i for i, p in enumerate(points) if covers(r, p)] for r in rules]
    plan, pairs = compile_rules(rules, points, covered)
    index = {p.point_id: i for i, p in enumerate(points)}
    newest, state = live.empty(len(points)), fresh(plan)
    episodes: list[Episode] = []
    open_now: dict[int, Episode] = {}
    n_readings = n_ticks = 0
    for at, where, values, quality in _instants(conn, base_id, index, start, end):
        newest.value[where], newest.quality[where], newest.at[where] = values, quality, at
        state = _tick(state, newest, at, pairs, episodes, open_now)
        n_readings, n_ticks = n_readings + len(where), n_ticks + 1
    return Outcome(episodes, n_readings, n_ticks, {d: code for (b, d), code in context.devices.items() if b == base_id})


def _tick(state: State, newest: live.Live, at: float, pairs: list[Pair], episodes: list[Episode],
          open_now: dict[int, Episode]) -> State:
    state, raised, returned = tick(state, newest.value, newest.quality, at - newest.at, at)
    for i in returned.tolist():
        open_now.pop(i).returned_at = at
    for i in raised.tolist():
        open_now[i] = Episode(pairs[i], at)
        episodes.append(open_now[i])
    return state


def _instants(conn: Connection, base_id: int, index: dict[int, int], start: datetime,
              end: datetime) -> Iterator[tuple[float, Ints, Floats, np.ndarray[tuple[int], np.dtype[np.int16]]]]:
    """(epoch, point indexes, values, qualities) of each instant in order, read in chunks of days."""
    while start < end:
        until = min(start + CHUNK, end)
        rows = conn.execute(Q["readings_between"], {"base": base_id, "start": start, "end": until}).fetchall()
        rows = [r for r in rows if r[1] in index]
        if rows:
            at = np.array([r[0] for r in rows], float)
            where = np.array([index[r[1]] for r in rows], np.intp)
            value = np.array([r[2] for r in rows], float)
            quality = np.array([r[3] for r in rows], np.int16)
            cut = np.flatnonzero(np.diff(np.floor(at / STEP_S)) > 0) + 1
            for part in np.split(np.arange(len(at)), cut):
                yield float(at[part[-1]]), where[part], value[part], quality[part]
        start = until


def table(outcome: Outcome, zone_offset: timedelta) -> list[tuple[str, str, str, str, str]]:
    """(rule, object, raised, returned, minutes) of each episode for people; local time."""
    def local(at: float | None) -> str:
        return "" if at is None else (datetime.fromtimestamp(at, UTC) + zone_offset).strftime("%Y-%m-%d %H:%M:%S")

    rows = []
    for e in outcome.episodes:
        thing = e.pair.point.code if e.pair.point else outcome.devices.get(e.pair.device_id or 0, "")
        minutes = "" if e.returned_at is None else f"{(e.returned_at - e.raised_at) / 60:.1f}"
        rows.append((e.pair.rule.code, thing, local(e.raised_at), local(e.returned_at), minutes))
    return rows
