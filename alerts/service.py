"""The evaluator's loop: newest readings in, transitions out. Stage order: latest → tick → alert, transition, snapshot.

One evaluator judges a base at a time (it holds the base's advisory lock; others stand by); several may share the bases.
It survives the loss of the database by starting again
from the snapshot and the open alerts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import psycopg

from alerts import baseline, hearing, linkage, live, plant, slow
from alerts.context import Context, load
from alerts.evaluator import State, held_back, limit_band, tick
from alerts.finding import Finding, Key
from alerts.hearing import LIVE_S, Hearing, stall_s
from alerts.holds import Holds
from alerts.meters import Tally
from alerts.part import LOCK, WHOLE, Part
from alerts.rules import Rule, covers
from alerts.store import Connection, Hushed, Q, alert_ids, look_after, open_alerts, write
from park.clock import Clock, utc_now
from park.database import connect
from park.errors import StorageError

log = logging.getLogger("park.alerts")
TICK_S = 0.25
SAVE_S = 5.0
SLOW_S = 30.0
RELOAD_S = 3600.0   # flat history is learned again
STEP_BACK = timedelta(seconds=2)    # a clock that goes back by more has been set: what waits for a later time is due anew
STEP_AHEAD_S = 60.0                 # one that goes ahead by more: nobody was silent for so long
GOES_ON = timedelta(minutes=10)     # after a longer stop nobody knows that a condition lasted


@dataclass
class Evaluator:
    """Everything the loop carries from tick to tick."""

    context: Context
    state: State
    live: live.Live
    open: dict[Key, tuple[bool, str]]
    links: linkage.Memory
    hearing: Hearing
    hours: baseline.Memory
    saved_at: datetime
    stepped_at: datetime
    slow_at: datetime | None = None
    loaded_at: datetime = field(default_factory=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    n_transitions: int = 0
    part: Part = WHOLE
    latched: dict[Key, Finding] = field(default_factory=dict)     # gone, but not acknowledged yet
    held_back: set[Key] = field(default_factory=set)        # conditions of rules that plant or calendar have put out of force
    told: Tally = field(default_factory=Tally)
    holds: Holds = field(default_factory=Holds)


def start(conn: Connection, now: datetime, heard: Hearing | None = None, part: Part = WHOLE,
          told: Tally | None = None) -> Evaluator:
    """An evaluator that goes on where the last one stopped; `heard` is what this process has heard before."""
    context = load(conn, now, part)
    for mistake in context.mistakes:
        log.warning("rule left out: %s", mistake)
    conn.execute(Q["mark_outage"], {"shard": part.shard, "now": now, "bases": sorted(context.zones)})
    row = conn.execute(Q["load_snapshot"], {"shard": part.shard}).fetchone()
    known = open_alerts(conn, part)
    state = live.restore(context, bytes(row[0]) if row else None, known, now.timestamp())
    newest = live.empty(len(context.points))
    live.refresh(conn, context, newest, now.timestamp())
    evaluator = Evaluator(context, state, newest, known, linkage.Memory(), heard or Hearing(now.timestamp()),
                          baseline.Memory(), now, now, loaded_at=now, part=part, told=told or Tally())
    if row is not None and abs(now - row[1]) < GOES_ON:
        live.restore_holds(bytes(row[0]), evaluator.links, evaluator.holds, now.timestamp())
    _commit(conn, evaluator, _orphans(evaluator, now), now)
    return evaluator


def _orphans(e: Evaluator, now: datetime) -> list[Finding]:
    """Active alerts that no rule covers any more would never return: a rule that went takes its alerts along."""
    rules = {(r.base_id, r.rule_id): r for r in e.context.rules}
    pairs = {live.pair_key(p) for p in e.context.pairs}
    instant = {(r.base_id, r.rule_id) for r in e.context.rules if r.instant}
    out = []
    for key, (active, _) in e.open.items():
        rule = rules.get(key[:2])
        covered = key in pairs or key[2:] == (None, None, None)     # the base itself: `hearing` speaks for it
        if key[:2] not in instant:
            covered = rule is not None and _has_object(e.context, rule, key)
        if active and (rule is None or not covered):
            gone = rule or linkage.placeholder(key)
            out.append(Finding(gone, False, now, key[2], key[3], key[4], note="rule no longer covers it"))
    return out


def _has_object(context: Context, rule: Rule, key: Key) -> bool:
    """Whether the object of an alert of a rule that is judged in passes, or a linkage, is still one of the rule's."""
    base, _, point_id, unit_id, _ = key
    if rule.kind == "linkage":
        units = {u.unit_id for link in linkage.links(context, rule) for u in (link.production, link.treatment)}
        return unit_id in units and (point_id is None or (base, point_id) in context.index)
    i = context.index.get((base, point_id or 0))
    p = None if i is None else context.points[i]
    if p is None or not covers(rule, p) or (rule.kind == "limit" and limit_band(rule, p, context.limits) is None):
        return False
    return unit_id is None or p.unit_id == unit_id


def reload(conn: Connection, e: Evaluator, now: datetime) -> Evaluator:
    """The evaluator over the catalogue as it is now; holds that have begun go on."""
    new = start(conn, now, e.hearing, e.part, e.told)
    return replace(new, links=e.links, holds=e.holds, held_back=e.held_back)


def step(conn: Connection, e: Evaluator, now: datetime) -> int:
    """One tick: read what is new, judge, write; returns the number of transitions."""
    live.refresh(conn, e.context, e.live, now.timestamp())
    offline = {(b, d) for b, d in conn.execute(Q["offline_devices"], {"since": now - timedelta(minutes=10)}).fetchall()}
    before, at, e.stepped_at = e.state, now.timestamp(), now
    if abs(at - e.live.news_at) <= LIVE_S:
        e.hearing.hear(at, stall_s(e.context))
    quiet = live.quiet(e.context, before, e.live, e.hearing, at, offline)
    doors = plant.Doors(e.context, e.live, e.links, now)
    ages, mask = at - e.live.at, doors.mask()
    e.state, raised, returned = tick(before, e.live.value, e.live.quality, ages, at, quiet, mask)
    found = live.findings(e.context, before, e.state, e.live, raised, returned, now)
    found += hearing.judge(e.context, e.hearing, now)
    found += linkage.judge(e.context, e.live, e.links, now)
    slow_due = e.slow_at is None or now >= e.slow_at
    if slow_due:
        found += e.holds.due(slow.judge(conn, e.context, e.links, e.hours, now), now)
        e.slow_at = now + timedelta(seconds=SLOW_S)
    allowed = [f for f in found if not f.present or f.late or f.rule.instant or doors.allow(f)]
    if slow_due and doors.bound:
        keys = {f.key for f in found if f.present and not f.late and not f.rule.instant} - {f.key for f in allowed}
        if mask is not None:
            closed = held_back(e.state, e.live.value, e.live.quality, ages, quiet, mask)
            keys |= {live.pair_key(e.context.pairs[i]) for i in closed}
        _count_held_back(e, keys)
    return _commit(conn, e, allowed, now, doors)


def _count_held_back(e: Evaluator, now: set[Key]) -> None:
    """A condition that begins to be held back counts once, by its rule; nothing is written of it."""
    codes = {(r.base_id, r.rule_id): r.code for r in e.context.rules}
    for key in now - e.held_back:
        e.told.held_back(e.context.bases.get(key[0], ""), codes.get(key[:2], ""))
    e.held_back = now


def _commit(conn: Connection, e: Evaluator, found: list[Finding], now: datetime, doors: plant.Doors | None = None) -> int:
    """Write what changes; findings that say what is already so are dropped here, without a query."""
    due = now - e.saved_at >= timedelta(seconds=SAVE_S)
    news = [f for f in found if f.late or _is_news(e.open.get(f.key), f)] + _latched(e, found, due)
    if not news and not due:
        return 0
    hushed = None
    if doors is not None:
        hushed = Hushed(doors.gated(alert_ids(conn)) if doors.bound else [], sorted(e.context.zones))
    done = write(conn, news, (e.part.shard, _memory(e)), hushed)
    if due and hushed is not None:
        done += conn.execute(Q["unshelve_due"]).fetchall() + look_after(conn, hushed)
        done += conn.execute(Q["escalate_due"], hushed.key).fetchall()
    e.saved_at = now if due else e.saved_at
    if done or news:
        e.open = open_alerts(conn, e.part)
    e.n_transitions += len(done)
    for transition, alert, change in done:
        e.told.transition(change)
        log.info("transition %s: alert %s %s", transition, alert, change)
    return len(done)


def _latched(e: Evaluator, found: list[Finding], due: bool) -> list[Finding]:
    """Returns of latched alerts that wait for their acknowledgement, asked for again with every save."""
    for f in found:
        if f.present:
            e.latched.pop(f.key, None)
        elif f.latched:
            e.latched[f.key] = f
    e.latched = {key: f for key, f in e.latched.items() if e.open.get(key, (False, ""))[0]}
    return list(e.latched.values()) if due else []


def _is_news(known: tuple[bool, str] | None, f: Finding) -> bool:
    active, severity = known or (False, "")
    if f.present and active:
        return SEVERITY[f.rank] < SEVERITY[severity]
    return f.present != active


SEVERITY = {"critical": 0, "high": 1, "medium": 2, "low": 3}


def run(url: str, stop: threading.Event, clock: Clock = utc_now, tick_s: float = TICK_S,
        beat: Callable[[], None] = lambda: None, part: Part = WHOLE, told: Tally | None = None) -> None:
    """Evaluate the bases of a part until `stop`, `beat` after each round; a lost database is waited for with back-off."""
    wait_s = 0.5
    while not stop.is_set():
        try:
            with connect(url, autocommit=True, name="park alert") as conn:
                wait_s = 0.5
                _serve(conn, stop, clock, tick_s, beat, part, told)
        except (StorageError, psycopg.Error) as exc:
            log.warning("database is away, next try in %.1f s: %s", wait_s, str(exc).splitlines()[0])
            stop.wait(wait_s)
            wait_s = min(wait_s * 2, 15.0)


def _serve(conn: Connection, stop: threading.Event, clock: Clock, tick_s: float, beat: Callable[[], None], part: Part,
           told: Tally | None) -> None:
    if not _become_the_only_one(conn, stop, beat, part):
        return
    for channel in ("park_catalogue", "park_account", "park_rollup"):
        conn.execute(f"LISTEN {channel}")
    e = start(conn, clock(), part=part, told=told)
    log.info("evaluating %d rules over %d pairs of %d points",
             len(e.context.rules), len(e.context.pairs), len(e.context.points))
    before_s = clock().timestamp() - time.monotonic()
    while not stop.is_set():
        began, now = time.monotonic(), clock()
        ahead_s, before_s = now.timestamp() - began - before_s, now.timestamp() - began
        if ahead_s > STEP_AHEAD_S:
            log.warning("the clock went ahead by %.0f s, or this machine stood still; listening anew", ahead_s)
            e.hearing = Hearing(now.timestamp())
        if now < e.stepped_at - STEP_BACK:
            log.warning("the clock went back by %s; beginning anew", e.stepped_at - now)
            e = start(conn, now, part=part, told=e.told)
        step(conn, e, now)
        beat()
        left = max(0.01, tick_s - (time.monotonic() - began))
        news = {n.channel for n in conn.notifies(timeout=left)}
        if "park_account" in news:
            e.slow_at = min(e.slow_at or clock(), clock() + timedelta(seconds=1))
        if "park_catalogue" in news or (clock() - e.loaded_at).total_seconds() > RELOAD_S:
            commit_snapshot(conn, e)
            if not _become_the_only_one(conn, stop, beat, part):     # a base may be new
                return
            e = reload(conn, e, clock())
    commit_snapshot(conn, e)


def commit_snapshot(conn: Connection, e: Evaluator) -> None:
    conn.execute(Q["save_snapshot"], {"shard": e.part.shard, "state": _memory(e)})


def _memory(e: Evaluator) -> bytes:
    return live.snapshot(e.context, e.state, e.links, e.holds)


def _become_the_only_one(conn: Connection, stop: threading.Event, beat: Callable[[], None], part: Part) -> bool:
    """Hold the lock of every base of the part, or of none while another evaluator has one of them."""
    told = False
    while not stop.is_set():
        conn.execute("SELECT pg_advisory_unlock_all()")
        bases = [b for (b,) in conn.execute("SELECT base_id FROM base ORDER BY base_id").fetchall() if part.has(b)]
        row = conn.execute("SELECT bool_and(pg_try_advisory_lock(%s, b)) FROM unnest(%s::integer[]) b",
                           (LOCK, bases)).fetchone()
        if row is not None and row[0] is not False:
            return True
        conn.execute("SELECT pg_advisory_unlock_all()")
        if not told:
            log.info("another evaluator is at work; standing by")
            told = True
        beat()      # standing by is its duty
        stop.wait(1.0)
    return False
