"""The sending half of a session: the peer's window, delivery ids, and deliveries the peer has not settled."""

from collections import deque
from collections.abc import Sequence

from isthmus.wire.amqp import events
from isthmus.wire.amqp.deliveries import SERIAL_MASK, Unsettled, allowance
from isthmus.wire.amqp.errors import MisuseError
from isthmus.wire.amqp.limits import TAG_BYTES_MAX, UNSETTLED_OUT_MAX
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.outlet import Outlet
from isthmus.wire.amqp.performatives import Disposition
from isthmus.wire.amqp.states import Received
from isthmus.wire.amqp.transfer import (
    FRAME_HEADER,
    continuation_head,
    settled_frames,
    transfer_flags,
    transfer_head,
)

FIRST_TRANSFER_ID = 1
"""Our first transfer id, as IoT Hub's."""

_HEAD_BYTES_MAX = 80
"""More than a transfer's performative takes: 11 constructors, three uints, a tag of 32 bytes, list and frame header."""


class SentDelivery:
    """A delivery the peer has not settled; `judged` once it told an outcome."""

    __slots__ = ("judged", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.judged = False


class Outgoing:
    """Makes transfer frames within the peer's window; the rest of a delivery waits when it closes in the middle."""

    __slots__ = (
        "_blocked",
        "_blocked_link",
        "_channel",
        "_next_delivery_id",
        "_outlet",
        "_unsettled",
        "_window",
        "next_transfer_id",
    )

    def __init__(self, outlet: Outlet, channel: int) -> None:
        self._outlet = outlet
        self._channel = channel
        self._window = 0
        self._next_delivery_id = 0
        self._blocked: deque[bytes] = deque()
        self._blocked_link: Link | None = None
        self.next_transfer_id = FIRST_TRANSFER_ID
        self._unsettled: Unsettled[SentDelivery] = Unsettled()

    @property
    def window(self) -> int:
        """How many deliveries may begin now: none while the rest of one waits, or too many are unsettled."""
        return 0 if self._blocked else min(self._window, UNSETTLED_OUT_MAX - len(self._unsettled))

    def peer_window(self, next_incoming_id: int | None, incoming_window: int) -> None:
        """What the peer announces; sends what was blocked as far as that goes."""
        # [AMQP-2.5.6] a peer that has not seen our begin cannot name our first id.
        seen = FIRST_TRANSFER_ID if next_incoming_id is None else next_incoming_id
        self._window = allowance(incoming_window, sent=self.next_transfer_id, seen=seen)
        self._unblock()

    def send(self, link: Link, parts: Sequence[bytes], *, message_format: int, settled: bool, tag: bytes | None) -> int:
        """One delivery; returns its id. Raises `MisuseError` beyond credit or window, or for a bad tag."""
        if link.sendable <= 0:
            raise MisuseError("no credit, or the window is closed")
        if tag is not None and not 0 < len(tag) <= TAG_BYTES_MAX:
            raise MisuseError("a tag has 1 to 32 bytes")
        return self._deliver(link, parts, message_format=message_format, settled=settled, tag=tag)

    def send_settled(self, link: Link, messages: Sequence[bytes], message_format: int) -> int:
        """Settled deliveries as far as `Link.sendable` goes; returns how many.

        Where large ones use the window up, the frames of the others wait: what could be sent is taken.
        """
        room = min(link.sendable, len(messages))
        fits = self._outlet.frame_bytes - _HEAD_BYTES_MAX
        taken = 0
        while taken < room:
            end, run = min(room, taken + self.window), taken
            while run < end and len(messages[run]) <= fits:
                run += 1
            if run > taken:
                self._send_run(link, messages[taken:run], message_format)
                taken = run
            else:
                self._deliver(link, (messages[taken],), message_format=message_format, settled=True, tag=None)
                taken += 1
        return taken

    def judged(self, disposition: Disposition) -> None:
        """The peer tells the state of deliveries; an outcome is told to the application once, and settling is."""
        outcome = disposition.state is not None and not isinstance(disposition.state, Received)
        for delivery_id in self._unsettled.between(disposition.first, disposition.last):
            delivery = self._unsettled[delivery_id]
            if disposition.settled:
                self.settle(delivery_id)
            elif delivery.judged or not outcome:
                # [AMQP-2.6.12] an outcome is terminal: it does not change, and less than one says nothing to us.
                continue
            delivery.judged = True
            event = events.Disposition(delivery.link, delivery_id, disposition.state, disposition.settled)
            self._outlet.events.append(event)

    def settle(self, delivery_id: int) -> bool:
        """Takes a delivery out of the books; False when it is not in them."""
        delivery = self._unsettled.pop(delivery_id, None)
        if delivery is None:
            return False
        delivery.link.unsettled.discard(delivery_id)
        return True

    def forget(self, link: Link) -> None:
        """A link is over: its deliveries are forgotten, the rest of an unfinished one is not sent."""
        if self._blocked_link is link:
            self._blocked.clear()
            self._blocked_link = None
        for delivery_id in list(link.unsettled):
            self.settle(delivery_id)

    def _deliver(
        self, link: Link, parts: Sequence[bytes], *, message_format: int, settled: bool, tag: bytes | None
    ) -> int:
        delivery_id = self._next_delivery_id
        self._next_delivery_id = (delivery_id + 1) & SERIAL_MASK
        _spend(link, 1)
        if not settled:
            self._unsettled[delivery_id] = SentDelivery(link)
            link.unsettled.add(delivery_id)
        flags = transfer_flags(settled=settled, more=False)
        head = transfer_head(link.handle, delivery_id, tag, message_format=message_format, flags=flags)
        size = FRAME_HEADER.size + len(head) + sum(map(len, parts))
        if size <= self._outlet.frame_bytes and self.window > 0:
            self._count(1)
            self._outlet.chunks.append(FRAME_HEADER.pack(size, 2, 0, self._channel) + head)
            self._outlet.chunks.extend(parts)
            return delivery_id
        flags = transfer_flags(settled=settled, more=size > self._outlet.frame_bytes)
        head = transfer_head(link.handle, delivery_id, tag, message_format=message_format, flags=flags)
        self._send_frames(link, head, b"".join(parts), settled=settled)
        return delivery_id

    def _send_run(self, link: Link, messages: Sequence[bytes], message_format: int) -> None:
        """Settled deliveries that are known to fit one frame each, and credit and window."""
        self._outlet.chunks.extend(
            settled_frames(
                messages,
                channel=self._channel,
                handle=link.handle,
                delivery_id=self._next_delivery_id,
                message_format=message_format,
            )
        )
        count = len(messages)
        self._next_delivery_id = (self._next_delivery_id + count) & SERIAL_MASK
        _spend(link, count)
        self._count(count)

    def _send_frames(self, link: Link, head: bytes, payload: bytes, *, settled: bool) -> None:
        """A delivery of one or several frames; those beyond the window wait."""
        room = self._outlet.frame_bytes - _HEAD_BYTES_MAX
        last = max(0, len(payload) - 1) // room
        for index in range(last + 1):
            if index:
                flags = transfer_flags(settled=settled, more=index < last)
                head = continuation_head(link.handle, flags=flags)
            part = payload[index * room : (index + 1) * room]
            self._blocked.append(FRAME_HEADER.pack(8 + len(head) + len(part), 2, 0, self._channel) + head + part)
        self._blocked_link = link
        self._unblock()

    def _unblock(self) -> None:
        while self._blocked and self._window > 0:
            self._outlet.chunks.append(self._blocked.popleft())
            self._count(1)

    def _count(self, frames: int) -> None:
        self.next_transfer_id = (self.next_transfer_id + frames) & SERIAL_MASK
        self._window -= frames


def _spend(link: Link, count: int) -> None:
    link.credit -= count
    link.delivery_count = (link.delivery_count + count) & SERIAL_MASK
