"""The receiving half of a session: deliveries put together, counted against limits, and kept until settled."""

from typing import NamedTuple

from isthmus.wire.amqp import events
from isthmus.wire.amqp.deliveries import SERIAL_MASK, Unsettled
from isthmus.wire.amqp.errors import Condition, PeerError, SessionError
from isthmus.wire.amqp.limits import HELD_DELIVERIES_MAX, PARTIAL_BYTES_MAX
from isthmus.wire.amqp.link import Link, LinkState, Partial
from isthmus.wire.amqp.outlet import Outlet
from isthmus.wire.amqp.states import Error, Rejected
from isthmus.wire.amqp.transfer import TransferFields


class ReceivedDelivery(NamedTuple):
    """A delivery the application has not settled."""

    link: Link
    size: int


class Incoming:
    """Takes transfers and makes events of them; too large ones are rejected here."""

    __slots__ = ("_channel", "_held", "_outlet", "_unsettled")

    def __init__(self, outlet: Outlet, channel: int) -> None:
        self._outlet = outlet
        self._channel = channel
        self._unsettled: Unsettled[ReceivedDelivery] = Unsettled()
        self._held: dict[Link, list[events.Transfer]] = {}

    def take(self, link: Link, fields: TransferFields, payload: bytes) -> None:
        """A transfer frame of a link that is not over; raises `SessionError` or `PeerError`."""
        if link.partial is not None or fields.more or fields.aborted:
            self._continue(link, fields, payload)
            return
        if fields.delivery_id is None:
            raise SessionError(Condition.INVALID_FIELD, "a delivery has an id")
        if len(payload) > link.max_message_size:
            self._refuse(link, fields.delivery_id, size=len(payload), settled=fields.settled)
            return
        tag, message_format = fields.tag or b"", fields.message_format or 0
        self._deliver(events.Transfer(link, fields.delivery_id, tag, message_format, payload, fields.settled))

    def settle(self, delivery_id: int) -> bool:
        """Takes a delivery out of the books; False when it is not in them."""
        delivery = self._unsettled.pop(delivery_id, None)
        if delivery is None:
            return False
        delivery.link.unsettled.discard(delivery_id)
        self._outlet.unsettled -= 1
        self._outlet.unsettled_bytes -= delivery.size
        return True

    def settled_by_peer(self, first: int, last: int) -> None:
        """The sender forgets deliveries on its own."""
        for delivery_id in self._unsettled.between(first, last):
            self.settle(delivery_id)

    def release(self, link: Link) -> None:
        """The application accepted the link: it hears of what came before."""
        self._outlet.events.extend(self._held.pop(link, ()))

    def forget(self, link: Link) -> None:
        """A link is over: so are its deliveries."""
        self._drop_partial(link)
        self._held.pop(link, None)
        for delivery_id in list(link.unsettled):
            self.settle(delivery_id)

    def _continue(self, link: Link, fields: TransferFields, payload: bytes) -> None:
        partial = link.partial
        if partial is None:
            if fields.delivery_id is None:
                raise SessionError(Condition.INVALID_FIELD, "a delivery has an id")
            partial = Partial(fields.delivery_id, fields.tag or b"", fields.message_format or 0)
            link.partial = partial
        elif fields.delivery_id not in (None, partial.delivery_id):
            raise SessionError(Condition.NOT_ALLOWED, "a delivery began within another of the same link")
        # [AMQP-2.7.5] settled holds when any frame of the delivery says so.
        partial.settled = partial.settled or fields.settled
        if fields.aborted:
            self._drop_partial(link)
            _count(link)
            return
        self._grow(link, partial, payload)
        if not fields.more:
            self._complete(link, partial)

    def _grow(self, link: Link, partial: Partial, payload: bytes) -> None:
        partial.size += len(payload)
        if partial.refused:
            return
        if partial.size > link.max_message_size:
            self._outlet.partial_bytes -= len(partial.data)
            partial.data.clear()
            partial.refused = True
            return
        partial.data += payload
        self._outlet.partial_bytes += len(payload)
        if self._outlet.partial_bytes > PARTIAL_BYTES_MAX:
            raise PeerError(Condition.RESOURCE_LIMIT_EXCEEDED, "too many bytes of unfinished deliveries")

    def _complete(self, link: Link, partial: Partial) -> None:
        self._drop_partial(link)
        if partial.refused:
            self._refuse(link, partial.delivery_id, size=partial.size, settled=partial.settled)
            return
        payload = bytes(partial.data)
        self._deliver(
            events.Transfer(link, partial.delivery_id, partial.tag, partial.message_format, payload, partial.settled)
        )

    def _drop_partial(self, link: Link) -> None:
        if link.partial is not None:
            self._outlet.partial_bytes -= len(link.partial.data)
            link.partial = None

    def _deliver(self, event: events.Transfer) -> None:
        link = event.link
        _count(link)
        if not event.settled:
            if event.delivery_id in self._unsettled:
                raise SessionError(Condition.NOT_ALLOWED, f"delivery id {event.delivery_id} is in use")
            size = len(event.payload)
            self._unsettled[event.delivery_id] = ReceivedDelivery(link, size)
            link.unsettled.add(event.delivery_id)
            self._outlet.unsettled += 1
            self._outlet.unsettled_bytes += size
        if link.state is LinkState.ATTACHED:
            self._outlet.events.append(event)
        else:
            self._hold(event)

    def _hold(self, event: events.Transfer) -> None:
        held = self._held.setdefault(event.link, [])
        if len(held) < HELD_DELIVERIES_MAX:
            held.append(event)
        else:
            event.link.detach(Error(Condition.TRANSFER_LIMIT_EXCEEDED, "transfers before the attach was answered"))

    def _refuse(self, link: Link, delivery_id: int, *, size: int, settled: bool) -> None:
        # [AMQP-2.7.3] a message above max-message-size is not taken.
        _count(link)
        error = Error(Condition.MESSAGE_SIZE_EXCEEDED, f"{size} bytes are more than {link.max_message_size}")
        self._outlet.events.append(events.DeliveryRefused(link, delivery_id, size))
        if settled:
            link.detach(error)
        else:
            self._outlet.settle(self._channel, delivery_id, Rejected(error), receiver=True)


def _count(link: Link) -> None:
    """A delivery uses up credit; one beyond it is taken all the same, because clients assume credit of their own."""
    link.delivery_count = (link.delivery_count + 1) & SERIAL_MASK
    if link.credit:
        link.credit -= 1
