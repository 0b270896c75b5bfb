"""A session: its windows, its links' handles and its deliveries (AMQP 1.0 §2.5, §2.6).

Theory of operation. A session exists from begin to end on one pair of channels. The connection calls the `on_…` methods
with what arrived; links call the others for the application. Links are booked by the peer's handle, by ours and by
name; deliveries are booked in `Incoming` and `Outgoing`.

Windows. As receiver we announce `INCOMING_WINDOW` transfers and announce it anew after `WINDOW_REFRESH` of them, so a
peer that keeps to it never stops for it: credit and the paused reader are what holds a peer back. As sender we obey the
peer's window: when it closes in the middle of a delivery the rest waits, `sendable` of every link of the session is 0,
and the flow that opens the window sends the rest and gives each link with credit a `CreditGranted`.

Settlement. `settle` takes a delivery out of the books at once; the disposition is written with the next bytes taken or
before a frame that would overtake it (detach, end, close).
"""

from collections.abc import Sequence
from dataclasses import replace

from isthmus.wire.amqp import events
from isthmus.wire.amqp.deliveries import SERIAL_MASK, allowance
from isthmus.wire.amqp.errors import Condition, MisuseError, PeerError, SessionError
from isthmus.wire.amqp.incoming import Incoming
from isthmus.wire.amqp.limits import (
    HANDLE_MAX,
    INCOMING_WINDOW,
    LINKS_MAX,
    NAME_CHARACTERS_MAX,
    OUTGOING_WINDOW,
    WINDOW_REFRESH,
)
from isthmus.wire.amqp.link import Link, LinkRole, LinkState
from isthmus.wire.amqp.outgoing import Outgoing
from isthmus.wire.amqp.outlet import Outlet, frame
from isthmus.wire.amqp.performatives import Attach, Begin, Detach, Disposition, End, Flow
from isthmus.wire.amqp.states import Accepted, DeliveryState, Error, Rejected
from isthmus.wire.amqp.transfer import read_transfer


class Session:
    """One session; `channel` is our number for it, `peer_channel` the peer's, -1 until its begin."""

    def __init__(self, outlet: Outlet, channel: int) -> None:
        self.channel = channel
        self.peer_channel = -1
        self._outlet = outlet
        self._handle_max = HANDLE_MAX
        self._peer_links: dict[int, Link] = {}
        self._links: dict[int, Link] = {}
        self._names: dict[tuple[str, LinkRole], Link] = {}
        self._outgoing = Outgoing(outlet, channel)
        self._incoming = Incoming(outlet, channel)
        self._next_incoming_id = 0
        self._window_used = 0

    # Begin and end.

    def begin(self) -> None:
        """Sends our begin, in answer to the peer's when that came."""
        # [AMQP-2.5.1] the answer names the channel of the peer's begin.
        answered = self.peer_channel if self.peer_channel >= 0 else None
        begin = Begin(answered, self._outgoing.next_transfer_id, INCOMING_WINDOW, OUTGOING_WINDOW, HANDLE_MAX)
        self.write(begin.encode())

    def on_begin(self, peer_channel: int, begin: Begin) -> None:
        """Takes the peer's windows."""
        self.peer_channel = peer_channel
        self._next_incoming_id = begin.next_outgoing_id
        self._outgoing.peer_window(None, begin.incoming_window)
        self._handle_max = min(HANDLE_MAX, begin.handle_max)

    def end(self, error: Error | None) -> None:
        """Sends our end; the session is over for the application."""
        self.flush()
        self.write(End(error).encode())
        self.over(error)

    def over(self, error: Error | None) -> None:
        """Tells the application that links and session are no more; nothing is sent."""
        for link in list(self._links.values()):
            self._gone(link, error)
        self._outlet.events.append(events.SessionEnded(self.channel, error))

    def flush(self) -> None:
        """Writes the dispositions of what was settled."""
        self._outlet.flush(self.channel)

    # What the peer sends.

    def on_attach(self, attach: Attach) -> None:
        """A new link of the peer, or its answer to one of ours."""
        role = LinkRole.SENDER if attach.receiver else LinkRole.RECEIVER
        # [AMQP-2.7.2] a handle above handle-max is a framing error.
        if attach.handle > HANDLE_MAX or len(attach.name) > NAME_CHARACTERS_MAX:
            raise PeerError(Condition.FRAMING_ERROR, "handle or name of a link beyond its limit")
        if attach.handle in self._peer_links:
            raise SessionError(Condition.HANDLE_IN_USE, f"handle {attach.handle} is in use")
        known = self._names.get((attach.name, role))
        if known is not None and known.state is LinkState.PROPOSED:
            self._answered(known, attach)
            return
        if known is not None:
            # [AMQP-2.6.1] a name is in use once per direction; the newer link has it.
            known.detach(Error(Condition.STOLEN, "a new link of the same name was attached"))
        self._requested(attach, role)

    def on_flow(self, flow: Flow) -> None:
        """Windows, and a link's credit; one for a link that is no more is only about windows."""
        was_open = self.window > 0
        self._next_incoming_id = flow.next_outgoing_id
        self._outgoing.peer_window(flow.next_incoming_id, flow.incoming_window)
        link = None if flow.handle is None else self._peer_links.get(flow.handle)
        if link is not None:
            self._link_flow(link, flow)
        self._opened_again(was_open, told=link)
        if flow.echo:
            self.send_flow(link)

    def on_transfer(self, data: bytes, position: int, end: int) -> None:
        """A message or a part of one; `position` is behind the descriptor."""
        fields = read_transfer(data, position, end)
        self._next_incoming_id = (self._next_incoming_id + 1) & SERIAL_MASK
        self._window_used += 1
        link = self._peer_links.get(fields.handle)
        if link is None or link.role is not LinkRole.RECEIVER:
            raise SessionError(Condition.UNATTACHED_HANDLE, f"no link receives on handle {fields.handle}")
        if link.state is LinkState.ATTACHED or link.state is LinkState.REQUESTED:
            self._incoming.take(link, fields, data[fields.payload_start : end])
        if self._window_used >= WINDOW_REFRESH:
            self.send_flow(link)

    def on_disposition(self, disposition: Disposition) -> None:
        """States of deliveries: of ours when the peer is the receiver, else the sender settles on its own."""
        if not disposition.receiver:
            if disposition.settled:
                self._incoming.settled_by_peer(disposition.first, disposition.last)
            return
        was_open = self.window > 0
        self._outgoing.judged(disposition)
        self._opened_again(was_open)

    def on_detach(self, detach: Detach) -> None:
        """The peer leaves a link, or confirms that we did; an unknown handle is ignored."""
        link = self._peer_links.get(detach.handle)
        if link is None:
            return
        delayed = self._outlet.delayed.get(link)
        if delayed is not None:
            self._outlet.chunks.append(delayed[1])
        elif link.state in (LinkState.REQUESTED, LinkState.ATTACHED):
            self._answer_without_ends(link)
            self.flush()
            # [AMQP-2.6.6] a detach is answered in kind.
            self.write(Detach(link.handle, detach.closed).encode())
        self._gone(link, detach.error)

    # What links ask for (see `link.Owner`).

    @property
    def window(self) -> int:
        """How many deliveries may begin now."""
        return self._outgoing.window

    def write(self, performative: bytes) -> None:
        """Sends a frame on our channel."""
        self._outlet.write(self.channel, performative)

    def accepted(self, link: Link) -> None:
        """Gives the application what the peer had pipelined."""
        self._incoming.release(link)
        if link.role is LinkRole.SENDER and (link.credit or link.drain):
            self._outlet.events.append(events.CreditGranted(link, link.credit, link.drain))

    def refuse(self, link: Link, error: Error, detach_at: float) -> None:
        """Answers with an attach without ends, then detaches, at once or at a given time."""
        self._answer_without_ends(link)
        detach = Detach(link.handle, True, error).encode()
        if detach_at:
            self._outlet.delayed[link] = (detach_at, frame(self.channel, detach))
        else:
            self.write(detach)
        self._leave(link)

    def detach(self, link: Link, error: Error | None) -> None:
        """Detaches for good."""
        self._answer_without_ends(link)
        self.flush()
        self.write(Detach(link.handle, True, error).encode())
        self._leave(link)
        self._outlet.events.append(events.LinkDetached(link, error))

    def send_flow(self, link: Link | None, *, drain: bool = False, echo: bool = False) -> None:
        """Announces our windows, and of a link delivery count and credit, always both."""
        self._window_used = 0
        windows = (self._next_incoming_id, INCOMING_WINDOW, self._outgoing.next_transfer_id, OUTGOING_WINDOW)
        if link is None or link.state is not LinkState.ATTACHED:
            self.write(Flow(*windows, echo=echo).encode())
        else:
            self.write(Flow(*windows, link.handle, link.delivery_count, link.credit, 0, drain, echo).encode())

    def send(self, link: Link, parts: Sequence[bytes], *, message_format: int, settled: bool, tag: bytes | None) -> int:
        """See `Outgoing.send`."""
        return self._outgoing.send(link, parts, message_format=message_format, settled=settled, tag=tag)

    def send_settled(self, link: Link, messages: Sequence[bytes], message_format: int) -> int:
        """See `Outgoing.send_settled`."""
        return self._outgoing.send_settled(link, messages, message_format)

    def settle(self, link: Link, delivery_id: int, state: DeliveryState) -> None:
        """Settles a delivery that is in the books."""
        if link.role is LinkRole.SENDER:
            was_open = self.window > 0
            if self._outgoing.settle(delivery_id):
                self._outlet.settle(self.channel, delivery_id, state, receiver=False)
                self._opened_again(was_open)
            return
        # Clients wait for ever for the other outcomes, and read into the error of a rejection.
        if not isinstance(state, Accepted) and not (isinstance(state, Rejected) and state.error):
            raise MisuseError("a received delivery is accepted, or rejected with an error")
        if self._incoming.settle(delivery_id):
            self._outlet.settle(self.channel, delivery_id, state, receiver=True)

    # Client half.

    def attach(self, attach: Attach, role: LinkRole) -> Link:
        """Proposes a link; the attach's handle is replaced by a free one."""
        link = self._new_link(attach.name, role, LinkState.PROPOSED, near=len(self._links))
        link.max_message_size = attach.max_message_size or link.max_message_size
        self.write(replace(attach, handle=link.handle, receiver=role is LinkRole.RECEIVER).encode())
        return link

    # Below.

    def _requested(self, attach: Attach, role: LinkRole) -> None:
        link = self._new_link(attach.name, role, LinkState.REQUESTED, near=attach.handle)
        self._take_ends(link, attach)
        if self._outlet.links > 2 * LINKS_MAX:
            raise PeerError(Condition.RESOURCE_LIMIT_EXCEEDED, "too many links, refused ones included")
        if self._outlet.links > LINKS_MAX:
            self.refuse(link, Error(Condition.RESOURCE_LIMIT_EXCEEDED, "too many links"), 0.0)
        else:
            self._outlet.events.append(events.LinkAttached(link))

    def _answered(self, link: Link, attach: Attach) -> None:
        self._take_ends(link, attach)
        link.state = LinkState.ATTACHED
        self._outlet.events.append(events.LinkAttached(link))

    def _new_link(self, name: str, role: LinkRole, state: LinkState, *, near: int) -> Link:
        handle = near
        if handle in self._links or handle > self._handle_max:
            handle = next(number for number in range(len(self._links) + 1) if number not in self._links)
        if handle > self._handle_max:
            raise SessionError(Condition.RESOURCE_LIMIT_EXCEEDED, "more links than the peer's handle-max allows")
        link = Link(self, name, role, handle=handle, state=state)
        self._links[handle] = self._names[(name, role)] = link
        self._outlet.links += 1
        return link

    def _take_ends(self, link: Link, attach: Attach) -> None:
        link.peer_handle = attach.handle
        self._peer_links[attach.handle] = link
        link.source, link.target = attach.source, attach.target
        link.properties = attach.properties or {}
        link.desired_capabilities = attach.desired_capabilities
        link.offered_capabilities = attach.offered_capabilities
        link.sender_settle_mode = attach.sender_settle_mode
        link.receiver_settle_mode = attach.receiver_settle_mode
        link.initial_delivery_count = attach.initial_delivery_count or 0
        link.peer_max_message_size = attach.max_message_size or 0
        if link.role is LinkRole.RECEIVER:
            link.delivery_count = link.initial_delivery_count

    def _link_flow(self, link: Link, flow: Flow) -> None:
        if link.role is LinkRole.RECEIVER:
            # [AMQP-2.6.7] the sender may advance its delivery count, giving credit back.
            if flow.delivery_count is not None:
                link.credit = allowance(link.credit, sent=flow.delivery_count, seen=link.delivery_count)
                link.delivery_count = flow.delivery_count
            return
        seen = 0 if flow.delivery_count is None else flow.delivery_count
        link.credit = allowance(flow.link_credit or 0, sent=link.delivery_count, seen=seen)
        link.drain = flow.drain
        if link.state is LinkState.ATTACHED:
            self._outlet.events.append(events.CreditGranted(link, link.credit, link.drain))

    def _opened_again(self, was_open: bool, told: Link | None = None) -> None:
        """Tells every link with credit but `told` that it may send, when it could not before."""
        if was_open or self.window <= 0:
            return
        for link in self._links.values():
            if link is not told and link.sendable:
                self._outlet.events.append(events.CreditGranted(link, link.credit, link.drain))

    def _answer_without_ends(self, link: Link) -> None:
        """Answers an attach with no source and no target, the sign of a link that is not to be.

        A client that finds its own ends echoed takes the link for attached and reports the detach as a broken link.
        """
        if link.state is LinkState.REQUESTED:
            # [AMQP-2.6.3]
            receiver = link.role is LinkRole.RECEIVER
            count = None if receiver else 0
            self.write(Attach(link.name, link.handle, receiver, initial_delivery_count=count).encode())

    def _leave(self, link: Link) -> None:
        """We detached: the handle stays taken until the peer confirms."""
        link.state = LinkState.DETACHING
        link.credit = 0
        was_open = self.window > 0
        (self._incoming if link.role is LinkRole.RECEIVER else self._outgoing).forget(link)
        self._opened_again(was_open)

    def _gone(self, link: Link, error: Error | None) -> None:
        """The handle is free; the application hears of it unless it knows."""
        known = link.state in (LinkState.DETACHING, LinkState.GONE)
        self._leave(link)
        link.state = LinkState.GONE
        self._outlet.delayed.pop(link, None)
        self._peer_links.pop(link.peer_handle, None)
        self._links.pop(link.handle, None)
        if self._names.get((link.name, link.role)) is link:
            del self._names[(link.name, link.role)]
        self._outlet.links -= 1
        if not known:
            self._outlet.events.append(events.LinkDetached(link, error))
