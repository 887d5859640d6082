"""Commands that the platform gives data loggers: 1011, 1062, 2061, 3011 ...: sent, matched by QN, repeated, answered.

The flow of the standard: request → 9011 with QnRtn (repeated when it does not come in time) → data under the same CN, where
the command asks for any → 9012 with ExeRtn. Loggers that leave out 9011 are understood by what follows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import yaml

from collectors.hj212_clock import local_now
from collectors.hj212_data import TABLES
from collectors.hj212_frame import Message, qn_of
from collectors.hj212_logger import Logger
from park.errors import InputError

OVER_TIME_S = 5.0
REPEATS = 3
RESULT_S = 60.0
MAX_DATA_FRAMES = 10_000
TOGETHER = {"EndTime"}
"""Fields that stand in one group with the field before them."""


@dataclass(frozen=True)
class Command:
    """A row of the table of commands."""

    cn: str
    zh: str
    en: str
    fields: tuple[str, ...] = ()
    data: bool = False


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, Command], dict[str, dict[int, dict[str, str]]]]:
    raw = yaml.safe_load((TABLES / "hj212_commands.yaml").read_text(encoding="utf-8"))
    commands = {cn: Command(cn, **row | {"fields": tuple(row.get("fields", ()))}) for cn, row in raw["commands"].items()}
    return commands, {"qn_rtn": raw["request_results"], "exe_rtn": raw["results"]}


def commands() -> dict[str, Command]:
    """All commands by CN."""
    return _tables()[0]


@dataclass
class Outcome:
    """How a command went. `state`: done, failed, refused, no_answer, no_result or offline."""

    state: str
    qn: str = ""
    sent: int = 0
    qn_rtn: int | None = None
    exe_rtn: int | None = None
    data: list[dict[str, str]] = field(default_factory=list)

    def plain(self, language: str = "zh") -> dict[str, Any]:
        """As JSON, with the words of the results."""
        words = {name: table.get(code, {}).get(language, "") for name, table in _tables()[1].items()
                 if (code := getattr(self, name)) is not None}
        return vars(self) | {f"{name}_text": word for name, word in words.items()}


@dataclass
class Exchange:
    """A command under way."""

    cn: str
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: Outcome = field(default_factory=lambda: Outcome("no_answer"))


class Commander:
    """Sends commands and hears their answers; one command at a time for each logger."""

    def __init__(self, clock_ms: Callable[[], int], *, over_time_s: float = OVER_TIME_S, repeats: int = REPEATS,
                 result_s: float = RESULT_S) -> None:
        self.over_time_s = over_time_s
        self.repeats = repeats
        self.result_s = result_s
        self._clock_ms = clock_ms
        self._open: dict[tuple[str, str], Exchange] = {}

    async def send(self, logger: Logger, cn: str, fields: Mapping[str, str]) -> Outcome:
        """Give the command and wait for its result; InputError when the command or its fields are wrong."""
        command = commands().get(cn)
        if command is None:
            raise InputError(f"expected a command of {', '.join(commands())}, got {cn!r}")
        async with logger.turn:
            now, given = self._now(logger), self._filled(logger, cn, fields)
            if missing := [f for f in command.fields if f not in given]:
                raise InputError(f"command {cn} ({command.en}) needs {', '.join(missing)}")
            data_area(given)
            mn, qn = logger.station.device.device.mn or "", qn_of(now)
            while (mn, qn) in self._open:
                qn = str(int(qn) + 1)
            exchange = self._open[mn, qn] = Exchange(cn)
            exchange.outcome.qn = qn
            try:
                await self._run(logger, exchange, fields)
            except OSError:
                exchange.outcome.state = "offline"
            finally:
                del self._open[mn, qn]
            return exchange.outcome

    def _now(self, logger: Logger) -> datetime:
        return local_now(self._clock_ms(), logger.station.zone)

    def _filled(self, logger: Logger, cn: str, fields: Mapping[str, str]) -> dict[str, str]:
        """The fields with the time of this moment where a clock is set: a repetition must not carry the time of the first."""
        if cn != "1012" or "SystemTime" in fields:
            return dict(fields)
        return {**fields, "SystemTime": f"{self._now(logger):%Y%m%d%H%M%S}"}

    async def _run(self, logger: Logger, exchange: Exchange, fields: Mapping[str, str]) -> None:
        outcome = exchange.outcome
        for _ in range(1 + self.repeats):
            if logger.link is None or logger.link.is_closing():
                outcome.state = "offline"
                return
            cp = data_area(self._filled(logger, exchange.cn, fields))
            logger.link.write(logger.command_frame(outcome.qn, exchange.cn, cp))
            outcome.sent += 1
            if await _within(exchange.accepted, self.over_time_s):
                break
        else:
            outcome.state = "no_answer"
            return
        if outcome.qn_rtn not in (None, 1):
            outcome.state = "refused"
        elif not await _within(exchange.finished, self.result_s):
            outcome.state = "no_result"
        else:
            outcome.state = "done" if outcome.exe_rtn == 1 else "failed"

    def heard(self, message: Message) -> bool:
        """Take an answer to a command of ours; False when the message answers none."""
        exchange = self._open.get((message.mn, message.qn))
        if exchange is None or message.cn not in ("9011", "9012", exchange.cn):
            return False
        outcome = exchange.outcome
        if message.cn == "9011":
            outcome.qn_rtn = _code(message.field("QnRtn"))
        elif message.cn == "9012":
            outcome.exe_rtn = _code(message.field("ExeRtn"))
            exchange.finished.set()
        elif len(outcome.data) < MAX_DATA_FRAMES:
            outcome.data.append({k: v for group in message.groups for k, v in group.items()})
        exchange.accepted.set()
        return True


def data_area(fields: Mapping[str, str]) -> str:
    """The data area of a command; InputError for a text that would break the frame."""
    area = ""
    for name, value in fields.items():
        if not name or any(c in name + value for c in ";,&=#\r\n"):
            raise InputError(f"expected NAME=VALUE without any of ; , & = #, got {name}={value!r}")
        area += ("" if not area else "," if name in TOGETHER else ";") + f"{name}={value}"
    return area


async def _within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _code(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 100
