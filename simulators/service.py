"""`park simulate`: the field of a scenario on real sockets, until SIGTERM or SIGINT.

One event loop: registers refreshed every second, gateways, HJ 212 loggers, control port; MQTT by paho's own thread.
The instant of the first start is kept in `<data-dir>/simulator.json`, so that the live run's faults are the same after a
restart; ground truth is written to `<data-dir>/ground_truth.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import paho.mqtt.client as mqtt

from park import mqtt as park_mqtt
from park.broker import host_port
from park.catalogue import read_catalogue
from park.clock import Clock, utc_now
from park.errors import InputError, SetupError
from simulators.catalogue import DEFAULT_MODBUS_PORT, catalogue_files
from simulators.control import start_control
from simulators.dlt645_server import Meter, start_line
from simulators.field import Field
from simulators.hj212_logger import REALTIME_S, loggers, make_due, run_logger
from simulators.modbus_server import start_gateway
from simulators.model import Park
from simulators.mqtt_devices import INTERVAL_S, mqtt_devices, publish_all
from simulators.registers import Bank
from simulators.scenario import read_scenario

log = logging.getLogger(__name__)
T = TypeVar("T")

TRUTH_EVERY_S = 15.0
MAX_WAITING = 20_000      # messages that paho keeps while the broker is away; the oldest devices would keep no more


@dataclass(frozen=True)
class Options:
    """Where the simulated field listens and speaks; None: that protocol is left out."""

    scenario: str = "lvyuan"
    host: str = "127.0.0.1"
    modbus_port: int = DEFAULT_MODBUS_PORT
    hj212: tuple[str, int] | None = None
    mqtt_url: str | None = None
    control_port: int | None = None
    seed: int = 1
    data_dir: Path = Path("park-data")


def build(options: Options, clock: Clock = utc_now) -> Field:
    """The field of a scenario, with the live run's faults counted from its first start over this data folder."""
    scenario = read_scenario(options.scenario)
    catalogue = read_catalogue(catalogue_files(scenario.catalogue))
    return Field(Park(catalogue, scenario, options.seed, live_from(options, clock().timestamp())))


def live_from(options: Options, now: float) -> float:
    """When the live run first began, kept in the data folder; another seed begins anew."""
    path = options.data_dir / "simulator.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(path.read_text())
        if known["seed"] == options.seed:
            return float(known["live_from"])
    options.data_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seed": options.seed, "live_from": now}))
    return now


def gateways(field_: Field, modbus_port: int) -> dict[int, dict[int, Bank]]:
    """Banks by unit id, by port: gateway k of the catalogue listens on `modbus_port + k`."""
    found: dict[int, dict[int, Bank]] = {}
    for bank in field_.banks.values():
        _, port = host_port(str(field_.devices[bank.device].connection))
        found.setdefault(port - DEFAULT_MODBUS_PORT + modbus_port, {})[bank.unit_id] = bank
    return found


def lines(field_: Field, modbus_port: int) -> dict[int, dict[bytes, Meter]]:
    """DL/T 645 meters by address, by port; ports move as those of the gateways."""
    found: dict[int, dict[bytes, Meter]] = {}
    for meter in field_.meters.values():
        _, port = host_port(str(field_.devices[meter.device].connection))
        found.setdefault(port - DEFAULT_MODBUS_PORT + modbus_port, {})[meter.address] = meter
    return found


async def run(options: Options, clock: Clock = utc_now, stop: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set or a signal comes; SetupError when a port is taken."""
    stop = stop or asyncio.Event()
    _stop_on_signals(stop)
    field_ = build(options, clock)
    field_.refresh(clock().timestamp())
    servers: list[asyncio.Server] = []
    tasks: list[asyncio.Task[None]] = []
    try:
        for port, banks in gateways(field_, options.modbus_port).items():
            servers.append((await _listening(start_gateway(options.host, port, banks), port))[0])
        for port, meters in lines(field_, options.modbus_port).items():
            servers.append(await _listening(start_line(options.host, port, meters), port))
        if options.control_port:
            control = start_control(options.host, options.control_port, field_, clock)
            servers.append(await _listening(control, options.control_port))
        tasks.append(asyncio.create_task(_refresh(field_, clock)))
        tasks.append(asyncio.create_task(_tell_truth(field_, options.data_dir, clock)))
        if options.hj212:
            tasks += _start_loggers(field_, options.hj212, clock)
        if options.mqtt_url:
            tasks.append(asyncio.create_task(_publish(field_, options.mqtt_url, clock)))
        log.info("simulating %d devices, %d points", len(field_.devices), len(field_.park.codes))
        waiting = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in done - {waiting}:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in servers:
            server.close()
    log.info("simulator stopped")


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        # beside the main thread and on Windows a loop has no signals: there whoever started it stops it
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(sign, stop.set)


async def _listening(start: Awaitable[T], port: int) -> T:
    try:
        return await start
    except OSError as exc:
        raise SetupError(f"port {port} cannot be opened: {exc}; choose another with --modbus-port or --control-port") from exc


async def _refresh(field_: Field, clock: Clock) -> None:
    while True:
        now = clock().timestamp()
        field_.refresh(now)
        await asyncio.sleep(1.0 - now % 1.0)


async def _tell_truth(field_: Field, data_dir: Path, clock: Clock) -> None:
    """Write the ground truth when there is more of it than before."""
    data_dir.mkdir(parents=True, exist_ok=True)
    park, known = field_.park.copy(), -1      # its own copy: it works in a thread beside the refresh
    while True:
        now = clock().timestamp()
        started = sum(f.start < now for f in field_.park.faults)
        if started != known:
            rows = await asyncio.to_thread(park.ground_truth, now)
            path = data_dir / "ground_truth.json"
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(rows, ensure_ascii=False, indent=0))
            partial.replace(path)
            known = started
        await asyncio.sleep(TRUTH_EVERY_S)


def _start_loggers(field_: Field, address: tuple[str, int], clock: Clock) -> list[asyncio.Task[None]]:
    found = loggers(field_)
    tasks = [asyncio.create_task(run_logger(logger, field_, *address)) for logger in found]

    async def make() -> None:
        done = int(clock().timestamp()) // REALTIME_S
        while True:
            now = clock().timestamp()
            for step in range(done + 1, int(now) // REALTIME_S + 1):
                for logger in found:
                    make_due(logger, field_, step * REALTIME_S, now)
            done = max(done, int(now) // REALTIME_S)
            await asyncio.sleep(0.2)
    return [*tasks, asyncio.create_task(make())]


async def _publish(field_: Field, url: str, clock: Clock) -> None:
    """Publish every 10 s; waits for a broker that is not there yet, and paho reconnects to one that went away."""
    devices = mqtt_devices(field_)
    client = await _connected(url)
    try:
        while True:
            publish_all(devices, field_, client, clock().timestamp())
            await asyncio.sleep(INTERVAL_S - clock().timestamp() % INTERVAL_S)
    finally:
        client.disconnect()
        client.loop_stop()


async def _connected(url: str) -> mqtt.Client:
    pause = 1.0
    while True:
        try:
            client = await asyncio.to_thread(park_mqtt.new_client, url, "simulated-devices")
            client.max_queued_messages_set(MAX_WAITING)
            await asyncio.to_thread(park_mqtt.connect, client, url)
            client.loop_start()
            return client
        except OSError as exc:
            log.warning("no broker yet: %s", exc)
            await asyncio.sleep(pause)
            pause = min(15.0, pause * 2)


def parse_address(text: str) -> tuple[str, int]:
    """`host:port`; InputError otherwise."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise InputError(f"expected HOST:PORT such as 127.0.0.1:9212, got {text!r}")
    return host, int(port)
