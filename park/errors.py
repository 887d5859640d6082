"""What can go wrong, as a tree. Messages say what was expected, what came, and where.

ParkError
├── InputError            the user's input is wrong (exit status 1); carries file, line and the remedy
│   ├── CatalogueError    one or many mistakes in a catalogue, each with its place
│   ├── FrameError        bytes of a device that are not what the protocol says
│   └── ReadingError      a message that is not a batch of readings
├── NotFound              a base, point, unit, alert or report that does not exist
├── Forbidden             a token without the role or the base
├── Conflict              the thing is in a state that forbids the step (sealed report, closed alert)
├── DeviceError           a device answered with an error or not at all
│   └── DeviceTimeout
├── StorageError          database or spool cannot take what it is given
└── SetupError            this machine lacks something; the message says how to get it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class ParkError(Exception):
    """Root of every error that this platform raises on purpose."""

    exit_status = 1


class InputError(ParkError, ValueError):
    """Wrong input of a user; the text names the place and the remedy."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in a file: where it is, and what was expected beside what came."""

    file: str
    line: int | None
    where: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.where}: {self.message}" if self.where else f"{place}: {self.message}"


class CatalogueError(InputError):
    """Every mistake found in a catalogue at once, so that a user mends them in one round."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(m) for m in mistakes))


class FrameError(InputError):
    """Bytes that are not a frame of the protocol; `reason` is a word that counters can use."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class ReadingError(InputError):
    """A message that is not a batch of readings; `reason` is the dead letter's reason."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class NotFound(ParkError):
    """The named thing is not in the catalogue or the store."""


class Forbidden(ParkError):
    """The token does not carry the role or the base that this needs."""


class Conflict(ParkError):
    """The thing's present state does not allow the step."""


class DeviceError(ParkError):
    """A device refused or garbled an answer."""


class DeviceTimeout(DeviceError):
    """A device did not answer in time."""


class StorageError(ParkError):
    """Database or spool refused the data; the data is still where it came from."""


class SetupError(ParkError):
    """Something on this machine is missing; the message says how to get it."""


MOST_NAMED = 12


def known_names(wrong: str, known: Iterable[str]) -> str:
    """`known: a, b` for a message about a word that is none of them; of a long list those that look most like it."""
    words = list(known)
    if len(words) <= MOST_NAMED:
        return f"known: {', '.join(words)}"
    alike = get_close_matches(wrong.lower(), words, 4, 0.5)
    return f"did you mean {' or '.join(alike)}?" if alike else f"known: {', '.join(words)}"
