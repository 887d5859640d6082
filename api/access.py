"""Who may ask for what: bearer tokens, their roles, and how often one may ask.

A token is looked up by its SHA-256 and remembered for a few seconds, good or bad, so that each request costs the same.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.problems import TooMany, Unauthorized
from api.store import SQL, Principal, Store
from api.tokens import hash_of
from park.errors import Forbidden

REMEMBER_S = 5.0
REMEMBERED = 4_096
bearer = HTTPBearer(auto_error=False, description="A token of `park token create`.")


@dataclass(frozen=True)
class Limits:
    """Requests a second and the burst, for a token and for an address that sends no valid token; bytes of a body."""

    token_rate: float = 100.0
    token_burst: float = 300.0
    stranger_rate: float = 5.0
    stranger_burst: float = 40.0
    body_bytes: int = 256 * 1024
    evidence_bytes: int = 10 * 1024 * 1024
    form_bytes: int = 2 * 1024 * 1024
    streams_of_token: int = 50


@dataclass
class Buckets:
    """Token buckets by key, bounded: the least recently used is forgotten first."""

    rate: float
    burst: float
    size: int = 10_000
    _level: OrderedDict[Any, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, key: Any, now: float, cost: float = 1.0) -> float:
        """0.0 when `key` may go on, otherwise the seconds to wait."""
        level, at = self._level.pop(key, (self.burst, now))
        level = min(self.burst, level + (now - at) * self.rate)
        allowed = level >= cost
        self._level[key] = (level - cost if allowed else level, now)
        if len(self._level) > self.size:
            self._level.popitem(last=False)
        return 0.0 if allowed else (cost - level) / self.rate


class Gate:
    """Turns a bearer token into a principal, or refuses."""

    def __init__(self, store: Store, limits: Limits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self.limits = limits
        self._now = monotonic
        self._known: OrderedDict[bytes, tuple[Principal | None, float]] = OrderedDict()
        self._of_token = Buckets(limits.token_rate, limits.token_burst)
        self._of_stranger = Buckets(limits.stranger_rate, limits.stranger_burst)

    async def admit(self, token: str | None, address: str) -> Principal:
        """The principal of a token; Unauthorized or TooMany otherwise. An address that guesses is slowed down."""
        now = self._now()
        digest = hash_of(token or "")
        principal, until = self._known.get(digest, (None, float("-inf")))
        if until < now and token:
            principal = await self._look_up(digest)
            self._remember(digest, principal, now)
        if principal is None:
            if wait := self._of_stranger.take(address, now):
                raise TooMany("too many requests without a valid token", int(wait) + 1)
            raise Unauthorized("expected `Authorization: Bearer TOKEN` with a valid token; an operator makes one with "
                               "`park token create`")
        if wait := self._of_token.take(principal.token_id, now):
            raise TooMany("this token asks too often", int(wait) + 1)
        return principal

    async def _look_up(self, digest: bytes) -> Principal | None:
        async with self._store.own() as cursor:
            row = await (await cursor.execute(SQL["token_by_hash"], {"hash": digest})).fetchone()
        if row is None:
            return None
        return Principal(row["token_id"], row["name"], row["role"], tuple(row["bases"]), row["enterprise_id"])

    def _remember(self, digest: bytes, principal: Principal | None, now: float) -> None:
        self._known[digest] = (principal, now + REMEMBER_S)
        self._known.move_to_end(digest)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def address_of(request: Request) -> str:
    """The peer's address, for rate limits only."""
    return request.client.host if request.client else ""


async def principal_of(request: Request,
                       credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> Principal:
    """The principal of a request's bearer token."""
    gate: Gate = request.app.state.gate
    who = await gate.admit(credentials.credentials if credentials else None, address_of(request))
    request.state.principal = who.name
    return who


def allowed(*roles: str) -> Callable[..., Coroutine[Any, Any, Principal]]:
    """A dependency that lets only these roles pass."""
    async def check(who: Annotated[Principal, Depends(principal_of)]) -> Principal:
        if who.role not in roles:
            raise Forbidden(f"this needs a token of role {' or '.join(roles)}; this one is of role {who.role}")
        return who
    return check


def store_of(request: Request) -> Store:
    """The application's store."""
    store: Store = request.app.state.store
    return store


Who = Annotated[Principal, Depends(principal_of)]
Data = Annotated[Store, Depends(store_of)]
