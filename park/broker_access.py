"""Who may log in to the embedded broker, and what each may write: needed as soon as it listens beyond loopback.

Users stand in `users.json` (0600): name and password, made at the first start, changed by editing the file and starting
again. `platform` is the stages of this machine, `gateway` a collector elsewhere or a program that writes the platform's
own form, `device` every MQTT device; any further name is one device with a password of its own, and where it is written
`{"password": "...", "topics": ["tele/plc-7/#"]}` it writes these alone. Why devices may otherwise write any topic but those
between the stages: docs/decisions/003.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import topic_matches_sub

from park.errors import InputError, SetupError
from park.private import write_private

PLATFORM, GATEWAY, DEVICE = "platform", "gateway", "device"
OURS = "park/#"                 # topics between the stages
OWN_SOURCE = "collector"        # the source of `park up` itself: its batch numbers are nobody else's
COMMANDS = ("spBv1.0/+/NCMD/#", "spBv1.0/+/DCMD/#", "spBv1.0/STATE/#", "STATE/#")   # what Sparkplug nodes are told
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ROUNDS = 101   # mosquitto's own number; the passwords are random, or stand in clear beside it


@dataclass(frozen=True)
class Rights:
    """Topic filters that a user may write (publish) and read (receive), and `never` whatever the others say."""

    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def may_write(self, topic: str) -> bool:
        """Whether a message to this topic is taken from the user."""
        return _any(self.write, topic) and not _any(self.never, topic)

    def may_read(self, topic: str) -> bool:
        """Whether a message of this topic is given to the user."""
        return _any(self.read, topic) and not _any(self.never, topic)


def _any(filters: Sequence[str], topic: str) -> bool:
    return any(topic_matches_sub(f, topic) for f in filters)


def listen_address(text: str, usual: int = 1883) -> tuple[str, int]:
    """(host, port) of `0.0.0.0:1883`, `10.0.0.5`, `:1883` or `[::]:1883`; InputError says what was expected."""
    match = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*)(?::(?P<port>\d{1,5}))?", text)
    if match is None or not text or text.isdigit() or not 0 < int(match["port"] or usual) < 65536:
        port = text if text.isdigit() and 0 < int(text) < 65536 else str(usual)
        raise InputError(f"--mqtt-listen: expected ADDRESS:PORT such as 0.0.0.0:{port}, got {text!r}")
    return match["host"].strip("[]") or "0.0.0.0", int(match["port"] or usual)


def users(path: Path) -> dict[str, str]:
    """Name and password of every user in the file; made with random passwords where it is not there yet.

    SetupError when it cannot be read as such, lacks one of the three, or has a password too short to be one.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = {name: secrets.token_urlsafe(18) for name in (PLATFORM, GATEWAY, DEVICE)}
        write_private(path, json.dumps(fresh, indent=1) + "\n")
    found = _read(path)
    for name, entry in found.items():
        password = entry["password"] if isinstance(entry, dict) and {"password", "topics"} == set(entry) else entry
        if not _NAME.fullmatch(name):
            raise SetupError(f"{path}: expected a user name of letters, digits, _ . -, got {name!r}")
        if not isinstance(password, str) or len(password) < 8 or not password.isprintable():
            raise SetupError(f"{path}: expected a password of at least 8 characters for {name}")
        found[name] = password
    path.chmod(0o600)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise SetupError(f"{path}: expected JSON with a password for each user, got {exc}") from exc
    if not isinstance(found, dict) or not {PLATFORM, GATEWAY, DEVICE} <= set(found):
        raise SetupError(f"{path}: expected the users {PLATFORM}, {GATEWAY}, {DEVICE}; delete the file for new passwords")
    return found


def topics_of(path: Path) -> dict[str, tuple[str, ...]]:
    """The topic filters of users who may write no others; SetupError for one that is none."""
    own: dict[str, tuple[str, ...]] = {}
    for name, entry in _read(path).items():
        if isinstance(entry, dict):
            topics = entry["topics"]
            if name in (PLATFORM, GATEWAY) or not isinstance(topics, list) or not topics or not all(map(_is_filter, topics)):
                raise SetupError(f'{path}: expected as topics of {name}, a device, a list such as ["tele/plc-7/#"], '
                                 f"got {topics!r}")
            own[name] = tuple(topics)
    return own


def _is_filter(text: object) -> bool:
    if not isinstance(text, str) or not text or not text.isprintable():    # a line break would write rights of its own
        return False
    *levels, last = text.split("/")
    return all(level == "+" or not set("+#") & set(level) for level in levels) and (last in "+#" or not set("+#") & set(last))


def rights_of(name: str, bases: Sequence[str], topics: Sequence[str] = ("#",)) -> Rights:
    """What a user of this name may do at the broker of the bases; `topics`: what a device may write."""
    if name == PLATFORM:
        return Rights(("#",), ("#",))
    if name == GATEWAY:
        # it may read MQTT devices too, and ask Sparkplug nodes for a rebirth
        own = tuple(f"park/v1/{base}/+/{kind}" for base in bases for kind in ("readings", "health", "deadletter"))
        of_here = tuple(f"park/v1/{base}/{source}/#" for base in bases for source in (OWN_SOURCE, base))   # see park.sites
        return Rights((*own, "spBv1.0/+/NCMD/#", "spBv1.0/+/DCMD/#"), ("#",), of_here)
    return Rights(tuple(topics), COMMANDS, (OURS,))


def write_for_mosquitto(folder: Path, passwords: Mapping[str, str], bases: Sequence[str],
                       topics: Mapping[str, Sequence[str]]) -> None:
    """`passwords` and `acl` in the folder, as mosquitto 2 reads them at its start."""
    write_private(folder / "passwords", "".join(f"{name}:{_hash(word)}\n" for name, word in passwords.items()))
    lines = []
    for name in passwords:
        rights = rights_of(name, bases, topics.get(name, ("#",)))
        verbs = {"deny": rights.never, "write": rights.write, "read": rights.read}
        lines += [f"user {name}", *(f"topic {verb} {f}" for verb, filters in verbs.items() for f in filters), ""]
    write_private(folder / "acl", "\n".join(lines))


def write_for_amqtt(folder: Path, passwords: Mapping[str, str], bases: Sequence[str],
                   topics: Mapping[str, Sequence[str]]) -> None:
    """`access.json` in the folder, which the plugin of `park.broker_amqtt` reads at its start."""
    write_private(folder / "access.json", json.dumps({
        name: {"password": _hash(word), **asdict(rights_of(name, bases, topics.get(name, ("#",))))}
        for name, word in passwords.items()}))


def _hash(password: str) -> str:
    """A password as mosquitto 2 keeps it: PBKDF2 with SHA-512, salt and hash in base64."""
    return _hashed(password, secrets.token_bytes(12), _ROUNDS)


def _hashed(password: str, salt: bytes, rounds: int) -> str:
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(derived).decode()}"


def is_password(password: str, hashed: str) -> bool:
    """Whether the password is the one that was hashed."""
    _, _, rounds, salt, _ = hashed.split("$")
    return secrets.compare_digest(_hashed(password, base64.b64decode(salt), int(rounds)), hashed)
