"""Which thresholds the development series would freeze, beside those of `thresholds.yaml`, and what those chosen on one half of
the series are worth on the other.

    python -m alerts.freeze DIR

DIR is that of `alerts.evaluate`, whose figures come first; the made-up meters of `alerts.invented`, in the seeds that were
looked at, stand beside its series. The frozen thresholds have seen both halves. Nothing is written: a table is changed by
hand, and only where it is better on what it was not chosen on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alerts import calibrate, evaluate, invented
from alerts.channels import LONG_WEEKS, Rhythm, channels
from alerts.evaluate import BUDGETS, Labelled
from alerts.rolling import Floats, Ints

REGIMES = ("long", "short", "fine")
TRIED, AHEAD = 20, 8        # thresholds of each channel that are tried, and how many of them are looked ahead
COPIES = 2                  # of the hourly meters, with further faults
FREE = 0.002                # false alarms a month that each step is thought to cost beyond those seen: luck is no proof
Thresholds = Mapping[str, float]        # multiples of the usual size by channel; infinite is silent


@dataclass(frozen=True)
class Trace:
    """A series, where each channel comes near a threshold (steps, multiples), and the runs of those that were asked for."""

    family: str
    half: int
    series: Labelled
    near: dict[str, tuple[Ints, Floats]]
    known: dict[tuple[tuple[str, float], ...], list[tuple[int, int]]] = field(default_factory=dict)

    def starts(self, at: Thresholds) -> Ints:
        """Steps at which alarms begin, as `calibrate.onsets` has them."""
        r = Rhythm.of(self.series.step_s)
        keys: dict[str, tuple[tuple[str, float], ...]] = {}
        for name in self.near:
            keys[calibrate.group_of(name)] = (*keys.get(calibrate.group_of(name), ()), (name, at.get(name, np.inf)))
        found = []
        for group, key in keys.items():
            if key not in self.known:
                hot = [steps[over >= limit] for name, limit in key for steps, over in [self.near[name]]]
                self.known[key] = calibrate.runs(np.unique(np.concatenate(hot)), group, r)
            found += self.known[key]
        out: list[int] = []
        for start, _ in sorted(found):
            if not out or start - out[-1] > calibrate.apart(start, r):
                out.append(start)
        return np.array(out, np.intp)

    def counted(self, at: Thresholds) -> tuple[float, float, float, float]:
        """(faults found, faults, false alarms, months)."""
        (part,) = evaluate.evaluate([self.series], {self.series.name: self.starts(at)}).parts
        return part


def trace(family: str, half: int, s: Labelled, least: Thresholds, young: bool) -> Trace:
    """All of a series that thresholds from `least` on can tell apart; of one that is not young without its first weeks."""
    r = Rhythm.of(s.step_s)
    scores = channels(s.values, s.step_s).scores
    near = {}
    for name, limit in least.items():
        over = calibrate.multiple(name, scores[name], r)
        over[:r.day if young else LONG_WEEKS * r.week] = 0.0
        at = np.flatnonzero(over >= limit)
        near[name] = at, over[at]
    return Trace(family, half, s, near)


def sets(folder: Path, regime: str) -> dict[str, tuple[list[Labelled], int]]:
    """Families of series of a regime, and how many neighbours of each have one origin: these stay in one half."""
    looked_at = {grid[0]: grid for grid in invented.GRIDS}
    def made_up(title: str) -> tuple[list[Labelled], int]:
        return invented.meters(invented.OLD, invented.LOOKED_AT, looked_at[title]), len(invented.LOOKED_AT)
    if regime == "long":
        return {"hourly meters": (evaluate.injected(folder / "energy_inj", COPIES), COPIES),
                **{t: made_up(t) for t in ("hours, 60 weeks, a fault a month", "quarter hours, 20 weeks")}}
    if regime == "fine":
        return {"service metrics": (evaluate.windows(folder / "nab"), 1),
                **{t: made_up(t) for t in ("ten minutes, 12 weeks", "five minutes, 6 weeks")}}
    weeks, n = made_up("hours, 9 weeks, warm-up 2")
    return {"crash rates": (evaluate.flagged(folder / "ms_cloud", "application-crash-rate-*"), 1),
            "hourly meters": (evaluate.young(folder / "energy_inj"), 1),
            "hours, 8 weeks": ([cut(s, LONG_WEEKS * 168) for s in weeks], n)}


def cut(s: Labelled, end: int) -> Labelled:
    """The series up to a step, with the faults that began before it."""
    faults = tuple((kind, a, min(b, end)) for kind, a, b in s.faults if a < end)
    return Labelled(s.name, s.values[:end], s.step_s, faults, s.judged_from)


def worth(traces: Sequence[Trace], at: Thresholds) -> tuple[float, float]:
    """(recall, false alarms a month), each family of series counting alike."""
    families: dict[str, list[tuple[float, ...]]] = {}
    for t in traces:
        families.setdefault(t.family, []).append(t.counted(at))
    total = np.array([np.sum(rows, axis=0) for rows in families.values()])
    some = total[:, 1] > 0
    recall = total[some, 0] / total[some, 1] if some.any() else np.zeros(1)
    return float(np.mean(recall)), float(np.mean(total[:, 2] / total[:, 3]))


def frozen(traces: Sequence[Trace], ladder: Mapping[str, Sequence[float]]) -> dict[float, dict[str, float]]:
    """By budget: from silence on, that channel's threshold comes down which finds most for its false alarms, while these keep
    within the budget."""
    at: dict[str, float] = dict.fromkeys(ladder, np.inf)
    recall, wrong = worth(traces, at)
    out = {}
    for budget in BUDGETS:
        while True:
            steps = []
            for name, rungs in ladder.items():
                for rung in [v for v in rungs if v < at[name]][:AHEAD]:
                    r, w = worth(traces, {**at, name: rung})
                    if w <= budget and r > recall:
                        steps.append(((r - recall) / (max(w - wrong, 0.0) + FREE), name, rung, r, w))
            if not steps:
                break
            _, name, at[name], recall, wrong = max(steps)
        out[budget] = dict(at)
    return out


def present(regime: str) -> dict[float, dict[str, float]]:
    """The table's thresholds by budget; infinite is silent."""
    return {b: {name: np.inf if v is None else v for name, v in calibrate.table()[regime][b].items()} for b in BUDGETS}


def rungs(regime: str) -> dict[str, list[float]]:
    """Thresholds that are tried, from high to low, of every channel that speaks at some budget."""
    spoken = {name: [row[name] for row in present(regime).values() if np.isfinite(row[name])] for name in present(regime)[0.1]}
    return {name: np.geomspace(3 * max(v), min(v) / 1.5, TRIED).round(4).tolist() for name, v in spoken.items() if v}


def report(folder: Path, regime: str) -> str:
    """Thresholds and what they give, on what they were chosen on and on halves that they were not, as Markdown."""
    ladder, now = rungs(regime), present(regime)
    least = {name: min(v) for name, v in ladder.items()}
    traces = [trace(family, i // kin % 2, s, least, regime != "long")
              for family, (series, kin) in sets(folder, regime).items() for i, s in enumerate(series)]
    halves = [[t for t in traces if t.half == half] for half in (0, 1)]
    chosen = frozen(traces, ladder)
    by_half = [frozen(part, ladder) for part in halves]
    lines = [f"| {regime} | budget | " + " | ".join(ladder) + " | recall | false alarms a month |",
             "|---|---|" + "---|" * (2 + len(ladder))]
    for budget in BUDGETS:
        for title, at in (("frozen", now[budget]), ("would freeze", chosen[budget])):
            r, w = worth(traces, at)
            cells = " | ".join(f"{at[n]:.3g}" if np.isfinite(at[n]) else "silent" for n in ladder)
            lines.append(f"| {title} | {budget} | {cells} | {r:.2f} | {w:.2f} |")
    lines += ["", f"| {regime}, held out: recall, false alarms | budget | frozen | chosen on the other half |",
              "|---|---|---|---|"]
    for family in ("all", *sorted({t.family for t in traces})):
        parts = [[t for t in half if family in ("all", t.family)] for half in halves]
        for budget in BUDGETS:
            rows = [[worth(part, now[budget]) for part in parts],
                    [worth(part, by_half[1 - i][budget]) for i, part in enumerate(parts)]]
            cells = " | ".join("{:.2f}, {:.2f}".format(*np.mean(row, axis=0)) for row in rows)
            lines.append(f"| {family} | {budget} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    print("\n\n".join([evaluate.report(Path(sys.argv[1])), *(report(Path(sys.argv[1]), r) for r in REGIMES)]))
