"""The route of the stream; the machinery is `api/stream.py`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials
from starlette.responses import Response

from api.access import Gate, address_of, bearer
from api.answers import Lang
from api.stream import EventAnswer, Stream
from park.errors import InputError

router = APIRouter(tags=["alerts"])


@router.get("/alerts/stream", responses={200: {"content": {"text/event-stream": {}}}})
async def stream(request: Request, lang: Lang,
                 credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
                 access_token: Annotated[str | None, Query(max_length=200, description="The token, for EventSource, which "
                                                           "cannot send headers; it is never logged.")] = None,
                 last_event_id: Annotated[str | None, Header(description="Replay what came after this event.")] = None,
                 after: Annotated[str | None, Query(max_length=20, description="The same as Last-Event-ID.")] = None
                 ) -> Response:
    """Transitions of alerts as they are stored. Events: `ready`, `transition`, and `reset` when too much was missed."""
    gate: Gate = request.app.state.gate
    who = await gate.admit(credentials.credentials if credentials else access_token, address_of(request))
    request.state.principal = who.name
    last = last_event_id or after
    if last and not (last.isascii() and last.isdigit() and len(last) < 19):
        raise InputError(f"expected as Last-Event-ID the id of an event, got {last[:40]!r}")
    source: Stream = request.app.state.stream
    return EventAnswer(source, source.join(who, lang), int(last) if last else None)
