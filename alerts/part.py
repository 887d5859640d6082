"""The bases that one evaluator looks after: all of them, or its part of them where several evaluators share the work.

A base is a matter of one evaluator at a time: whoever judges it holds the advisory lock of that base.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

import psycopg

from park.errors import InputError

LOCK = 0x616C6572   # "aler": with the number of a base, the lock of its evaluator


@dataclass(frozen=True)
class Part:
    """Part `number` of `of`, from 1: the bases whose number leaves `number` - 1 when divided by `of`."""

    number: int = 1
    of: int = 1

    @property
    def shard(self) -> str:
        """Whose memory it is in `evaluator_snapshot`."""
        return "main" if self.of == 1 else f"{self.number}/{self.of}"

    def has(self, base_id: int) -> bool:
        """Whether a base is in this part."""
        return base_id % self.of == self.number - 1


WHOLE = Part()


def part_of(text: str) -> Part:
    """`2/4` as the second of four parts; InputError when it is none."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of:
        raise InputError(f"--part: expected such as 2/4, the second of four parts, got {text!r}")
    return Part(number, of)


def wait_alone(conn: psycopg.Connection[Any], work: str, stop: threading.Event) -> bool:
    """Wait to be the only session at a work, such as a channel's deliveries; False when `stop` came first."""
    while not stop.is_set():
        row = conn.execute("SELECT pg_try_advisory_lock(hashtext('park alert'), hashtext(%s))", (work,)).fetchone()
        if row is not None and row[0]:
            return True
        stop.wait(1.0)
    return False
