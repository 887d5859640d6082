"""Sentences of an alert in Chinese and English: what it is, the limit or expectation, since when, and what it costs.

Numbers are written with three or four significant figures, instants in the base's zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from alerts.finding import finite
from alerts.rules import Point, Rule


def figure(value: float | None) -> str:
    """A number for a sentence: 4 significant figures, no exponent for everyday sizes."""
    if value is None:
        return "—"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        digits = 4 if abs(value) < 1000 else 0
        return f"{value:.{digits}g}" if digits else f"{value:,.0f}"
    return f"{value:.3e}"


def duration_zh(seconds: float) -> str:
    """180 -> `3 分钟`."""
    return _duration(seconds, ("秒", "分钟", "小时", "天"))


def duration_en(seconds: float) -> str:
    """180 -> `3 min`."""
    return _duration(seconds, ("s", "min", "h", "d"))


def _duration(seconds: float, words: tuple[str, str, str, str]) -> str:
    for size, word in ((86400, words[3]), (3600, words[2]), (60, words[1])):
        if seconds >= size:
            return f"{seconds / size:.3g} {word}"
    return f"{seconds:.3g} {words[0]}"


def clock_of(instant: datetime, zone: str) -> str:
    """`11-23 14:05` in the base's zone."""
    return instant.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M:%S")


def name_zh(p: Point) -> str:
    """The point's name behind its unit's, unless it says that itself."""
    return _placed(p.place_zh, p.name_zh or p.code)


def name_en(p: Point) -> str:
    """The same in English."""
    return _placed(p.place_en, p.name_en or p.code)


def _placed(place: str, name: str) -> str:
    return name if place.casefold() in name.casefold() else f"{place} {name}"


def of_point(rule: Rule, p: Point, value: float | None, low: float | None, high: float | None, since: datetime,
             zone: str) -> dict[str, Any]:
    """Explanation of an instant rule about a point; value and band in the rule's own measure."""
    zh, en = _SENTENCES[rule.kind](p, value, low, high)
    at = clock_of(since, zone)
    return {"zh": f"{name_zh(p)}{zh},自 {at} 起。", "en": f"{name_en(p)} {en} since {at}.",
            "since": since.astimezone(UTC).isoformat(), "point": p.code}


def of_device(code: str, n_points: int, last: datetime | None, zone: str) -> dict[str, Any]:
    """Explanation of a device all of whose points are silent: one alert instead of one a point."""
    at = clock_of(last, zone) if last else "—"
    return {"zh": f"设备 {code} 离线:其 {n_points} 个测点均无数据,最后一条数据 {at}。",
            "en": f"Device {code} is offline: none of its {n_points} points sends; last reading {at}.",
            "since": last.astimezone(UTC).isoformat() if last else None, "device": code, "n_points": n_points,
            "contributor": {"device": code}}


def of_gateway(name: str, n_devices: int, n_points: int, last: datetime | None, zone: str) -> dict[str, Any]:
    """Explanation of a connection all of whose devices are silent: one alert instead of one a device."""
    at = clock_of(last, zone) if last else "—"
    shown = name.rpartition("@")[2]         # never a password that an address may hold
    return {"zh": f"网关 {shown} 离线:其 {n_devices} 台设备、{n_points} 个测点均无数据,最后一条数据 {at}。",
            "en": f"Gateway {shown} is offline: none of its {n_devices} devices and {n_points} points sends; last reading "
                  f"{at}.",
            "since": last.astimezone(UTC).isoformat() if last else None, "n_devices": n_devices, "n_points": n_points,
            "contributor": {"gateway": shown}}


def of_expression(rule: Rule, p: Point, value: float, low: float | None, high: float | None,
                  figures: Sequence[tuple[str, float, Point]], since: datetime, zone: str) -> dict[str, Any]:
    """Explanation of an expression rule: the expression, what it came to, and the figure of each name."""
    at = clock_of(since, zone)
    known = ", ".join(f"{name} = {figure(finite(v))} {q.unit}".strip() for name, v, q in figures)
    condition = rule.params["high"] is None and rule.params["low"] is None
    bound = "" if condition else f" = {figure(value)} ({figure(low)} – {figure(high)})"
    zh_place, en_place = p.place_zh or name_zh(p), p.place_en or name_en(p)
    return {"zh": f"{zh_place} 满足条件 {rule.params['expr']}{bound},自 {at} 起:{known}。",
            "en": f"{en_place}: {rule.params['expr']}{bound} since {at}: {known}.",
            "since": since.astimezone(UTC).isoformat(), "point": p.code,
            "contributor": {"points": [q.code for _, _, q in figures]}}


def _limit(p: Point, value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    v, unit = finite(value), p.unit
    if v is not None and high is not None and v > high:
        return (f" 为 {figure(v)} {unit},高于上限 {figure(high)} {unit}",
                f"is {figure(v)} {unit}, above its limit of {figure(high)} {unit},")
    return (f" 为 {figure(v)} {unit},低于下限 {figure(low)} {unit}",
            f"is {figure(v)} {unit}, below its limit of {figure(low)} {unit},")


def _rate(p: Point, value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    v, unit = finite(value) or 0.0, p.unit
    bound = high if v > 0 else low
    zh, en = ("上升", "rises") if v > 0 else ("下降", "falls")
    return (f" 每分钟{zh} {figure(abs(v))} {unit},允许 {figure(abs(bound or 0.0))} {unit}",
            f"{en} by {figure(abs(v))} {unit} a minute, allowed {figure(abs(bound or 0.0))} {unit},")


def _stale(_: Point, value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    allowed = high or 0.0
    return (f" 无新数据(允许间隔 {duration_zh(allowed)})", f"has sent nothing (allowed {duration_en(allowed)})")


def _stuck(p: Point, value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    run = finite(value) or 0.0
    return (f" 数值不变已 {duration_zh(run)}(历史允许 {duration_zh(high or 0.0)})",
            f"has stood still for {duration_en(run)} (its own history allows {duration_en(high or 0.0)})")


_SENTENCES = {"limit": _limit, "rate": _rate, "stale": _stale, "stuck": _stuck}
