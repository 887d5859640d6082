"""The alert desk: GET /me, routes of notifications, the duty roster, what is out of service.

Addresses and secrets of routes go in and never come out; a test message is asked for here and sent by the notifier.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.aggregates import needs_whole_base
from api.answers import answer, instant
from api.catalogue import base_row
from api.route_targets import check_target
from api.store import SQL, Principal
from park.clock import utc_now
from park.database import queries
from park.errors import Conflict, InputError, NotFound

DESK = queries(Path(__file__).with_name("desk.sql"))
router = APIRouter(tags=["alerts"])

Base = Annotated[str, Query(max_length=64)]
Id = Annotated[int, InPath(ge=1, le=2**31 - 1)]
Severity = Literal["critical", "high", "medium", "low"]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
OPERATORS = ("operator", "contractor", "admin")
Operator = Annotated[Principal, Depends(allowed(*OPERATORS))]
RIGHTS = {
    "step": OPERATORS, "routes": OPERATORS, "duty": OPERATORS, "out_of_service": OPERATORS, "dispatch": OPERATORS,
    "verify": OPERATORS, "handle": (*OPERATORS, "enterprise"), "ledger": ("operator", "enterprise", "admin"),
    "seal": ("operator", "admin"),
}
MAIL = re.compile(r"^smtps?://[^\s/]+/?\?\S+$")


@router.get("/me")
async def me(who: Who, data: Data) -> Response:
    """The token's name, role, bases and enterprise, and what it may do: the console shows no button beyond that."""
    async with data.session(who) as db:
        bases = await (await db.execute(SQL["bases"])).fetchall()
        mine = await (await db.execute("SELECT code FROM enterprise WHERE enterprise_id = %s", (who.enterprise_id,))).fetchone()
    rights = sorted(right for right, roles in RIGHTS.items() if who.role in roles)
    return answer({"name": who.name, "role": who.role, "bases": [b["code"] for b in bases],
                   "enterprise": mine["code"] if mine else None, "rights": rights})


class Route(BaseModel):
    """A route. `target`: a robot's https address, or smtp://user@host:587/?from=a@b&to=c@d; needed when it is new."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(min_length=1, max_length=64)
    kind: Literal["email", "dingtalk", "wecom", "feishu"]
    target: str | None = Field(default=None, max_length=1000)
    secret: str = Field(default="", max_length=500)
    language: Literal["zh", "en"] = "zh"
    severities: list[Severity] = Field(default=["critical", "high", "medium", "low"], min_length=1)
    quiet_from: Clock | None = None
    quiet_to: Clock | None = None
    digest_s: int = Field(default=0, ge=0, le=86_400)
    after_s: int = Field(default=0, ge=0, le=7 * 86_400)
    person: str = Field(default="", max_length=200)
    on_duty: bool = False
    enabled: bool = True

    @model_validator(mode="after")
    def _whole(self) -> Route:
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValueError("quiet hours need both quiet_from and quiet_to")
        if self.on_duty and not self.person:
            raise ValueError("on_duty needs person, the name that stands in the roster")
        if self.target is not None:
            if self.kind == "email" and not MAIL.match(self.target):
                raise ValueError("expected as target of email smtp://user@host:587/?from=a@b&to=c@d,e@f")
            if self.kind != "email" and not re.match(r"^https?://\S+$", self.target):
                raise ValueError("expected as target the robot's address, https://...")
        return self


@router.get("/routes")
async def routes(who: Operator, data: Data, base: Base) -> Response:
    """Routes of a base, with how their deliveries stand and what became of the last test. Nothing secret is told."""
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(DESK["routes"], {"base": found["base_id"]})).fetchall()
    return answer({"base": base, "routes": rows})


@router.post("/routes", status_code=201)
async def add_route(request: Request, who: Operator, data: Data, base: Base, route: Route) -> Response:
    """A new route; the notifier takes it up within seconds. 409 when the base has one of the name. It sends to a robot's own
    host or a public mail service, and to the hosts that PARK_ROUTE_HOSTS names."""
    if not route.target:
        raise InputError("target: a new route needs the address that it sends to")
    check_target(route.kind, route.target, request.app.state.settings.route_hosts)
    async with data.session(who) as db:
        found = await base_row(db, base)
        row = await (await db.execute(DESK["insert_route"], route.model_dump() | {"base": found["base_id"]})).fetchone()
    assert row is not None
    return answer({"id": row["route_id"]}, 201)


@router.put("/routes/{id}")
async def change_route(request: Request, who: Operator, data: Data, base: Base, id: Id, route: Route) -> Response:
    """A route changed; without `target` its address and secret stay."""
    if route.target:
        check_target(route.kind, route.target, request.app.state.settings.route_hosts)
    async with data.session(who) as db:
        found = await base_row(db, base)
        key = route.model_dump() | {"base": found["base_id"], "id": id}
        row = await (await db.execute(DESK["update_route"], key)).fetchone()
        if row is None:
            raise NotFound(f"there is no route {id} in base {base}")
        if route.target:
            await db.execute(DESK["update_route_target"], key)
    return answer({"id": id})


@router.delete("/routes/{id}")
async def remove_route(who: Operator, data: Data, base: Base, id: Id) -> Response:
    """A route that sends no more."""
    await _one(who, data, base, "delete_route", {"id": id}, f"there is no route {id} in base {base}")
    return answer({"id": id})


@router.post("/routes/{id}/test", status_code=202)
async def ask_test(who: Operator, data: Data, base: Base, id: Id) -> Response:
    """Ask for a test message; `tested_at` and `test_error` of the route say what became of it."""
    await _one(who, data, base, "ask_test", {"id": id}, f"there is no route {id} in use in base {base}")
    return answer({"id": id}, 202)


class Duty(BaseModel):
    """Somebody's duty, once or every so many days; `after_s` 0: told at once, more: of what nobody acknowledged for so long."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    person: str = Field(min_length=1, max_length=200)
    phone: str = Field(default="", max_length=40)
    start: AwareDatetime
    end: AwareDatetime
    after_s: int = Field(default=0, ge=0, le=7 * 86_400)
    severities: list[Severity] = Field(default=["critical", "high"], min_length=1)
    every_days: int = Field(default=7, ge=1, le=366)
    times: int = Field(default=1, ge=1, le=366)

    @model_validator(mode="after")
    def _ordered(self) -> Duty:
        if not timedelta(0) < self.end - self.start <= timedelta(days=32):
            raise ValueError("expected start before end, and at most 32 days")
        return self


@router.get("/duty")
async def duty(who: Who, data: Data, base: Base, start: str | None = None, end: str | None = None) -> Response:
    """Who is on duty, two weeks from now on when no time is given; `now`: on duty, `reachable`: there is a
    route (null for a token that may not see routes)."""
    needs_whole_base(who)
    first = instant(start, "start") or utc_now()
    last = instant(end, "end") or first + timedelta(days=14)
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(DESK["duty"], {"base": found["base_id"], "start": first, "end": last})).fetchall()
        heard: set[str] | None = None
        if who.role in OPERATORS:
            known = await (await db.execute(DESK["reachable"], {"base": found["base_id"]})).fetchall()
            heard = {r["person"] for r in known}
    rows = [r | {"reachable": None if heard is None else r["person"] in heard} for r in rows]
    return answer({"base": base, "duty": rows, "on_duty_now": [r["person"] for r in rows if r["now"]]})


@router.post("/duty", status_code=201)
async def add_duty(who: Operator, data: Data, base: Base, said: Duty) -> Response:
    """A duty, or a row of them; local times stay the same when the zone's clock changes."""
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(DESK["insert_duty"], said.model_dump() | {
            "base": found["base_id"], "zone": found["timezone"], "by": who.name})).fetchall()
    return answer({"ids": [r["id"] for r in rows]}, 201)


@router.delete("/duty/{id}")
async def remove_duty(who: Operator, data: Data, base: Base, id: Id) -> Response:
    """A duty that is not over leaves the roster."""
    await _one(who, data, base, "delete_duty", {"id": id}, f"there is no duty {id} in base {base} that is not over")
    return answer({"id": id})


class OutOfService(BaseModel):
    """What is out of service (all that fits every code given), until when, and why."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    rule: str | None = Field(default=None, max_length=64)
    point: str | None = Field(default=None, max_length=64)
    unit: str | None = Field(default=None, max_length=64)
    device: str | None = Field(default=None, max_length=64)
    until: AwareDatetime
    reason: str = Field(min_length=1, max_length=2000)

    @model_validator(mode="after")
    def _about(self) -> OutOfService:
        if not any((self.rule, self.point, self.unit, self.device)):
            raise ValueError("expected a rule, a point, a unit or a device")
        if not utc_now() < self.until <= utc_now() + timedelta(days=366):
            raise ValueError("expected as until an instant in the future and within 366 days")
        return self


@router.get("/out-of-service")
async def out_of_service(who: Who, data: Data, base: Base,
                         every: Annotated[bool, Query(description="Also what is back in service.")] = False) -> Response:
    """What is out of service: what, until when, who, why (ISA-18.2)."""
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(DESK["out_of_service"], {"base": found["base_id"], "every": every})).fetchall()
        held = await (await db.execute(DESK["held_back"], {"base": found["base_id"]})).fetchone()
    return answer({"base": base, "out_of_service": rows, "alerts": held["n"] if held else 0})


@router.post("/out-of-service", status_code=201)
async def take_out(who: Operator, data: Data, base: Base, said: OutOfService) -> Response:
    """Take it out of service: its alerts are kept underneath, told to nobody, and come back when the time is over."""
    row = await _one(who, data, base, "insert_out_of_service", said.model_dump() | {"actor": who.name},
                     "there is no such rule, point, unit or device in this base", InputError)
    return answer({"id": row["id"]}, 201)


@router.post("/out-of-service/{id}/end")
async def put_back(who: Operator, data: Data, base: Base, id: Id) -> Response:
    """Back into service before its time."""
    said = f"{id} is not out of service in base {base}"
    await _one(who, data, base, "end_out_of_service", {"id": id, "actor": who.name}, said, Conflict)
    return answer({"id": id})


async def _one(who: Principal, data: Data, base: str, query: str, parameters: dict[str, Any], missing: str,
               error: type[Exception] = NotFound) -> dict[str, Any]:
    """The one row that a query of the base gives; `error` with the text when there is none."""
    async with data.session(who) as db:
        found = await base_row(db, base)
        row: dict[str, Any] | None = await (await db.execute(DESK[query], parameters | {"base": found["base_id"]})).fetchone()
        if row is None:
            raise error(missing)
    return row
