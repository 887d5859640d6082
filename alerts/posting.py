"""POST to a receiver that may do anything: hang, drip its answer, redirect, answer garbage. Under webhook and group robots.

A redirect is no delivery: followed as browsers do, it turns the POST into a GET without its body, and whatever page answers
that with 200 would pass for the receiver. No answer is waited for longer than LONGEST_S, however slowly it drips.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from park.errors import ParkError

TIMEOUT_S = 5.0     # for each word of a receiver
LONGEST_S = 20.0    # for all of them
MOST_BYTES = 65_536


class NotDelivered(ParkError):
    """The receiver did not take it; the text says why, without secrets."""


def post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body of a 2xx answer, MOST_BYTES at most; NotDelivered otherwise, which never names the address: it may be a key."""
    wires: list[Any] = []
    opener = urllib.request.build_opener(_NoRedirect, _Plain(wires), _Secure(wires))
    try:
        request = urllib.request.Request(url, body, dict(headers), method="POST")
        with (cut_after(LONGEST_S, lambda: wires[-1] if wires else None) as was_cut,
              opener.open(request, timeout=TIMEOUT_S) as answer):
            told: bytes = answer.read(MOST_BYTES)
        if was_cut.is_set():
            raise NotDelivered(f"the answer had no end after {LONGEST_S:g} s")
        return told
    except urllib.error.HTTPError as exc:
        exc.close()
        raise NotDelivered(f"answer {exc.code}") from exc
    except (OSError, ValueError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None)       # texts of other errors may hold the address
        raise NotDelivered(type(exc).__name__ + (f": {reason}" if reason else "")) from exc


@contextlib.contextmanager
def cut_after(seconds: float, wire: Callable[[], socket.socket | None]) -> Iterator[threading.Event]:
    """Shut down the socket that `wire` gives when what is inside takes longer: whoever reads from it then gets an end. The
    event is set then."""
    was_cut = threading.Event()

    def cut() -> None:
        was_cut.set()
        with contextlib.suppress(OSError):
            found = wire()
            if found is not None:
                found.shutdown(socket.SHUT_RDWR)
    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield was_cut
    finally:
        timer.cancel()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None     # which makes it an HTTPError of its own code


class _Plain(urllib.request.HTTPHandler):
    """Keeps the sockets that it opens in `wires`, so that they can be cut."""

    def __init__(self, wires: list[Any]) -> None:
        super().__init__()
        self.wires = wires

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        wires = self.wires

        class Kept(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                wires.append(self.sock)
        return self.do_open(Kept, req)


class _Secure(urllib.request.HTTPSHandler):
    """The same over TLS."""

    def __init__(self, wires: list[Any]) -> None:
        super().__init__()
        self.wires = wires

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        wires = self.wires

        class Kept(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                wires.append(self.sock)
        return self.do_open(Kept, req)
