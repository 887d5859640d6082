"""The process around `collectors.run`: settings, log, signals, metrics; what `park collect` starts."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from collectors.catalogue_source import CatalogueSource, DatabaseCatalogue, FileCatalogue, FilesAndDatabase, OwnPart
from collectors.collection import DEFAULT_HJ212_PORT, Collection, CollectOptions
from collectors.run import collect, collect_once
from park.errors import InputError
from park.settings import load_settings
from park.wire import TOPIC


def run_service(files: Sequence[Path], *, once: bool, source: str, hj212_host: str, hj212_port: int | None,
                metrics_port: int | None, listen_s: float = 0.0, also_database: bool = False) -> None:
    """Run `park collect` with the settings of the environment until SIGTERM or SIGINT."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # its framer shouts at every late answer; we count them
    if TOPIC.match(f"park/v1/x/{source}/readings") is None:
        raise InputError(f"expected a source name of letters, digits and _ . : -, got {source!r}")
    catalogue = OwnPart(_catalogue(files, settings.database_url, also_database), source)
    options = CollectOptions(source, settings.mqtt_url, settings.data_dir, hj212_host,
                             DEFAULT_HJ212_PORT if hj212_port is None else hj212_port, hj212_always=hj212_port is not None,
                             spool_max_mb=settings.spool_max_mb, spool_full=settings.spool_full,
                             confirm_after_s=settings.confirm_after_s)
    if once:
        _show(run_loop(collect_once(catalogue, options, listen_s)))
        return
    run_loop(_until_signal(catalogue, options, metrics_port))


def _catalogue(files: Sequence[Path], database_url: str, also_database: bool) -> CatalogueSource:
    if not files:
        return DatabaseCatalogue(database_url)
    return FilesAndDatabase(FileCatalogue(files), DatabaseCatalogue(database_url)) if also_database else FileCatalogue(files)


def run_loop(main: Coroutine[Any, Any, Any]) -> Any:
    """Run on uvloop where there is one."""
    try:
        import uvloop
        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def _until_signal(catalogue: CatalogueSource, options: CollectOptions, metrics_port: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    ready: asyncio.Future[Collection] = loop.create_future()
    running = asyncio.create_task(collect(catalogue, options, stop, ready=ready))
    waits: list[asyncio.Future[Any]] = [running, ready]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if metrics_port is not None and ready.done():
        from collectors.metrics import serve_metrics

        serve_metrics(ready.result(), metrics_port)
    await running


def _show(collection: Collection) -> None:
    from rich.table import Table

    from collectors.commands import _console
    from collectors.modbus_link import now_ms

    table = Table("base", "device", "state", "readings", "latency ms", "errors")
    for d in collection.health():
        state = "offline" if d.last_answer is None else d.state(now_ms())
        table.add_row(d.base, d.device, state, str(d.readings), "" if d.latency_ms is None else f"{d.latency_ms:.0f}",
                      ", ".join(f"{k} {v}" for k, v in d.errors.items()))
    console = _console()
    console.print(table)
    for mistake in collection.mistakes:
        console.print(f"mistake: {mistake}", markup=False, soft_wrap=True)
    counters, size = collection.publisher.counters, collection.spool_size
    console.print(f"{collection.intake.taken_readings} readings taken, {counters.readings} acknowledged by the broker, "
                  f"{size.batches if size else 0} batches wait in the spool", soft_wrap=True)
    if collection.mistakes or any(d.last_answer is None for d in collection.health()):
        raise SystemExit(1)
