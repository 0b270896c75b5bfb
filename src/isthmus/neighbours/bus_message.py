"""A brokered message as a queue keeps it, and what becomes of it there; pure.

The message itself is kept as its sender encoded it; only what a queue looks at, or adds, stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from isthmus.queues import Departure, Edit, Outcome

EditedValue = str | int | float | bool | None
"""What a receiver may set an application property to."""

EDITS_MAX: Final = 64
"""Application properties that receivers may have set on one message; what is set beyond is left out."""

EXPIRED_REASON: Final = "TTLExpiredException"
COUNT_REASON: Final = "MaxDeliveryCountExceeded"

_REASONS: Final = (
    (Outcome.EXPIRED, EXPIRED_REASON, "The message expired and was dead lettered."),
    (
        Outcome.DELIVERY_COUNT_EXCEEDED,
        COUNT_REASON,
        "Message could not be consumed after {count} delivery attempts.",
    ),
)


class BusMessage(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A message as the body of a queue's document. Fields are only ever added, at the end, with defaults.

    `sections` are properties, application properties, body and footer as they came, `annotations` the sender's own
    annotations encoded as a map, `ttl_ms` the life that the sender asked for. `edits` were set by receivers and take
    the place of application properties. `reason`, `description` and `source` tell of a dead letter.
    """

    sections: bytes
    ttl_ms: int | None = None
    partition_key: str | None = None
    annotations: bytes = b""
    edits: dict[str, EditedValue] = {}
    reason: str | None = None
    description: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that somebody sends; `scheduled_ms` is when it is to be there, 0 for at once."""

    message: BusMessage
    scheduled_ms: int = 0


encode_message = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BusMessage).decode


def decode_message(body: bytes) -> BusMessage:
    """The message of a queue's document; raises `msgspec.DecodeError` on damage."""
    return _decode(body)


def edited(properties: Mapping[str, EditedValue]) -> Edit | None:
    """The change that a receiver makes to a message it gives back; None when there is none."""
    if not properties:
        return None

    def edit(body: bytes) -> bytes:
        message = _decode(body)
        return encode_message(msgspec.structs.replace(message, edits=_merged(message.edits, properties)))

    return edit


def refused(reason: str | None, description: str | None, properties: Mapping[str, EditedValue]) -> Edit:
    """The change that a receiver makes to a message it dead-letters."""

    def edit(body: bytes) -> bytes:
        message = _decode(body)
        edits = _merged(message.edits, properties)
        return encode_message(msgspec.structs.replace(message, edits=edits, reason=reason, description=description))

    return edit


def dead_letter(departure: Departure, *, source: str, max_delivery_count: int) -> bytes:
    """The message as its dead-letter queue keeps it: with the reason, unless a receiver has said it."""
    message = _decode(departure.body)
    for outcome, reason, text in _REASONS:
        if departure.outcome is outcome:
            description = text.format(count=max_delivery_count)
            message = msgspec.structs.replace(message, reason=reason, description=description)
    return encode_message(msgspec.structs.replace(message, source=source))


def _merged(present: Mapping[str, EditedValue], new: Mapping[str, EditedValue]) -> dict[str, EditedValue]:
    return dict(list({**present, **new}.items())[:EDITS_MAX])
