"""How a connection is slowed down: the reasons for which reading may pause."""

from typing import Final, Protocol


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
    HUB_RATE: Final = 64


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
