"""The transfer performative (AMQP 1.0 §2.7.5), apart from the others because there is one per message.

It is built around payload bytes that are never looked into, and read without making objects of its fields.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from isthmus.wire.amqp.decode import Decoder
from isthmus.wire.amqp.encode import FALSE, NULL, TRUE, binary, list_of, uint
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.limits import TAG_BYTES_MAX

TRANSFER: Final = b"\x00\x53\x14"
"""How all known peers begin a transfer."""

FRAME_HEADER: Final = struct.Struct(">IBBH")
"""Size, data offset in words, type, channel (AMQP 1.0 §2.3.1)."""

_FIELDS: Final = 11
_ID_AND_TAG: Final = struct.Struct(">BIBBI")


class TransferFields(NamedTuple):
    """The fields that matter; continuations may leave out `delivery_id`, `tag` and `message_format`."""

    handle: int
    delivery_id: int | None
    tag: bytes | None
    message_format: int | None
    settled: bool
    more: bool
    aborted: bool
    payload_start: int


def read_transfer(data: bytes, position: int, end: int) -> TransferFields:
    """Reads the transfer whose list begins at `position`, behind its descriptor; raises `DecodeError`."""
    if position + 3 <= end and data[position] == 0xC0:
        after, count, at = position + 2 + data[position + 1], data[position + 2], position + 3
    else:
        decoder = Decoder(data, position, end)
        count, after = decoder.list_bounds()
        at = decoder.position
    if count == 0 or count > _FIELDS or after > end:
        raise DecodeError("a transfer has 1 to 11 fields")
    values: list[object] = [None] * _FIELDS
    for index in range(count):
        code = data[at] if at < after else -1
        if code in _CONSTANTS:
            values[index] = _CONSTANTS[code]
            at += 1
        elif code == 0x70 and at + 5 <= after:
            values[index] = int.from_bytes(data[at + 1 : at + 5], "big")
            at += 5
        elif code == 0x52 and at + 2 <= after:
            values[index] = data[at + 1]
            at += 2
        else:
            values[index], at = _other(data, at, after)
    if at != after:
        raise DecodeError("size and elements of a transfer differ")
    return _checked(values, after)


def transfer_head(handle: int, delivery_id: int, tag: bytes | None, *, message_format: int, flags: bytes) -> bytes:
    """The performative of a delivery's first or only frame; a tag of None is the delivery id's four bytes."""
    if tag is None:
        names = _ID_AND_TAG.pack(0x70, delivery_id, 0xA0, 4, delivery_id)
    else:
        names = b"\x70" + delivery_id.to_bytes(4, "big") + binary(tag)
    body = uint(handle) + names + uint(message_format) + flags
    return b"%b\xc0%c%c%b" % (TRANSFER, len(body) + 1, _FIELDS, body)


def continuation_head(handle: int, *, flags: bytes) -> bytes:
    """The performative of a delivery's further frames; what they share with the first frame is left null."""
    return TRANSFER + list_of([uint(handle), NULL, NULL, NULL, *(flags[index : index + 1] for index in range(7))])


def settled_frames(
    messages: Sequence[bytes], *, channel: int, handle: int, delivery_id: int, message_format: int
) -> Iterator[bytes]:
    """Frame heads and payloads, in turn, of settled single-frame deliveries with consecutive ids."""
    start, tail = uint(handle), uint(message_format) + transfer_flags(settled=True, more=False)
    size = len(start) + _ID_AND_TAG.size + len(tail)
    start = b"%b\xc0%c%c%b" % (TRANSFER, size + 1, _FIELDS, start)
    overhead = FRAME_HEADER.size + len(start) + _ID_AND_TAG.size + len(tail)
    header, names = FRAME_HEADER.pack, _ID_AND_TAG.pack
    for number, message in enumerate(messages, delivery_id):
        delivery_id = number & 0xFFFFFFFF
        yield b"%b%b%b%b" % (
            header(overhead + len(message), 2, 0, channel),
            start,
            names(0x70, delivery_id, 0xA0, 4, delivery_id),
            tail,
        )
        yield message


def transfer_flags(*, settled: bool, more: bool) -> bytes:
    """The last seven fields: settled, more, and nulls for settle mode, state, resume, aborted, batchable."""
    return (TRUE if settled else FALSE) + (TRUE if more else FALSE) + 5 * NULL


def _other(data: bytes, at: int, after: int) -> tuple[object, int]:
    decoder = Decoder(data, at, after)
    return decoder.value(), decoder.position


def _checked(values: list[object], payload_start: int) -> TransferFields:
    handle, delivery_id, tag, message_format, settled, more, _, _, resume, aborted, _ = values
    if handle is None:
        raise DecodeError("a transfer names its link")
    if tag is not None and (not isinstance(tag, bytes) or len(tag) > TAG_BYTES_MAX):
        raise DecodeError("a delivery tag is up to 32 bytes")
    _flag(resume)
    return TransferFields(
        _uint(handle) or 0,
        _uint(delivery_id),
        tag,
        _uint(message_format),
        _flag(settled),
        _flag(more),
        _flag(aborted),
        payload_start,
    )


def _uint(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise DecodeError("a number of a transfer is not a uint")
    return value


def _flag(value: object) -> bool:
    if value is None or value is False:
        return False
    if value is True:
        return True
    raise DecodeError("a flag of a transfer is not boolean")


_CONSTANTS: Final = {0x40: None, 0x41: True, 0x42: False, 0x43: 0}
