"""The macros and variables of a panel's SQL, expanded as Grafana's PostgreSQL data source does, for tests and `check`.

Only what our panels use is here; an unknown macro is an error, so that a new one cannot slip through unexpanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from park.errors import InputError

_MACRO = re.compile(r"\$__(\w+)(?:\(([^()]*)\))?")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def expand(sql: str, low: datetime, high: datetime, interval_ms: int, variables: Mapping[str, list[str]]) -> str:
    """The SQL as Grafana would send it for the window [low, high] with these variable values."""
    def macro(match: re.Match[str]) -> str:
        return _macro(match[1], match[2], low, high, interval_ms)

    def variable(match: re.Match[str]) -> str:
        name, form = match[1], match[2]
        if name not in variables:
            raise InputError(f"the panel uses the variable ${{{name}}}, which its board does not have")
        if form == "sqlstring":
            return ",".join("'" + v.replace("'", "''") + "'" for v in variables[name])
        return ",".join(v.replace("'", "''") for v in variables[name])

    return _VARIABLE.sub(variable, _MACRO.sub(macro, sql))


def _macro(name: str, argument: str | None, low: datetime, high: datetime, interval_ms: int) -> str:
    start, end = _instant(low), _instant(high)
    if name == "timeFilter" and argument:
        return f"{argument.strip()} BETWEEN {start} AND {end}"
    if name == "timeFrom":
        return start
    if name == "timeTo":
        return end
    if name == "interval_ms":
        return str(interval_ms)
    if name == "timeGroup" and argument:
        column, width = (part.strip() for part in argument.split(",")[:2])
        seconds = _width(width)
        return f"to_timestamp(floor(extract(epoch from {column})/{seconds})*{seconds})"
    raise InputError(f"unknown macro $__{name}({argument or ''})")


def _width(text: str) -> int:
    match = re.fullmatch(r"'(\d+)([smhd])'", text)
    if match is None:
        raise InputError(f"expected a width such as '10m' in $__timeGroup, got {text}")
    return int(match[1]) * _SECONDS[match[2]]


def _instant(at: datetime) -> str:
    return f"'{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'::timestamptz"
