"""Removes what a deleted resource leaves in the state: identities, twins, presences, sessions, queues, counters.

Theory of operation. The commit that deletes a hub or neighbour leaves a mark with its number (`StoredResources`). From
then on nothing leads to its documents: numbers are never given twice. They are removed in batches, so that a hub of a
million devices delays nobody's commits, and a crash in between leaves the mark. A request that was under way when the
hub went may still write a document after its sweep; therefore the mark itself stays until the next start, when a last
sweep finds what came late, before anything is served.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import NO_HUB, Damaged, Delete, Key, Put, State, Stored
from isthmus.resources.guarded import Guarded
from isthmus.resources.stored_resources import DELETED

NUMBERED = "bus-entity"
"""A kind whose documents have a number of their own, under which there are more documents."""

KINDS = (
    *("identity", "twin", "presence", "online", "disabled", "session", "upload", "queue", "job", "job-errors", "meta"),
    *("scheduled-job", "device-job", "configuration", "configuration-pass"),
    *("event-hub", "delivery", "dead-letter", NUMBERED),
)
"""Kinds of documents that belong to a resource."""

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
            self.number_gone(old.number)

    def number_gone(self, number: HubId) -> None:
        """Sweeps up behind something else with a number, whose mark is committed."""
        self._deleted.append(number)
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
            while found := await self._found(kind, hub):
                inner = _numbers_in(found) if kind == NUMBERED else []
                keys = [stored.key if isinstance(stored, Stored) else stored for stored in found]
                await self._state.commit([*(Delete(key) for key in keys), *map(mark_of, inner)])
                self._deleted.extend(inner)
                removed += len(found)
        return removed

    async def _found(self, kind: str, hub: HubId) -> Sequence[Stored | Key]:
        try:
            return await self._state.scan(kind, hub, limit=BATCH_MAX)
        except Damaged as damaged:
            if damaged.key is None:
                raise
            # Nobody will read it any more, and whatever it holds, it goes.
            return [damaged.key]


class _Numbered(msgspec.Struct):
    number: int = 0


def mark_of(number: HubId) -> Put:
    """What is left of something with a number, until its documents are swept up."""
    return Put(Key("meta", NO_HUB, f"{DELETED}{number}"), b"{}")


def _numbers_in(found: Sequence[Stored | Key]) -> list[HubId]:
    """The numbers that documents have of their own."""
    bodies = [stored.body for stored in found if isinstance(stored, Stored)]
    numbers = [msgspec.json.decode(body, type=_Numbered).number for body in bodies]
    return [HubId(number) for number in numbers if number]
