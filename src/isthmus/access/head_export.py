"""Exports signed heads of the journal regularly, to where this machine cannot change them afterwards.

Theory of operation. `run` looks once in `LOOK_SECONDS` whether a way out is due: so many records were written since
its last head, or so much time has passed and there is anything new. A due way gets the newest head. Writing may take
any time (a file on a network, a log server that is away), so it happens on a thread of its own that nobody has to wait
for longer than `ANSWER_SECONDS_MAX`: while it hangs, that way counts as failing and gets no second thread. A way that
failed is tried again after `RETRY_SECONDS`, with the head that is the newest then: a head seals all records before it,
so none has to be caught up with. Nothing here holds the hub up; `trouble` tells which ways fail, for the health.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from isthmus.access.heads import signed_line
from isthmus.access.journal import Journal
from isthmus.base.clock import Clock

LOOK_SECONDS = 1.0
"""Between two looks at what is due."""

RETRY_SECONDS = 5.0
"""After a head that could not be exported."""

ANSWER_SECONDS_MAX = 10.0
"""How long a way out is waited for before it counts as failing."""


class HeadOutlet(Protocol):
    """A way out for heads."""

    @property
    def name(self) -> str:
        """As health and log name it."""

    def write(self, line: str) -> None:
        """Takes a head, durably where it can; may block, is called on a thread. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often heads go out: after so many records, or so many seconds, whichever comes first."""

    records: int
    interval_seconds: float


@dataclass(slots=True)
class _Way:
    """An outlet, what it has got, and what it is doing."""

    outlet: HeadOutlet
    sequence: int = -1
    written: int = 0
    since: float = 0.0
    trouble: str = ""
    retry_at: float = 0.0
    under_way: "asyncio.Future[None] | None" = None


class HeadExport:
    """Sends heads to all outlets; used on the event loop only."""

    def __init__(
        self, journal: Journal, key: Ed25519PrivateKey, outlets: Sequence[HeadOutlet], clock: Clock, pace: Pace
    ) -> None:
        self._journal = journal
        self._key = key
        self._clock = clock
        self.pace = pace
        self._ways = [_Way(outlet) for outlet in outlets]
        self.exported = 0
        self.failed = 0

    @property
    def trouble(self) -> str:
        """Which outlets do not take heads, and why; empty when all do."""
        return "; ".join(f"{way.outlet.name}: {way.trouble}" for way in self._ways if way.trouble)

    async def run(self) -> None:
        """Exports until it is cancelled."""
        while self._ways:
            await self.step()
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.Event().wait()

    async def step(self) -> None:
        """Exports to whatever is due now."""
        await self._export([way for way in self._ways if self._is_due(way)])

    async def finish(self) -> None:
        """Exports the last head to whatever takes it."""
        await self._export([way for way in self._ways if way.under_way is None])

    def _is_due(self, way: _Way) -> bool:
        now = self._clock.monotonic()
        if way.under_way is not None:
            return way.under_way.done()
        if way.trouble:
            return now >= way.retry_at
        news = self._journal.written - way.written
        never = way.sequence < 0
        return never or news >= self.pace.records or now - way.since >= self.pace.interval_seconds

    async def _export(self, ways: Sequence[_Way]) -> None:
        if not ways:
            return
        written = self._journal.written
        end = (await self._journal.ends()).head
        line = signed_line(end, self._clock.utc_ms(), self._key)
        for way in ways:
            way.under_way = None
            way.since, way.written = self._clock.monotonic(), written
        wanting = [way for way in ways if way.sequence != end.entry_id]
        await asyncio.gather(*(self._send(way, line, end.entry_id) for way in wanting))

    async def _send(self, way: _Way, line: str, sequence: int) -> None:
        done = _on_a_thread(lambda: way.outlet.write(line))
        await asyncio.wait((done,), timeout=ANSWER_SECONDS_MAX)
        if not done.done():
            done.add_done_callback(asyncio.Future.exception)
            way.under_way = done
            self._fail(way, f"no answer within {ANSWER_SECONDS_MAX:.0f} s")
        elif (error := done.exception()) is not None:
            self._fail(way, str(error))
        else:
            way.sequence, way.trouble = sequence, ""
            self.exported += 1

    def _fail(self, way: _Way, trouble: str) -> None:
        self.failed += 1
        way.trouble = trouble
        way.retry_at = self._clock.monotonic() + RETRY_SECONDS


def _on_a_thread(call: Callable[[], None]) -> "asyncio.Future[None]":
    """Runs a call that may never return; the end of the process does not wait for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            call()
        except Exception as error:
            outcome: Exception | None = error
        else:
            outcome = None
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, done, outcome)

    threading.Thread(target=run, name="journal head", daemon=True).start()
    return done


def _settle(done: "asyncio.Future[None]", outcome: Exception | None) -> None:
    if done.cancelled():
        return
    if outcome is None:
        done.set_result(None)
    else:
        done.set_exception(outcome)
