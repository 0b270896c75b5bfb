"""Metrics in Prometheus' text format: what the doors count themselves, and what is asked of the house when scraped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True, slots=True)
class Reading:
    """A value of the house at the time of a scrape; `total` for one that only rises."""

    name: str
    help: str
    value: float
    total: bool = False


class Metrics:
    """The counters of the doors, and a view of everybody else's; `gate.Counters` is implemented here."""

    def __init__(self, readings: Callable[[], Iterable[Reading]] = tuple) -> None:
        self.readings = readings
        self._registry = CollectorRegistry()
        self._admitted = Counter(
            "isthmus_admitted", "Admitted connections, by plane", ["plane"], registry=self._registry
        )
        self._refusals = Counter(
            "isthmus_refusals", "Refusals, by plane and rule", ["plane", "rule"], registry=self._registry
        )
        self._registry.register(self)

    def admitted(self, plane: str) -> None:
        """One more admitted connection."""
        self._admitted.labels(plane).inc()

    def refused(self, plane: str, rule: str) -> None:
        """One more refusal."""
        self._refusals.labels(plane, rule).inc()

    def collect(self) -> Iterable[Metric]:
        """Asks the house; Prometheus' collector protocol."""
        for reading in self.readings():
            family = CounterMetricFamily if reading.total else GaugeMetricFamily
            yield family(f"isthmus_{reading.name}", reading.help, value=reading.value)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)
