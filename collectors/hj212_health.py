"""What the HJ 212 port and its uplinks say of themselves: words for the health message, and Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from collectors.hj212_server import Hj212Server
from collectors.hj212_uplink import Uplink, Uplinks


def port_words(server: Hj212Server) -> dict[str, Any]:
    """The port's connections and what was refused, for the health message of the base that owns the port."""
    counters, door = server.counters, server.door
    return {"connections": len(door.open), "places": door.limits.connections, "frames": counters.frames,
            "readings": counters.readings, "refused_connections": dict(door.refused), "closed_connections": dict(door.closed),
            "rejected": dict(counters.rejected), "letters_withheld": server.reception.letters.withheld,
            "garbage_bytes": counters.garbage_bytes, "notices": dict(counters.notices), "times_set": dict(counters.times_set)}


def uplink_words(uplinks: Uplinks | None, base: str) -> list[dict[str, Any]]:
    """State of each uplink that forwards loggers of a base: connected, what waits, the last 9014, what was set aside."""
    if uplinks is None:
        return []
    wanted = {route.to for route in uplinks.routes.values() if route.base == base}
    return [_words(uplink) for to, (uplink, _) in sorted(uplinks.by_target.items()) if to in wanted]


def _words(uplink: Uplink) -> dict[str, Any]:
    counters, size = uplink.counters, uplink.spool.size()
    last = counters.last_answer
    return {"to": uplink.to, "connected": counters.connected, "waiting": size.batches, "bytes": size.bytes,
            "share": round(size.share, 4), "dropped": size.dropped_batches, "sent": counters.sent,
            "answered": counters.answered, "repeated": counters.repeated, "rejected": counters.rejected,
            "last_9014": None if last is None else round(last * 1000), "errors": dict(counters.errors)}


def port_metrics(server: Hj212Server) -> Iterable[Metric]:
    """Families of the port and its uplinks."""
    counters, door = server.counters, server.door
    yield CounterMetricFamily("park_hj212_frames", "frames cut from the streams", value=counters.frames)
    yield CounterMetricFamily("park_hj212_garbage_bytes", "bytes that belonged to no frame", value=counters.garbage_bytes)
    yield CounterMetricFamily("park_hj212_letters_withheld", "dead letters counted and not kept, for their number",
                              value=server.reception.letters.withheld)
    yield GaugeMetricFamily("park_hj212_connections", "open connections", value=len(door.open))
    yield GaugeMetricFamily("park_hj212_connections_max", "places for connections", value=door.limits.connections)
    yield from (_by("park_hj212_rejected", "frames rejected, by reason", "reason", counters.rejected),
                _by("park_hj212_refused_connections", "connections not taken, by reason", "reason", door.refused),
                _by("park_hj212_closed_connections", "connections hung up, by reason", "reason", door.closed),
                _by("park_hj212_notices", "notices of loggers, by command", "cn", counters.notices),
                _by("park_hj212_times_set", "times given to loggers that asked, by result", "state", counters.times_set))
    yield from _uplink_metrics(server.uplinks)


def _by(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, n in dict(counts).items():
        family.add_metric([key], n)
    return family


def _uplink_metrics(uplinks: Uplinks | None) -> Iterable[Metric]:
    gauges = {"waiting": GaugeMetricFamily("park_uplink_waiting", "frames that wait for a superior platform", labels=["to"]),
              "connected": GaugeMetricFamily("park_uplink_connected", "1 while it is connected", labels=["to"]),
              "share": GaugeMetricFamily("park_uplink_share", "how full its spool is, 0 to 1", labels=["to"])}
    counters = {name: CounterMetricFamily(f"park_uplink_{name}", text, labels=["to"]) for name, text in (
        ("sent", "frames sent the first time on a connection"), ("answered", "frames it has acknowledged"),
        ("repeated", "frames sent again for want of 9014"), ("rejected", "frames set aside because it never took them"),
        ("dropped", "frames dropped because the spool was full"))}
    last = GaugeMetricFamily("park_uplink_last_answer_timestamp_seconds", "when it last acknowledged", labels=["to"])
    errors = CounterMetricFamily("park_uplink_errors", "errors of an uplink by kind", labels=["to", "kind"])
    for to, (uplink, _) in list(uplinks.by_target.items() if uplinks else ()):
        words = _words(uplink)
        for name, family in (gauges | counters).items():
            family.add_metric([to], float(words[name]))
        if words["last_9014"] is not None:
            last.add_metric([to], words["last_9014"] / 1000)
        for kind, n in words["errors"].items():
            errors.add_metric([to, kind], n)
    yield from (*gauges.values(), *counters.values(), last, errors)
