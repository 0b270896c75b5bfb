"""The state port on SQLite: one writer thread with group commit, readers beside it (see `writer` and `readers`)."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from isthmus.access.chain import JOURNAL_ENTRIES_MAX
from isthmus.backends.condition import Condition
from isthmus.backends.sqlite import documents
from isthmus.backends.sqlite.devices_query import plan_devices
from isthmus.backends.sqlite.journal import ends, prune, read
from isthmus.backends.sqlite.readers import Reader, Readers
from isthmus.backends.sqlite.resealing import reseal
from isthmus.backends.sqlite.schema import Connect, connect, prepare, unusable
from isthmus.backends.sqlite.snapshot import Snapshot
from isthmus.backends.sqlite.writer import GroupWriter, Health
from isthmus.base.errors import ConfigurationError
from isthmus.base.filters import Filter
from isthmus.base.ids import HubId
from isthmus.base.sealing import UNSEALED, Sealer
from isthmus.base.state import (
    Change,
    JournalEnds,
    JournalEntry,
    JournalFilter,
    JournalLimit,
    JournalRow,
    Key,
    OutboxEvent,
    OutboxRow,
    StateClosed,
    Stored,
    Wake,
)

JOURNAL_LIMIT = JournalLimit(JOURNAL_ENTRIES_MAX)
"""What holds unless the configuration says otherwise."""

T = TypeVar("T")


class SqliteState:
    """Implements `State` on one file; belongs to the event loop that opened it."""

    def __init__(
        self, path: Path, writer: GroupWriter, readers: Readers, sealer: Sealer, lock: int, resealed: int = 0
    ) -> None:
        self._path = path
        self._writer = writer
        self._sealer = sealer
        self._readers = readers
        self._lock = lock
        self.resealed = resealed
        """Documents that this start sealed by a newer key."""
        self._wakes: list[Wake] = []
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        journal: JournalLimit = JOURNAL_LIMIT,
        connecting: Connect = connect,
        sealer: Sealer = UNSEALED,
        resealing: bool = False,
    ) -> "SqliteState":
        """Makes, upgrades or just opens the file; its folder must exist.

        `sealer` seals and opens what is secret in it; with `resealing` it looks first for what is not sealed by the key
        that seals now, which takes longer the more documents there are.

        Raises `ConfigurationError` when another process has it open, when it was written by a newer release, or when
        it is no state file.
        """
        lock = _lock(path)
        try:
            await asyncio.to_thread(prepare, path, connecting)
            resealed = await asyncio.to_thread(reseal, path, sealer, connecting) if resealing else 0
            readers = await asyncio.to_thread(Readers, path, connecting, sealer)
            kept = await readers.run(lambda reader: ends(reader.connection).entries)
        except sqlite3.Error as error:
            os.close(lock)
            raise unusable(path, error) from error
        except BaseException:
            os.close(lock)
            raise
        writer = GroupWriter(path, connecting, limit=journal, journal_entries=kept)
        return cls(path, writer, readers, sealer, lock, resealed)

    @property
    def health(self) -> Health:
        """Whether the last commit succeeded, and what was lost so far."""
        return self._writer.health

    @property
    def condition(self) -> Condition:
        """Tells who listens when the state cannot be written, and when it can again."""
        return self._writer.condition

    async def get(self, key: Key) -> Stored | None:
        self._require_open()
        return self._readers.get(key)

    async def scan(
        self, kind: str, hub: HubId, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Stored]:
        self._require_open()
        return await self._readers.run(
            lambda reader: documents.scan(
                reader.connection, kind, hub, reader.sealer, prefix=prefix, after=after, limit=limit
            )
        )

    async def count(self, kind: str, hub: HubId, *, prefix: str = "") -> int:
        self._require_open()
        return await self._readers.run(lambda reader: documents.count(reader.connection, kind, hub, prefix=prefix))

    async def query_devices(
        self, hub: HubId, where: Filter, *, modules: bool, after: str, limit: int
    ) -> list[tuple[Stored, Stored, Stored | None]]:
        plan = plan_devices(hub, where, modules=modules)
        found: list[tuple[Stored, Stored, Stored | None]] = []
        upto: str | None = after
        while upto is not None and len(found) < limit:
            self._require_open()
            read = partial(Reader.devices, plan=plan, after=upto, limit=limit - len(found))
            step = await self._readers.run(read)
            found += step.found
            upto = step.upto
        return found

    async def count_devices(self, hub: HubId, where: Filter, *, modules: bool) -> int:
        plan = plan_devices(hub, where, modules=modules)
        total = 0
        upto: str | None = ""
        while upto is not None:
            self._require_open()
            number, upto = await self._readers.run(partial(Reader.count_devices, plan=plan, after=upto))
            total += number
        return total

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        self._require_open()
        changes, outbox = tuple(changes), tuple(outbox)

        def job(connection: sqlite3.Connection) -> list[int]:
            revisions = documents.apply(connection, changes, self._sealer)
            connection.executemany("INSERT INTO outbox (hub, body) VALUES (?, ?)", ((e.hub, e.body) for e in outbox))
            return revisions

        return await self._writer.submit(job, self._wake if outbox else None)

    async def outbox(self, *, after: int, limit: int) -> list[OutboxRow]:
        self._require_open()

        def read(connection: sqlite3.Connection) -> list[OutboxRow]:
            statement = "SELECT row_id, hub, body FROM outbox WHERE row_id > ? ORDER BY row_id LIMIT ?"
            return [OutboxRow(*row) for row in connection.execute(statement, (after, limit))]

        return await self._readers.run(lambda reader: read(reader.connection))

    async def outbox_done(self, upto: int) -> None:
        self._require_open()

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM outbox WHERE row_id <= ?", (upto,))

        await self._writer.submit(job)

    def on_outbox(self, wake: Wake) -> None:
        self._wakes.append(wake)

    def journal(self, row: JournalRow) -> None:
        if self._closing is None:
            self._writer.journal(row)

    async def journal_flushed(self) -> None:
        self._require_open()
        await self._writer.submit(lambda connection: None)

    async def journal_read(self, wanted: JournalFilter) -> list[JournalEntry]:
        self._require_open()
        return await self._readers.run(lambda reader: read(reader.connection, wanted))

    async def journal_ends(self) -> JournalEnds:
        self._require_open()
        return await self._readers.run(lambda reader: ends(reader.connection))

    async def journal_prune(self, upto: int, principal: str, utc_ms: int) -> int:
        self._require_open()
        return await self._writer.submit(lambda connection: prune(connection, upto, principal=principal, utc_ms=utc_ms))

    @property
    def journal_full(self) -> bool:
        return self._writer.journal_full

    async def cut(self, beside: Callable[[], T]) -> tuple[Snapshot, T]:
        """The state as it is now, and what `beside` gives before anything else is committed.

        `beside` runs on the writer's thread, which waits for it, and raises `OSError`. The snapshot is the caller's to
        close.
        """
        self._require_open()
        snapshot = Snapshot(self._path)

        def job(_: sqlite3.Connection) -> T:
            snapshot.pin()
            return beside()

        pinning = self._writer.submit(job)
        try:
            return snapshot, await asyncio.shield(pinning)
        except BaseException:
            await asyncio.wait([pinning])
            snapshot.close()
            raise

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await asyncio.to_thread(self._readers.close)
        await self._writer.close()
        os.close(self._lock)

    def _require_open(self) -> None:
        if self._closing is not None:
            raise StateClosed("the state is closed")

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()


def _lock(path: Path) -> int:
    """Two servers on one file would each keep a queue's locks of their own; the lock goes with the process."""
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened as the state of a hub: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigurationError(f"{path} is in use by another process: stop that one first.") from error
    return lock
