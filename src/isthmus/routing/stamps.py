"""Enrichments, resolved: what messages get for the endpoints they go to, by the twin of that moment.

A place in the twin that holds nothing is stamped as it is written, `$twin.tags.site`, so that its reader sees which
one it was ("Message enrichments for device-to-cloud messages"). Numbers and truth values become their JSON text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from isthmus.resources.enrichments import HUB_NAME, Enrichment
from isthmus.resources.hub import EVENTS_ENDPOINT, Hub
from isthmus.telemetry.message import Stamped, encode_stamped
from isthmus.telemetry.ports import EVENTS

KEPT_MAX = 1_024
"""Encoded stamps kept for combinations of endpoints, when nothing asks the twin; a hub has 100 routes at most."""

Twin = Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Stamp:
    """One property for one endpoint: a text, or a place in the twin."""

    endpoint: int
    key: str
    value: str
    place: tuple[str, ...]

    def text(self, twin: Twin) -> str:
        """What the property says."""
        found: object = twin
        for step in self.place:
            found = found.get(step) if isinstance(found, Mapping) else None
        if not self.place or found is None:
            return self.value
        return found if isinstance(found, str) else msgspec.json.encode(found).decode()


class Stamps:
    """The enrichments of one snapshot of a hub."""

    def __init__(self, hub: Hub) -> None:
        numbers = {EVENTS_ENDPOINT: EVENTS, **{each.name.lower(): each.number for each in hub.endpoints}}
        self._stamps = tuple(
            Stamp(numbers[name.lower()], each.key, _value(hub, each), each.twin_place)
            for each in hub.enrichments
            for name in each.endpoint_names
        )
        self._endpoints = frozenset(stamp.endpoint for stamp in self._stamps)
        self._kept: dict[tuple[int, ...], bytes] = {}
        self.asks_twin = any(stamp.place for stamp in self._stamps)

    def __bool__(self) -> bool:
        return bool(self._stamps)

    def encoded(self, endpoints: tuple[int, ...], twin: Twin) -> bytes:
        """The stamps of a message for these endpoints, as `enriched` puts them into an envelope; nothing for none."""
        if self._endpoints.isdisjoint(endpoints):
            return b""
        if self.asks_twin:
            return encode_stamped(self.resolved(endpoints, twin))
        kept = self._kept.get(endpoints)
        if kept is None:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            kept = self._kept[endpoints] = encode_stamped(self.resolved(endpoints, twin))
        return kept

    def resolved(self, endpoints: tuple[int, ...], twin: Twin) -> Stamped:
        """The stamps of a message, by endpoint."""
        stamped: Stamped = {}
        for stamp in self._stamps:
            if stamp.endpoint in endpoints:
                stamped.setdefault(stamp.endpoint, {})[stamp.key] = stamp.text(twin)
        return stamped


def _value(hub: Hub, enrichment: Enrichment) -> str:
    return hub.name if enrichment.value == HUB_NAME else enrichment.value
