"""What a backtest came to, for people: episodes as CSV, figures of each rule, how a candidate differs from what is there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from alerts.backtest import Episode, Outcome

MONTH = timedelta(days=30.4375)
NEAR_S = 300.0      # a candidate's raise this near to an episode of the present rule is the same event


@dataclass(frozen=True)
class Figures:
    """A rule over the stretch: raises, objects that raised, raises a month, hours active, minutes of the middle episode (None:
    none), episodes still active at the end."""

    code: str
    kind: str
    severity: str
    raises: int
    objects: int
    a_month: float
    hours: float
    median_min: float | None
    open_at_end: int


@dataclass(frozen=True)
class Difference:
    """A candidate beside the present rule of its code: raises of both, and those that only one of them has."""

    code: str
    now: int
    candidate: int
    only_now: int
    only_candidate: int


def figures(outcome: Outcome, start: datetime, end: datetime) -> list[Figures]:
    """One row a rule that was run, the busiest first."""
    rows = [_figures(rule.code, rule.kind, rule.severity, [e for e in outcome.episodes if e.rule == rule], start, end)
            for rule in outcome.rules]
    return sorted(rows, key=lambda f: (-f.raises, f.code))


def _figures(code: str, kind: str, severity: str, found: Sequence[Episode], start: datetime, end: datetime) -> Figures:
    lengths = np.array([(end.timestamp() if np.isnan(e.returned_at) else e.returned_at) - e.raised_at for e in found])
    return Figures(code, kind, severity, len(found), len({e.thing for e in found}), len(found) / ((end - start) / MONTH),
                   float(lengths.sum()) / 3600.0, float(np.median(lengths)) / 60.0 if len(lengths) else None,
                   sum(bool(np.isnan(e.returned_at)) for e in found))


def differences(now: Outcome, candidate: Outcome) -> list[Difference]:
    """One row a rule that either side has."""
    codes = sorted({r.code for r in now.rules} | {r.code for r in candidate.rules})
    out = []
    for code in codes:
        a, b = ([e for e in o.episodes if e.rule.code == code] for o in (now, candidate))
        out.append(Difference(code, len(a), len(b), len(_without(a, b)), len(_without(b, a))))
    return out


def _without(mine: Sequence[Episode], theirs: Sequence[Episode]) -> list[Episode]:
    """Episodes of mine that none of theirs about the same object overlaps."""
    def overlaps(a: Episode, b: Episode) -> bool:
        ends = [np.inf if np.isnan(e.returned_at) else e.returned_at for e in (a, b)]
        return a.thing == b.thing and a.raised_at <= ends[1] + NEAR_S and b.raised_at <= ends[0] + NEAR_S
    return [e for e in mine if not any(overlaps(e, other) for other in theirs)]


def episode_csv(episodes: Iterable[Episode], marked: str = "") -> str:
    """CSV of the episodes, instants as the API writes them; `marked` says whose they are where two outcomes are written."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    for e in episodes:
        minutes = "" if np.isnan(e.returned_at) else f"{(e.returned_at - e.raised_at) / 60:.1f}"
        row = [e.rule.code, e.thing, instant(e.raised_at), instant(e.returned_at), minutes, e.rank,
               e.channel or e.rule.kind]
        rows.writerow([marked, *row] if marked else row)
    return out.getvalue()


def instant(at: float) -> str:
    """An epoch as 2026-11-23T03:00:00Z; NaN is nothing."""
    return "" if np.isnan(at) else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def summary(outcome: Outcome, start: datetime, end: datetime, other: Outcome | None) -> list[str]:
    """Lines for a terminal: the stretch, each rule, what was not run, and the candidate's differences."""
    days = (end - start) / timedelta(days=1)
    n = len(outcome.episodes)
    lines = [f"{outcome.n_readings} readings over {days:g} days: {n} raises, {n / days:.2f} a day"]
    for f in figures(outcome, start, end):
        median = "" if f.median_min is None else f", {f.median_min:.1f} min in the middle"
        lines.append(f"  {f.code} ({f.kind}, {f.severity}): {f.raises} raises about {f.objects} objects, "
                     f"{f.a_month:.1f} a month, {f.hours:.1f} h active{median}")
    lines += _left_out(outcome)
    if other is not None:
        lines.append(f"candidate: {len(other.episodes)} raises, {len(other.episodes) / days:.2f} a day")
        lines += _left_out(other)
        lines += [f"  {d.code}: {d.now} -> {d.candidate} raises; {d.only_now} only now, {d.only_candidate} only with the "
                  "candidate" for d in differences(outcome, other)]
    return lines


def _left_out(outcome: Outcome) -> list[str]:
    """What was not judged, and why."""
    return [*(f"  {r.code} ({r.kind}) found nothing to judge: {why}" for r, why in outcome.nothing_for),
            *(f"  {c.rule.code} ({c.rule.kind}): history of {c.points} of {c.of} points comes evenly, but slower than live "
              f"readings do (imported or thinned); {c.share:.1%} of the points' time is left out, silence cannot be told in it"
              for c in outcome.coarse)]
