"""What stages answer Prometheus with, and when each last finished a round of its loop: for the container's health check too."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from park.settings import load_settings


def answer_prometheus(registry: CollectorRegistry, port: int) -> None:
    """Answer /metrics on `port` of PARK_METRICS_HOST from a thread of its own: names of devices are nobody else's business."""
    start_http_server(port, addr=load_settings().metrics_host, registry=registry)


def heartbeat(stage: str, port: int | None, registry: CollectorRegistry | None = None) -> Callable[[], None]:
    """A function to call after each round; with a port, /metrics there shows `park_<stage>_round_timestamp_seconds`, beside
    what the stage counts in a registry of its own."""
    if port is None:
        return lambda: None
    registry = registry or CollectorRegistry()
    gauge = Gauge(f"park_{stage}_round_timestamp_seconds", "When the loop last finished a round, Unix time", registry=registry)
    answer_prometheus(registry, port)
    return gauge.set_to_current_time
