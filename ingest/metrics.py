"""Counters and gauges of ingest for Prometheus (OpenMetrics names; served only with --metrics-port)."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from park.heartbeat import answer_prometheus


class Metrics:
    """One registry a process, so that tests and several services in one process do not meet."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.readings = Counter("park_ingest_readings", "Readings by base id and what became of them", ["base", "outcome"],
                                registry=r)
        self.messages = Counter("park_ingest_messages", "Messages received from the broker", registry=r)
        self.held = Gauge("park_ingest_held_messages", "Messages taken from the broker and not committed", registry=r)
        self.broker_up = Gauge("park_ingest_broker_up", "1 while the MQTT session is connected", registry=r)
        self.database_up = Gauge("park_ingest_database_up", "1 while the database takes readings", registry=r)
        self.write_seconds = Histogram("park_ingest_write_seconds", "Time to commit a batch", registry=r)
        self.rollup_seconds = Histogram("park_ingest_rollup_seconds", "Time of a rollup pass that had work", registry=r)
        self.rollup_at = Gauge("park_ingest_rollup_timestamp_seconds", "When the last rollup pass ended", registry=r)

    def count(self, outcomes: Counts[tuple[int, str]]) -> None:
        """Add what became of a batch."""
        for (base_id, outcome), n in outcomes.items():
            self.readings.labels(str(base_id), outcome).inc(n)

    def serve(self, port: int) -> None:
        """Answer /metrics on `port` from a thread of its own."""
        answer_prometheus(self.registry, port)
