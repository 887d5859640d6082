"""Receivers that hang, drip, redirect, answer 500, 429 or garbage: each is a failed try that ends in time, and no delivery."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from alerts import mail, notify, posting, robots
from tests.alerts.test_routes import served

STRANGE: dict[str, list[bytes]] = {        # what is sent, a piece every 50 ms; then the line stays open
    "hangs": [],
    "drips": [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n", b"X-", b"a", b"b: c\r\n"] * 500],
    "garbage": [b"\x00\xff 220 SSH-2.0-OpenSSH\r\n"],
    "a half": [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"errc"],
    "not a number": [b"HTTP/1.1 2xx OK\r\n\r\n"],
    "a redirect": [b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
    "a moved site": [b"HTTP/1.1 301 Moved\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
    "too many": [b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"],
    "an error": [b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"],
    "a continue": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 5,
}


class Stranger:
    """Says its pieces to whoever connects; what is asked for with GET it answers kindly."""

    def __init__(self, pieces: list[bytes]) -> None:
        stranger = self
        self.asked: list[bytes] = []
        self.end = threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if pieces and not pieces[0].startswith(b"220"):
                    stranger.asked.append(self.request.recv(65_536))
                try:
                    if stranger.asked and stranger.asked[-1].startswith(b"GET"):
                        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"errcode\": 0}")
                        return
                    for piece in pieces:
                        self.request.sendall(piece)
                        if stranger.end.wait(0.05):
                            return
                    stranger.end.wait(0 if pieces and b"close" in pieces[0] else 30)
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            block_on_close = True

            def handle_error(self, *_: object) -> None:
                pass
        self.server = Server(("127.0.0.1", 0), Handler)
        self.at = f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def stranger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    monkeypatch.setattr(posting, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(posting, "LONGEST_S", 0.6)
    monkeypatch.setattr(mail, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(mail, "LONGEST_S", 0.6)
    s = Stranger(request.param)
    for _ in served(s.server):
        yield s
        s.end.set()


@pytest.mark.parametrize("stranger", STRANGE.values(), indirect=True, ids=STRANGE)
def test_a_strange_answer_is_a_failed_try_in_time_and_tells_no_key(stranger: Stranger) -> None:
    senders: list[Callable[[], None]] = [
        lambda: notify.Webhook(f"http://{stranger.at}/hook?key=s3cret", "x").send(b"{}"),
        lambda: robots.dingtalk(f"http://{stranger.at}/robot?access_token=s3cret", "x", "title", ["line"])]
    for send in senders:
        began = time.monotonic()
        with pytest.raises(posting.NotDelivered) as told:
            send()
        assert time.monotonic() - began < 3 and "s3cret" not in str(told.value)
    assert not any(a.startswith(b"GET") for a in stranger.asked), "a redirect is not followed"


MAIL: dict[str, list[bytes]] = {"hangs": [], "drips": [b"220-wait\r\n"] * 500, "garbage": [b"\xff\x00\r\n"],
                                "drips later": [b"220 ok\r\n", *[b"250-x\r\n"] * 500], "busy": [b"421 busy\r\n"]}


@pytest.mark.parametrize("stranger", MAIL.values(), indirect=True, ids=MAIL)
def test_a_strange_mail_server_is_a_failed_try_in_time(stranger: Stranger) -> None:
    began = time.monotonic()
    with pytest.raises(posting.NotDelivered):
        mail.send(f"smtp://{stranger.at}/?from=a@b.test&to=c@d.test", "", "title", ["line"])
    assert time.monotonic() - began < 3
