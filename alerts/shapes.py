"""False alarms on series of any shape in which nothing is wrong: counts, set points, tails, gaps: a table of docs/detection.md.

    python -m alerts.shapes

Unlike the loads of `alerts.sound` these are no meters. Nothing was chosen on the seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from alerts.evaluate import BUDGETS, Labelled, ours
from alerts.invented import Rng, Times, batches, boiler, office, two_shifts, with_sun
from alerts.rolling import Floats

SEEDS = range(61001, 61004)
GRIDS = (("hours, 60 weeks", 3600.0, 60 * 168), ("hours, 5 weeks", 3600.0, 5 * 168),
         ("quarter hours, 18 weeks", 900.0, 18 * 672), ("five minutes, 5 weeks", 300.0, 5 * 2016),
         ("minutes, 2 weeks", 60.0, 2 * 10_080), ("days, 1000", 86_400.0, 1000))
Make = Callable[[Times], Floats]


def orders(t: Times, days: float) -> Floats:
    """A number that is drawn anew after so many days on average, and stays."""
    moved = t.rng.random(t.n) < t.step_s / 86_400 / days
    return np.asarray(t.rng.uniform(0, 1, t.n)[np.maximum.accumulate(np.where(moved, np.arange(t.n), 0))])


def normal(t: Times, size: float = 1.0) -> Floats:
    return np.asarray(t.rng.normal(0, size, t.n))


def hours(t: Times, of: float) -> Floats:
    """Noise of unit size that forgets in so many hours."""
    return t.smooth(t.n, max(of * 3600 / t.step_s, 0.2))


def on_change(x: Floats, by: float) -> Floats:
    """Reported only when it has moved by so much."""
    out, last = np.empty(len(x)), x[0]
    for i, v in enumerate(x.tolist()):
        last = v if abs(v - last) > by else last
        out[i] = last
    return out


def hidden(t: Times, x: Floats, blocks: bool) -> Floats:
    """Three tenths of it unknown, one by one or in blocks of half a day."""
    return np.where(hours(t, 12) > 0.52 if blocks else t.rng.random(t.n) < 0.3, np.nan, x)


def random_walk(t: Times, size: float) -> Floats:
    return 1000 + np.cumsum(normal(t, size))


def clustered(t: Times) -> Floats:
    return np.asarray(t.rng.poisson(0.3 * np.exp(1.2 * hours(t, 6))).astype(float))


def week(t: Times) -> Floats:
    return 1 + 2 * t.between(8, 18) * t.weekday


KINDS: dict[str, Make] = {
    "noise": lambda t: 100 + normal(t, 5),
    "noise that forgets in hours": lambda t: 100 + 5 * hours(t, 6),
    "noise that forgets in days": lambda t: 100 + 5 * hours(t, 72),
    "noise around zero": normal,
    "slow noise around zero": lambda t: hours(t, 12),
    "day": lambda t: 100 + 30 * t.wave(9) + normal(t, 3),
    "day around zero": lambda t: 30 * t.wave(9) + normal(t, 3),
    "working weeks": lambda t: 50 * week(t) * t.noise(0.04),
    "working weeks with holidays": office,
    "two shifts": two_shifts,
    "sun": with_sun,
    "heating": boiler,
    "batches": batches,
    "season": lambda t: 100 - 40 * np.cos(2 * np.pi * t.year) + normal(t, 4),
    "weather": lambda t: t.cold + normal(t, 0.3),
    "trend": lambda t: 100 + 50 * np.arange(t.n) / t.n + normal(t, 3),
    "trend with weeks": lambda t: 50 * week(t) * (1 + 0.5 * np.arange(t.n) / t.n) * t.noise(0.04),
    "random walk": lambda t: random_walk(t, 0.3),
    "fast random walk": lambda t: random_walk(t, 3.0),
    "set points": lambda t: 20 + np.round(10 * orders(t, 14)),
    "noisy set points": lambda t: 20 + 10 * orders(t, 14) + normal(t, 0.2),
    "constant with rare steps": lambda t: np.round(5 * orders(t, 60)),
    "shifts by order": lambda t: 100 * (1 + (orders(t, 3) > 0.5)) * t.noise(0.03),
    "on and off by order of hours": lambda t: 50 * (orders(t, 0.6) > 0.5) * t.noise(0.02),
    "on and off by order of days": lambda t: 50 * (orders(t, 5) > 0.4) * t.noise(0.02),
    "rare counts": lambda t: t.rng.poisson(0.02, t.n).astype(float),
    "small counts": lambda t: t.rng.poisson(0.5, t.n).astype(float),
    "counts": lambda t: t.rng.poisson(8, t.n).astype(float),
    "counts by day and week": lambda t: t.rng.poisson(4 * week(t)).astype(float),
    "clustered counts": clustered,
    "share": lambda t: 1 / (1 + np.exp(-2 * hours(t, 6))),
    "saturating": lambda t: np.minimum(60 + 50 * t.wave(9) + normal(t, 4), 100.0),
    "few levels": lambda t: np.clip(np.round(2 * hours(t, 3)), -3, 3) + 4,
    "rounded": lambda t: np.round(20 + 3 * t.wave(14) + hours(t, 6)),
    "reported on change": lambda t: on_change(20 + 3 * t.wave(14) + hours(t, 6), 0.8),
    "lognormal": lambda t: np.exp(normal(t)),
    "student": lambda t: 100 + t.rng.standard_t(3, t.n),
    "Pareto": lambda t: 10 * (1 + t.rng.pareto(2.5, t.n)),
    "bursts": lambda t: np.exp(1.2 * hours(t, 4)),
    "concentrations": lambda t: 40 * np.exp(0.7 * hours(t, 24) + 0.2 * normal(t)),
    "tank": lambda t: 10 - 8 * (np.cumsum(t.noise(0.5)) * t.step_s / 3600 / 31 % 1),
    "missing at random": lambda t: hidden(t, 100 + 20 * t.wave(9) + normal(t, 3), False),
    "missing in blocks": lambda t: hidden(t, 100 + 20 * t.wave(9) + normal(t, 3), True),
}


def series(make: Make, name: str, step_s: float, n: int, seed: int) -> Labelled:
    rng: Rng = np.random.default_rng([seed, zlib.crc32(name.encode()), int(step_s), n])
    x = make(Times(rng, n, step_s))
    return Labelled(f"{name} {seed}", np.asarray(x, float)[:n], step_s, (), round(86_400 / step_s))


def report() -> str:
    """Mean and median over kinds on each grid, and the kinds that give more than twice the budget of 0.3 there, as Markdown."""
    lines = [f"| made-up series in which nothing is wrong: alarms a series-month, mean (median) of {len(KINDS)} kinds | "
             + " | ".join(f"budget {b}" for b in BUDGETS) + " | over 0.6 at 0.3 |", "|---|" + "---|" * (1 + len(BUDGETS))]
    for title, step_s, n in GRIDS:
        rates = {name: [r.a_month for r in ours([series(make, name, step_s, n, seed) for seed in SEEDS]).values()]
                 for name, make in KINDS.items()}
        rows = np.array(list(rates.values()))
        cells = " | ".join(f"{a:.2f} ({b:.2f})" for a, b in zip(rows.mean(axis=0), np.median(rows, axis=0), strict=True))
        loud = sorted(((v[1], name) for name, v in rates.items() if v[1] > 0.6), reverse=True)
        lines.append(f"| {title} | {cells} | {', '.join(f'{name} {rate:.1f}' for rate, name in loud)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
