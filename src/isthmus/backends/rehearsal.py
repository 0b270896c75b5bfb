"""The state port for rehearsals: reads what is committed, and keeps to itself what is written.

Use cases run over it unchanged, with all their rules and conflicts, and leave no trace: their documents stand in memory
and go with it, their decisions are not journaled, their events not relayed.
"""

from collections.abc import Sequence

from isthmus.backends.comparing import next_revisions
from isthmus.base.filters import Filter
from isthmus.base.ids import HubId
from isthmus.base.state import (
    Change,
    Check,
    Delete,
    JournalEnds,
    JournalEntry,
    JournalFilter,
    JournalRow,
    Key,
    OutboxEvent,
    OutboxRow,
    Put,
    State,
    Stored,
    Wake,
    overlaid,
)


class RehearsalState:
    """Implements `State` over another one, which it never changes; for one rehearsal.

    Queries over devices, the outbox and the journal tell what is committed.
    """

    def __init__(self, committed: State) -> None:
        self._committed = committed
        self._written: dict[Key, Stored | None] = {}

    async def get(self, key: Key) -> Stored | None:
        return self._written[key] if key in self._written else await self._committed.get(key)

    async def scan(
        self, kind: str, hub: HubId, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Stored]:
        written = {
            key.name: stored
            for key, stored in self._written.items()
            if (key.kind, key.hub) == (kind, hub) and key.name.startswith(prefix) and key.name > after
        }
        found = await self._committed.scan(kind, hub, prefix=prefix, after=after, limit=limit + len(written))
        return overlaid(found, written, limit)

    async def count(self, kind: str, hub: HubId, *, prefix: str = "") -> int:
        committed = await self._committed.count(kind, hub, prefix=prefix)
        for key, stored in self._written.items():
            if (key.kind, key.hub) == (kind, hub) and key.name.startswith(prefix):
                committed += (stored is not None) - (await self._committed.get(key) is not None)
        return committed

    async def query_devices(
        self, hub: HubId, where: Filter, *, modules: bool, after: str, limit: int
    ) -> list[tuple[Stored, Stored, Stored | None]]:
        return await self._committed.query_devices(hub, where, modules=modules, after=after, limit=limit)

    async def count_devices(self, hub: HubId, where: Filter, *, modules: bool) -> int:
        return await self._committed.count_devices(hub, where, modules=modules)

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        present = {change.key: await self.get(change.key) for change in changes}
        revisions = next_revisions(changes, lambda key: stored.revision if (stored := present[key]) else 0)
        for change, revision in zip(changes, revisions, strict=True):
            match change:
                case Put(key, body):
                    self._written[key] = Stored(key, revision, bytes(body))
                case Delete(key):
                    self._written[key] = None
                case Check():
                    pass
        return revisions

    async def outbox(self, *, after: int, limit: int) -> list[OutboxRow]:
        return await self._committed.outbox(after=after, limit=limit)

    async def outbox_done(self, upto: int) -> None:
        """Nothing is relayed from a rehearsal."""

    def on_outbox(self, wake: Wake) -> None:
        """Nothing is relayed from a rehearsal."""

    def journal(self, row: JournalRow) -> None:
        """Nothing of a rehearsal is journaled."""

    async def journal_flushed(self) -> None:
        await self._committed.journal_flushed()

    async def journal_read(self, wanted: JournalFilter) -> list[JournalEntry]:
        return await self._committed.journal_read(wanted)

    async def journal_ends(self) -> JournalEnds:
        return await self._committed.journal_ends()

    async def journal_prune(self, upto: int, principal: str, utc_ms: int) -> int:
        return 0

    @property
    def journal_full(self) -> bool:
        return False

    async def close(self) -> None:
        """The committed state stays open."""
        self._written.clear()
