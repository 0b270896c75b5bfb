"""The one thread that writes the index: whatever waits is written in one transaction and one sync.

Theory of operation. A job is a function of the writing connection. While the thread commits one group, the next jobs
collect; then they become the next group. Each job runs in a savepoint of its own: one that raises has changed nothing,
fails alone, and the others proceed. When the commit itself fails, every job of the group fails, the connection is
thrown away, and the next group begins with a new one: nobody was told that anything succeeded.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from isthmus.backends.blobs.schema import writer_of
from isthmus.backends.sqlite.folding import Folding
from isthmus.base.state import StateClosed
from isthmus.neighbours.blob.errors import StorageCode, StorageError

GROUP_JOBS_MAX = 256
"""Jobs of one transaction, so that the first does not wait long for the last."""

JOBS_WAITING_MAX = 8_192
"""Jobs not yet answered; the next is refused as `ServerBusy`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    job: Callable[[sqlite3.Connection], object]
    answer: asyncio.Future[Any]


class IndexWriter:
    """Belongs to the event loop that made it."""

    def __init__(self, path: Path, told: Callable[[], None]) -> None:
        """`told` is called on the event loop after each group, when `failure` says what became of it."""
        self._path = path
        self._told = told
        self._folding = Folding(path)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="blob index writer")
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[_Waiting] = []
        self._unanswered = 0
        self._writing: asyncio.Task[None] | None = None
        self.failure = ""

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Runs the job in the next group; the answer comes when it is durable.

        Raises StorageError ServerBusy at `JOBS_WAITING_MAX`.
        """
        if self._unanswered >= JOBS_WAITING_MAX:
            raise StorageError(StorageCode.SERVER_BUSY)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(job, answer))
        self._unanswered += 1
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return answer

    async def close(self) -> None:
        """Writes what was given, then closes."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.get_running_loop().run_in_executor(self._pool, self._disconnect)
        self._pool.shutdown()

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP_JOBS_MAX], self._waiting[GROUP_JOBS_MAX:]
                jobs = [each.job for each in group]
                results, self.failure = await loop.run_in_executor(self._pool, self._write, jobs)
                self._unanswered -= len(group)
                self._told()
                for each, result in zip(group, results, strict=True):
                    _answer(each.answer, result)
        finally:
            self._writing = None

    def _write(self, jobs: Sequence[Callable[[sqlite3.Connection], object]]) -> tuple[list[object], str]:
        try:
            connection = self._connection = self._connection or writer_of(self._path)
            connection.execute("BEGIN IMMEDIATE")
            results = [_attempt(connection, job) for job in jobs]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._disconnect()
            return [_failed(error) for _ in jobs], f"{type(error).__name__}: {error}"
        return results, self._folding.trouble(connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _attempt(connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], object]) -> object:
    connection.execute("SAVEPOINT job")
    try:
        result = job(connection)
    except sqlite3.Error:
        raise
    except Exception as error:
        connection.execute("ROLLBACK TO job")
        result = error
    connection.execute("RELEASE job")
    return result


def _failed(cause: sqlite3.Error) -> StateClosed:
    failed = StateClosed(f"the index of blobs could not be written: {cause}")
    failed.__cause__ = cause
    return failed


def _answer(answer: "asyncio.Future[Any]", result: object) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
