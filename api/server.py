"""uvicorn around the application: open streams are told before the sockets close, so that it stops within 3 s."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.access import Limits
from api.app import create_app
from park.settings import Settings

GRACE_S = 2
HEAD_S = 15.0
HEAD_BYTES = 64 * 1024
REQUEST_BYTES = 32 * 1024 * 1024    # what a body of at most 10 MB may take in chunks


class Connection(HttpToolsProtocol):
    """A client's connection, bounded while nobody knows who it is; the stream of alerts may write to its socket by itself
    (`scope["state"]["transport"]`).

    The parser keeps a head of any length, and uvicorn waits for one for ever: open to everybody who reaches the port.
    """

    _late: asyncio.TimerHandle | None = None
    _taken = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:    # type: ignore[override]
        """As in uvicorn; the state of the application is copied into every request of the connection."""
        super().connection_made(transport)
        self.app_state = self.app_state | {"transport": transport}
        self._late = self.loop.call_later(HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """As in uvicorn, and nothing is waited for any more."""
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head has to be whole within HEAD_S and HEAD_BYTES, body and trailers within REQUEST_BYTES."""
        self._taken += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._taken > (HEAD_BYTES if self._in_head else REQUEST_BYTES):
            self.send_400_response("The request is too large.")
        elif self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._taken, self._in_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._taken, self._in_head = 0, False
        self._in_time()
        super().on_headers_complete()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """A uvicorn server that ends the streams of its application first."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: let the streams go, then stop."""
        self._app.state.stream.end_listeners()
        super().handle_exit(sig, frame)


def make_server(settings: Settings, host: str, port: int, *, limits: Limits | None = None,
                heartbeat_s: float = 15.0) -> Server:
    """A server that is ready to run; port 0 takes a free one."""
    app = create_app(settings, limits=limits, heartbeat_s=heartbeat_s)
    config = uvicorn.Config(app, host=host, port=port, loop="auto", http=Connection, access_log=False, log_config=None,
                            server_header=False, date_header=False, timeout_graceful_shutdown=GRACE_S, backlog=2048,
                            timeout_keep_alive=30, proxy_headers=False)
    logging.getLogger("uvicorn.access").setLevel(logging.CRITICAL)  # its lines have the query string; ours do not
    return Server(config, app)


def _leave(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; the log goes to standard error, one line a request."""
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # the stream says in one line that the database is away
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _leave)  # uvicorn raises the signal again when it has stopped
    server = make_server(settings, host, port)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))    # the usual 1,024 are soon taken by connections that say nothing
    # what is loaded now stays: the collector need not walk it again while a thousand listeners wait
    gc.collect()
    gc.freeze()
    server.run()
