"""What a spreadsheet makes of a CSV of readings: GB18030, Chinese heads, local times, numbers with thousands commas.

Only `park import` reads such files. A time without offset is taken only when the caller says that it is the base's own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

HEADS = {"测点": "point", "测点编码": "point", "测点代码": "point", "点位": "point", "编码": "point",
         "时间": "at", "时刻": "at", "采样时间": "at", "数据时间": "at", "监测时间": "at",
         "数值": "value", "值": "value", "读数": "value", "示数": "value", "监测值": "value",
         "质量": "quality", "数据质量": "quality"}
"""Heads of columns as people write them, and the column each stands for."""

_LOOK_BYTES = 4 * 1024 * 1024
_LOCAL = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.0+)?)?)?")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")


def encoding_of(path: Path) -> str:
    """`utf-8`, or `gb18030` where the beginning of the file is not UTF-8."""
    with path.open("rb") as file:
        begin = file.read(_LOOK_BYTES)
    try:
        begin.decode("utf-8")
    except UnicodeDecodeError as exc:
        if exc.start < len(begin) - 3:   # not merely a character that the look cut in two
            return "gb18030"
    return "utf-8"


def heads_of(line: str) -> list[str]:
    """Names of the columns of a header line; those in Chinese as `point`, `at`, `value`, `quality`."""
    names = [n.strip().strip('"').strip() for n in line.split(",")]
    return [HEADS.get(n, n) for n in names]


def local_instant(text: str, zone: ZoneInfo) -> datetime | None:
    """`2025/1/1 0:15`, `2025-01-01 00:15:00` or `2025/1/1` of a zone as an instant; None when it is nothing of that kind.

    An hour that the zone's clocks pass twice is its first passage.
    """
    match = _LOCAL.fullmatch(text.strip())
    if match is None:
        return None
    year, _, month, day, *time = match.groups()
    try:
        hour, minute, second = (int(t or 0) for t in time)
        return datetime(int(year), int(month), int(day), hour, minute, second, tzinfo=zone).astimezone(UTC)
    except ValueError:
        return None


def ungrouped(text: str) -> str:
    """`1,234,567.8` as 1234567.8; anything else as it is."""
    return text.replace(",", "") if _GROUPED.fullmatch(text.strip()) else text
