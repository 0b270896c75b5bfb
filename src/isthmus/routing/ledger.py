"""The ledger of deliveries: how far each endpoint has been served and how it does, durable.

Theory of operation. One document for each endpoint, `delivery` by its number. Memory holds the latest of all; what has
changed is written together at most once in `WRITE_SECONDS`, because a cursor that is a second old costs some messages
sent twice and nothing else. An endpoint that has no document when it is met was made after the place the log had then
reached, which is written before anything is delivered; where a crash came between, it begins at the log's start, where
nothing names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import Delete, Key, Put, State
from isthmus.routing.health import NOTHING_TRIED, EndpointHealth

WRITE_SECONDS = 1.0
"""Between two writes of what has changed."""

KIND = "delivery"
DOCUMENTS_MAX = 1_000
"""Read at a time; a hub has few endpoints."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One endpoint's page: `cursors` by partition, `start` for those it does not name."""

    start: int = 0
    cursors: dict[int, int] = field(default_factory=dict)
    health: EndpointHealth = NOTHING_TRIED

    @property
    def lowest(self) -> int:
        """Before it nothing is needed any more."""
        return min(self.cursors.values(), default=self.start)


class Ledger:
    """All pages. On the event loop only."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pages: dict[tuple[HubId, int], Delivered] = {}
        self._changed: set[tuple[HubId, int]] = set()

    async def load(self, hub: HubId) -> None:
        """Reads the pages of a hub."""
        after = ""
        while found := await self._state.scan(KIND, hub, after=after, limit=DOCUMENTS_MAX):
            for stored in found:
                self._pages[(hub, int(stored.key.name))] = msgspec.json.decode(stored.body, type=Delivered)
            after = found[-1].key.name

    def page(self, hub: HubId, number: int) -> Delivered | None:
        """The page of an endpoint."""
        return self._pages.get((hub, number))

    async def open(self, hub: HubId, number: int, start: int) -> Delivered:
        """The page of an endpoint, begun at `start` where there is none yet; durable."""
        page = self._pages.get((hub, number))
        if page is None:
            page = self._pages[(hub, number)] = Delivered(start)
            await self._state.commit([Put(_key(hub, number), msgspec.json.encode(page))])
        return page

    def note(self, hub: HubId, number: int, cursors: Mapping[int, int], health: EndpointHealth) -> None:
        """What has come of deliveries; without effect for an endpoint that has been forgotten."""
        page = self._pages.get((hub, number))
        if page is not None:
            self._pages[(hub, number)] = replace(page, cursors=dict(cursors), health=health)
            self._changed.add((hub, number))

    async def forget(self, hub: HubId, number: int) -> None:
        """Removes the page of an endpoint that is no more."""
        self._pages.pop((hub, number), None)
        self._changed.discard((hub, number))
        await self._state.commit([Delete(_key(hub, number))])

    def forget_hub(self, hub: HubId) -> None:
        """Forgets a deleted hub's pages; their documents are swept with the hub's others."""
        for name in [name for name in self._pages if name[0] == hub]:
            del self._pages[name]
            self._changed.discard(name)

    async def write(self) -> None:
        """Makes durable what has changed; raises what the state raises, and then it is still to be written."""
        changed = sorted(self._changed)
        if changed:
            self._changed.clear()
            try:
                await self._state.commit([Put(_key(*name), msgspec.json.encode(self._pages[name])) for name in changed])
            except BaseException:
                self._changed.update(name for name in changed if name in self._pages)
                raise

    def lowest(self) -> int | None:
        """The place in the log that some endpoint has still to be served from; None without endpoints."""
        return min((page.lowest for page in self._pages.values()), default=None)

    def names(self) -> list[tuple[HubId, int]]:
        """All endpoints that have a page."""
        return sorted(self._pages)


def _key(hub: HubId, number: int) -> Key:
    return Key(KIND, hub, str(number))
