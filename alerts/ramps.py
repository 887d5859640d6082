"""How soon a slow change is found, by its size and by how restless the meter is by itself: a table of docs/detection.md.

    python -m alerts.ramps DIR

DIR as of `alerts.evaluate`. A copy of a sound stretch of an hourly meter grows by a straight line; the same stretch without it
says what would have been found there by chance.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alerts import calibrate
from alerts.channels import channels
from alerts.evaluate import BUDGETS, Labelled, energy
from alerts.rolling import Floats, mean_of_last, quantile_of_lags

HOUR = 3600.0
WEEK, DAY = 168, 24
SIZES = (0.05, 0.1, 0.2, 0.4, 0.8)      # growth after a week; it goes on at the same pace
PLACES = 4
AHEAD, LONG = 30 * WEEK, 3 * WEEK       # steps before the place that are scored (the past), and of the ramp
CLEAR = 5 * WEEK                        # steps to the nearest injected fault
DAYS = (7, 14)


def noise(x: Floats) -> float:
    """Usual size of a week's mean against those of the six weeks before, in logarithms: 0.06 is 6 %."""
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.log(mean_of_last(np.maximum(x, 0.0), WEEK, WEEK // 2))
    d = y - quantile_of_lags(y, [k * WEEK for k in range(1, 7)], least=3)
    return float(1.4826 * np.nanmedian(np.abs(d[np.isfinite(d)])))


def places(s: Labelled, seed: int) -> list[int]:
    """Steps at which a ramp may begin: far from faults and gaps."""
    rng = np.random.default_rng(seed)
    out: list[int] = []
    for at in rng.permutation(np.arange(max(s.judged_from, AHEAD), len(s.values) - LONG)).tolist():
        near = any(at - CLEAR < end and first < at + LONG for _, first, end in s.faults)
        apart = all(abs(at - other) > LONG for other in out)
        if not near and apart and not np.isnan(s.values[at - WEEK:at + LONG]).any():
            out.append(at)
        if len(out) == PLACES:
            break
    return out


def delays(x: Floats, begin: int) -> list[float]:
    """Days from `begin` to the first onset, at each budget; infinite where there is none."""
    scores = channels(x, HOUR).scores
    out = []
    for budget in BUDGETS:
        at = [o[0] for o in calibrate.onsets(calibrate.judge(scores, HOUR, budget), HOUR) if o[0] >= begin]
        out.append((at[0] - begin) / DAY if at else np.inf)
    return out


def measured(series: Sequence[Labelled]) -> tuple[Floats, Floats]:
    """((N,) noise of the meter, (N, 1 + sizes, budgets) days until found, of no ramp first) of all places."""
    loud, rows = [], []
    for i, s in enumerate(series):
        own = noise(s.values[:s.judged_from])
        for at in places(s, i):
            part = s.values[at - AHEAD:at + LONG]
            grown = np.maximum(np.arange(len(part)) - AHEAD, 0) / WEEK
            rows.append([delays(part * (1 + size * grown), AHEAD) for size in (0.0, *SIZES)])
            loud.append(own)
    return np.array(loud), np.array(rows)


def report(folder: Path) -> str:
    """The table as Markdown."""
    loud, days = measured(energy(folder / "energy_inj"))
    edges = np.quantile(loud, [1 / 3, 2 / 3])
    groups = {f"steady: a week's mean moves by less than {edges[0]:.1%} by itself": loud < edges[0],
              f"middling: {edges[0]:.1%} to {edges[1]:.1%}": (loud >= edges[0]) & (loud < edges[1]),
              f"restless: more than {edges[1]:.1%}": loud >= edges[1]}
    lines = ["| hourly meters, found within 7 / 14 days | growth a week | " + " | ".join(f"budget {b}" for b in BUDGETS) + " |",
             "|---|---|" + "---|" * len(BUDGETS)]
    for title, here in groups.items():
        for k, size in enumerate((0.0, *SIZES)):
            cells = [" / ".join(f"{np.mean(days[here, k, b] <= d):.2f}" for d in DAYS) for b in range(len(BUDGETS))]
            lines.append(f"| {title} | {f'+{size:.0%}' if size else 'none: chance'} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    print(report(Path(sys.argv[1])))
