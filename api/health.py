"""GET /healthz, /readyz and /metrics: whether the process lives, whether it can answer, and its counters."""

from __future__ import annotations

import psycopg
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from psycopg_pool import PoolTimeout
from starlette.responses import Response

from api.access import Data
from api.answers import answer
from api.guard import Meters
from api.problems import problem
from api.store import SQL
from park.database import migrations

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Response:
    """The process answers."""
    return answer({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request, data: Data) -> Response:
    """The database answers with the schema of this version, and the stream listens; 503 otherwise."""
    needed = migrations()[-1][0]
    try:
        async with data.own() as cursor:
            row = await (await cursor.execute(SQL["ready"])).fetchone()
    except (psycopg.Error, PoolTimeout):
        return problem(503, "the database does not answer", request=request)
    there = row["migration"] if row else 0
    if there < needed:
        return problem(503, f"the schema is at migration {there} of {needed}: run `park migrate`", request=request)
    if not request.app.state.stream.listening:
        return problem(503, "the stream does not listen yet", request=request)
    return answer({"status": "ready", "migration": there})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Counters of this process in the Prometheus text format; nothing of any base is in them."""
    meters: Meters = request.app.state.meters
    return Response(generate_latest(meters.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
