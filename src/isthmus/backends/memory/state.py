"""The state port over dictionaries; one event loop, every operation whole between two awaits."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count, islice

from isthmus.access.chain import GENESIS, JOURNAL_ENTRIES_MAX, following, pruned_row, to_prune
from isthmus.access.journal import Verdict, decision_of
from isthmus.backends.comparing import next_revisions, prefix_end
from isthmus.backends.device_view import IDENTITY, NEVER_CONNECTED, PRESENCE, TWIN, homes_of, joined
from isthmus.base.filters import Filter, holds
from isthmus.base.ids import HubId
from isthmus.base.state import (
    ChainEnd,
    Change,
    Delete,
    JournalEnds,
    JournalEntry,
    JournalFilter,
    JournalLimit,
    JournalRow,
    Key,
    OutboxEvent,
    OutboxRow,
    Put,
    StateClosed,
    Stored,
    Wake,
    WhenFull,
)

JOURNAL_LIMIT = JournalLimit(JOURNAL_ENTRIES_MAX)
"""What holds unless the configuration says otherwise."""


class MemoryState:
    """Implements `State`; forgets everything with the process."""

    def __init__(self, *, journal: JournalLimit = JOURNAL_LIMIT) -> None:
        self._shelves: dict[tuple[str, HubId], _Shelf] = {}
        self._outbox: deque[OutboxRow] = deque()
        self._row_ids = count(1)
        self._wakes: list[Wake] = []
        self._journal: deque[JournalEntry] = deque()
        self._ends = JournalEnds(GENESIS, GENESIS)
        self._limit = journal
        self._closed = False

    async def get(self, key: Key) -> Stored | None:
        self._require_open()
        return self._stored(key)

    async def scan(
        self, kind: str, hub: HubId, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Stored]:
        self._require_open()
        return list(islice(self._shelf(kind, hub).between(prefix, after), limit))

    async def count(self, kind: str, hub: HubId, *, prefix: str = "") -> int:
        self._require_open()
        return sum(1 for _ in self._shelf(kind, hub).between(prefix, ""))

    async def query_devices(
        self, hub: HubId, where: Filter, *, modules: bool, after: str, limit: int
    ) -> list[tuple[Stored, Stored, Stored | None]]:
        self._require_open()
        return list(islice(self._matching(hub, where, modules, after), limit))

    async def count_devices(self, hub: HubId, where: Filter, *, modules: bool) -> int:
        self._require_open()
        return sum(1 for _ in self._matching(hub, where, modules, ""))

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        self._require_open()
        revisions = next_revisions(changes, self._revision)
        for change, revision in zip(changes, revisions, strict=True):
            shelf = self._shelf(change.key.kind, change.key.hub)
            if isinstance(change, Put):
                shelf.put(Stored(change.key, revision, bytes(change.body)))
            elif isinstance(change, Delete):
                shelf.remove(change.key.name)
        self._outbox.extend(OutboxRow(next(self._row_ids), event.hub, event.body) for event in outbox)
        for wake in self._wakes if outbox else ():
            wake()
        return revisions

    async def outbox(self, *, after: int, limit: int) -> list[OutboxRow]:
        self._require_open()
        return list(islice((row for row in self._outbox if row.row_id > after), limit))

    async def outbox_done(self, upto: int) -> None:
        self._require_open()
        while self._outbox and self._outbox[0].row_id <= upto:
            self._outbox.popleft()

    def on_outbox(self, wake: Wake) -> None:
        self._wakes.append(wake)

    def journal(self, row: JournalRow) -> None:
        if self._closed or (self.journal_full and row.verdict != Verdict.CHANGED):
            return
        self._append(row)
        if self._limit.when_full is WhenFull.DROP_OLDEST and (upto := to_prune(self._ends, self._limit.entries_max)):
            self._prune(upto, "isthmus", row.utc_ms)

    async def journal_flushed(self) -> None:
        self._require_open()

    async def journal_read(self, wanted: JournalFilter) -> list[JournalEntry]:
        self._require_open()
        matching = (entry for entry in reversed(self._journal) if _matches(entry, wanted))
        return list(islice(matching, wanted.limit))

    async def journal_ends(self) -> JournalEnds:
        self._require_open()
        return self._ends

    async def journal_prune(self, upto: int, principal: str, utc_ms: int) -> int:
        self._require_open()
        return self._prune(upto, principal, utc_ms)

    @property
    def journal_full(self) -> bool:
        return self._limit.is_reached(self._ends.entries)

    async def close(self) -> None:
        self._closed = True

    def _append(self, row: JournalRow) -> None:
        entry = following(self._ends.head, row)
        self._journal.append(entry)
        self._ends = replace(self._ends, head=ChainEnd(entry.entry_id, entry.chain))

    def _prune(self, upto: int, principal: str, utc_ms: int) -> int:
        first = self._ends.base.entry_id + 1
        if not first <= upto <= self._ends.head.entry_id:
            return 0
        for _ in range(first, upto + 1):
            entry = self._journal.popleft()
            removed = ChainEnd(entry.entry_id, entry.chain)
        self._ends = replace(self._ends, base=removed)
        self._append(pruned_row(removed, first, utc_ms=utc_ms, principal=principal))
        return upto - first + 1

    def _require_open(self) -> None:
        if self._closed:
            raise StateClosed("the state is closed")

    def _shelf(self, kind: str, hub: HubId) -> "_Shelf":
        return self._shelves.setdefault((kind, hub), _Shelf())

    def _stored(self, key: Key) -> Stored | None:
        return self._shelf(key.kind, key.hub).documents.get(key.name)

    def _revision(self, key: Key) -> int:
        stored = self._stored(key)
        return stored.revision if stored else 0

    def _matching(
        self, hub: HubId, where: Filter, modules: bool, after: str
    ) -> Iterable[tuple[Stored, Stored, Stored | None]]:
        homes = homes_of(where)
        for identity in self._shelf(IDENTITY, hub).between("", after):
            twin = self._stored(Key(TWIN, hub, identity.key.name))
            if twin is None or ("/" in identity.key.name) is not modules:
                continue
            presence = self._stored(Key(PRESENCE, hub, identity.key.name))
            bodies = {IDENTITY: identity.body, TWIN: twin.body}
            bodies[PRESENCE] = presence.body if presence else NEVER_CONNECTED.encode()
            if holds(where, joined({kind: bodies[kind] for kind in homes})):
                yield identity, twin, presence


class _Shelf:
    """The documents of one kind and hub, with their names in order."""

    def __init__(self) -> None:
        self.documents: dict[str, Stored] = {}
        self._names: list[str] = []

    def put(self, stored: Stored) -> None:
        if stored.key.name not in self.documents:
            insort(self._names, stored.key.name)
        self.documents[stored.key.name] = stored

    def remove(self, name: str) -> None:
        if self.documents.pop(name, None) is not None:
            del self._names[bisect_left(self._names, name)]

    def between(self, prefix: str, after: str) -> Iterable[Stored]:
        start = max(bisect_left(self._names, prefix), bisect_right(self._names, after) if after else 0)
        end = prefix_end(prefix)
        stop = len(self._names) if end is None else bisect_left(self._names, end)
        return (self.documents[name] for name in self._names[start:stop])


def _matches(entry: JournalEntry, wanted: JournalFilter) -> bool:
    return (
        wanted.hub in ("", entry.hub)
        and wanted.device in ("", entry.device)
        and wanted.address in ("", entry.address)
        and wanted.tracking_id in ("", entry.tracking_id)
        and wanted.verdict in ("", entry.verdict)
        and (not wanted.principal or wanted.principal == decision_of(entry).principal)
        and wanted.entry_id in (0, entry.entry_id)
        and entry.utc_ms >= wanted.since_ms
        and (not wanted.until_ms or entry.utc_ms < wanted.until_ms)
        and (not wanted.before_id or entry.entry_id < wanted.before_id)
    )
