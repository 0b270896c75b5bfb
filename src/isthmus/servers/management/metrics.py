"""Metrics in Prometheus' text format: what the doors count themselves, and what is asked of the house when scraped."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True, slots=True)
class Reading:
    """A value of the house at the time of a scrape; `total` for one that only rises.

    Readings of one name follow each other, and have the same names of `labels`.
    """

    name: str
    help: str
    value: float
    total: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


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
        for _, alike in groupby(self.readings(), lambda reading: reading.name):
            yield _family(list(alike))

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)


def _family(readings: list[Reading]) -> Metric:
    """All readings of one name."""
    first = readings[0]
    make = CounterMetricFamily if first.total else GaugeMetricFamily
    family = make(f"isthmus_{first.name}", first.help, labels=list(first.labels))
    for reading in readings:
        family.add_metric(list(reading.labels.values()), reading.value)
    return family
