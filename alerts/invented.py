"""Made-up meters with made-up faults, to see what the core does on series that nobody looked at: a table of docs/detection.md.

    python -m alerts.invented

Twelve kinds of meters were looked at while the channels were last changed, in draws like those of the seeds LOOKED_AT; FRESH
are seeds that nobody looked at, nor at five of the kinds. Nothing here is made from the development series.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from alerts.evaluate import Labelled, control, interval, ours, over_series
from alerts.rolling import Floats

LOOKED_AT, FRESH = range(9100, 9106), range(70211, 70217)
Rng = np.random.Generator
HOURLY = ("spike", "dropout", "stuck", "scale", "catchup", "level", "drift", "clock", "left_on", "base_drift")
SUDDEN = HOURLY[:6]
GRIDS = (       # title, step, weeks, warm-up weeks, faults a month, hours between two, kinds of faults
    ("hours, 80 weeks, warm-up 26", 3600.0, 80, 26, 0.4, 500, HOURLY),
    ("hours, 60 weeks, a fault a month", 3600.0, 60, 26, 1.0, 300, HOURLY),
    ("hours, 36 weeks, warm-up 9", 3600.0, 36, 9, 0.5, 400, HOURLY),
    ("hours, 9 weeks, warm-up 2", 3600.0, 9, 2, 2.0, 100, SUDDEN),
    ("half hours, 30 weeks", 1800.0, 30, 9, 0.6, 300, HOURLY),
    ("quarter hours, 20 weeks", 900.0, 20, 9, 0.8, 300, HOURLY),
    ("ten minutes, 12 weeks", 600.0, 12, 4, 2.0, 100, SUDDEN),
    ("five minutes, 6 weeks", 300.0, 6, 1, 4.0, 67, SUDDEN),
)


class Times:
    """What meters have in common: hour, day, holidays and weather of n steps, and noises of their length."""

    def __init__(self, rng: Rng, n: int, step_s: float) -> None:
        self.rng, self.n, self.step_s = rng, n, step_s
        hours = np.arange(n) * step_s / 3600 + 24 * rng.integers(0, 7)
        self.hour, self.day = hours % 24, (hours // 24).astype(int)
        self.days = int(self.day[-1]) + 2
        self.year = (hours / 24 + rng.uniform(0, 365)) % 365.25 / 365.25
        weather = np.interp(hours / 24, np.arange(self.days), self.smooth(self.days, 3))
        self.cold = 15 - 12 * np.cos(2 * np.pi * self.year) + 3.5 * weather + 4 * self.wave(9)
        holiday = np.zeros(self.days, bool)
        for first in rng.integers(0, self.days, round(self.days / 91)):
            holiday[first:first + rng.integers(1, 8)] = True
        self.holiday = holiday[self.day]
        self.weekday = self.day % 7 < 5
        self.work = self.weekday & ~self.holiday

    def smooth(self, n: int, tau: float) -> Floats:
        """Normal noise of unit size that forgets in tau steps."""
        keep = np.exp(-1 / tau)
        draw = self.rng.normal(0, np.sqrt(1 - keep**2), n)
        return np.asarray(lfilter([1.0], [1.0, -keep], draw))

    def wave(self, at: float, times: int = 1) -> Floats:
        return np.asarray(np.sin(2 * np.pi * times * (self.hour - at) / 24))

    def daily(self, size: float, tau: float = 1.0) -> Floats:
        return np.asarray(np.exp(size * self.smooth(self.days, tau))[self.day])

    def noise(self, size: float, hours: float = 3.0) -> Floats:
        return np.asarray(np.exp(size * self.smooth(self.n, hours * 3600 / self.step_s)))

    def between(self, start: float, end: float, width: float = 0.7) -> Floats:
        """1 from one hour to another, with soft edges."""
        return np.asarray(1 / (1 + np.exp((start - self.hour) / width)) - 1 / (1 + np.exp((end - self.hour) / width)))


def office(t: Times) -> Floats:
    r = t.rng
    base, peak = r.uniform(10, 200), r.uniform(0.5, 4)
    people = t.between(r.uniform(6, 9), r.uniform(17, 21), r.uniform(0.3, 1.2)) * np.where(t.work, 1, r.uniform(0.03, 0.4))
    cooling = np.maximum(t.cold - 18, 0) * r.uniform(0, 0.06) * (0.3 + people)
    heating = np.maximum(12 - t.cold, 0) * r.uniform(0, 0.05)
    return np.asarray(base * (1 + peak * people * t.daily(0.04) + cooling + heating) * t.noise(r.uniform(0.01, 0.06)))


def school(t: Times) -> Floats:
    x = office(t)
    away = np.zeros(t.days, bool)
    first = int(t.rng.integers(0, 150))
    while first < t.days:
        away[first:first + int(t.rng.integers(14, 50))] = True
        first += int(t.rng.integers(90, 170))
    low = np.quantile(x, 0.1)
    return np.where(away[t.day], 1.1 * low + 0.15 * (x - low), x)


def three_shifts(t: Times) -> Floats:
    r = t.rng
    run, day = np.ones(t.days), 0
    while day < t.days:
        day += int(r.integers(20, 80))
        run[day:day + r.integers(1, 3)] = 0.15
    handover = 1 - 0.1 * np.isin(t.hour.astype(int), [7, 15, 23])
    return np.asarray(r.uniform(100, 2000) * run[t.day] * handover * t.daily(0.06, 4) * t.noise(r.uniform(0.02, 0.08), 2))


def two_shifts(t: Times) -> Floats:
    r = t.rng
    begin = r.uniform(5.5, 7)
    run = (t.hour >= begin) & (t.hour < begin + 16) & (t.hour.astype(int) != 12) & (t.day % 7 < 6) & ~t.holiday
    return np.asarray(r.uniform(20, 300) * (1 + r.uniform(1, 6) * run * t.daily(0.12)) * t.noise(r.uniform(0.03, 0.1), 1))


def batches(t: Times) -> Floats:
    r, parts, total = t.rng, [], 0
    length = r.uniform(3, 9)
    while total < t.n:
        cycle = max(1, int(length * 3600 / t.step_s * r.uniform(0.8, 1.3)))
        pause = int((r.exponential(1.5) + (r.uniform(8, 40) if r.random() < 0.06 else 0)) * 3600 / t.step_s)
        parts += [np.linspace(1, 0.5, cycle), np.full(pause, 0.1)]
        total += cycle + pause
    return np.asarray(r.uniform(50, 500) * np.concatenate(parts)[:t.n] * t.noise(0.05, 1))


def pump(t: Times) -> Floats:
    duty = np.clip(0.45 * (1 + 0.5 * t.wave(8) + 0.3 * t.wave(8, 2)) * t.daily(0.1) * t.noise(0.15, 2), 0, 1)
    starts = 12 * t.step_s / 3600
    power = t.rng.uniform(5, 50)
    return np.asarray(power * (np.minimum(1, np.round(duty * starts) / starts) if t.rng.random() < 0.5 else duty))


def compressor(t: Times) -> Floats:
    r = t.rng
    run = (t.day % 7 < r.choice([5, 6, 7])) & ~t.holiday
    duty = np.where(run, r.uniform(0.35, 0.7) * (0.75 + 0.25 * t.between(7, 19)), r.uniform(0.1, 0.25)) * t.daily(0.08)
    power = 0.3 + 0.7 * np.clip(duty * t.noise(0.12, 2), 0, 1)
    return np.asarray(r.uniform(30, 250) * power * (1 if r.random() < 0.5 else run))


def with_sun(t: Times) -> Floats:
    x = office(t)
    r = t.rng
    sun = np.maximum(0, t.wave(6, 1)) ** 1.3 * (0.6 - 0.3 * np.cos(2 * np.pi * t.year))
    clear = np.clip(1 - 0.5 * np.abs(t.smooth(t.days, 1.5)), 0.1, 1)[t.day] * np.clip(t.noise(0.15, 2), 0, 1.3)
    net = x - np.quantile(x, 0.9) * r.uniform(0.3, 1.1) * sun * clear
    return np.asarray(np.maximum(net, 0) if r.random() < 0.5 else net)


def water(t: Times) -> Floats:
    r = t.rng
    taps = 0.12 + t.between(6, 9, 0.5) + 0.6 * t.between(11, 14, 0.6) + 0.9 * t.between(17, 22, 0.9)
    size = r.uniform(0.3, 12) * t.step_s / 3600
    flow = size * taps * np.where(t.work, 1, r.uniform(0.3, 1.3)) * t.daily(0.1) * t.noise(0.2, 1)
    unit = r.choice([0.01, 0.1])
    return np.asarray(np.round(flow / unit) * unit)


def sewage(t: Times) -> Floats:
    r = t.rng
    share = t.step_s / 3600
    rain = lfilter([1.0], [1.0, -np.exp(-share / 8)], (r.random(t.n) < 0.008 * share) * r.exponential(1.2, t.n))
    flow = 1 + 0.35 * t.wave(11) + 0.2 * t.wave(9, 2) + rain
    return np.asarray(r.uniform(20, 300) * flow * t.noise(0.06, 2) * t.daily(0.04))


def cold_store(t: Times) -> Floats:
    warm = 1 + 0.02 * np.maximum(t.cold - 5, 0) + 0.1 * t.wave(9)
    return np.asarray(t.rng.uniform(20, 150) * warm * t.noise(0.08, 1) * t.daily(0.03))


def servers(t: Times) -> Floats:
    trend = np.exp(np.cumsum(t.rng.normal(0, 0.004, t.days))[t.day])
    cooling = 1 + 0.015 * t.wave(14) + 0.004 * np.maximum(t.cold - 15, 0)
    return np.asarray(t.rng.uniform(50, 900) * trend * cooling * t.noise(0.008, 4))


def lamps(t: Times) -> Floats:
    half = 6 - 1.5 * np.cos(2 * np.pi * t.year)
    on = np.abs(t.hour - 12) > half - 0.2
    return np.asarray(t.rng.uniform(3, 60) * on * np.where((t.hour < 5) & (t.rng.random() < 0.5), 0.5, 1) * t.noise(0.01, 5))


def boiler(t: Times) -> Floats:
    r = t.rng
    rooms = np.maximum(0, 17 - t.cold) * (0.7 + 0.6 * t.between(5, 9) + 0.3 * t.between(16, 21)) * t.noise(0.1, 2)
    rooms *= t.daily(0.05)
    return np.asarray(r.uniform(10, 90) * (rooms + r.uniform(0, 2) * t.between(6, 22) * t.daily(0.1)))


def charging(t: Times) -> Floats:
    r = t.rng
    rate = r.uniform(0.5, 4) * (0.1 + t.between(8, 11) + 0.5 * t.between(17, 20)) * np.where(t.weekday, 1, 0.3)
    rate *= t.step_s / 3600
    cars = np.convolve(r.poisson(np.maximum(rate, 0)), np.ones(max(1, int(3 * 3600 / t.step_s))))[:t.n]
    return np.asarray(cars * r.uniform(5, 8))


def hospital(t: Times) -> Floats:
    day = 1 + 0.35 * t.between(6.5, 18, 1.2) * np.where(t.weekday, 1, 0.6) + 0.012 * np.maximum(t.cold - 16, 0)
    return np.asarray(t.rng.uniform(200, 1500) * day * t.daily(0.025) * t.noise(0.02, 3))


def mall(t: Times) -> Floats:
    people = t.between(9.5, 22, 0.4) * (1 + 0.15 * ~t.weekday + 0.25 * t.holiday)
    cooling = 0.02 * np.maximum(t.cold - 17, 0) * t.between(9, 22)
    return np.asarray(t.rng.uniform(50, 400) * (0.25 + people + cooling) * t.daily(0.05) * t.noise(0.03, 2))


OLD: tuple[Callable[[Times], Floats], ...] = (office, three_shifts, two_shifts, pump, compressor, with_sun, water, cold_store,
                                              servers, lamps, boiler, charging)
NEW: tuple[Callable[[Times], Floats], ...] = (hospital, mall, sewage, batches, school)


@dataclass(frozen=True)
class Fault:
    """A kind's shortest and longest time in hours; a spike takes one or two steps."""

    shortest: int
    longest: int


FAULTS = {
    "spike": Fault(0, 0), "dropout": Fault(4, 30), "stuck": Fault(10, 80), "scale": Fault(24, 200), "catchup": Fault(3, 16),
    "level": Fault(168, 500), "drift": Fault(600, 1100), "clock": Fault(96, 330), "left_on": Fault(24, 72),
    "base_drift": Fault(400, 1000)}


def changed(kind: str, x: Floats, a: int, b: int, known: Floats, hour: float, rng: Rng) -> Floats:
    """What a fault makes of x[a:b]; `known` is the series before any fault."""
    part = x[a:b]
    spread = max(np.quantile(known, 0.95) - np.quantile(known, 0.05), 0.3 * abs(np.median(known)))
    ramp = np.linspace(0.0, 1.0, b - a)
    if kind == "spike":
        return np.asarray(part + rng.uniform(1, 4) * spread)
    if kind == "dropout":
        return np.asarray(part * (0.0 if rng.random() < 0.6 else 0.02))
    if kind == "stuck":
        return np.full(b - a, part[0])
    if kind == "scale":
        return np.asarray(part * rng.choice([0.1, 0.5, 2.0, 10.0]))
    if kind == "catchup":
        return np.append(np.zeros(b - a - 1), part.sum())
    if kind == "level":
        return np.asarray(part * (1 + rng.choice([-1, 1, 1]) * rng.uniform(0.25, 0.6)))
    if kind == "drift":
        return np.asarray(part * (1 + rng.uniform(0.15, 0.4) * ramp))
    if kind == "clock":
        return np.asarray(np.roll(x, int(rng.choice([-6, -4, -3, -2, 2, 3, 4, 6]) * hour))[a:b])
    if kind == "left_on":
        high = np.quantile(x[max(0, a - int(168 * hour)):a + 1], 0.8)
        return np.maximum(part, high * rng.uniform(0.95, 1.05) * np.exp(rng.normal(0, 0.02, b - a)))
    return np.asarray(part + rng.uniform(0.25, 0.6) * np.quantile(known, 0.1) * ramp)


def visible(kind: str, old: Floats, new: Floats, known: Floats) -> bool:
    """Whether there was something to be changed, and something is."""
    usual = np.abs(known).mean()
    little = kind not in ("spike", "left_on", "base_drift") and np.abs(old).mean() < 0.3 * usual
    if little or np.allclose(old, new, rtol=1e-3):
        return False
    return kind not in ("clock", "left_on") or bool(np.abs(new - old).mean() >= 0.15 * usual)


def faulty(x: Floats, rng: Rng, first: int, step_s: float, a_month: float, apart_h: float,
           kinds: Sequence[str]) -> tuple[Floats, tuple[tuple[str, int, int], ...]]:
    """(x with faults from step `first` on, the faults as kind, first step, step after the last); some last to the end."""
    x, known, hour = x.copy(), x[:first].copy(), 3600 / step_s
    faults: list[tuple[str, int, int]] = []
    wanted = max(1, round((len(x) - first) * step_s / 2_629_800 * a_month))
    for _ in range(30 * wanted):
        kind = kinds[int(rng.integers(len(kinds)))]
        span = FAULTS[kind]
        long = int(rng.integers(1, 3)) if kind == "spike" else int(hour * rng.integers(span.shortest, span.longest))
        if first + long + 2 >= len(x) or (kind == "left_on" and rng.random() < 0.75):
            continue
        a = int(rng.integers(first, len(x) - long)) if rng.random() < 0.97 else len(x) - long
        if any(a < end + apart_h * hour and a + long > start - apart_h * hour for _, start, end in faults):
            continue
        new = changed(kind, x, a, a + long, known, hour, rng)
        if visible(kind, x[a:a + long], new, known):
            x[a:a + long] = new
            faults.append((kind, a, a + long))
        if len(faults) == wanted:
            break
    return x, tuple(sorted(faults, key=lambda f: f[1]))


def meters(makes: Sequence[Callable[[Times], Floats]], seeds: Sequence[int], grid: tuple[str, float, int, int, float, float,
                                                                                         Sequence[str]]) -> list[Labelled]:
    """Meters of some kinds on one of GRIDS, with their faults."""
    title, step_s, weeks, warm_up, a_month, apart_h, kinds = grid
    out = []
    for make in makes:
        for seed in seeds:
            rng = np.random.default_rng([seed, zlib.crc32(make.__name__.encode())])
            x = make(Times(rng, int(weeks * 604800 / step_s), step_s))
            x = np.round(x, int(rng.choice([1, 2, 3]))) if rng.random() < 0.7 else x
            first = int(warm_up * 604800 / step_s)
            values, faults = faulty(x, rng, first, step_s, a_month, apart_h, kinds)
            out.append(Labelled(f"{make.__name__} {seed} {title}", values, step_s, faults, first))
    return out


def report() -> str:
    """The table as Markdown: each grid with the seeds and kinds that were looked at, and with those that were not."""
    lines = ["| made-up meters | seeds and kinds | faults | budget | recall (95 %) | false alarms a month (95 %) | event F1 "
             "| random control: recall |", "|---|---|---|---|---|---|---|---|"]
    by_kind: dict[str, list[list[bool]]] = {}
    for grid in GRIDS:
        for title, makes, seeds in (("looked at", OLD, LOOKED_AT), ("fresh", (*OLD, *NEW), FRESH)):
            series = meters(makes, seeds, grid)
            results = ours(series)
            for budget, r in results.items():
                low, high = interval(r)
                (least, most), _ = over_series(r)
                chance = np.mean([control(series, r.a_month, seed).recall for seed in range(10)])
                lines.append(f"| {grid[0]} | {title} | {len(r.hits)} | {budget} | {r.recall:.2f} ({low:.2f}–{high:.2f}) "
                             f"| {r.a_month:.2f} ({least:.2f}–{most:.2f}) | {r.f1:.2f} | {chance:.2f} |")
            if title == "fresh":
                for found in zip(*(r.hits for r in results.values()), strict=True):
                    by_kind.setdefault(found[0][0], []).append([h for _, h, _ in found])
    lines += ["", "| kind, all fresh | faults | recall at 0.1 | recall at 0.3 | recall at 1.0 |", "|---|---|---|---|---|"]
    lines += [f"| {kind} | {len(rows)} | " + " | ".join(f"{v:.2f}" for v in np.mean(rows, axis=0)) + " |"
              for kind, rows in sorted(by_kind.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
