"""What the engine tells the application; taken from `Connection.events()` in the order in which it happened."""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.performatives import Properties, SaslCode
from isthmus.wire.amqp.states import DeliveryState, Error


@dataclass(frozen=True, slots=True)
class SaslInit:
    """The peer presents credentials: answer with `sasl_accept` or `sasl_refuse`; nothing else happens before."""

    mechanism: str
    response: bytes = field(repr=False)
    hostname: str


@dataclass(frozen=True, slots=True)
class SaslDone:
    """Client half: the peer has judged our credentials."""

    code: SaslCode


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened the connection, and so did we."""

    container_id: str
    hostname: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class SessionBegun:
    """A session is mapped to our channel number `channel`."""

    channel: int


@dataclass(frozen=True, slots=True)
class LinkAttached:
    """The peer attached: answer with `link.accept`, `link.refuse` or `link.refuse_later`. Client half: it answered."""

    link: Link


class Transfer(NamedTuple):
    """A whole message came; settle it with `link.settle` unless it is settled.

    A tuple, because there is one per message and it is made four times as fast.
    """

    link: Link
    delivery_id: int
    tag: bytes
    message_format: int
    payload: bytes
    settled: bool


@dataclass(frozen=True, slots=True)
class DeliveryRefused:
    """A message above the link's size was not taken: rejected, or the link detached because it came settled."""

    link: Link
    delivery_id: int
    size: int


class Disposition(NamedTuple):
    """The peer settled a message we sent, or told its outcome, which is to be answered with `link.settle`."""

    link: Link
    delivery_id: int
    state: DeliveryState
    settled: bool


@dataclass(frozen=True, slots=True)
class CreditGranted:
    """A link's credit changed, or its session can send again: `link.sendable` says how many messages may leave now.

    With `drain`, call `link.drained` after sending what there is.
    """

    link: Link
    credit: int
    drain: bool


@dataclass(frozen=True, slots=True)
class LinkDetached:
    """A link is over, by whomever; comes exactly once for each link that came and was not refused."""

    link: Link
    error: Error | None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over, by whomever, after its links."""

    channel: int
    error: Error | None


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The connection is over, by whomever, after its sessions; the last event."""

    error: Error | None
    by_peer: bool


Event: TypeAlias = (
    SaslInit
    | SaslDone
    | Opened
    | SessionBegun
    | LinkAttached
    | Transfer
    | DeliveryRefused
    | Disposition
    | CreditGranted
    | LinkDetached
    | SessionEnded
    | ConnectionClosed
)
