"""The application: routes under /api/v1, the console at /, one pool, one stream.

It reads what ingest, accounting and alerts wrote, and writes operators' steps, ledger entries and sealed reports.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

from fastapi import FastAPI

from api import (
    account,
    aggregates,
    alerts,
    balance,
    baselines,
    bills,
    cases,
    catalogue,
    desk,
    emissions,
    evidence,
    exemptions,
    health,
    indicators,
    infrastructure,
    kpi,
    ledger,
    live,
    problems,
    readings,
    reference,
    reports,
    resources,
    trace,
)
from api.access import Gate, Limits
from api.console_files import mount_console
from api.guard import Guard, make_meters
from api.store import Store
from api.stream import HEARTBEAT_S, Stream
from park.settings import Settings

PREFIX = "/api/v1"
# live and kpi first: /alerts/stream is not an alert's id
ROUTERS = (live.router, kpi.router, desk.router, cases.router, alerts.router, catalogue.router, readings.router,
           aggregates.router, emissions.router, balance.router, bills.router, account.router, infrastructure.router,
           indicators.router, exemptions.router, baselines.router, trace.router, ledger.router, evidence.router,
           resources.router,
           reports.router, health.router)


def create_app(settings: Settings, *, limits: Limits | None = None, heartbeat_s: float = HEARTBEAT_S) -> FastAPI:
    """The API and the console over the database of `settings`; connections open when the server starts."""
    limits = limits or Limits()
    meters = make_meters()
    store = Store(settings.database_url)
    stream = Stream(store, meters, heartbeat_s=heartbeat_s, of_token=limits.streams_of_token)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.open()
        stream.start()
        yield
        await stream.stop()
        await store.close()

    app = FastAPI(title="park-telemetry", version="1", lifespan=lifespan, docs_url=None, redoc_url=None,
                  openapi_url=f"{PREFIX}/openapi.json",
                  description="Energy and pollution telemetry of an industrial park. Instants are UTC, periods base-local.")
    app.state.settings, app.state.store, app.state.stream, app.state.meters = settings, store, stream, meters
    app.state.gate, app.state.press = Gate(store, limits), reports.Press(settings.database_url)
    problems.register(app)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX, responses=problems.OF_ROUTES)
    if importlib.util.find_spec("api.overview") is not None:
        app.include_router(import_module("api.overview").router, prefix=PREFIX, responses=problems.OF_ROUTES)
    app.include_router(reference.router)
    app.include_router(health.router, include_in_schema=False)  # probes look at the root too
    mount_console(app, Path(__file__).with_name("console"))
    app.add_middleware(Guard, meters=meters, body_bytes=limits.body_bytes, larger={
        f"{PREFIX}/evidence": limits.evidence_bytes, f"{PREFIX}/ledger/import": limits.form_bytes})
    return app
