"""The relay of the outbox: events that were committed with a state change become records, in order, once.

Theory of operation. One task. It reads rows in the order of their ids, appends those that a route takes, waits until
the last one is durable, and only then has the rows forgotten. Dying anywhere between, it meets the same rows again; the
log itself tells which of them it has (`Log.last_outbox_id`, by stream), because what is durable is always a prefix of
what was appended. Rows that no route takes leave no trace in the log and are simply judged again. When the log fails,
the relay pauses and begins again at the first row left: events wait, and are not lost.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.base.state import OutboxRow, State
from isthmus.resources.hub import Hub
from isthmus.routing.accept import Accept
from isthmus.routing.appends import Appends
from isthmus.telemetry.message import decode_state_event
from isthmus.telemetry.ports import Log

ROWS_MAX = 500
"""Rows relayed at a time: one commit's worth, some MiB with the largest twins."""

PAUSE_SECONDS = 1.0
"""Before the next try when the log has failed: long enough for a disk to be freed, short enough for readers."""

logger = logging.getLogger(__name__)


class OutboxRelay:
    """Moves outbox rows to the log. `run` is the task; `drain` moves what is there now."""

    def __init__(
        self,
        state: State,
        log: Log,
        accept: Accept,
        hub_by_number: Callable[[HubId], Hub | None],
        clock: Clock,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._state = state
        self._log = log
        self._accept = accept
        self._hub_by_number = hub_by_number
        self._clock = clock
        self._pause = pause
        self._wake = asyncio.Event()
        state.on_outbox(self._wake.set)
        self.relayed = 0
        self.unreadable = 0

    async def run(self) -> None:
        """Relays until cancelled; cancelling leaves rows that the next run finds. Raises what the state raises."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.drain()

    async def drain(self) -> None:
        """Relays until no row is left, however often the log fails meanwhile."""
        while rows := await self._state.outbox(after=0, limit=ROWS_MAX):
            trouble = await self._relay(rows)
            if trouble:
                logger.error("outbox relay failed", extra={"reason": trouble, "row_id": rows[0].row_id})
                await self._pause(PAUSE_SECONDS)
            else:
                await self._state.outbox_done(rows[-1].row_id)

    async def _relay(self, rows: Sequence[OutboxRow]) -> str:
        """Appends rows and waits for them; answers what went wrong, or nothing."""
        group = Appends()
        try:
            for row in rows:
                if row.row_id > self._log.last_outbox_id(row.hub):
                    await self._append(row, group)
        except HubError as error:
            group.reason = error.message
        await group.settled()
        self.relayed += group.durable
        return group.reason

    async def _append(self, row: OutboxRow, group: Appends) -> None:
        hub = self._hub_by_number(row.hub)
        if hub is None:  # deleted since, and its events with it
            return
        try:
            event = decode_state_event(row.body)
        except msgspec.DecodeError as error:
            self.unreadable += 1
            logger.error("outbox row is unreadable", extra={"row_id": row.row_id, "reason": str(error)})
            return
        if await self._accept.state_event(hub, event, row.row_id, self._clock.utc_ms(), group, row.row_id):
            group.appended += 1
