"""Reading connections: one on the event loop for single documents, a few on threads for scans and queries.

Each statement sees everything committed before it began, so what a commit has answered is read by all of them. A point
read takes some microseconds and is not worth a thread; whatever may look at many rows goes to one.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from isthmus.backends.sqlite import documents
from isthmus.backends.sqlite.devices_query import DevicesPlan, DevicesQuery, Step
from isthmus.backends.sqlite.schema import PRIMARY_CODE, Connect, open_reader
from isthmus.base.errors import Code, HubError
from isthmus.base.sealing import Sealer
from isthmus.base.state import DamagedStore, Key, Stored

READER_THREADS = 2
"""Scans and queries at once; more would take the cores from the event loop."""

READS_WAITING_MAX = 4_096
"""Scans and queries not yet answered; the next is refused as `ServerBusy`."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

T = TypeVar("T")


class Readers:
    """Opened on any thread, used on the event loop."""

    def __init__(self, path: Path, connecting: Connect, sealer: Sealer) -> None:
        self._path = path
        self._sealer = sealer
        self._point = open_reader(path, connecting)
        self._all = [Reader(open_reader(path, connecting), sealer) for _ in range(READER_THREADS)]
        self._free: SimpleQueue[Reader] = SimpleQueue()
        for reader in self._all:
            self._free.put(reader)
        self._pool = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="state reader")
        self._waiting = 0

    def get(self, key: Key) -> Stored | None:
        """The document, read at once on the calling thread."""
        try:
            return documents.get(self._point, key, self._sealer)
        except sqlite3.DatabaseError as error:
            raise _named(error, self._path) from error

    async def run(self, read: Callable[["Reader"], T]) -> T:
        """Reads on a thread; raises `HubError` (`SERVER_BUSY`) at `READS_WAITING_MAX`."""
        if self._waiting >= READS_WAITING_MAX:
            raise HubError(Code.SERVER_BUSY, "Server busy, please retry operation")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._with_free, read)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Waits for the reads under way; called on a thread."""
        self._pool.shutdown()
        self._point.close()
        for reader in self._all:
            reader.connection.close()

    def _with_free(self, read: Callable[["Reader"], T]) -> T:
        reader = self._free.get()
        try:
            return read(reader)
        except sqlite3.DatabaseError as error:
            raise _named(error, self._path) from error
        finally:
            self._free.put(reader)


def _named(error: sqlite3.DatabaseError, path: Path) -> Exception:
    """What SQLite finds damaged, by the port's word for it and by the file's name; anything else as it is."""
    if error.sqlite_errorcode & PRIMARY_CODE not in _DAMAGED:
        return error
    return DamagedStore(f"{path} is damaged ({error})")


class Reader:
    """A connection, used by one thread at a time, and device queries on it."""

    def __init__(self, connection: sqlite3.Connection, sealer: Sealer) -> None:
        self.connection = connection
        self.sealer = sealer
        self._devices = DevicesQuery(connection, sealer)

    def devices(self, plan: DevicesPlan, *, after: str, limit: int) -> Step:
        return self._devices.run(plan, after=after, limit=limit)

    def count_devices(self, plan: DevicesPlan, *, after: str) -> tuple[int, str | None]:
        return self._devices.count(plan, after=after)
