"""Bearer tokens: made once, shown once, stored as SHA-256. Used by the command line and by `park demo`."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from park.catalogue import Catalogue
from park.catalogue_store import base_id_of
from park.database import queries
from park.errors import InputError, NotFound
from park.private import write_private

Connection = psycopg.Connection[Any]
SQL = queries(Path(__file__).with_name("queries.sql"))
ROLES = ("operator", "contractor", "enterprise", "auditor", "admin")
PREFIX = "park_"
RESERVED = ("evaluator", "catalogue", "stream", "notifier")  # actors that are not people


def hash_of(token: str) -> bytes:
    """What the database keeps of a token. 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def create_token(conn: Connection, *, role: str, name: str, bases: Sequence[str] = (), enterprise: str | None = None,
                 expires: datetime | None = None) -> str:
    """A new token; the text is not kept anywhere, so show it now. `bases` and `enterprise` are codes of the catalogue.

    Admin and auditor without bases see every base; the other roles need at least one, and role enterprise exactly one.
    """
    if role not in ROLES:
        raise InputError(f"expected a role of {', '.join(ROLES)}, got {role!r}")
    if not name.strip():
        raise InputError("expected a name: who uses the token is written beside every step that he takes")
    if name.strip().lower() in RESERVED:
        raise InputError(f"the name {name!r} is a part of the platform's own: its steps would look like yours")
    if not bases and role not in ("admin", "auditor"):
        raise InputError(f"a token of role {role} needs at least one base (--base CODE)")
    ids = [base_id_of(conn, code) for code in bases]
    enterprise_id = _enterprise_id(conn, role, ids, enterprise)
    token = PREFIX + secrets.token_urlsafe(32)
    conn.execute(SQL["insert_token"], {"hash": hash_of(token), "name": name.strip(), "role": role, "bases": ids,
                                       "enterprise": enterprise_id, "expires": expires})
    return token


def ready_tokens(conn: Connection, path: Path, catalogues: Sequence[Catalogue]) -> dict[str, str]:
    """One token a role for who installs the platform, kept in a file (0600), since the database holds only hashes.

    Of several bases contractor, auditor and admin see all; the others are of the first that there was, and `operator@CODE` of
    another, in whatever order they are named later. A base that comes later makes new tokens; one that somebody was handed
    sees what it saw.
    """
    tokens: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    enterprises = {c.base.code: [e.code for e in c.enterprises] for c in catalogues if c.base is not None}
    codes = list(enterprises)
    first = _first(conn, tokens.get("operator"), codes)
    wanted = {"contractor": codes, "auditor": codes, "admin": codes} | {f"operator@{c}": [c] for c in codes if c != first}
    if first is not None:
        wanted = {"operator": [first], "enterprise": [first]} | wanted
    for name, bases in wanted.items():
        role = name.partition("@")[0]
        if name in tokens and _sees(conn, tokens[name], bases):
            continue
        if role != "enterprise" or enterprises[bases[0]]:
            tokens[name] = create_token(conn, role=role, name=f"{bases[0]}-{role}", bases=bases,
                                        enterprise=enterprises[bases[0]][0] if role == "enterprise" else None)
    write_private(path, json.dumps(tokens, indent=1))
    return tokens


def _first(conn: Connection, operator: str | None, codes: list[str]) -> str | None:
    """Of which base `operator` is without its code: the one whose token it is, None where that base is not among these."""
    if operator is None or not _sees(conn, operator, []):
        return codes[0]
    return next((code for code in codes if _sees(conn, operator, [code])), None)


def _sees(conn: Connection, token: str, bases: list[str]) -> bool:
    """Whether a token is valid and sees all of these bases."""
    return conn.execute(SQL["is_live"], {"hash": hash_of(token), "bases": bases}).rowcount > 0


def _enterprise_id(conn: Connection, role: str, bases: list[int], code: str | None) -> int | None:
    if role != "enterprise":
        if code is not None:
            raise InputError(f"only a token of role enterprise has an enterprise, not one of role {role}")
        return None
    if code is None or len(bases) != 1:
        raise InputError("a token of role enterprise needs one base and one enterprise (--base CODE --enterprise CODE)")
    row = conn.execute(SQL["enterprise_by_code"], {"base": bases[0], "code": code}).fetchone()
    if row is None:
        raise NotFound(f"there is no enterprise {code!r} in this base")
    return int(row[0])


def list_tokens(conn: Connection) -> list[tuple[Any, ...]]:
    """(id, name, role, codes of bases, code of the enterprise, created, expires, revoked) of every token, oldest first."""
    return conn.execute(SQL["list_tokens"]).fetchall()


def revoke_token(conn: Connection, token_id: int) -> None:
    """End a token; requests with it are refused within the few seconds that servers remember tokens."""
    if conn.execute(SQL["revoke_token"], {"id": token_id}).fetchone() is None:
        raise NotFound(f"there is no valid token {token_id}; `park token list` shows them")
