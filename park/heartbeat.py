"""When a stage last finished a round of its loop, for Prometheus and for the container's health check."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, start_http_server


def heartbeat(stage: str, port: int | None, registry: CollectorRegistry | None = None) -> Callable[[], None]:
    """A function to call after each round; with a port, /metrics there shows `park_<stage>_round_timestamp_seconds`, beside
    what the stage counts in a registry of its own."""
    if port is None:
        return lambda: None
    registry = registry or CollectorRegistry()
    gauge = Gauge(f"park_{stage}_round_timestamp_seconds", "When the loop last finished a round, Unix time", registry=registry)
    start_http_server(port, registry=registry)
    return gauge.set_to_current_time
