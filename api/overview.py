"""Data of the console's panels: `/api/v1/overview/{energy,pollutants,health,linkage}?base=CODE`.

Reads tables and the views that accounting keeps; decides nothing that another stage has decided. A value that is not
known is null, with the counts that say why; instants are UTC, days are the base's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import Response
from psycopg import AsyncCursor

from api.access import Data, Who
from park.clock import DEVICE_TOLERANCE_S, local_midnight, utc_now
from park.database import queries
from park.errors import NotFound
from park.quality import Quality, word_of
from park.quantities import conversion, quantities

SQL = queries(Path(__file__).with_name("overview.sql"))
Row = dict[str, Any]
Cursor = AsyncCursor[Any]

SLOT_S = 900
HOUR = timedelta(hours=1)
ENOUGH_MINUTES = 10  # valid minutes from which the running mean of an hour is shown
GRACE = timedelta(minutes=3)  # a slot counts as due when accounting has had this long for it
POLLUTANT_DIMENSIONS = ("concentration_air", "concentration_water", "acidity")


@dataclass(frozen=True)
class Scope:
    """A base as one session may see it, at one instant."""

    base_id: int
    code: str
    zone: str
    enterprise: int | None
    now: datetime

    @property
    def day(self) -> date:
        """The base-local day."""
        return self.now.astimezone(ZoneInfo(self.zone)).date()

    @property
    def start(self) -> datetime:
        """The instant at which the local day began."""
        return local_midnight(self.day, self.zone)

    @property
    def end(self) -> datetime:
        """The instant at which the local day ends."""
        return local_midnight(self.day + timedelta(days=1), self.zone)

    @property
    def hour(self) -> datetime:
        """Start of the present hour."""
        return self.now.replace(minute=0, second=0, microsecond=0)

    def parameters(self, **more: object) -> dict[str, object]:
        """Parameters that every query of this page may use."""
        return {"base": self.base_id, "enterprise": self.enterprise, "now": self.now, "zone": self.zone,
                "day": self.day, "start": self.start, "end": self.end, "hour": self.hour, **more}


async def scope_of(cursor: Cursor, code: str, now: datetime, enterprise: int | None = None) -> Scope:
    """The scope of a base's code; NotFound for a base that is not there or not this session's."""
    found = await rows(cursor, "base", {"code": code})
    if not found:
        raise NotFound(f"there is no base {code!r}, or this token may not see it")
    return Scope(found[0]["base_id"], code, found[0]["timezone"], enterprise, now)


async def rows(cursor: Cursor, name: str, parameters: dict[str, object]) -> list[Row]:
    """The rows of a named query as dictionaries."""
    await cursor.execute(SQL[name].encode(), parameters)
    return await cursor.fetchall()


def _head(scope: Scope) -> Row:
    return {"base": scope.code, "timezone": scope.zone, "now": scope.now, "day": scope.day, "day_start": scope.start}


# --- energy -----------------------------------------------------------------------------------------------------------

async def energy(cursor: Cursor, scope: Scope) -> Row:
    """Today by hour and carrier beside what like days used, and today's coal equivalent, CO2 and cost."""
    counters = await rows(cursor, "counters", scope.parameters())
    unit_of: dict[str, str] = {}
    for row in counters:
        unit_of.setdefault(row["carrier"], row["unit"])
    hours = await rows(cursor, "energy_hours", scope.parameters(
        points=[c["point_id"] for c in counters], carriers=[c["carrier"] for c in counters],
        factors=[c["factor"] for c in counters])) if counters else []
    by_carrier: dict[str, list[Row]] = {}
    for row in hours:
        by_carrier.setdefault(row["carrier"], []).append(_hour(row, scope.now))
    return {**_head(scope),
            "carriers": [{"carrier": c, "unit": unit_of[c], "hours": h, "to_date": _to_date(h)} for c, h in by_carrier.items()],
            "totals": _totals(await rows(cursor, "day_totals", scope.parameters()))}


def _hour(row: Row, now: datetime) -> Row:
    """One hour; `n_expected` counts the quarter hours that are over, so an hour to come expects none."""
    over = max(0.0, min(3600.0, (now - GRACE - row["ts"]).total_seconds()))
    due = int(over // SLOT_S) * row["n_counters"]
    told = ("ts", "amount", "estimated", "low", "expected", "high", "n_days", "n_known", "n_good")
    return {**{k: row[k] for k in told},
            "n_expected": max(due, row["n_known"]), "n_slots": 4 * row["n_counters"]}


def _to_date(hours: list[Row]) -> Row:
    """The day so far; compared with the expected only over hours that are whole, so that a gap is not taken for thrift."""
    known = [h["amount"] for h in hours if h["amount"] is not None]
    whole = [h for h in hours if h["amount"] is not None and h["n_known"] == h["n_slots"] and h["expected"] is not None]
    return {"amount": sum(known) if known else None, "estimated": sum(h["estimated"] for h in hours),
            "n_known": sum(h["n_known"] for h in hours), "n_expected": sum(h["n_expected"] for h in hours),
            "compared_hours": len(whole),
            "compared_amount": sum(h["amount"] for h in whole) if whole else None,
            "expected": sum(h["expected"] for h in whole) if whole else None}


def _totals(carriers: list[Row]) -> Row:
    """Sums over carriers; a sum lacks what a carrier without the figure would add, and `lacking` names those carriers."""
    n_known, n_expected = (sum(c[k] or 0 for c in carriers) for k in ("n_known", "n_expected"))
    totals: Row = {"n_known": n_known, "n_expected": n_expected}
    for figure in ("tce_equivalent", "tce_calorific", "co2_kg", "cost"):
        known = [c[figure] for c in carriers if c[figure] is not None]
        totals[figure] = {"value": sum(known) if known else None,
                          "lacking": [c["carrier"] for c in carriers if c[figure] is None and c["amount"] is not None]}
    return totals


# --- pollutants -------------------------------------------------------------------------------------------------------

async def pollutants(cursor: Cursor, scope: Scope) -> Row:
    """Every pollutant of every outlet against the limit in force, with the last 24 hours."""
    known = quantities()
    codes = [q.code for q in known.values() if q.dimension in POLLUTANT_DIMENSIONS]
    points = await rows(cursor, "outlet_points", scope.parameters(quantities=[*codes, "o2"]))
    limits: dict[tuple[int, str], list[Row]] = {}
    for limit in await rows(cursor, "limits", scope.parameters()):
        limits.setdefault((limit.pop("unit_id"), limit.pop("quantity")), []).append(limit)
    since = min(scope.start, scope.hour - timedelta(hours=24))
    hours: dict[tuple[int, str], list[Row]] = {}
    for hour in await rows(cursor, "emission_hours", scope.parameters(since=since)):
        hours.setdefault((hour.pop("unit_id"), hour.pop("quantity")), []).append(hour)
    outlets = []
    for outlet in await rows(cursor, "outlets", scope.parameters()):
        key = outlet["unit_id"]
        mine = {p["quantity"]: p for p in points if p["unit_id"] == key and p["quantity"] != "o2"}
        expected = [q for (unit, q) in limits if unit == key and q not in mine]  # a limit without a point must be seen
        outlet["pollutants"] = [
            _pollutant(quantity, mine.get(quantity), limits.get((key, quantity), []), hours.get((key, quantity), []),
                       outlet["o2_reference"], scope)
            for quantity in sorted([*mine, *expected], key=lambda q: (codes.index(q) if q in codes else 99))]
        outlets.append(outlet)
    return {**_head(scope), "hour": scope.hour, "outlets": outlets}


def _pollutant(quantity: str, point: Row | None, limits: list[Row], hours: list[Row], o2_reference: float | None,
               scope: Scope) -> Row:
    """One line: the value in the statistic of its limit, the limit in the same unit, the share, the state, 24 hours."""
    known = quantities()[quantity]
    limit = _main_limit(limits, known.unit)
    value, basis = (None, "none") if point is None else _value(point, known.unit, limit, hours, o2_reference, scope)
    last_day = [{"ts": h["ts"], "value": h["converted"] if h["state"] == "valid" else None, "state": h["state"],
                 "n_valid": h["n_valid"], "exceeded": h["exceeded"]}
                for h in hours if scope.hour - timedelta(hours=24) <= h["ts"] < scope.hour]
    return {"quantity": quantity, "name_zh": known.zh, "name_en": known.en, "unit": known.unit,
            "point": point["code"] if point else None, "value": value, "basis": basis, "limit": limit,
            "share": _share(value, limit), "minutes": point["minutes"] if point else 0, "minutes_due": _due(point, scope),
            "state": _state(point, value, scope), "latest": _latest(point, known.unit), "hours": last_day}


def _due(point: Row | None, scope: Scope) -> int:
    """Minutes of this hour that should be valid by now; an analyser that measures each half hour owes two."""
    passed_s = (scope.now - scope.hour).total_seconds()
    return max(point["minutes"], int(passed_s // max(60, point["expected_s"]))) if point else 0


def _main_limit(limits: list[Row], unit: str) -> Row | None:
    """The limit that the present value is held against: the hour's, else the day's, else the instant's."""
    order = ("hour", "day", "instant", "month", "year")
    for limit in sorted(limits, key=lambda x: order.index(x["statistic"])):
        factor, offset = conversion(limit["unit"], unit)
        bounds = {k: None if limit[k] is None else limit[k] * factor + offset for k in ("low", "high")}
        return {**limit, **bounds, "unit": unit}
    return None


def _value(point: Row, unit: str, limit: Row | None, hours: list[Row], o2_reference: float | None,
           scope: Scope) -> tuple[float | None, str]:
    """(value, basis). basis: latest, day_flow_weighted, day_mean, last_hour, hour_converted or hour_mean."""
    factor, offset = conversion(point["unit"], unit)
    if limit is not None and limit["statistic"] == "instant":
        usable = point["latest"] is not None and _is_fresh(point, scope.now)
        return (point["latest"] * factor + offset if usable else None), "latest"
    if limit is not None and limit["statistic"] == "day":
        return _day_mean([h for h in hours if h["ts"] >= scope.start and h["state"] == "valid" and h["converted"] is not None])
    if point["minutes"] < ENOUGH_MINUTES and hours and hours[-1]["ts"] == scope.hour - HOUR and hours[-1]["state"] == "valid":
        return hours[-1]["converted"], "last_hour"  # a few minutes say too little of an hour
    column, basis = ("mean", "hour_mean") if o2_reference is None else ("converted", "hour_converted")
    return (None if point[column] is None else point[column] * factor + offset), basis


def _day_mean(valid: list[Row]) -> tuple[float | None, str]:
    """Mean of the day's valid hours so far, weighted by flow where every hour has one (HJ 356-2019)."""
    if not valid:
        return None, "day_mean"
    flow = sum(h["flow"] or 0.0 for h in valid)
    if flow > 0 and all(h["flow"] is not None for h in valid):
        return sum(h["converted"] * h["flow"] for h in valid) / flow, "day_flow_weighted"
    return sum(h["converted"] for h in valid) / len(valid), "day_mean"


def _share(value: float | None, limit: Row | None) -> float | None:
    """How much of the limit is used: 1 is at it. Between two bounds it is the distance from their middle."""
    if value is None or limit is None or limit["high"] is None:
        return None
    high, low = limit["high"], limit["low"]
    if low is not None:
        middle = (high + low) / 2
        return float(abs(value - middle) / (high - middle))
    return float(value / high) if high > 0 else None


def _is_fresh(point: Row, now: datetime) -> bool:
    return point["latest_at"] is not None and now - point["latest_at"] <= timedelta(seconds=max(3 * point["expected_s"], 120))


def _state(point: Row | None, value: float | None, scope: Scope) -> str:
    """unmeasured, missing, a word of quality (stopped, maintenance ...), pending (too little of the hour yet) or valid."""
    if point is None:
        return "unmeasured"
    if not _is_fresh(point, scope.now):
        return "missing"
    if point["latest_quality"] > Quality.UNCERTAIN:
        return word_of(point["latest_quality"])
    return "valid" if value is not None else "pending"


def _latest(point: Row | None, unit: str) -> Row | None:
    if point is None or point["latest_at"] is None:
        return None
    factor, offset = conversion(point["unit"], unit)
    value = None if point["latest"] is None else point["latest"] * factor + offset
    return {"at": point["latest_at"], "value": value, "quality": word_of(point["latest_quality"])}


# --- data health ------------------------------------------------------------------------------------------------------

async def health(cursor: Cursor, scope: Scope) -> Row:
    """Points and devices by freshness, how long readings were under way, and where readings ended that were not stored."""
    found = {s.pop("system"): s for s in await rows(cursor, "point_health", scope.parameters())}
    nothing = {"total": 0, "online": 0, "stale": 0, "offline": 0, "unusable": 0}
    lag = (await rows(cursor, "ingest_lag", scope.parameters()))[0]
    return {**_head(scope),
            "systems": [{"system": s, **found.get(s, nothing)} for s in ("energy", "resource", "pollution")],
            "devices": await rows(cursor, "devices", scope.parameters(clock_tolerance_s=DEVICE_TOLERANCE_S)),
            "clock_tolerance_s": DEVICE_TOLERANCE_S, "lag": lag,
            "dead_letters": await rows(cursor, "dead_letters", scope.parameters()),
            "outcomes": {o["outcome"]: o["n"] for o in await rows(cursor, "outcomes", scope.parameters())},
            "spools": await rows(cursor, "spools", scope.parameters()),
            "links": await rows(cursor, "links", scope.parameters()),
            "backlog": (await rows(cursor, "backlog", scope.parameters()))[0]}


# --- treatment trace --------------------------------------------------------------------------------------------------

async def linkage(cursor: Cursor, scope: Scope) -> Row:
    """Production, the treatment that serves it and the outlet behind, each on, off or unknown."""
    units: dict[str, Row] = {}
    for row in await rows(cursor, "running", scope.parameters()):
        unit = units.setdefault(row["code"], {k: row[k] for k in (
            "unit_id", "code", "name_zh", "name_en", "role", "enterprise_zh", "enterprise_en", "treats", "outlet_of")}
            | {"points": []})
        if row["point"] is not None:
            quality = None if row["quality"] is None else word_of(row["quality"])
            unit["points"].append({k: row[k] for k in ("point", "kind", "unit", "ts", "value", "on_above")}
                                  | {"quality": quality, "state": running(row)})
    for unit in units.values():
        signal = _joined([p["state"] for p in unit["points"] if p["kind"] == "state"])
        power = _joined([p["state"] for p in unit["points"] if p["kind"] != "state"])
        unit["conflict"] = {signal, power} == {"on", "off"}  # a signal that says on while nothing is drawn must be looked at
        unit["state"] = "unknown" if unit["conflict"] else power if signal == "unknown" else signal
    events = await rows(cursor, "open_events", scope.parameters())
    return {**_head(scope), "units": list(units.values()), "events": events}


def running(row: Row) -> str:
    """Whether one point says on, off or nothing: a stale or unusable value says nothing."""
    if not row["fresh"]:
        return "unknown"
    if row["quality"] == Quality.STOPPED:
        return "off"
    if row["value"] is None or row["quality"] > Quality.UNCERTAIN:
        return "unknown"
    if row["kind"] == "state":
        return "on" if row["value"] >= 0.5 else "off"
    if row["value"] <= 0:
        return "off"
    if not row["on_above"]:
        return "unknown"
    return "on" if row["value"] > row["on_above"] else "off"


def _joined(states: list[str]) -> str:
    """On when any point says on; off only when none is unknown."""
    if "on" in states:
        return "on"
    return "off" if states and "unknown" not in states else "unknown"


# --- routes -----------------------------------------------------------------------------------------------------------

PANELS = {"energy": energy, "pollutants": pollutants, "health": health, "linkage": linkage}
router = APIRouter(prefix="/overview", tags=["console"])


@router.get("/{panel}", summary="What a panel of the console shows", response_class=Response)
async def overview(panel: Literal["energy", "pollutants", "health", "linkage"], who: Who, store: Data,
                   base: Annotated[str, Query(description="code of the base", max_length=64)]) -> Response:
    """energy: today by hour against like days. pollutants: outlets against limits. health: points, devices, losses.
    linkage: production, treatment and outlet, each on, off or unknown."""
    async with store.session(who) as cursor:
        scope = await scope_of(cursor, base, utc_now(), who.enterprise_id)
        answer = await PANELS[panel](cursor, scope)
    return Response(orjson.dumps(answer), media_type="application/json", headers={"Cache-Control": "no-store"})
