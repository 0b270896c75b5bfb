"""The fuzz target of the log's decoders.

Invariant: whatever bytes lie on the disk, a scan covers them without overlap by intact records and gaps, the same
however they come from the disk; an intact record is, byte for byte, what encoding its content gives; no two gaps touch.
Headers of segments and index files are read, or refused as damaged or newer; nothing else is ever raised.

The committed corpus is replayed by `test_targets.py`; a finding becomes one more file of it.
"""

import contextlib
import struct
import zlib

from isthmus.telemetry.frame import Damaged, NewerFormat
from isthmus.telemetry.index import decode_index
from isthmus.telemetry.record import FIELDS, HEADER_BYTES, MAGIC, PREFIX, Found, Gap, scan, to_record
from isthmus.telemetry.segment import decode_header

BASE = 7_000
"""Position of the first byte."""


def check(data: bytes) -> None:
    """Raises AssertionError when the invariant does not hold for `data`."""
    whole = _scan(data, len(data))
    assert _scan(data, HEADER_BYTES) == whole
    position = BASE
    for number, item in enumerate(whole):
        assert item[0] == position < item[1]
        assert item[2] or number == 0 or whole[number - 1][2], "two gaps in a row"
        position = item[1]
    assert position == BASE + len(data)
    for decode in (decode_header, decode_index):
        with contextlib.suppress(Damaged, NewerFormat):
            decode(data)


def _scan(data: bytes, at_once: int) -> list[tuple[int, int, bytes]]:
    """Beginning and end of each item, and a record's bytes as encoding its content gives them."""

    def read(position: int, size: int) -> bytes:
        assert position + size <= BASE + len(data), "read beyond the end"
        return data[position - BASE :][: max(size, at_once)][:size]

    return [_judge(item, data) for item in scan(read, BASE, BASE + len(data))]


def _judge(item: Found | Gap, data: bytes) -> tuple[int, int, bytes]:
    if isinstance(item, Gap):
        return item.start, item.end, b""
    header, record = item.header, to_record(item)
    ids = struct.pack(f"<{len(record.endpoints)}I", *record.endpoints)
    body = FIELDS.pack(*header[2:]) + ids + record.envelope + record.payload
    encoded = PREFIX.pack(MAGIC, zlib.crc32(body)) + body
    assert encoded == data[header.position - BASE : header.end - BASE]
    return header.position, header.end, encoded
