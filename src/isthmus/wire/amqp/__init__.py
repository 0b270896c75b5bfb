"""AMQP 1.0: types, messages and the protocol's state machines, without I/O; begin reading at `connection.py`.

`Connection` takes bytes and time and gives `events` and bytes; links are answered and used through the `Link` objects
that come with events; `message` finds, decodes and encodes the sections of messages; `values` has AMQP's types.
"""

from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.errors import Condition, DecodeError, MisuseError
from isthmus.wire.amqp.link import Link, LinkRole, LinkState
from isthmus.wire.amqp.message import BATCH_FORMAT, Header, Message, Properties, Section
from isthmus.wire.amqp.performatives import ReceiverSettleMode, SaslCode, SenderSettleMode
from isthmus.wire.amqp.states import (
    ACCEPTED_STATE,
    Accepted,
    Error,
    Modified,
    Received,
    Rejected,
    Released,
    Source,
    Target,
)

__all__ = [
    "ACCEPTED_STATE",
    "BATCH_FORMAT",
    "Accepted",
    "Condition",
    "Connection",
    "DecodeError",
    "Error",
    "Header",
    "Link",
    "LinkRole",
    "LinkState",
    "Message",
    "MisuseError",
    "Modified",
    "Properties",
    "Received",
    "ReceiverSettleMode",
    "Rejected",
    "Released",
    "SaslCode",
    "Section",
    "SenderSettleMode",
    "Source",
    "Target",
]
