"""Load shapes by industry: the activity of a workshop, 0 to 1, over time. A table of functions named by the scenario."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulators.noise import Floats, key_of, smooth, uniform
from simulators.scenario import Activity
from simulators.sky import DAY_S, WEEKEND, ZONE_S, Sky, day_class, hour_of_day, local_day

Shape = Callable[[Activity, int, Sky, Floats], Floats]


def activity_of(activity: Activity, name: str, sky: Sky, t: Floats) -> Floats:
    """Activity at UTC seconds `t`: the shape, lowered on weekends and holidays, zero in planned stops."""
    key = key_of(sky.seed, "activity", name)
    level = SHAPES[activity.shape](activity, key, sky, t)
    level = level * _day_level(activity, t)
    if activity.stop_every_d:
        level = level * (1.0 - _stopped(activity, t))
    return level


def _day_level(activity: Activity, t: Floats) -> Floats:
    """Level by class of day; the change between two days takes the hours around the shift at 6 o'clock."""
    levels = np.array([1.0, activity.weekend, activity.holiday])
    shifted = t - 6 * 3600.0
    day = local_day(shifted)
    today, before = levels[day_class(day)], levels[day_class(day - 1)]
    ramp = np.clip(hour_of_day(shifted) / 1.0, 0.0, 1.0)
    result: Floats = before + (today - before) * ramp
    return result


def _stopped(activity: Activity, t: Floats) -> Floats:
    """1 inside a planned stop, 0 outside, with ramps of half an hour."""
    day = local_day(t - activity.stop_from_h * 3600.0)
    since = (t + ZONE_S - activity.stop_from_h * 3600.0) - day * DAY_S
    whole = (day - activity.stop_offset_d) % activity.stop_every_d * DAY_S + since
    into = np.clip(whole / 1800.0, 0.0, 1.0)
    out = np.clip((whole - activity.stop_hours * 3600.0) / 1800.0, 0.0, 1.0)
    result: Floats = into - out
    return result


def _continuous(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    slow = smooth(key, t, 17 * 3600.0) * 0.7 + smooth(key + 1, t, 2.2 * 3600.0) * 0.3
    return np.clip(activity.level + activity.swing * slow, 0.0, 1.0)


def _in_hours(activity: Activity, t: Floats, ramp_h: float) -> Floats:
    hour = hour_of_day(t)
    level = np.zeros_like(t)
    for start, end in activity.hours:
        level = np.maximum(level, np.clip((hour - start) / ramp_h, 0, 1) * np.clip((end - hour) / ramp_h, 0, 1))
    for pause in activity.pause_h:
        level = level * (1.0 - 0.55 * np.clip(1.0 - np.abs(hour - pause) / 0.5, 0, 1))
    return level


def _shifts(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    running = _in_hours(activity, t, 0.5)
    return running * np.clip(activity.level + 0.10 * smooth(key, t, 9 * 3600.0) + 0.05 * smooth(key + 1, t, 2400.0), 0, 1)


def _office(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    return _in_hours(activity, t, 0.75) * np.clip(0.86 + 0.14 * smooth(key, t, 5 * 3600.0), 0, 1)


def _batch(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    """Charging, heating, reaction, cooling, discharge: a cycle whose length wanders a little."""
    period = activity.cycle_h * 3600.0
    phase = (t / period + 0.12 * smooth(key, t, 20 * 3600.0)) % 1.0
    steps = np.array([0.0, 0.08, 0.12, 0.30, 0.36, 0.68, 0.74, 0.90, 1.0])
    power = np.array([0.35, 0.40, 0.95, 1.00, 0.78, 0.74, 0.55, 0.50, 0.35])
    strength = 0.94 + 0.12 * (uniform(key + 2, np.floor(t / period).astype(np.int64)) - 0.5)
    result: Floats = np.interp(phase, steps, power) * activity.level * strength
    return result


def _computing(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    hour = hour_of_day(t)
    daily = -np.cos(2 * np.pi * (hour - 3.5) / 24.0)
    weekday = np.where(day_class(local_day(t)) >= WEEKEND, -0.03, 0.0)
    return np.clip(activity.level + activity.swing * daily + weekday + 0.02 * smooth(key, t, 5 * 3600.0), 0, 1)


def _sewage(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    """Two humps a day, more water when it rains."""
    hour = hour_of_day(t)
    humps = 0.55 + 0.22 * np.exp(-((hour - 10.5) / 2.6) ** 2) + 0.26 * np.exp(-((hour - 20.0) / 2.8) ** 2)
    rain = np.maximum(0.0, 0.35 - sky.clearness(t)) * 0.6
    return np.clip(humps + rain + 0.05 * smooth(key, t, 4 * 3600.0), 0, 1)


def _dark(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    return np.clip((0.02 - sky.sun_height(t)) / 0.05, 0.0, 1.0)


def _sun(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    """Output of a PV plant as a share of its rated power: irradiance, module temperature, inverter losses."""
    irradiance = sky.irradiance(t)
    module = sky.temperature(t) + 0.027 * irradiance
    return np.clip(irradiance / 1000.0 * 0.86 * (1.0 - 0.004 * (module - 25.0)), 0.0, 1.0)


def _always(activity: Activity, key: int, sky: Sky, t: Floats) -> Floats:
    return np.clip(0.85 + 0.10 * smooth(key, t, 8 * 3600.0), 0, 1)


SHAPES: dict[str, Shape] = {
    "continuous": _continuous, "shifts": _shifts, "office": _office, "batch": _batch, "computing": _computing,
    "sewage": _sewage, "dark": _dark, "sun": _sun, "always": _always,
}
