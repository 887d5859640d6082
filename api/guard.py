"""What surrounds every request: its id, the bound on its body, security headers, one log line, the counters of /metrics.

Plain ASGI, because a stream to a thousand listeners must pass without a task and a queue of its own for each chunk.
The log has the path but never the query string: `/alerts/stream` takes its token there.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

log = logging.getLogger("park.access")

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CSP = b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
BODY_S = 120.0      # 10 MB over a line of 1 Mbit/s
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9_.-]{1,64}$")


@dataclass
class Meters:
    """Counters of the API, in a registry of their own so that two applications of one process do not mix."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    listeners: Gauge
    dropped: Counter
    pushed: Counter


def make_meters() -> Meters:
    """Fresh counters."""
    registry = CollectorRegistry()
    return Meters(
        registry,
        Counter("park_api_requests", "Requests answered.", ["method", "route", "status"], registry=registry),
        Histogram("park_api_request_seconds", "Time from request to the end of its answer, streams excluded.", ["route"],
                  buckets=(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10), registry=registry),
        Gauge("park_api_stream_listeners", "Open streams of alerts.", registry=registry),
        Counter("park_api_stream_dropped", "Streams closed because their listener did not read.", registry=registry),
        Counter("park_api_stream_events", "Transitions told to listeners.", registry=registry))


class Guard:
    """The outermost ASGI layer."""

    def __init__(self, app: ASGIApp, meters: Meters, body_bytes: int, larger: Mapping[str, int] | None = None) -> None:
        """`larger`: bounds of the bodies of single paths."""
        self.app = app
        self.meters = meters
        self.body_bytes = body_bytes
        self.larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and account for it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        told: dict[str, Any] = {"status": 0, "stream": False}

        async def told_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                headers = message.setdefault("headers", [])
                told["stream"] = any(v.startswith(b"text/event-stream") for k, v in headers if k == b"content-type")
                headers += [*HEADERS, (b"x-request-id", request_id.encode())]
                if not any(k == b"content-security-policy" for k, _ in headers):
                    headers.append((b"content-security-policy", CSP))
            await send(message)

        try:
            await self._bounded(scope, receive, told_send)
        finally:
            self._account(scope, told, time.perf_counter() - started, request_id)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        bound = self.larger.get(scope["path"], self.body_bytes)
        said = f"expected a body of at most {bound} bytes"
        if not length.isdigit() or int(length) > bound:
            await problem(413, said, request=Request(scope))(scope, receive, send)
            return
        taken, whole = 0, False
        until = asyncio.get_running_loop().time() + BODY_S

        async def counted() -> Message:
            nonlocal taken, whole
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError as exc:
                raise HTTPException(408, f"expected the whole body within {BODY_S:.0f} s", {"Connection": "close"}) from exc
            whole = whole or not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > bound:
                raise HTTPException(413, said)
            return message

        await self.app(scope, counted, send)

    def _account(self, scope: Scope, told: dict[str, Any], seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.meters.requests.labels(method, route, told["status"]).inc()
        if not told["stream"]:
            self.meters.seconds.labels(route).observe(seconds)
        log.info("%s %s %s %.1fms %s %s", method, scope.get("raw_path", b"").decode("latin-1"), told["status"], seconds * 1000,
                 scope["state"].get("principal", "-"), request_id)


def _request_id(scope: Scope) -> str:
    given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.match(given) else secrets.token_hex(8)

