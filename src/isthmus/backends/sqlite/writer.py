"""The one thread that writes: everything that waits is written in one transaction and one sync.

Theory of operation. Requests come from the event loop through an inbox, in order. The thread (`group.WriterThread`)
takes all that wait, up to `GROUP_REQUESTS_MAX`, opens a transaction, runs each request's job in turn, appends the
journal rows that came along, and commits; then one call on the event loop answers everybody. While it writes, the next
group collects: under load groups grow and the sync is shared; without load a request is alone and waits for nobody.
There is no timer.

A job that raises before it has changed anything (a `Conflict`, a body too large) fails alone and the others proceed; a
job therefore checks everything before it writes. Whatever else goes wrong - the disk is full, the sync failed, a job
raised halfway - rolls the whole group back: every request of it gets `StateClosed`, none is told that it succeeded. The
connection is then thrown away and the next group begins with a new one. That is the whole recovery, and it works as
soon as the disk does: SQLite writes the next transaction over the frames whose sync failed, so none is relied upon.
What cannot be known is whether a transaction whose sync failed survives a power cut that follows at once.

After a failure the disk is tried again every `RETRY_SECONDS` when no request comes, with a row that is of no use to
anybody when nothing else is to be written; so `health` is right again soon after the disk is.

Journal rows are nobody's request. They stay with the thread until a commit carried them, up to `JOURNAL_WAITING_MAX`;
later ones are dropped and counted, and the count becomes a journal row itself when there is room again.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from isthmus.access.journal import Decision, Verdict, row_of
from isthmus.backends.condition import Condition
from isthmus.backends.sqlite.group import Group, Inbox, Request, WriterThread
from isthmus.backends.sqlite.schema import Connect
from isthmus.base.errors import Code, HubError
from isthmus.base.state import JournalLimit, JournalRow

REQUESTS_WAITING_MAX = 65_536
"""Requests not yet answered; the next is refused as `ServerBusy`."""

JOURNAL_WAITING_MAX = 100_000
"""Decisions not yet durable; the next are dropped and counted."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Health:
    """How the state is doing: `failure` is empty while commits succeed and their pages get into the file."""

    failure: str = ""
    groups_failed: int = 0
    decisions_lost: int = 0

    @property
    def is_healthy(self) -> bool:
        return not self.failure


class GroupWriter:
    """The event loop's side; belongs to the loop that made it."""

    def __init__(self, path: Path, connecting: Connect, *, limit: JournalLimit, journal_entries: int) -> None:
        """`journal_entries` is how many the journal holds now."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._inbox: Inbox = Inbox()
        self._requests_waiting = 0
        self._rows_waiting = 0
        self._rows_dropped = 0
        self._health = Health()
        self.condition = Condition()
        self._limit = limit
        self._journal_entries = journal_entries
        writing = WriterThread(
            self._inbox,
            path=path,
            connecting=connecting,
            limit=limit,
            report=lambda group: self._call(self._finished, group),
            ended=lambda: self._call(self._ended.set_result, None),
        )
        threading.Thread(target=writing.run, name="state writer", daemon=True).start()

    @property
    def health(self) -> Health:
        """As of the last commit."""
        return self._health

    @property
    def journal_full(self) -> bool:
        """As of the last commit."""
        return self._limit.is_reached(self._journal_entries)

    def submit(
        self, job: Callable[[sqlite3.Connection], T], committed: Callable[[], None] | None = None
    ) -> asyncio.Future[T]:
        """Runs the job in the next group; the answer comes when it is durable.

        `committed` is called on the event loop after the commit, also when nobody waits for the answer any more.
        Raises `HubError` (`SERVER_BUSY`) at `REQUESTS_WAITING_MAX`.
        """
        if self._requests_waiting >= REQUESTS_WAITING_MAX:
            raise HubError(Code.SERVER_BUSY, "Server busy, please retry operation")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._requests_waiting += 1
        self._inbox.put(Request(job, answer, committed))
        return answer

    def journal(self, row: JournalRow) -> None:
        """Appends a decision with the next group; a full journal takes changes only, which are refused at the doors."""
        is_change = row.verdict == Verdict.CHANGED
        if self._rows_waiting >= JOURNAL_WAITING_MAX or (self.journal_full and not is_change):
            self._rows_dropped += 1
            self._health = replace(self._health, decisions_lost=self._health.decisions_lost + 1)
            return
        if self._rows_dropped:
            self._put_row(row_of(_lost(self._rows_dropped, row.utc_ms)))
            self._rows_dropped = 0
        self._put_row(row)

    async def close(self) -> None:
        """Ends the thread after all that was given before."""
        self._inbox.put(None)
        await asyncio.shield(self._ended)

    def _put_row(self, row: JournalRow) -> None:
        self._rows_waiting += 1
        self._inbox.put(row)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """From the thread to the loop; a loop that was closed without closing the state has nobody left to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _finished(self, group: Group) -> None:
        self._requests_waiting -= len(group.outcomes)
        self._rows_waiting -= group.rows_written + group.rows_lost
        if not group.failure:
            self._journal_entries = group.journal_entries
        self._health = Health(
            failure=group.failure or group.trouble,
            groups_failed=self._health.groups_failed + bool(group.failure),
            decisions_lost=self._health.decisions_lost + group.rows_lost,
        )
        self.condition.be(self._health.failure)
        for request, result in group.outcomes:
            _answer(request, result)


def _lost(count: int, utc_ms: int) -> Decision:
    """What tells of decisions that were dropped before it."""
    return Decision(Verdict.LOST, utc_ms=utc_ms, detail="decisions that could not be stored", count=count)


def _answer(request: Request, result: object) -> None:
    if isinstance(result, Exception):
        if not request.answer.done():
            request.answer.set_exception(result)
        return
    if not request.answer.done():
        request.answer.set_result(result)
    if request.committed is not None:
        request.committed()
