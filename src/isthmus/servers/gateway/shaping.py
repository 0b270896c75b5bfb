"""How a connection is slowed down: a token bucket, and the reasons for which reading may pause."""

from typing import Final, Protocol


class TokenBucket:
    """Lets `rate` messages pass per second, and as many at once after a second of silence.

    It never refuses: what was taken too early is owed, and the caller is told how long to wait.
    """

    __slots__ = ("_rate", "_since", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._since = now

    def take(self, count: int, now: float) -> float:
        """Takes `count` tokens at `now`, seconds on a monotonic clock; returns the seconds to wait, 0 for none."""
        self._tokens = min(self._rate, self._tokens + (now - self._since) * self._rate) - count
        self._since = now
        return -self._tokens / self._rate if self._tokens < 0 else 0.0


class Pause:
    """Why a connection is not read; each reason begins and ends by itself.

    Bits and no `IntFlag`, whose operators cost more than all else that is looked at behind a read.
    """

    DECIDING: Final = 1
    IN_FLIGHT: Final = 2
    BACKLOG: Final = 4
    RATE: Final = 8
    REQUESTS: Final = 16
    CONGESTED: Final = 32


class Pausable(Protocol):
    """What can stop reading."""

    def pause_reading(self) -> None:
        """Delivers nothing more for now."""

    def resume_reading(self) -> None:
        """Delivers again."""


class Reading:
    """Keeps a connection unread while there is at least one reason."""

    __slots__ = ("_connection", "reasons")

    def __init__(self, connection: Pausable) -> None:
        self._connection = connection
        self.reasons = 0

    def pause(self, reason: int) -> None:
        """Adds a reason. Idempotent."""
        if not self.reasons:
            self._connection.pause_reading()
        self.reasons |= reason

    def resume(self, reason: int) -> None:
        """Takes a reason away. Idempotent."""
        if self.reasons & reason:
            self.reasons &= ~reason
            if not self.reasons:
                self._connection.resume_reading()
