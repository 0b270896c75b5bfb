"""Events that come over HTTPS: the body of a request as the AMQP message, or batch, that it stands for; pure.

Paths, headers and bodies are those of the Event Hubs REST reference, "Send event" and "Send batch events": the text of
one event, or a JSON array of `Body`, `BrokerProperties` and `UserProperties`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from isthmus.base.errors import NOT_JSON, Code, Hop, HubError, Refusal
from isthmus.servers.gateway.event_hub_contract import EventHubAddress, EventHubNode
from isthmus.wire.amqp import message as m
from isthmus.wire.amqp.message import BATCH_FORMAT, Properties, Section
from isthmus.wire.amqp.values import AmqpValue, Long, Symbol

BATCH_TYPE: Final = "application/vnd.microsoft.servicebus.json"
EVENTS_MAX: Final = 8_192
"""Events of a batch, as many as AMQP takes in one."""

KEY: Final = Symbol("x-opt-partition-key")


Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What an AMQP long can be."""


class BatchEvent(msgspec.Struct, rename="pascal"):
    """One event of a batch."""

    body: str
    broker_properties: dict[str, object] = {}
    user_properties: dict[str, str | Whole | float | bool | None] = {}


_decode_batch = msgspec.json.Decoder(list[BatchEvent]).decode
_decode_properties = msgspec.json.Decoder(dict[str, object]).decode


def address_of(segments: Sequence[str]) -> EventHubAddress | None:
    """Where a path sends events to; None for any other path."""
    text = "/".join(segments)
    match [segment.lower() for segment in segments]:
        case [_, "messages"]:
            return EventHubAddress(EventHubNode.SEND, text, segments[0])
        case [_, "partitions", _, "messages"]:
            return EventHubAddress(EventHubNode.SEND, text, segments[0], partition=segments[2])
        case [_, "publishers", _, "messages"]:
            return EventHubAddress(EventHubNode.SEND, text, segments[0], publisher=segments[2])
        case _:
            return None


def message_of(body: bytes, content_type: str, broker_properties: str) -> tuple[bytes, int]:
    """The encoded message and its format; `broker_properties` is the header's text, empty for none.

    Raises HubError ARGUMENT_INVALID for what is not JSON of the known form.
    """
    try:
        if content_type.partition(";")[0].strip().lower() != BATCH_TYPE:
            broker = _decode_properties(broker_properties or "{}")
            return _message(body, broker, {}, content_type), 0
        events = _decode_batch(body)
    except (*NOT_JSON, UnicodeEncodeError) as error:
        raise _malformed(str(error)) from error
    if not 0 < len(events) <= EVENTS_MAX:
        raise _malformed(f"{len(events)} events")
    shared = _key_of(events[0].broker_properties)
    inner = [_message(each.body.encode(), each.broker_properties, each.user_properties, "") for each in events]
    return shared + m.batch(inner), BATCH_FORMAT


def _message(
    body: bytes,
    broker: Mapping[str, object],
    user: Mapping[str, str | int | float | bool | None],
    content_type: str,
) -> bytes:
    properties = Properties(
        message_id=_text(broker, "MessageId"),
        correlation_id=_text(broker, "CorrelationId"),
        content_type=content_type or _text(broker, "ContentType"),
        subject=_text(broker, "Label"),
    )
    told = properties.encode() if properties != Properties() else b""
    own: dict[str, AmqpValue] = {
        name: Long(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in user.items()
    }
    return _key_of(broker) + told + m.application_properties(own) + m.data(body)


def _key_of(broker: Mapping[str, object]) -> bytes:
    key = _text(broker, "PartitionKey")
    return m.annotations(Section.MESSAGE_ANNOTATIONS, {KEY: key} if key else {})


def _text(broker: Mapping[str, object], name: str) -> str | None:
    value = broker.get(name)
    return None if value is None else str(value)


def _malformed(what: str) -> HubError:
    remedy = 'Send one event as the body, or [{"Body": "…"}] as ' + BATCH_TYPE
    refusal = Refusal(Hop.CONTRACT, "contract.batch", what[:200], remedy)
    return HubError(Code.ARGUMENT_INVALID, "The body or BrokerProperties cannot be read.", refusal)
