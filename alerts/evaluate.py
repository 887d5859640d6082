"""What the anomaly core finds on labelled development series, beside a random control: the tables of docs/detection.md.

    python -m alerts.evaluate DIR

DIR holds `energy_inj/` (hourly meters, injected faults), `nab/`, `ms_cloud/` and `skab/`, as their publishers ship them;
the data are not part of this project. An onset must fall inside the labelled fault; every other onset is a false alarm.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from alerts import calibrate, group, inject
from alerts.channels import channels
from alerts.rolling import Floats

BUDGETS = (0.1, 0.3, 1.0)
FACTORS = tuple(np.geomspace(0.6, 2.0, 25).tolist())
EARLY = 0.15            # the first part of a series without given warm-up is not judged


@dataclass(frozen=True)
class Labelled:
    """A series with its faults (kind, first step, step after the last); `judged_from` is the warm-up."""

    name: str
    values: Floats
    step_s: float
    faults: tuple[tuple[str, int, int], ...]
    judged_from: int


@dataclass(frozen=True)
class Result:
    """Hits by fault in the order of the series, false alarms, series-months, delays in steps of the hits."""

    hits: tuple[tuple[str, bool, int], ...]
    false_alarms: int
    months: float
    parts: tuple[tuple[int, int, int, float], ...] = ()     # (hits, faults, false alarms, months) of each series

    @property
    def recall(self) -> float:
        return float(np.mean([h for _, h, _ in self.hits])) if self.hits else 0.0

    @property
    def a_month(self) -> float:
        return self.false_alarms / self.months

    @property
    def f1(self) -> float:
        n = sum(h for _, h, _ in self.hits)
        precision = n / max(n + self.false_alarms, 1)
        return 2 * precision * self.recall / max(precision + self.recall, 1e-9)


def evaluate(series: Sequence[Labelled], onsets: Mapping[str, Iterable[int]]) -> Result:
    """Onsets against labels."""
    hits: list[tuple[str, bool, int]] = []
    false_alarms, months = 0, 0.0
    parts: list[tuple[int, int, int, float]] = []
    for s in series:
        before = len(hits)
        at = np.array(sorted(o for o in onsets[s.name] if o >= s.judged_from), int)
        long = (len(s.values) - s.judged_from) * s.step_s / calibrate.MONTH_S
        months += long
        inside = np.zeros(len(at), bool)
        for kind, first, end in s.faults:
            if end <= s.judged_from:
                continue
            here = (at >= first) & (at < end)
            inside |= here
            hits.append((kind, bool(here.any()), int(at[here][0] - first) if here.any() else -1))
        wrong = int(np.count_nonzero(~inside))
        false_alarms += wrong
        parts.append((sum(h for _, h, _ in hits[before:]), len(hits) - before, wrong, long))
    return Result(tuple(hits), false_alarms, months, tuple(parts))


def ours(series: Sequence[Labelled], budgets: Sequence[float] = BUDGETS) -> dict[float, Result]:
    """The core's result at each budget, with the thresholds as they are frozen."""
    scores = {s.name: channels(s.values, s.step_s).scores for s in series}
    return {b: evaluate(series, {s.name: [o[0] for o in calibrate.onsets(
        calibrate.judge(scores[s.name], s.step_s, b), s.step_s)] for s in series}) for b in budgets}


def left_out(series: Sequence[Labelled], budget: float) -> Result:
    """Each series at the thresholds that keep all others within the budget: the frozen ones times the least of FACTORS that
    does. What a budget is worth on a series that nobody has looked at."""
    tried = [[_alone(s, channels(s.values, s.step_s).scores, budget, f) for f in FACTORS] for s in series]
    wrong = np.array([[r.false_alarms for r in row] for row in tried])
    months = np.array([row[0].months for row in tried])
    out = []
    for i, row in enumerate(tried):
        rate = (wrong.sum(axis=0) - wrong[i]) / (months.sum() - months[i])
        over = np.flatnonzero(rate > budget)
        out.append(row[min(over[-1] + 1, len(FACTORS) - 1) if len(over) else 0])
    return Result(tuple(h for r in out for h in r.hits), sum(r.false_alarms for r in out), float(months.sum()))


def _alone(s: Labelled, scores: Mapping[str, Floats], budget: float, factor: float) -> Result:
    verdict = calibrate.judge({name: score / factor for name, score in scores.items()}, s.step_s, budget)
    return evaluate([s], {s.name: [o[0] for o in calibrate.onsets(verdict, s.step_s)]})


def control(series: Sequence[Labelled], a_month: float, seed: int = 7) -> Result:
    """Onsets at random times, as many as give this number of false alarms a month."""
    rng = np.random.default_rng(seed)
    onsets = {}
    for s in series:
        months = (len(s.values) - s.judged_from) * s.step_s / calibrate.MONTH_S
        onsets[s.name] = rng.integers(s.judged_from, len(s.values), rng.poisson(a_month * months)).tolist()
    return evaluate(series, onsets)


def interval(result: Result, n: int = 2000, seed: int = 11) -> tuple[float, float]:
    """95 % bootstrap interval of the recall, over faults."""
    rng = np.random.default_rng(seed)
    h = np.array([x for _, x, _ in result.hits], float)
    drawn = h[rng.integers(0, len(h), (n, len(h)))].mean(axis=1)
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def over_series(result: Result, n: int = 2000, seed: int = 11) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % bootstrap intervals of (false alarms a month, event F1), over series."""
    rng = np.random.default_rng(seed)
    part = np.array(result.parts, float)
    hits, faults, wrong, months = part[rng.integers(0, len(part), (n, len(part)))].sum(axis=1).T
    f1 = 2 * hits / np.maximum(hits + wrong + faults, 1e-9)
    def edges(v: Floats) -> tuple[float, float]:
        return float(np.quantile(v, 0.025)), float(np.quantile(v, 0.975))
    return edges(wrong / months), edges(f1)


def young(folder: Path) -> list[Labelled]:
    """The first eight weeks of the hourly meters, in which nothing is injected: all that is found there is wrong."""
    return [Labelled(s.name, s.values[:8 * 168], s.step_s, (), 24) for s in energy(folder)]


def energy(folder: Path) -> list[Labelled]:
    """Hourly meters with injected faults; the first 183 days are clean and are warm-up."""
    raw = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    out = []
    for name, faults in raw["labels"].items():
        values = np.array([_number(r[1]) for r in _rows(folder / f"{name}.csv.gz")])
        labels = tuple((f["kind"], f["i0"], f["i1"]) for f in faults)
        out.append(Labelled(name, values, 3600.0, labels, raw["eval_from_index"]))
    return out


def injected(folder: Path, copies: int = 3) -> list[Labelled]:
    """Copies of the hourly meters with further faults of the same kinds at other places (`alerts.inject`)."""
    out = []
    for i, s in enumerate(energy(folder)):
        for copy in range(copies):
            values, faults = inject.faulty_copy(s.values, s.faults, s.judged_from, seed=1000 * copy + i)
            out.append(Labelled(f"{s.name} {copy}", values, s.step_s, faults, s.judged_from))
    return out


def windows(folder: Path) -> list[Labelled]:
    """NAB: five-minute series with labelled windows."""
    raw = json.loads((folder / "combined_windows.json").read_text(encoding="utf-8"))
    return [_on_grid(f.name, _rows(f), [(_epoch(a), _epoch(b)) for a, b in raw.get(f"{f.parent.name}/{f.name[:-3]}", [])])
            for f in sorted(folder.glob("*/*.csv.gz"))]


def flagged(folder: Path, names: str) -> list[Labelled]:
    """Series with a label of 0 or 1 a row."""
    out = []
    for f in sorted(folder.glob(f"{names}/*.csv.gz")):
        rows = _rows(f)
        step = float(np.median(np.diff([_epoch(r[0]) for r in rows])))
        marked = [_epoch(r[0]) for r in rows if r[2].strip() == "1"]
        events: list[tuple[float, float]] = []
        for at in marked:
            if events and at - events[-1][1] <= step * 0.5:
                events[-1] = (events[-1][0], at + step)
            else:
                events.append((at, at + step))
        out.append(_on_grid(f.name, rows, events))
    return out


FOREIGN = {             # folder, columns: hourly families on which no threshold was chosen
    "grid load of two regions": ("pjm", (1,)), "outdoor temperature and pressure, three stations": ("prsa", (11, 12)),
    "gas turbine: temperature, filter and yield, three years": ("gas_turbine", (0, 3, 7)),
    "outdoor air pollutants, three stations": ("prsa", (5, 6, 7, 8, 9, 10)),
    "gas turbine: CO and NOx": ("gas_turbine", (9, 10))}


def foreign(folder: Path, columns: Sequence[int]) -> list[Labelled]:
    """Series without labels, hour by hour in the order of their files: nobody knows which of what is found there is true."""
    out = []
    for file in sorted(folder.glob("*.csv.gz")):
        rows = _rows(file)
        if folder.name == "pjm":
            rows.sort()         # shipped in another order
        for c in columns:
            values = np.array([np.nan if r[c] in ("", "NA") else float(r[c]) for r in rows])
            out.append(Labelled(f"{file.name} {c}", values, 3600.0, (), 8 * 168))
    return out


def _on_grid(name: str, rows: list[list[str]], events: Sequence[tuple[float, float]]) -> Labelled:
    at = np.array([_epoch(r[0]) for r in rows])
    step = float(np.median(np.diff(at)))
    index = np.round((at - at[0]) / step).astype(int)
    values = np.full(int(index[-1]) + 1, np.nan)
    values[index] = [_number(r[1]) for r in rows]
    faults = tuple(("event", round((a - at[0]) / step), round((b - at[0]) / step)) for a, b in events)
    return Labelled(name, values, step, faults, int(EARLY * len(values)))


def _rows(file: Path) -> list[list[str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as f:
        return list(csv.reader(f))[1:]


def _number(text: str) -> float:
    return float(text) if text.strip() else np.nan


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "")).replace(tzinfo=UTC).timestamp()


def water_loop(folder: Path, budget: float) -> tuple[float, float]:
    """(F1, false-alarm rate) a row of SKAB's valve2 with the group distance; the reference is warm-up."""
    tp = fp = fn = tn = 0
    for file in sorted(folder.glob("valve2/*.csv.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as f:
            table = np.array([[float(c) for c in line.strip().split(";")[1:]] for line in f.readlines()[1:]])
        hot = group.judge(table[:, :8].T.copy(), budget).hot[group.REFERENCE:]
        wrong = table[group.REFERENCE:, 8] > 0
        tp, fp = tp + int((hot & wrong).sum()), fp + int((hot & ~wrong).sum())
        fn, tn = fn + int((~hot & wrong).sum()), tn + int((~hot & ~wrong).sum())
    return 2 * tp / (2 * tp + fp + fn), fp / (fp + tn)


def report(folder: Path) -> str:
    """The tables as Markdown, of the sets that are in the folder."""
    sets: dict[str, Callable[[], list[Labelled]]] = {
        "hourly meters, injected faults": lambda: energy(folder / "energy_inj"),
        "the same with 650 further faults of our own": lambda: injected(folder / "energy_inj"),
        "five-minute service metrics (NAB, 28 series)": lambda: windows(folder / "nab"),
        "hourly crash rates (19 series)": lambda: flagged(folder / "ms_cloud", "application-crash-rate-*"),
        "minute request rates (4 series)": lambda: flagged(folder / "ms_cloud", "mongodb*")}
    lines = ["| set | budget | recall (95 %) | false alarms a month (95 %) | event F1 (95 %) "
             "| random control: recall at the same rate |",
             "|---|---|---|---|---|---|"]
    kinds = ""
    for title, load in sets.items():
        series = load()
        results = ours(series)
        for budget, r in results.items():
            low, high = interval(r)
            chance = np.mean([control(series, r.a_month, seed).recall for seed in range(20)])
            rate, f1 = over_series(r)
            lines.append(f"| {title} | {budget} | {r.recall:.2f} ({low:.2f}–{high:.2f}) | {r.a_month:.2f} "
                         f"({rate[0]:.2f}–{rate[1]:.2f}) | {r.f1:.2f} ({f1[0]:.2f}–{f1[1]:.2f}) | {chance:.2f} |")
        kinds = kinds or _by_kind(results)
    loop = ["| budget | F1 | false-alarm rate |", "|---|---|---|"]
    loop += [f"| {b} | {f:.2f} | {a:.1%} |" for b in BUDGETS for f, a in [water_loop(folder / "skab", b)]]
    first = [f"- {b}: {r.a_month:.2f} ({low:.2f}–{high:.2f})" for b, r in ours(young(folder / "energy_inj")).items()
             for (low, high), _ in [over_series(r)]]
    return "\n".join([*lines, "", kinds, "", *loop, "", *first, "", _left_out_table(
        {"five-minute service metrics": windows(folder / "nab"),
         "hourly crash rates": flagged(folder / "ms_cloud", "application-crash-rate-*")}), "", _foreign_table(folder)])


def _foreign_table(folder: Path) -> str:
    lines = ["| alarms a series-month, true or false | series | " + " | ".join(f"budget {b}" for b in BUDGETS) + " |",
             "|---|---|" + "---|" * len(BUDGETS)]
    for title, (name, columns) in FOREIGN.items():
        series = foreign(folder / name, columns)
        cells = " | ".join(f"{r.a_month:.2f}" for r in ours(series).values())
        lines.append(f"| {title} | {len(series)} | {cells} |")
    return "\n".join(lines)


def _left_out_table(sets: Mapping[str, Sequence[Labelled]]) -> str:
    lines = ["| each series at thresholds chosen on the others | budget | recall | false alarms a month | event F1 |",
             "|---|---|---|---|---|"]
    for title, series in sets.items():
        for budget in BUDGETS:
            r = left_out(series, budget)
            lines.append(f"| {title} | {budget} | {r.recall:.2f} | {r.a_month:.2f} | {r.f1:.2f} |")
    return "\n".join(lines)


def _by_kind(results: Mapping[float, Result]) -> str:
    lines = ["| kind | faults | " + " | ".join(f"recall at {b}" for b in results) + " | median delay (steps, at 0.3) |",
             "|---|---|" + "---|" * (len(results) + 1)]
    first = next(iter(results.values()))
    for kind in sorted({k for k, _, _ in first.hits}):
        part = {b: [(h, d) for k, h, d in r.hits if k == kind] for b, r in results.items()}
        cells = " | ".join(f"{np.mean([h for h, _ in p]):.2f}" for p in part.values())
        delays = [d for h, d in part[0.3] if h]
        lines.append(f"| {kind} | {len(part[0.3])} | {cells} | {f'{np.median(delays):g}' if delays else '—'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    print(report(Path(sys.argv[1])))
