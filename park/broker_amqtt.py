"""The embedded broker where mosquitto is not installed: `python -m park.broker_amqtt TERMS`.

TERMS is a JSON object: `listeners`, each with host, port and perhaps certfile and keyfile, and `access`, the file
`access.json` of `park.broker_access`: with it nobody gets in without a password, and a message to a topic that its sender
may not write is dropped and logged, once for each user and topic.
amqtt confirms such a message all the same, where mosquitto closes the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from park.broker_access import Rights, is_password

log = logging.getLogger("park.broker")
MOST_NAMED = 1000   # refused topics that are named in the log; a device that tries more is known by then


class AccessPlugin(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc]
    """Log-in and topic rights of `access.json`."""

    @dataclass
    class Config:
        """The file."""

        file: str = ""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        raw: dict[str, dict[str, Any]] = json.loads(Path(context.config.file).read_text(encoding="utf-8"))
        self._hashes = {name: r.pop("password") for name, r in raw.items()}
        self._rights = {name: Rights(**{k: tuple(v) for k, v in r.items()}) for name, r in raw.items()}
        self._named: set[tuple[str, str]] = set()

    async def authenticate(self, *, session: Session) -> bool:
        """Whether name and password are those of a user."""
        hashed = self._hashes.get(session.username or "")
        if hashed is not None and is_password(session.password or "", hashed):
            return True
        log.warning("refused %s (client %s): name or password is not that of a user", session.username or "anonymous",
                    session.client_id)
        return False

    async def topic_filtering(self, *, session: Session | None = None, topic: str | None = None,
                              action: Action | None = None) -> bool:
        """Whether the user may publish to the topic, or gets a message of it. To subscribe is free: what counts is
        what a subscription then gives."""
        name = (session.username or "") if session else ""
        rights = self._rights.get(name)
        if rights is None or topic is None:
            return False
        if action == Action.SUBSCRIBE:
            return True
        if action == Action.RECEIVE:
            return rights.may_read(topic)
        allowed = rights.may_write(topic)
        if not allowed and (name, topic) not in self._named and len(self._named) < MOST_NAMED:
            self._named.add((name, topic))
            log.warning("refused a message of %s to %s: that topic is not for this user", name, topic)
        return allowed


async def serve(listeners: Sequence[Mapping[str, Any]], access: str | None) -> None:
    """Run the broker until SIGTERM or SIGINT."""
    plugins: dict[str, dict[str, object]] = (
        {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}} if access is None
        else {"park.broker_amqtt.AccessPlugin": {"file": access}})
    named = ("default", *(f"tls-{n}" for n in range(1, len(listeners))))
    of_each = {name: _listener(**at) for name, at in zip(named, listeners, strict=True)}
    broker = Broker({"listeners": of_each, "plugins": plugins})
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


def _listener(host: str, port: int, **files: str) -> dict[str, object]:
    return {"type": "tcp", "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "max_connections": 1000,
            "ssl": bool(files), **files}


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(**json.loads(sys.argv[1])))
