"""Brokered messages in AMQP: what senders send, made into what queues keep, and back with what queues add.

Annotations, properties and batches are those of the Service Bus AMQP protocol guide. A message passes with its sections
as its sender encoded them, unless a receiver has changed a property of it.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.neighbours.bus_message import BusMessage, EditedValue, Incoming, decode_message
from isthmus.neighbours.bus_rules import Facts, FilterValue
from isthmus.queues import NO_LIMIT, LockedMessage, Standing
from isthmus.servers.gateway.amqp_links import undecodable
from isthmus.wire.amqp import message
from isthmus.wire.amqp.decode import decode
from isthmus.wire.amqp.encode import encode
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.message import BATCH_FORMAT, Header, Message, Section
from isthmus.wire.amqp.values import AmqpValue, Int, Long, Symbol, Timestamp

PARTITION_KEY: Final = Symbol("x-opt-partition-key")
SCHEDULED: Final = Symbol("x-opt-scheduled-enqueue-time")
REASON: Final = "DeadLetterReason"
DESCRIPTION: Final = "DeadLetterErrorDescription"

PARTITION_KEY_MAX: Final = 128
"""Characters of a partition key (Service Bus, messages and payloads)."""

TTL_MS_MAX: Final = 0xFFFFFFFF
"""The longest life that a header can tell; a longer one is told as this."""

_KEPT: Final = (
    *(Section.PROPERTIES, Section.APPLICATION_PROPERTIES),
    *(Section.DATA, Section.SEQUENCE, Section.VALUE, Section.FOOTER),
)
_BODY: Final = (Section.DATA, Section.SEQUENCE, Section.VALUE, Section.FOOTER)
_OURS: Final = "x-opt-"
"""Begins the annotations that are the service's: what a sender puts there is not passed on."""

_STATES: Final = {Standing.ACTIVE: 0, Standing.DEFERRED: 1, Standing.SCHEDULED: 2}
_INT_MAX: Final = 2**31 - 1


NewId = Callable[[], str]
"""Makes the id of a message whose sender gave it none."""


def take(payload: bytes, message_format: int, new_id: NewId) -> list[Incoming]:
    """The messages of a transfer, one or a batch; raises HubError ARGUMENT_INVALID."""
    try:
        whole = Message(payload)
        if message_format == BATCH_FORMAT:
            return [_incoming(Message(each), new_id) for each in whole.data]
        return [_incoming(whole, new_id)]
    except DecodeError as error:
        raise undecodable(error) from error


def take_one(payload: bytes, new_id: NewId) -> Incoming:
    """An encoded message; raises HubError ARGUMENT_INVALID."""
    return take(payload, 0, new_id)[0]


def give(locked: LockedMessage) -> bytes:
    """A message as its receivers get it, complete with what the queue adds."""
    kept = decode_message(locked.body)
    annotations: dict[Symbol, AmqpValue] = {
        Symbol("x-opt-sequence-number"): Long(locked.sequence),
        Symbol("x-opt-enqueued-time"): Timestamp(locked.enqueued_ms),
        Symbol("x-opt-enqueue-sequence-number"): Long(locked.first_sequence or locked.sequence),
        Symbol("x-opt-message-state"): Int(_STATES[locked.standing]),
    }
    if locked.locked_until_ms:
        annotations[Symbol("x-opt-locked-until")] = Timestamp(locked.locked_until_ms)
    if locked.scheduled_ms:
        annotations[SCHEDULED] = Timestamp(locked.scheduled_ms)
    if kept.partition_key is not None:
        annotations[PARTITION_KEY] = kept.partition_key
    if kept.source is not None:
        annotations[Symbol("x-opt-deadletter-source")] = kept.source
    if kept.annotations:
        annotations |= _map(kept.annotations)
    header = Header(durable=True, ttl_ms=_ttl_ms(locked), delivery_count=locked.delivery_count)
    return b"".join((header.encode(), message.annotations(Section.MESSAGE_ANNOTATIONS, annotations), _sections(kept)))


def tag_of(token: str) -> bytes:
    """The delivery tag of a lock token: a GUID's bytes in .NET's order."""
    return uuid.UUID(token).bytes_le


def facts_of(kept: BusMessage) -> Facts:
    """What filters look at in a message."""
    whole = Message(kept.sections)
    properties = whole.properties
    sent = {key: plain(value) for key, value in whole.application_properties.items() if _is_plain(value)}
    return Facts(
        message_id=_text(properties.message_id),
        correlation_id=_text(properties.correlation_id),
        to=properties.to,
        reply_to=properties.reply_to,
        label=properties.subject,
        session_id=properties.group_id,
        reply_to_session_id=properties.reply_to_group_id,
        content_type=properties.content_type,
        properties=sent,
    )


def edits_of(given: Mapping[Symbol, AmqpValue] | Mapping[str, AmqpValue] | None) -> dict[str, EditedValue]:
    """The application properties that a receiver wants to change."""
    return {str(key): plain(value) for key, value in (given or {}).items() if _is_plain(value)}


def plain(value: AmqpValue) -> FilterValue:
    """A simple value in Python's own types."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
    return str(value)


def _incoming(whole: Message, new_id: NewId) -> Incoming:
    header, annotations = whole.header, whole.annotations
    key, scheduled = annotations.get(PARTITION_KEY), annotations.get(SCHEDULED)
    if isinstance(key, str) and len(key) > PARTITION_KEY_MAX:
        raise _long_key(key)
    others: dict[AmqpValue, AmqpValue] = {
        name: value for name, value in annotations.items() if not name.lower().startswith(_OURS)
    }
    kept = BusMessage(
        sections=_identified(whole, new_id),
        ttl_ms=int(header.ttl_ms) if header is not None and header.ttl_ms is not None else None,
        partition_key=str(key) if isinstance(key, str) else None,
        annotations=encode(others) if others else b"",
    )
    return Incoming(kept, int(scheduled) if isinstance(scheduled, int) else 0)


def _identified(whole: Message, new_id: NewId) -> bytes:
    """The sections that are kept, with a message id, which some clients cannot settle without.

    What a receiver could not decode is refused to the sender.
    """
    properties, _ = whole.properties, whole.application_properties
    if properties.message_id is not None:
        return whole.encoded(*_KEPT)
    return replace(properties, message_id=new_id()).encode() + whole.encoded(*_KEPT[1:])


def _sections(kept: BusMessage) -> bytes:
    """The sections of the message, its application properties with what receivers and the queue have set."""
    if not kept.edits and kept.reason is None and kept.description is None:
        return kept.sections
    whole = Message(kept.sections)
    properties: dict[str, AmqpValue] = dict(whole.application_properties)
    properties |= {key: _amqp(value) for key, value in kept.edits.items()}
    for name, value in ((REASON, kept.reason), (DESCRIPTION, kept.description)):
        if value is not None:
            properties[name] = value
    return b"".join(
        (whole.encoded(Section.PROPERTIES), message.application_properties(properties), whole.encoded(*_BODY))
    )


def _ttl_ms(locked: LockedMessage) -> int | None:
    """The whole life of a message; None for one without an end."""
    if locked.expires_ms >= NO_LIMIT:
        return None
    return max(0, min(locked.expires_ms - locked.enqueued_ms, TTL_MS_MAX))


def _map(encoded: bytes) -> dict[Symbol, AmqpValue]:
    found = decode(encoded)
    return {Symbol(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _is_plain(value: AmqpValue) -> bool:
    return value is None or isinstance(value, bool | int | float | str | uuid.UUID)


def _amqp(value: EditedValue) -> AmqpValue:
    if isinstance(value, int) and not isinstance(value, bool):
        return Int(value) if -_INT_MAX <= value <= _INT_MAX else Long(value)
    return value


def _text(value: AmqpValue) -> str | None:
    return None if value is None or isinstance(value, bytes) else str(value)


def _long_key(key: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        f"A partition key has at most {PARTITION_KEY_MAX} characters.",
        Refusal(Hop.LIMIT, "limit.partition-key", key[:64], f"Use at most {PARTITION_KEY_MAX} characters."),
    )
