"""Where a route made over HTTP may send to: otherwise a token of one base could knock at every door of the platform's own
network and read in `test_error` what answered."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from park.errors import InputError

HOSTS = Path(__file__).with_name("route_hosts.yaml")


@cache
def known_hosts() -> dict[str, list[str]]:
    """Hosts of robots and of public mail services by the kind of route."""
    found: dict[str, list[str]] = yaml.safe_load(HOSTS.read_text(encoding="utf-8"))
    return found


def check_target(kind: str, target: str, further: str) -> None:
    """InputError unless the address is one of the kind's own hosts, or of `further` (PARK_ROUTE_HOSTS, with commas)."""
    try:
        parts = urlsplit(target)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as exc:
        raise InputError(f"target: not an address: {exc}") from exc
    if host in {name.strip().lower() for name in further.split(",") if name.strip()}:
        return
    secure = kind == "email" or (parts.scheme == "https" and port in (None, 443) and "@" not in parts.netloc)
    if host not in known_hosts()[kind] or not secure or "\\" in target:
        raise InputError(f"target: a {kind} route may send to {', '.join(known_hosts()[kind])}, not to {host[:80]!r}; who runs "
                         "the platform can allow further hosts (PARK_ROUTE_HOSTS) or add the route there (`park route add`)")
