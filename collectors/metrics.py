"""Prometheus metrics of a running collector, read from its state at each scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collectors.collection import Collection
from collectors.hj212_health import port_metrics
from collectors.modbus_link import now_ms
from park.heartbeat import answer_prometheus

STATES = ("online", "offline", "error", "unknown")


class CollectionMetrics(Collector):
    """Devices, drivers, spool and publisher of one collection."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def collect(self) -> Iterable[Metric]:
        """All metric families at this moment."""
        yield from self._devices()
        yield from self._connections()
        yield from self._flow()

    def _devices(self) -> Iterable[Metric]:
        state = GaugeMetricFamily("park_device_up", "1 when the device is online", labels=["base", "device"])
        latency = GaugeMetricFamily("park_device_latency_seconds", "mean time of a request at the last poll",
                                    labels=["base", "device"])
        answer = GaugeMetricFamily("park_device_last_answer_timestamp_seconds", "when the device last answered",
                                   labels=["base", "device"])
        readings = CounterMetricFamily("park_device_readings", "readings taken", labels=["base", "device"])
        errors = CounterMetricFamily("park_device_errors", "errors by kind", labels=["base", "device", "kind"])
        now = now_ms()
        for d in self._collection.health():
            names = [d.base, d.device]
            state.add_metric(names, float(d.state(now) == "online"))
            readings.add_metric(names, d.readings)
            if d.latency_ms is not None:
                latency.add_metric(names, d.latency_ms / 1000)
            if d.last_answer is not None:
                answer.add_metric(names, d.last_answer / 1000)
            for kind, n in dict(d.errors).items():
                errors.add_metric([*names, kind], n)
        yield from (state, latency, answer, readings, errors)

    def _connections(self) -> Iterable[Metric]:
        labels = ["connection", "protocol"]
        up = GaugeMetricFamily("park_connection_up", "1 while the connection stands", labels=labels)
        latency = GaugeMetricFamily("park_connection_latency_seconds", "mean latency of its devices", labels=labels)
        answer = GaugeMetricFamily("park_connection_last_answer_timestamp_seconds", "when a device on it last answered",
                                   labels=labels)
        requests = CounterMetricFamily("park_connection_requests", "requests sent, or messages heard", labels=labels)
        connects = CounterMetricFamily("park_connection_connects", "how often it was opened", labels=labels)
        errors = CounterMetricFamily("park_connection_errors", "its own errors by kind", labels=[*labels, "kind"])
        for c in self._collection.connections():
            names = [c.connection, c.protocol]
            up.add_metric(names, float(c.state == "online"))
            requests.add_metric(names, c.requests)
            connects.add_metric(names, c.connects)
            if c.latency_ms is not None:
                latency.add_metric(names, c.latency_ms / 1000)
            if c.last_answer is not None:
                answer.add_metric(names, c.last_answer / 1000)
            for kind, n in dict(c.errors).items():
                errors.add_metric([*names, kind], n)
        yield from (up, latency, answer, requests, connects, errors)

    def _flow(self) -> Iterable[Metric]:
        c = self._collection
        size, sent = c.spool.size(), c.publisher.counters
        yield GaugeMetricFamily("park_spool_batches", "batches that wait for the broker", value=size.batches)
        yield GaugeMetricFamily("park_spool_bytes", "bytes that wait for the broker", value=size.bytes)
        yield GaugeMetricFamily("park_spool_share", "how full the spool is, 0 to 1", value=size.share)
        yield GaugeMetricFamily("park_spool_alarm", "1 while the spool fills or has just dropped readings",
                                value=float(bool(c.spool_alarm.word)))
        yield GaugeMetricFamily("park_unconfirmed_batches", "batches at the broker that ingest has not confirmed",
                                value=sent.unconfirmed)
        yield GaugeMetricFamily("park_confirmation", "1 when ingest confirms commits, 0 when the broker's word counts",
                                value=float(sent.confirmation == "committed"))
        yield CounterMetricFamily("park_resent_batches", "batches sent again for want of a confirmation", value=sent.resent)
        yield CounterMetricFamily("park_spool_dropped_readings", "readings dropped because the spool was full",
                                  value=size.dropped_readings)
        yield CounterMetricFamily("park_intake_readings", "readings taken from drivers", value=c.intake.taken_readings)
        yield GaugeMetricFamily("park_intake_pending_readings", "readings in memory that are not on disk yet",
                                value=c.intake.pending_readings)
        yield CounterMetricFamily("park_intake_dropped_readings", "readings dropped while the disk refused",
                                  value=c.intake.dropped_readings)
        yield CounterMetricFamily("park_published_readings", "readings delivered: committed by ingest, or, where nobody "
                                  "confirms, acknowledged by the broker", value=sent.readings)
        yield GaugeMetricFamily("park_broker_connected", "1 while the broker is connected", value=float(sent.connected))
        if c.hj212 is not None:
            yield from port_metrics(c.hj212)


def serve_metrics(collection: Collection, port: int) -> None:
    """Serve /metrics on a thread of its own."""
    registry = CollectorRegistry()
    registry.register(CollectionMetrics(collection))
    answer_prometheus(registry, port)
