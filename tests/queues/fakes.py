"""A clock moved by hand, identifiers that count, and a state that fails when told to."""

from collections.abc import Sequence
from itertools import count

from isthmus.backends.memory import MemoryState
from isthmus.base.ids import TrackingId
from isthmus.base.state import Change, OutboxEvent, StateClosed

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


class MovedClock:
    """Stands still until it is moved, or its wall time is set."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._set_by_ms = 0

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return (self.now_ms - self._set_by_ms) / 1000

    def move(self, *, seconds: float) -> None:
        """Lets time pass."""
        self.now_ms += round(seconds * 1000)

    def set_by(self, *, seconds: float) -> None:
        """Sets the wall clock, forward or back; no time passes."""
        self.now_ms += round(seconds * 1000)
        self._set_by_ms += round(seconds * 1000)


class CountedIds:
    """Identifiers that can be foretold."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def uuid(self) -> str:
        return f"{next(self._numbers):08x}-0000-4000-8000-000000000000"

    def key(self) -> str:
        return f"key{next(self._numbers)}"

    def tracking_id(self, utc_ms: int) -> TrackingId:
        return TrackingId(f"tracking{next(self._numbers)}")


class FailingState(MemoryState):
    """Refuses the next `failures` commits, as a disk that is full does."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        if self.failures:
            self.failures -= 1
            raise StateClosed("the disk is full")
        return await super().commit(changes, outbox)
