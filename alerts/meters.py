"""What the evaluator counts, for Prometheus (`park alert --metrics-port`)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Tally:
    """Counters in a registry of their own; they outlive a catalogue that is read again."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._transitions = Counter("park_alert_transitions", "Transitions that the evaluator wrote.", ["change"],
                                    registry=self.registry)
        self._held_back = Counter(
            "park_alert_held_back", "Conditions that raised nothing because plant or calendar had put their rule out of force; "
            "each once from when it began.", ["base", "rule"], registry=self.registry)

    def transition(self, change: str) -> None:
        """A transition was written."""
        self._transitions.labels(change).inc()

    def held_back(self, base: str, rule: str) -> None:
        """A condition began to be held back."""
        self._held_back.labels(base, rule).inc()
