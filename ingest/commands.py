"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer


def ingest(
    verify: Annotated[bool, typer.Option("--verify", help="Compare every rollup with a recomputation from raw, then end.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Store dead letters of unknown points that the catalogue knows by now, then end.")] = False,
    metrics_port: Annotated[int | None, typer.Option(help="Answer Prometheus on this port.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Writers, each with its own database connection.")] = 1,
    client_id: Annotated[str, typer.Option(help="MQTT session; two ingest processes at one broker need two names.")] = "park-ingest",
) -> None:
    """Take readings from the broker into the database and keep the rollups; runs until SIGTERM. 入库与汇总。"""
    import logging

    from park.settings import load_settings

    settings = load_settings()
    if verify:
        _verify(settings.database_url)
    elif replay:
        _replay(settings.database_url)
    else:
        from ingest.service import serve

        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        serve(settings, client_id=client_id, workers=workers, metrics_port=metrics_port)


def _verify(url: str) -> None:
    from ingest.verify import verify

    found = verify(url)
    for d in found:
        typer.echo(f"reading_{d.grain} base {d.base_id} point {d.point_id} at {d.bucket}: stored {d.stored}, recomputed {d.recomputed}")
    if found:
        raise typer.Exit(1)
    typer.echo("every rollup equals its recomputation from raw readings")


def _replay(url: str) -> None:
    from ingest.replay import replay

    done = replay(url)
    typer.echo(f"{done.letters} dead letters replayed: {done.stored} readings stored, {done.left} letters still wait")


GROUPS: dict[str, str] = {}
COMMANDS: dict[str, Callable[..., None]] = {"ingest": ingest}
