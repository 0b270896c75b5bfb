"""The thread side of the writer: gathers a group, writes it in one transaction, reports what became of it.

See `writer` for the theory of operation. Nothing here touches the event loop except through `report` and `ended`,
which are called on this thread.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from isthmus.backends.sqlite import journal
from isthmus.backends.sqlite.folding import Folding
from isthmus.backends.sqlite.schema import Connect, open_writer
from isthmus.base.state import JournalLimit, JournalRow, StateClosed

GROUP_REQUESTS_MAX = 1_024
"""Requests and journal rows taken for one transaction, so that the first does not wait long for the last."""

RETRY_SECONDS = 1.0
"""How long it takes after a failure until the disk is tried again when no request comes."""

Job = Callable[[sqlite3.Connection], object]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A job for the next group; `committed` is called on the event loop when it is durable."""

    job: Job
    answer: asyncio.Future[Any]
    committed: Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class Group:
    """What became of a group: a result or an error for each request, and how many journal rows are done with.

    `journal_entries` is how many the journal holds afterwards. `failure` says why nothing was committed and is empty
    when the group is durable; `trouble` says what is wrong although it is.
    """

    outcomes: list[tuple[Request, object]] = field(default_factory=list)
    rows_written: int = 0
    rows_lost: int = 0
    journal_entries: int = 0
    failure: str = ""
    trouble: str = ""


Inbox = SimpleQueue[Request | JournalRow | None]
"""What the event loop gives the thread, in order; None ends it."""


class WriterThread:
    """Runs until the inbox says None; owns the writing connection."""

    def __init__(
        self,
        inbox: Inbox,
        *,
        path: Path,
        connecting: Connect,
        limit: JournalLimit,
        report: Callable[[Group], None],
        ended: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._path = path
        self._connecting = connecting
        self._limit = limit
        self._report = report
        self._ended = ended
        self._connection: sqlite3.Connection | None = None
        self._folding = Folding(path)
        self._rows: list[JournalRow] = []
        self._is_ailing = False
        self._stopping = False

    def run(self) -> None:
        """The thread's whole life."""
        while not self._stopping:
            requests = self._gather()
            if requests or self._rows or (self._is_ailing and not self._stopping):
                group = self._write(requests)
                self._is_ailing = bool(group.failure or group.trouble)
                self._report(group)
        if self._connection is not None:
            self._connection.close()
        self._ended()

    def _gather(self) -> list[Request]:
        """Waits for the first, then takes what is there; after a failure no longer than until a retry."""
        requests: list[Request] = []
        try:
            item = self._inbox.get(timeout=RETRY_SECONDS if self._is_ailing else None)
            for _ in range(GROUP_REQUESTS_MAX - 1):
                if item is None:
                    break
                self._take(item, requests)
                item = self._inbox.get_nowait()
            self._take(item, requests)
        except Empty:
            pass
        return requests

    def _take(self, item: Request | JournalRow | None, requests: list[Request]) -> None:
        if item is None:
            self._stopping = True
        elif isinstance(item, JournalRow):
            self._rows.append(item)
        else:
            requests.append(item)

    def _write(self, requests: list[Request]) -> Group:
        try:
            connection = self._begin()
            changes_before = connection.total_changes
            outcomes = [(request, _attempt(request.job, connection)) for request in requests]
            if self._rows:
                journal.append(connection, self._rows, self._limit)
            if self._is_ailing and connection.total_changes == changes_before:
                _prove(connection)
            entries = journal.ends(connection).entries
            connection.execute("COMMIT")
        except Exception as error:
            return self._failed(requests, error)
        rows_written = len(self._rows)
        self._rows = []
        trouble = self._folding.trouble(connection)
        return Group(outcomes, rows_written=rows_written, journal_entries=entries, trouble=trouble)

    def _begin(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_writer(self._path, self._connecting)
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def _failed(self, requests: list[Request], error: Exception) -> Group:
        """Rolls back by closing; rows are kept for the next group unless they may be what failed, or it is the end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        rows_lost = 0
        if self._stopping or not isinstance(error, sqlite3.Error):
            rows_lost = len(self._rows)
            self._rows = []
        failure = f"{type(error).__name__}: {error}"
        return Group([(request, _refused(error)) for request in requests], rows_lost=rows_lost, failure=failure)


def _attempt(job: Job, connection: sqlite3.Connection) -> object:
    """The job's result, or its error when it failed alone: before it changed anything, and not because of the disk."""
    changes_before = connection.total_changes
    try:
        return job(connection)
    except sqlite3.Error:
        raise
    except Exception as error:
        if connection.total_changes != changes_before:
            raise
        return error


def _prove(connection: sqlite3.Connection) -> None:
    """Writes something, because a transaction that writes nothing succeeds on any disk."""
    connection.execute(
        """INSERT INTO meta (name, number, value) VALUES ('proof of the disk', 1, x'')
        ON CONFLICT (name) DO UPDATE SET number = number + 1"""
    )


def _refused(cause: Exception) -> StateClosed:
    refused = StateClosed(f"the state could not be written: {cause}")
    refused.__cause__ = cause
    return refused
