"""A uvloop that notices when somebody held it: a callback that computes or waits instead of returning.

A timer beats while the loop runs. Between two beats the loop's thread may use `CPU_SECONDS_MAX` of processor time, and
`WALL_SECONDS_MAX` may pass. The first bound is the sharp one, because a machine that is busy with other work moves only
the second.
"""

import time
from typing import Self

import uvloop

BEAT_SECONDS = 0.2
CPU_SECONDS_MAX = 2.0
"""Pure work of one turn of the loop; what the server does in one turn takes milliseconds, and a full collection of
garbage more than a second in a process that has run hundreds of tests."""
WALL_SECONDS_MAX = 5.0
"""A blocking wait in one turn of the loop; far above what a busy machine's scheduler does to a thread."""


class Stalls:
    """What the loops of the current test were seen doing; `worst` is empty when nothing was too long."""

    def __init__(self) -> None:
        self.worst = ""

    def forget(self) -> None:
        self.worst = ""

    def judge(self, *, cpu_seconds: float, wall_seconds: float) -> None:
        if cpu_seconds > CPU_SECONDS_MAX + BEAT_SECONDS or wall_seconds > WALL_SECONDS_MAX + BEAT_SECONDS:
            self.worst = f"{wall_seconds:.1f} s passed and {cpu_seconds:.1f} s were computed in one turn"


class WatchedLoop(uvloop.Loop):
    """uvloop with a heartbeat."""

    stalls: Stalls
    _cpu: float
    _wall: float

    @classmethod
    def reporting_to(cls, stalls: Stalls) -> Self:
        loop = cls()
        loop.stalls = stalls
        return loop

    def run_forever(self) -> None:
        self._mark()
        beat = self.call_later(BEAT_SECONDS, self._beat)
        try:
            super().run_forever()
        finally:
            self._judge()
            beat.cancel()

    def _beat(self) -> None:
        self._judge()
        self._mark()
        self.call_later(BEAT_SECONDS, self._beat)

    def _mark(self) -> None:
        self._cpu = time.thread_time()
        self._wall = time.monotonic()

    def _judge(self) -> None:
        self.stalls.judge(
            cpu_seconds=time.thread_time() - self._cpu,
            wall_seconds=time.monotonic() - self._wall,
        )
