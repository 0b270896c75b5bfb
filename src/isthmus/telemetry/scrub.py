"""Reading logs again and again in the background, so that damage is found before somebody wants what it took.

Theory of operation. A pass reads every segment of every log from the oldest to the one that is active when it begins,
which is read as far as it is durable when the pass comes to it. It reads a slice on a thread, then rests as long as the
rate wants; while a log has work waiting it makes way, but not for ever. Nothing waits for it, nothing is changed, and
what it finds goes the way of what readers find (`Damages`). A segment that retention takes away meanwhile is left at
that.
"""

import asyncio
import logging
from collections.abc import Sequence

from isthmus.base.clock import Clock
from isthmus.telemetry.check import SegmentCheck
from isthmus.telemetry.files import Files
from isthmus.telemetry.frame import NewerFormat
from isthmus.telemetry.log import SegmentLog, ToCheck
from isthmus.telemetry.recovery import carry_at_the_beginning
from isthmus.telemetry.segment import Carry, open_segment
from isthmus.telemetry.tails import read_known

SLICE_BYTES = 64 * 1024
"""Checked in one go: a millisecond at most in which the thread wants the interpreter."""

PASS_SECONDS_MIN = 3_600.0
"""From the beginning of a pass to that of the next: a small log is not read all the time."""

WAY_SECONDS = 0.05
"""How long a slice waits when a log has work waiting."""

WAYS_MAX = 20
"""How often a slice waits, a second in all: a log that is never idle is read slowly, and is read."""

logger = logging.getLogger(__name__)


class Scrub:
    """Reads logs at `bytes_per_second` at most, which is more than 0. On the event loop."""

    def __init__(self, logs: Sequence[SegmentLog], clock: Clock, bytes_per_second: float) -> None:
        self.passes = 0
        self.bytes = 0
        self._logs = logs
        self._clock = clock
        self._rest = 1 / bytes_per_second

    async def run(self) -> None:
        """Makes passes until it is cancelled."""
        while True:
            started = self._clock.monotonic()
            await self.once()
            await asyncio.sleep(max(0.0, started + PASS_SECONDS_MIN - self._clock.monotonic()))

    async def once(self) -> None:
        """Makes one pass. What cannot be read is logged and passed over."""
        for log in self._logs:
            behind, before, end = -1, None, log.end
            while (segment := log.next_to_check(behind)) is not None and segment.base < end:
                behind = segment.base
                try:
                    before = await self._segment(log, segment, before)
                except FileNotFoundError:
                    before = None
                except (OSError, NewerFormat) as error:
                    before = None
                    logger.error("log cannot be read", extra={"segment": segment.base, "reason": str(error)})
        self.passes += 1

    async def _segment(self, log: SegmentLog, segment: ToCheck, before: Carry | None) -> Carry:
        check = await asyncio.to_thread(_begin, log.files, segment, before)
        try:
            more, done = True, 0
            while more:
                await self._make_way()
                more = await asyncio.to_thread(check.step, SLICE_BYTES)
                size = check.position - segment.base - done
                self.bytes += size
                done += size
                await asyncio.sleep(size * self._rest)
        finally:
            check.close()
        reached = segment.reached
        if reached is None:
            reached = (await asyncio.to_thread(open_segment, log.files, segment.following)).reached()
        for damage in check.damages(reached):
            log.damages.add(damage)
        return check.carry()

    async def _make_way(self) -> None:
        for _ in range(WAYS_MAX):
            if not any(log.backlog_bytes for log in self._logs):
                return
            await asyncio.sleep(WAY_SECONDS)


def _begin(files: Files, segment: ToCheck, before: Carry | None) -> SegmentCheck:
    known = before or carry_at_the_beginning(segment.base, read_known(files))
    return SegmentCheck(files, segment.base, segment.end, known)
