"""What connection and sessions share: bytes to be sent, events to be told, and the connection's counters."""

from collections import deque

from isthmus.wire.amqp.deliveries import Settlements
from isthmus.wire.amqp.events import Event
from isthmus.wire.amqp.limits import FRAME_BYTES_MIN
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import DeliveryState
from isthmus.wire.amqp.transfer import FRAME_HEADER


class Outlet:
    """Collects what goes out; `frame_bytes` is the largest frame the peer takes, the counters are those of `limits`.

    `delayed` holds detaches for a later time, as time and frame.
    """

    __slots__ = (
        "_settled",
        "chunks",
        "delayed",
        "events",
        "frame_bytes",
        "links",
        "partial_bytes",
        "unsettled",
        "unsettled_bytes",
    )

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.events: deque[Event] = deque()
        self.delayed: dict[Link, tuple[float, bytes]] = {}
        self.frame_bytes = FRAME_BYTES_MIN
        self.links = 0
        self.partial_bytes = 0
        self.unsettled = 0
        self.unsettled_bytes = 0
        self._settled: dict[int, Settlements] = {}

    def write(self, channel: int, performative: bytes, *, sasl: bool = False) -> None:
        """Appends a frame."""
        self.chunks.append(frame(channel, performative, sasl=sasl))

    def settle(self, channel: int, delivery_id: int, state: DeliveryState, *, receiver: bool) -> None:
        """Notes that a delivery of a session was settled; its disposition goes out with the next bytes taken."""
        settlements = self._settled.get(channel)
        if settlements is None:
            settlements = self._settled[channel] = Settlements()
        settlements.add(delivery_id, state, receiver=receiver)

    def flush(self, channel: int) -> None:
        """Appends the dispositions of a session now, before a frame that must not overtake them."""
        settlements = self._settled.pop(channel, None)
        if settlements is not None:
            for disposition in settlements.take():
                self.write(channel, disposition.encode())

    def take(self) -> bytes:
        """All bytes appended since the last call."""
        for channel in list(self._settled):
            self.flush(channel)
        data = b"".join(self.chunks)
        self.chunks.clear()
        return data


def frame(channel: int, performative: bytes, *, sasl: bool = False) -> bytes:
    """A frame with no extended header (AMQP 1.0 §2.3.1)."""
    return FRAME_HEADER.pack(FRAME_HEADER.size + len(performative), 2, 1 if sasl else 0, channel) + performative
