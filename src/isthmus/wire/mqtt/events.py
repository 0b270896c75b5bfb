"""What a connection tells its owner.

A packet that means something to the owner is its own event; the others (PINGREQ, SUBACK, …) are dealt with inside or,
on the client's side, handed on as they are. The rest are these.
"""

from dataclasses import dataclass

from isthmus.wire.mqtt.errors import ProtocolError
from isthmus.wire.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)


@dataclass(frozen=True, slots=True)
class Failed:
    """The peer broke a rule: send what is to be sent, then close. The last event of a connection."""

    error: ProtocolError


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The peer said nothing for too long: close. The last event of a connection."""

    awaiting_connect: bool


ServerEvent = Connect | Publish | PubAck | Subscribe | Unsubscribe | Disconnect | Failed | TimedOut
"""What the server's side hears; `Publish` and `PubAck` may come many at a time."""

ClientEvent = ConnAck | Publish | PubAck | SubAck | UnsubAck | PingResp | Failed
"""What the client's side hears."""
