"""`park serve` and `park token`: the HTTP service and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

import typer

GROUPS: dict[str, str] = {"token": "Bearer tokens of the API: who may see and do what."}


def serve(host: Annotated[str | None, typer.Option(help="Address to listen on; PARK_HOST, 127.0.0.1 by default.")] = None,
          port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; PARK_PORT, 8000 by default.")] = None) -> None:
    """Serve the API under /api/v1 and the console at /, until SIGTERM or Ctrl-C.

    Behind a proxy that ends TLS, keep the default address and let the proxy pass /api/v1/alerts/stream unbuffered.
    """
    from api.server import run
    from park.settings import load_settings
    settings = load_settings()
    run(settings, host or settings.host, port or settings.port)


def token_create(role: Annotated[Literal["operator", "contractor", "enterprise", "auditor", "admin"], typer.Option()],
                 name: Annotated[str, typer.Option(help="Who uses it; written beside each of his steps.")],
                 base: Annotated[list[str] | None, typer.Option(help="Code of a base; repeat it. "
                                                                "Admin and auditor without one see every base.")] = None,
                 enterprise: Annotated[str | None, typer.Option(help="Code of the enterprise, for role enterprise.")] = None,
                 expires: Annotated[datetime | None, typer.Option(help="Day on which it ends (UTC).")] = None) -> None:
    """Make a token and print it once; the database keeps only its SHA-256."""
    from datetime import UTC

    from api.tokens import create_token
    from park.database import connect
    from park.settings import load_settings
    ends = expires.replace(tzinfo=UTC) if expires is not None and expires.tzinfo is None else expires
    with connect(load_settings().database_url) as conn:
        token = create_token(conn, role=role, name=name, bases=base or [], enterprise=enterprise, expires=ends)
    typer.echo(token)


def token_list() -> None:
    """List the tokens there are: id, role, name, bases, and whether each is still valid. Never the token itself."""
    from datetime import UTC, datetime

    from api.tokens import list_tokens
    from park.database import connect
    from park.settings import load_settings
    with connect(load_settings().database_url) as conn:
        rows = list_tokens(conn)
    for number, name, role, bases, enterprise, created, expires, revoked in rows:
        state = "revoked" if revoked else "expired" if expires and expires <= datetime.now(UTC) else "valid"
        where = ",".join(bases) or "every base"
        typer.echo(f"{number}\t{state}\t{role}\t{name}\t{where}{'/' + enterprise if enterprise else ''}\t{created:%Y-%m-%d}")


def token_revoke(token: Annotated[int, typer.Argument(help="Its number in `park token list`.")]) -> None:
    """End a token; servers forget it within five seconds."""
    from api.tokens import revoke_token
    from park.database import connect
    from park.settings import load_settings
    with connect(load_settings().database_url) as conn:
        revoke_token(conn, token)


COMMANDS: dict[str, Callable[..., None]] = {
    "serve": serve, "token create": token_create, "token list": token_list, "token revoke": token_revoke}
