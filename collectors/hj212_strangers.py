"""Data loggers that the catalogue does not have: what they are seen to send, and the rows that would take them in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from collectors.hj212_data import KEY_SHOWN, NOTICES, PERIODS, TEXT_SHOWN, condition_code, values_of
from collectors.hj212_frame import Message
from park.quantities import quantities

KEPT = 1000
KEYS_KEPT = 200
NOTICE_SHOWN = 300

AMOUNTS = {"w00000": ("wastewater_volume", "m3"), "a00000": None}
EXPECTED_S = {"minute": 600, "hour": 3600, "day": 86_400}


@dataclass
class Stranger:
    """One unknown MN as far as it was heard; its password is not kept."""

    mn: str
    n: int = 0
    first_ms: int = 0
    last_ms: int = 0
    peer: str = ""
    edition: str = ""
    crc: str = ""
    systems: set[str] = field(default_factory=set)
    encrypted: bool = False
    keys: dict[str, str] = field(default_factory=dict)  # key -> newest text
    notices: dict[str, str] = field(default_factory=dict)  # CN -> newest data area: serial numbers of a logger without MN

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return vars(self) | {"systems": sorted(self.systems)}


class Strangers:
    """Unknown loggers, the most recently heard at the end; bounded."""

    def __init__(self) -> None:
        self.by_mn: OrderedDict[str, Stranger] = OrderedDict()

    def hear(self, message: Message, crc: str, peer: str, now_ms: int, *, encrypted: bool = False) -> Stranger:
        """Note a message of an unknown logger; of an encrypted one only the head is known."""
        mn = message.mn[:40]
        stranger = self.by_mn.pop(mn, None) or Stranger(mn, first_ms=now_ms)
        self.by_mn[mn] = stranger
        if len(self.by_mn) > KEPT:
            self.by_mn.popitem(last=False)
        stranger.n += 1
        stranger.last_ms, stranger.peer, stranger.edition, stranger.crc = now_ms, peer, message.edition, crc
        stranger.encrypted |= encrypted
        if message.cn in NOTICES and message.cn != "9015":
            stranger.notices[message.cn] = notice_text(message)
        if len(stranger.systems) < 20:
            stranger.systems.add(message.st[:8])
        if message.cn in PERIODS:
            for key, text in values_of(message):
                if key in stranger.keys or len(stranger.keys) < KEYS_KEPT:
                    stranger.keys[key[:KEY_SHOWN]] = text[:TEXT_SHOWN]
        return stranger

    def counts(self) -> dict[str, int]:
        """Messages of each unknown MN."""
        return {mn: s.n for mn, s in self.by_mn.items()}


def notice_text(message: Message) -> str:
    """The data area of a notice as it is shown; of 1014, which is about keys, nothing."""
    if message.cn == "1014":
        return ""
    return ";".join(",".join(f"{k}={v}" for k, v in g.items()) for g in message.groups)[:NOTICE_SHOWN]


def adoption(stranger: dict[str, Any], code: str, *, belongs_to: str | None = None, password: str | None = None,
             prefix: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """(catalogue sections `devices` and `points` for a stranger, keys that no quantity is known for). Points get the unit that
    the quantity is reported in: loggers that send another need `attributes: {units: ...}` of the device."""
    device = {"code": code, "protocol": "hj212", "mn": stranger["mn"], "edition": stranger["edition"] or "2017",
              "crc": stranger["crc"] or "none"} | ({"password": password} if password else {})
    points, unknown = [], []
    for key in sorted(stranger["keys"]):
        measured = _measured(key)
        if measured is None:
            unknown.append(key)
            continue
        quantity, unit, kind = measured
        period = key.rpartition(".")[2]
        points.append({"code": f"{prefix or code}.{key}", "quantity": quantity, "unit": unit, "kind": kind,
                       "name": f"{quantities()[quantity].zh} {key}", "expected_s": EXPECTED_S.get(period, 60),
                       "source": {"device": code, "key": key}} | ({"belongs_to": belongs_to} if belongs_to else {}))
    return {"devices": [device], "points": points}, unknown


def _measured(key: str) -> tuple[str, str, str] | None:
    """(quantity, unit, kind) of a key, None when it is not known or its statistic is no mean value."""
    code, *rest = key.split(".")
    statistic = rest[0] if rest else "rtd"
    if statistic == "cou":
        amount = AMOUNTS.get(code)
        return (*amount, "gauge") if amount else None
    if statistic not in ("rtd", "avg", "min", "max", "zsavg", "zsmin", "zsmax", "zsrtd"):
        return None
    condition = condition_code(code)
    if condition is not None:
        if condition.quantity is None or condition.unit is None:
            return None
        return condition.quantity, condition.unit, "state" if condition.quantity == "state" else "gauge"
    for q in quantities().values():
        if q.hj212 == code:
            return q.code, q.unit, "gauge"
    return None
