"""uvicorn around the application: open streams are told before the sockets close, so that it stops within 3 s."""

from __future__ import annotations

import asyncio
import gc
import logging
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


class Connection(HttpToolsProtocol):
    """A client's connection whose socket the stream of alerts may write to by itself (`scope["state"]["transport"]`)."""

    def connection_made(self, transport: asyncio.Transport) -> None:    # type: ignore[override]
        """As in uvicorn; the state of the application is copied into every request of the connection."""
        super().connection_made(transport)
        self.app_state = self.app_state | {"transport": transport}


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
    # what is loaded now stays: the collector need not walk it again while a thousand listeners wait
    gc.collect()
    gc.freeze()
    server.run()
