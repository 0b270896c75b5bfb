"""Removes what a deleted resource leaves in the state: identities, twins, presences, sessions, queues, counters.

Theory of operation. The commit that deletes a hub or neighbour leaves a mark with its number (`StoredResources`). From
then on nothing leads to its documents: numbers are never given twice. They are removed in batches, so that a hub of a
million devices delays nobody's commits, and a crash in between leaves the mark. A request that was under way when the
hub went may still write a document after its sweep; therefore the mark itself stays until the next start, when a last
sweep finds what came late, before anything is served.
"""

import asyncio

from isthmus.base.ids import HubId
from isthmus.base.state import NO_HUB, Damaged, Delete, Key, State
from isthmus.resources.guarded import Guarded
from isthmus.resources.stored_resources import DELETED

KINDS = (
    *("identity", "twin", "presence", "session", "upload", "queue", "job", "job-errors", "meta", "event-hub"),
    *("delivery", "dead-letter"),
)
"""Kinds of documents that belong to a hub."""

BATCH_MAX = 256
"""Documents removed in one commit: small beside a group of the state, so that others' commits do not wait for it."""

MARKS_MAX = 1_000
"""Marks read at a time."""


class Removal:
    """Sweeps up behind deleted hubs; used on one event loop."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._deleted: list[HubId] = []
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Deleted hubs whose documents are not all gone."""
        return len(self._deleted)

    async def finish(self) -> int:
        """Removes what earlier processes left, and their marks; returns how many documents went. Before serving."""
        removed = 0
        while marks := await self._state.scan("meta", NO_HUB, prefix=DELETED, limit=MARKS_MAX):
            for mark in marks:
                removed += await self._sweep(HubId(int(mark.key.name.removeprefix(DELETED))))
                await self._state.commit([Delete(mark.key)])
        return removed

    async def resource_changed(self, old: Guarded | None, new: Guarded | None) -> None:
        """Listens to all resources."""
        if old is not None and new is None:
            self._deleted.append(old.number)
            self._wake.set()

    async def run(self) -> None:
        """Sweeps up behind hubs as they go, until cancelled; raises what the state raises, and may be run again."""
        while True:
            await self._wake.wait()
            while self._deleted:
                await self._sweep(self._deleted[0])
                del self._deleted[0]
            self._wake.clear()

    async def _sweep(self, hub: HubId) -> int:
        removed = 0
        for kind in KINDS:
            while found := await self._keys(kind, hub):
                await self._state.commit([Delete(key) for key in found])
                removed += len(found)
        return removed

    async def _keys(self, kind: str, hub: HubId) -> list[Key]:
        try:
            return [stored.key for stored in await self._state.scan(kind, hub, limit=BATCH_MAX)]
        except Damaged as damaged:
            # Nobody will read it any more, and whatever it holds, it goes.
            return [damaged.key]
