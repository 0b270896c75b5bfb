"""Books of a session's deliveries: what was sent, what was received, what is about to be settled (AMQP 1.0 §2.6.12)."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from isthmus.wire.amqp.performatives import Disposition
from isthmus.wire.amqp.states import DeliveryState

SERIAL_MASK = 0xFFFFFFFF
"""Delivery and transfer ids count in 32 bits and wrap (RFC 1982)."""

Entry = TypeVar("Entry")


def allowance(granted: int, *, sent: int, seen: int) -> int:
    """What is left of a window or credit `granted` by a peer that had `seen` so much when we have `sent` so much.

    Both count on the circle of serial numbers; a peer that claims to have seen more than was sent is taken to have seen
    all of it.
    """
    underway = (sent - seen) & SERIAL_MASK
    return granted if underway >= 1 << 31 else max(0, granted - underway)


class Unsettled(dict[int, Entry], Generic[Entry]):
    """Unsettled deliveries by id."""

    def between(self, first: int, last: int) -> list[int]:
        """Ids from `first` to `last`; costs no more than there are unsettled deliveries, however wide the range."""
        span = (last - first) & SERIAL_MASK
        if span >= len(self):
            return [number for number in self if (number - first) & SERIAL_MASK <= span]
        wanted = ((first + step) & SERIAL_MASK for step in range(span + 1))
        return [number for number in wanted if number in self]


class Settlements:
    """Settled deliveries not yet told to the peer; neighbours with the same state become one range."""

    __slots__ = ("_first", "_last", "_ranges", "_receiver", "_state")

    def __init__(self) -> None:
        self._ranges: list[Disposition] = []
        self._first = -1
        self._last = -1
        self._receiver = True
        self._state: DeliveryState = None

    def add(self, delivery_id: int, state: DeliveryState, *, receiver: bool) -> None:
        """Notes that one of us, as `receiver` or sender, settled a delivery."""
        follows = self._first >= 0 and delivery_id == self._last + 1  # never over the wrap, where peers stumble
        if follows and receiver is self._receiver and state == self._state:
            self._last = delivery_id
            return
        self._close()
        self._first = self._last = delivery_id
        self._receiver, self._state = receiver, state

    def take(self) -> Iterator[Disposition]:
        """What to tell, in order; forgets it."""
        self._close()
        ranges, self._ranges = self._ranges, []
        return iter(ranges)

    def _close(self) -> None:
        if self._first >= 0:
            self._ranges.append(Disposition(self._receiver, self._first, self._last, True, self._state))
            self._first = -1
