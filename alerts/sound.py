"""False alarms on made-up loads in which nothing is wrong, by kind, under a real calendar: a table of docs/detection.md.

    python -m alerts.sound

The kinds of `alerts.invented` and three that stand at zero, with the holidays of China (and the weekends worked for them)
or in a zone with summer time and no holidays; nothing was chosen on the seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from alerts import calibrate
from alerts.channels import FINE_S, LONG_WEEKS
from alerts.detect import score
from alerts.evaluate import BUDGETS
from alerts.invented import NEW, OLD, Rng, Times
from alerts.rolling import Floats
from alerts.series import Series
from park.holidays import public_day

SEEDS = range(52001, 52005)
CHINA, SUMMER_TIME = "Asia/Shanghai", "Europe/Berlin"
START = datetime(2024, 12, 23, tzinfo=UTC)
GRIDS = ((3600.0, 52, 0), (900.0, 20, 0), (300.0, 6, 0), (300.0, 6, 266))     # step, weeks, days after START: spring and autumn


class Calendar(Times):
    """Days as they were in a zone: working days, holidays and the hour that summer time moves."""

    def __init__(self, rng: Rng, n: int, step_s: float, start: datetime, zone: str) -> None:
        super().__init__(rng, n, step_s)
        first = start.timestamp()
        hours = first // 3600 + np.arange(int(n * step_s // 3600) + 2)
        ahead = [datetime.fromtimestamp(h * 3600, ZoneInfo(zone)).utcoffset() or timedelta(0) for h in hours]
        at = first + step_s * np.arange(n)
        local = at + np.array([a.total_seconds() for a in ahead])[(at // 3600 - hours[0]).astype(int)]
        monday = local[0] // 86400 - (local[0] // 86400 + 3) % 7        # 1970 began on a Thursday
        self.hour, self.day = local % 86400 / 3600, (local // 86400 - monday).astype(int)
        self.days = int(self.day[-1]) + 2
        dates = [datetime.fromtimestamp((monday + d) * 86400, UTC).date() for d in range(self.days)]
        kinds = np.array([public_day(d) if zone == CHINA else ("working", "weekend")[d.weekday() > 4] for d in dates])
        self.year = np.array([d.timetuple().tm_yday / 366 for d in dates])[self.day]
        self.holiday, self.work = (kinds == "holiday")[self.day], (kinds == "working")[self.day]
        self.weekday = self.day % 7 < 5


def valve(t: Times) -> Floats:
    opens = t.rng.random(t.n) < t.rng.uniform(0.3, 2.5) / 24 * t.step_s / 3600 * np.where(t.work, 1.3, 0.4)
    width = max(1, round(t.rng.uniform(0.2, 1.2) * 3600 / t.step_s))
    return np.asarray(np.round((np.convolve(opens, np.ones(width))[:t.n] > 0) * t.rng.uniform(2, 30) * t.noise(0.15, 1), 2))


def rain(t: Times) -> Floats:
    wet = t.smooth(t.n, 5 * 3600 / t.step_s) > t.rng.uniform(1.4, 2.1)
    return np.asarray(np.round(wet * t.rng.gamma(0.8, 2.2, t.n) * t.step_s / 3600 / 0.2) * 0.2)


def campaign(t: Times) -> Floats:
    on = (t.rng.random(t.days) < 0.3)[t.day] * t.between(8, 17, 0.1) > 0.5
    return np.asarray(np.round(on * t.rng.uniform(3, 12) * t.noise(0.1, 1), 2))


def rates(make: Callable[[Times], Floats], zone: str, known: bool) -> dict[str, dict[float, float]]:
    """Alarms a month in the first eight weeks, later, and at five minutes, at each budget."""
    n = {part: dict.fromkeys(BUDGETS, 0) for part in ("young", "grown", "fine")}
    months = dict.fromkeys(n, 0.0)
    for seed in SEEDS:
        for step_s, weeks, later in GRIDS:
            rng = np.random.default_rng([seed, zlib.crc32(make.__name__.encode()), int(step_s), later])
            start = START + timedelta(days=later + int(rng.integers(0, 14)))
            x = make(Calendar(rng, int(weeks * 604800 / step_s), step_s, start, zone))
            grown = LONG_WEEKS * 604800 / step_s
            fine = step_s < FINE_S
            months["fine" if fine else "young"] += (min(len(x), grown) * step_s - 86400) / calibrate.MONTH_S
            months["grown"] += max(0.0, len(x) - grown) * step_s / calibrate.MONTH_S
            for budget in BUDGETS:
                s = Series("", start.timestamp(), step_s, x, True)
                for o in score(s, budget, None, None if known else frozenset()).onsets:
                    n["fine" if fine else "young" if o["_start"] < grown else "grown"][budget] += 1
    return {part: {b: n[part][b] / months[part] for b in BUDGETS} for part in n}


def report() -> str:
    """The table as Markdown: without a calendar, with it, and under summer time, at each budget."""
    three = "no calendar | `--holidays cn` | summer time"
    lines = [f"| kind | first eight weeks: {three} | grown: {three} | five minutes: {three} |", f"|{10 * '---|'}"]
    total: dict[tuple[str, int], list[list[float]]] = {}
    for make in (*OLD, *NEW, valve, rain, campaign):
        found = [rates(make, CHINA, False), rates(make, CHINA, True), rates(make, SUMMER_TIME, False)]
        cells = []
        for part in ("young", "grown", "fine"):
            for i, f in enumerate(found):
                total.setdefault((part, i), []).append(list(f[part].values()))
                cells.append(_text(list(f[part].values())))
        lines.append(f"| {make.__name__.replace('_', ' ')} | {' | '.join(cells)} |")
    lines.append("| **mean** | " + " | ".join(_text(np.mean(rows, axis=0).tolist()) for rows in total.values()) + " |")
    return "\n".join(lines)


def _text(row: list[float]) -> str:
    return " / ".join(f"{v:.2f}" for v in row)


if __name__ == "__main__":
    print(report())
