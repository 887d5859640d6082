"""The stage as one process: drivers on an event loop, the publisher beside it, the spool between them.

`collect` is the entry for code; `park collect` calls it. It runs until `stop` is set and reloads the catalogue when
that changes; devices that stay the same keep their polls through a reload.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from collectors.catalogue_source import CatalogueSource
from collectors.collection import Collection, CollectOptions
from collectors.control import control_path, serve_control
from collectors.delivery import Terms
from collectors.gateway import settle_memory
from collectors.health_readings import health_mistakes
from collectors.hj212_server import Hj212Server, loggers_of
from collectors.hj212_uplink import Uplinks
from collectors.intake import SpoolIntake
from collectors.modbus_link import now_ms
from collectors.mqtt_devices import MqttSubscriber, Router, listeners_of
from collectors.park_devices import FieldDevice
from collectors.polled import polled_gateways
from collectors.publish import Publisher
from collectors.spool import Spool
from park.errors import ParkError, SetupError, StorageError

log = logging.getLogger(__name__)

HEALTH_LOOK_S = 1.0


async def collect(catalogue: CatalogueSource, options: CollectOptions, stop: asyncio.Event, *,
                  ready: asyncio.Future[Collection] | None = None) -> None:
    """Run until `stop`. The first catalogue must be right (InputError); a later mistake keeps the former running."""
    devices = await _first_load(catalogue, stop)
    if devices is None:
        return
    collection = open_collection(options)
    tasks = [asyncio.create_task(collection.intake.run(), name="intake")]
    try:
        await apply_catalogue(collection, devices)
        collection.control = await serve_control(control_path(options.data_dir, options.source), collection.answer)
        tasks.append(asyncio.create_task(_tell_health(collection), name="health"))
        tasks.append(asyncio.create_task(_reload(collection, catalogue), name="reload"))
        if ready is not None:
            ready.set_result(collection)
        await stop.wait()
    finally:
        for task in tasks[1:]:
            task.cancel()
        await close_collection(collection)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first_load(catalogue: CatalogueSource, stop: asyncio.Event) -> list[FieldDevice] | None:
    """The catalogue, waiting for a database that is not there yet; None when stopped meanwhile."""
    wait_s = 0.5
    while not stop.is_set():
        try:
            return await asyncio.to_thread(catalogue.load)
        except StorageError as exc:
            log.warning("%s; trying again in %.0f s", exc, wait_s)
        try:
            await asyncio.wait_for(stop.wait(), wait_s)
        except TimeoutError:
            wait_s = min(wait_s * 2, 15.0)
    return None


def open_collection(options: CollectOptions) -> Collection:
    """Spool, intake and publisher of a source; SetupError when another process holds the spool."""
    spool = Spool(options.data_dir / "spool" / f"{options.source}.sqlite", options.source,
                  max_bytes=options.spool_max_mb << 20, full=options.spool_full)
    publisher = Publisher(spool, options.mqtt_url, terms=Terms(confirm_after_s=options.confirm_after_s))
    publisher.start()
    return Collection(options, spool, SpoolIntake(spool, flush_s=options.flush_s), publisher)


async def close_collection(collection: Collection) -> None:
    """Stop the drivers, write what they gave, send what can be sent within a second."""
    for _, task in collection.polls.values():
        task.cancel()
    await asyncio.gather(*(task for _, task in collection.polls.values()), return_exceptions=True)
    if collection.control is not None:
        collection.control.close()
        control_path(collection.options.data_dir, collection.options.source).unlink(missing_ok=True)
    if collection.subscriber is not None:
        collection.subscriber.stop()
    if collection.hj212 is not None:
        await collection.hj212.close()
        if collection.hj212.uplinks is not None:
            await collection.hj212.uplinks.close()
    collection.tell_health()
    await collection.intake.stop()
    await asyncio.to_thread(collection.publisher.stop)
    collection.spool_size = collection.spool.size()
    collection.spool.close()


async def apply_catalogue(collection: Collection, devices: Sequence[FieldDevice]) -> None:
    """Bring the drivers to the devices; those that stay the same are not touched."""
    first = not collection.devices
    collection.bases = sorted({d.base for d in devices})
    collection.devices = devices
    mistakes = await _apply_polled(collection, devices)
    mistakes += await _apply_hj212(collection, devices)
    mistakes += _apply_mqtt(collection, devices) + health_mistakes(devices)
    for mistake in mistakes:
        if mistake not in collection.mistakes:
            log.error("%s", mistake)
    collection.mistakes = mistakes
    settle_memory(collect=first)
    log.info("collecting: %d devices on %d connections, %d data loggers, %d MQTT devices; %d mistakes",
             len(devices), len(collection.polls), len(collection.hj212.loggers) if collection.hj212 else 0,
             len(collection.router.listeners) if collection.router else 0, len(mistakes))


async def _apply_polled(collection: Collection, devices: Sequence[FieldDevice]) -> list[str]:
    """Gateways that are here take over their units; a thread builds the units, since polls go on meanwhile."""
    known = {(u.field.base, u.field.code): u for gateway, _ in collection.polls.values() for u in gateway.units}
    wanted, mistakes = await asyncio.to_thread(polled_gateways, devices, known=known)
    fresh = {(g.endpoint.url, g.protocol): g for g in wanted}
    for url, (gateway, task) in list(collection.polls.items()):
        same = fresh.pop((url, gateway.protocol), None) if not task.done() else None
        if same is not None:
            gateway.adopt(same.units)
            continue
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del collection.polls[url]
    for gateway in fresh.values():
        url = gateway.endpoint.url
        collection.polls[url] = gateway, asyncio.create_task(gateway.run(collection.intake), name=f"poll {url}")
    return mistakes


async def _apply_hj212(collection: Collection, devices: Sequence[FieldDevice]) -> list[str]:
    loggers, mistakes = loggers_of(devices)
    if collection.hj212 is not None:
        collection.hj212.adopt(loggers)
        return mistakes + await _apply_uplinks(collection.hj212)
    if loggers or (collection.options.hj212_always and collection.bases):
        server = Hj212Server(loggers, collection.intake, collection.bases[0],
                             uplinks=Uplinks(collection.options.data_dir / "spool", collection.options.source,
                                             collection.intake))
        host, port = collection.options.hj212_host, collection.options.hj212_port
        try:
            collection.hj212_port = await server.start(host, port)
        except OSError as exc:
            raise SetupError(f"cannot listen for HJ 212 on {host}:{port}: {exc}; give another --hj212-port") from exc
        collection.hj212 = server
        log.info("hj212: listening on %s:%d for %d loggers", host, collection.hj212_port, len(loggers))
        mistakes += await _apply_uplinks(server)
    return mistakes


async def _apply_uplinks(server: Hj212Server) -> list[str]:
    return await server.uplinks.apply(server.loggers) if server.uplinks is not None else []


def _apply_mqtt(collection: Collection, devices: Sequence[FieldDevice]) -> list[str]:
    listeners, mistakes = listeners_of(devices)
    if collection.router is not None:
        collection.router.adopt(listeners)
    elif listeners:
        collection.router = Router(listeners, collection.bases[0])
        collection.subscriber = MqttSubscriber(
            collection.router, collection.options.mqtt_url, f"park-devices-{collection.options.source}", collection.intake,
            asyncio.get_running_loop())
        collection.subscriber.start()
    return mistakes


async def _tell_health(collection: Collection) -> None:
    """Every `health_s`, and within a second of a change of state."""
    told: dict[tuple[str, str], str] = {}
    since_s = 0.0
    while True:
        await asyncio.sleep(HEALTH_LOOK_S)
        since_s += HEALTH_LOOK_S
        now = now_ms()
        try:
            states = {(d.base, d.device): d.state(now) for d in collection.health()}
            if states != told or since_s >= collection.options.health_s:
                collection.tell_health()
                told, since_s = states, 0.0
        except Exception:  # who watches devices must not fall silent himself
            log.exception("health could not be told; trying again")


async def _reload(collection: Collection, catalogue: CatalogueSource) -> None:
    while True:
        try:
            if not await asyncio.to_thread(catalogue.wait_for_change, collection.options.reload_s):
                continue
            await asyncio.sleep(0.2)  # an editor may still be writing
            await apply_catalogue(collection, await asyncio.to_thread(catalogue.load))
            collection.reloads += 1
        except ParkError as exc:
            log.error("the catalogue is not reloaded, the former one keeps running: %s", exc)
            await asyncio.sleep(5)
        except Exception:  # a reload that fails must leave the collectors running
            log.exception("the catalogue is not reloaded, the former one keeps running")
            await asyncio.sleep(5)


async def collect_once(catalogue: CatalogueSource, options: CollectOptions, listen_s: float = 0.0) -> Collection:
    """Poll every meter one time, for commissioning; readings go the usual way. Data loggers and MQTT devices report by
    themselves: they are heard for `listen_s`, or until each has given something."""
    devices = await asyncio.to_thread(catalogue.load)
    collection = open_collection(options)
    intake = asyncio.create_task(collection.intake.run(), name="intake")
    try:
        wanted, collection.mistakes = polled_gateways(devices)
        collection.bases, collection.devices = sorted({d.base for d in devices}), devices
        collection.mistakes += health_mistakes(devices)
        if listen_s > 0:
            collection.mistakes += await _apply_hj212(collection, devices) + _apply_mqtt(collection, devices)
        await asyncio.gather(*(g.poll_once(collection.intake) for g in wanted))
        heard = collection.health()
        collection.polls = {g.endpoint.url: (g, asyncio.create_task(asyncio.sleep(0))) for g in wanted}
        until = asyncio.get_running_loop().time() + listen_s
        while any(d.last_answer is None for d in heard) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.2)
    finally:
        await close_collection(collection)
        await intake
    return collection
