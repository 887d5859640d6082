"""Commands of Grafana's boards: build, check, push."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

GROUPS = {"grafana": "Boards as code: build the provisioning files, check them, push them to a running Grafana."}


def grafana_build(
    folder: Annotated[Path | None, typer.Option("-o", "--output", help="Where to write; default: grafana/dashboards.")] = None,
) -> None:
    """Write the boards in Chinese and English as Grafana provisioning files."""
    from grafana.boards import OUT, build
    for path in build(folder or OUT):
        typer.echo(path)


def grafana_check(
    database: Annotated[bool, typer.Option(help="Also run each panel's SQL against PARK_DATABASE_URL.")] = False,
) -> None:
    """Say which board files are not what the sources build, and which panels the database refuses."""
    from grafana.boards import differences
    found = [f"{path}: not what the sources build; run `park grafana build`" for path in differences()]
    if database:
        from grafana.check import refused
        from park.settings import load_settings
        found += refused(load_settings().database_url)
    for line in found:
        typer.echo(line)
    if found:
        raise typer.Exit(1)
    typer.echo("boards are what the sources build")


def grafana_push(
    url: Annotated[str, typer.Option(envvar="GRAFANA_URL", help="Address of Grafana.")],
    token: Annotated[str, typer.Option(envvar="GRAFANA_TOKEN", help="Service account token with the role Editor.")],
) -> None:
    """Create or update the boards in a running Grafana."""
    from grafana.push import push
    for uid in push(url, token):
        typer.echo(uid)


COMMANDS: dict[str, Callable[..., None]] = {
    "grafana build": grafana_build, "grafana check": grafana_check, "grafana push": grafana_push,
}
