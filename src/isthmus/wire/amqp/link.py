"""A link: what was agreed at attach, its credit, and what an application does with it (AMQP 1.0 §2.6).

Theory of operation. A link comes to the application with a `LinkAttached` event and stays valid as an object for ever;
after its end its calls do nothing, save `send`, which refuses. The states:

| state     | meaning                                         | leaves by                                             |
|-----------|-------------------------------------------------|-------------------------------------------------------|
| REQUESTED | the peer attached, the application must answer  | `accept` → ATTACHED; `refuse`, `redirect` → DETACHING |
| PROPOSED  | we attached (client half), the peer must answer | the peer's attach → ATTACHED                          |
| ATTACHED  | messages may flow                               | `detach` → DETACHING                                  |
| DETACHING | we are leaving; what still arrives is dropped   | the peer's detach → GONE                              |
| GONE      | the handle is free                              |                                                       |

A detach of the peer and the end of the session lead to GONE from everywhere. What the peer pipelines behind an attach
that is not answered yet (transfers, credit) is kept, within a limit, and given to the application after `accept`. Not
covered: resumption and suspended links; a detach that does not close ends the link here too.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from isthmus.wire.amqp.limits import LINK_CREDIT, MESSAGE_BYTES_MAX
from isthmus.wire.amqp.performatives import Attach, Properties, ReceiverSettleMode, SenderSettleMode
from isthmus.wire.amqp.states import DeliveryState, Error, Terminus


class LinkState(Enum):
    """See the table above."""

    REQUESTED = "requested"
    PROPOSED = "proposed"
    ATTACHED = "attached"
    DETACHING = "detaching"
    GONE = "gone"


class LinkRole(Enum):
    """Our end's role: what the peer receives, we send."""

    SENDER = "sender"
    RECEIVER = "receiver"


class Partial:
    """A delivery whose last frame has not come yet; `refused` once it is too large, its bytes then being dropped."""

    __slots__ = ("data", "delivery_id", "message_format", "refused", "settled", "size", "tag")

    def __init__(self, delivery_id: int, tag: bytes, message_format: int) -> None:
        self.delivery_id = delivery_id
        self.tag = tag
        self.message_format = message_format
        self.settled = False
        self.data = bytearray()
        self.size = 0
        self.refused = False


class Owner(Protocol):
    """What a link needs of its session."""

    channel: int

    @property
    def window(self) -> int:
        """How many deliveries may begin now."""

    def write(self, performative: bytes) -> None:
        """Sends a frame."""

    def accepted(self, link: "Link") -> None:
        """Gives the application what was held for the link."""

    def detach(self, link: "Link", error: Error | None) -> None:
        """Detaches, now."""

    def refuse(self, link: "Link", error: Error, detach_at: float) -> None:
        """Detaches when that time has come, at once for 0."""

    def send_flow(self, link: "Link", *, drain: bool = False, echo: bool = False) -> None:
        """Announces windows and the link's credit."""

    def send(
        self, link: "Link", parts: Sequence[bytes], *, message_format: int, settled: bool, tag: bytes | None
    ) -> int:
        """Sends a delivery."""

    def send_settled(self, link: "Link", messages: Sequence[bytes], message_format: int) -> int:
        """Sends many settled deliveries."""

    def settle(self, link: "Link", delivery_id: int, state: DeliveryState) -> None:
        """Settles a delivery."""


class Link:
    """One end of a link; see the module's text for its life.

    `role` is our role. `source`, `target`, `properties`, capabilities, settle modes, `initial_delivery_count` and
    `peer_max_message_size` (0 for none) are what the peer said at attach. `credit` is, as sender, how many messages the
    peer wants now; as receiver, how many it may still send. `drain`: the peer wants its credit used up or given back
    (see `drained`). The remaining attributes are the engine's own.
    """

    __slots__ = (
        "credit",
        "delivery_count",
        "desired_capabilities",
        "drain",
        "handle",
        "initial_delivery_count",
        "max_message_size",
        "name",
        "offered_capabilities",
        "owner",
        "partial",
        "peer_handle",
        "peer_max_message_size",
        "properties",
        "receiver_settle_mode",
        "role",
        "sender_settle_mode",
        "source",
        "state",
        "target",
        "unsettled",
    )

    def __init__(self, owner: Owner, name: str, role: LinkRole, *, handle: int, state: LinkState) -> None:
        self.owner = owner
        self.name = name
        self.role = role
        self.handle = handle
        self.state = state
        self.peer_handle = -1
        self.source: Terminus = None
        self.target: Terminus = None
        self.properties: Properties = {}
        self.desired_capabilities: tuple[str, ...] = ()
        self.offered_capabilities: tuple[str, ...] = ()
        self.sender_settle_mode: SenderSettleMode | None = None
        self.receiver_settle_mode: ReceiverSettleMode | None = None
        self.initial_delivery_count = 0
        self.peer_max_message_size = 0
        self.max_message_size = MESSAGE_BYTES_MAX
        self.delivery_count = 0
        self.credit = 0
        self.drain = False
        self.partial: Partial | None = None
        self.unsettled: set[int] = set()

    @property
    def channel(self) -> int:
        """Number of the session: links with the same one belong together."""
        return self.owner.channel

    @property
    def attached(self) -> bool:
        """True while messages may flow."""
        return self.state is LinkState.ATTACHED

    @property
    def source_address(self) -> str:
        """The address of the source, empty when there is none."""
        return address_of(self.source)

    @property
    def target_address(self) -> str:
        """The address of the target, empty when there is none."""
        return address_of(self.target)

    @property
    def sendable(self) -> int:
        """How many messages may be sent now: what both the credit and the session's window allow."""
        if self.state is LinkState.ATTACHED and self.role is LinkRole.SENDER:
            return min(self.credit, self.owner.window)
        return 0

    def accept(
        self,
        *,
        source: Terminus = None,
        target: Terminus = None,
        properties: Properties | None = None,
        offered_capabilities: tuple[str, ...] = (),
        max_message_size: int = MESSAGE_BYTES_MAX,
        credit: int = LINK_CREDIT,
        sender_settle_mode: SenderSettleMode | None = None,
        receiver_settle_mode: ReceiverSettleMode | None = None,
    ) -> None:
        """Answers the peer's attach; source and target are echoed where not given.

        As receiver, grants `credit` at once. Settle modes left out stand for mixed and first, as IoT Hub answers. What
        was held comes as events. Does nothing when the peer is gone meanwhile.
        """
        if self.state is not LinkState.REQUESTED:
            return
        self.state = LinkState.ATTACHED
        self.max_message_size = max_message_size
        # [AMQP-2.7.3] the initial delivery count is mandatory from a sender.
        count = 0 if self.role is LinkRole.SENDER else None
        self.owner.write(
            Attach(
                self.name,
                self.handle,
                self.role is LinkRole.RECEIVER,
                sender_settle_mode,
                receiver_settle_mode,
                self.source if source is None else source,
                self.target if target is None else target,
                count,
                max_message_size,
                offered_capabilities,
                (),
                properties,
            ).encode()
        )
        if self.role is LinkRole.RECEIVER:
            self.grant(credit)
        self.owner.accepted(self)

    def refuse(self, error: Error) -> None:
        """Answers the peer's attach with no; does nothing when it is answered already."""
        if self.state is LinkState.REQUESTED:
            self.owner.refuse(self, error, 0.0)

    def refuse_later(self, error: Error, *, detach_at: float) -> None:
        """As `refuse`, the error following at that monotonic time; see `limits.REDIRECT_DETACH_SECONDS`."""
        if self.state is LinkState.REQUESTED:
            self.owner.refuse(self, error, detach_at)

    def detach(self, error: Error | None = None) -> None:
        """Ends the link for good; its unsettled deliveries are forgotten. The `LinkDetached` event follows."""
        if self.state in (LinkState.REQUESTED, LinkState.ATTACHED):
            self.owner.detach(self, error)

    def grant(self, credit: int, *, drain: bool = False, echo: bool = False) -> None:
        """As receiver, lets the peer send `credit` messages from now on, whatever it was allowed before."""
        if self.state is LinkState.ATTACHED:
            self.credit = credit
            self.owner.send_flow(self, drain=drain, echo=echo)

    def drained(self) -> None:
        """As sender, gives unused credit back to a peer that drains; does nothing otherwise."""
        if self.state is LinkState.ATTACHED and self.drain:
            # [AMQP-2.6.7] the delivery count advances by the credit that was not used.
            self.delivery_count = (self.delivery_count + self.credit) & 0xFFFFFFFF
            self.credit = 0
            self.drain = False
            self.owner.send_flow(self, drain=True)

    def send(self, *parts: bytes, message_format: int = 0, settled: bool = False, tag: bytes | None = None) -> int:
        """Sends one message, given as encoded sections to be joined; returns its delivery id.

        `tag` is up to 32 bytes and unique among unsettled deliveries; None makes one. Raises `MisuseError` when
        `sendable` is 0.
        """
        return self.owner.send(self, parts, message_format=message_format, settled=settled, tag=tag)

    def send_settled(self, messages: Sequence[bytes], message_format: int = 0) -> int:
        """Sends encoded messages settled, in order; returns how many were taken, all of them up to `sendable`."""
        return self.owner.send_settled(self, messages, message_format)

    def settle(self, delivery_id: int, state: DeliveryState) -> None:
        """Settles a delivery, as receiver with an outcome, as sender after the peer's unsettled outcome.

        Neighbouring deliveries settled alike go out in one disposition. Unknown and settled ones are ignored.
        """
        self.owner.settle(self, delivery_id, state)


def address_of(terminus: Terminus) -> str:
    """The address of one end of a link, empty when there is none."""
    address = getattr(terminus, "address", None)
    return address if isinstance(address, str) else ""
