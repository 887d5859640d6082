"""GET /infrastructure: the monitoring requirement of a demonstration base, system by system.

Is what must be metered metered, do the points report, how much of what was expected came and was good, how fast.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode
from api.answers import Lang, answer
from api.catalogue import base_row
from api.store import SQL
from park.clock import utc_now

router = APIRouter(tags=["figures"])
Row = dict[str, Any]
SYSTEMS = {"energy": ("能耗监测与预警", "energy monitoring and early warning"),
           "resource": ("资源智能化管理", "smart resource management"),
           "pollution": ("污染源全流程管理", "whole-process management of pollution sources")}
BASIS = {
    "enterprise_gate": ("各企业关口：电力及其所用的每种能源、水",
                        "each enterprise's gate: electricity and every carrier it uses"),
    "facility": ("各生产、治理设施：电量或功率", "each production and treatment facility: energy or power"),
    "outlet": ("各排放口：登记了限值的每种污染物", "each outlet: every pollutant with a limit on record")}


@router.get("/infrastructure")
async def infrastructure(who: Who, data: Data, lang: Lang, base: BaseCode,
                         days: Annotated[int, Query(ge=1, le=366, description="Days up to today for the rates.")] = 7
                         ) -> Response:
    """Equipping rate by level with what is lacking; per system the points bound, heard and online, the transmission rate
    (received over expected), the effective rate (good over received), their product, and the latency from sample to store.

    What should be metered is taken from the catalogue (see `basis`); thresholds of GB 17167 by rated power need the ratings
    and are not applied. Rates count whole days and today up to now.
    """
    async with data.session(who, timeout_ms=30_000) as db:
        found = await base_row(db, base)
        today = utc_now().astimezone(ZoneInfo(found["timezone"])).date()
        about = {"base": found["base_id"], "first": today - timedelta(days=days - 1), "last": today}
        points = await (await db.execute(SQL["infrastructure_points"], about)).fetchall()
        rates = await (await db.execute(SQL["infrastructure_rates"], about)).fetchall()
        needed = await (await db.execute(SQL["infrastructure_equipping"], about)).fetchall()
        devices = await (await db.execute(SQL["infrastructure_devices"], about)).fetchall()
        outcomes = await (await db.execute(SQL["infrastructure_outcomes"], about)).fetchall()
        accounted = await (await db.execute(SQL["accounted"], about)).fetchall()
    mark = 1 if lang == "en" else 0
    by_points, by_rates = {row.pop("system"): row for row in points}, {row.pop("system"): row for row in rates}
    systems = [{"system": s, "name": names[mark]} | _system(by_points.get(s), by_rates.get(s)) for s, names in SYSTEMS.items()]
    return answer({"base": base, "first_day": about["first"], "last_day": today, "systems": systems,
                   "equipping": [_equipping(level, basis[mark], needed) for level, basis in BASIS.items()],
                   "devices": {row["state"]: row["n"] for row in devices},
                   "outcomes": {row["outcome"]: row["n"] for row in outcomes}, "accounted": accounted})


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if whole and part is not None else None


def _system(points: Row | None, rates: Row | None) -> Row:
    there = points or {"points": 0, "bound": 0, "heard": 0, "online": 0, "usable": 0, "counters": 0, "counters_with_class": 0,
                       "latency_n": 0, "latency_p50_s": None, "latency_p95_s": None}
    came = rates or {"n_expected": 0, "n": 0, "n_good": 0}
    transmission, effective = _share(came["n"], came["n_expected"]), _share(came["n_good"], came["n"])
    both = None if transmission is None or effective is None else transmission * effective
    return there | {"online_rate": _share(there["online"], there["points"]), "hours_expected": came["n_expected"],
                    "hours_received": came["n"], "hours_good": came["n_good"], "transmission_rate": transmission,
                    "effective_rate": effective, "transmission_effective_rate": both}


def _equipping(level: str, basis: str, needed: list[Row]) -> Row:
    mine = [row for row in needed if row["level"] == level]
    installed = sum(row["installed"] for row in mine)
    return {"level": level, "basis": basis, "needed": len(mine), "installed": installed, "rate": _share(installed, len(mine)),
            "lacking": [row["item"] for row in mine if not row["installed"]]}
