"""How far each partition has got, beside the log: it names the events that are lost where nothing is left behind them.

Segment headers tell it at each segment's beginning; what was in the last segment, or in the first ones, nobody else
could say when they are damaged or gone. A mapped file has a page of its own for the log's beginning and end, and a slot
for each partition, each with a checksum. A slot is overwritten after the sync of what it tells and before the committed
mark is, so it never tells of an event that was not durable. The kernel writes the pages when it likes: after a power
cut a slot may tell of less than there was, which costs precision and nothing else. Only the beginning is flushed,
before the segments below it are removed.
"""

import contextlib
import mmap
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.telemetry.files import Files
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.segment import Tail

TAILS_NAME = "tails"

TAILS_MAX = 2048
"""Slots: the partitions that a segment's header has room for (64 hubs of 32). Those beyond are told less precisely."""

TOP_BYTES = 4096
"""One page for the ends of the log, so that a damaged sector costs either these or some slots."""

_TOP = struct.Struct("<8sQQ")
_SLOT = struct.Struct("<IIqqqq")
_CHECKSUM = struct.Struct("<I")
_TOP_MAGIC = b"ISTHTAIL"
_SLOT_BYTES = _SLOT.size + _CHECKSUM.size
TAILS_FILE_BYTES = TOP_BYTES + TAILS_MAX * _SLOT_BYTES


@dataclass(frozen=True, slots=True)
class Known:
    """What the file tells: nothing by default.

    The log reaches from `begin` to `end`, both None when the page is damaged or was never written. `begins` has the
    sequence number that each partition had reached at `begin`.
    """

    begin: int | None = None
    end: int | None = None
    begins: Mapping[Partition, int] = field(default_factory=dict)
    tails: Mapping[Partition, Tail] = field(default_factory=dict)

    def before(self, position: int) -> dict[Partition, Tail]:
        """Tails whose last event lies before a position."""
        return {partition: tail for partition, tail in self.tails.items() if tail.last_offset < position}


NOTHING_KNOWN = Known()


class Tails:
    """The mapped file; one process writes, any number read."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._slots: dict[Partition, int] = {}
        self._begins: dict[Partition, int] = {}
        self._begin = 0

    @classmethod
    def open(cls, files: Files, *, writable: bool) -> "Tails":
        """Maps the file, and makes an empty one when there is none and it is to be written."""
        if writable and (TAILS_NAME not in files.names() or files.size(TAILS_NAME) != TAILS_FILE_BYTES):
            files.write_whole(TAILS_NAME, bytes(TAILS_FILE_BYTES))
        return cls(files.map(TAILS_NAME, writable=writable))

    def read(self) -> Known:
        """What is intact of it."""
        top = _unpack(_TOP, self._mapped, 0)
        begins: dict[Partition, int] = {}
        tails: dict[Partition, Tail] = {}
        for at in range(TOP_BYTES, len(self._mapped) - _SLOT_BYTES + 1, _SLOT_BYTES):
            slot = _unpack(_SLOT, self._mapped, at)
            if slot is None:
                continue
            stream, number, begin, following, last_ms, last_offset = slot
            partition = Partition(stream, number)
            begins[partition] = begin
            tails[partition] = Tail(following, last_ms, last_offset)
        if top is None or top[0] != _TOP_MAGIC:
            return Known(None, None, begins, tails)
        return Known(top[1], top[2], begins, tails)

    def start(self, known: Known) -> None:
        """Writes the whole anew."""
        self._mapped[:] = bytes(len(self._mapped))
        self._slots.clear()
        self._begins = dict(known.begins)
        self._begin = known.begin or 0
        for partition, tail in known.tails.items():
            self.move(partition, tail)
        self.reach(known.end or 0)

    def move(self, partition: Partition, tail: Tail, first: int = 0) -> None:
        """Tells of a partition's last event; the `first` of the batch counts for a partition that had none before."""
        slot = self._slots.get(partition)
        if slot is None:
            if len(self._slots) >= TAILS_MAX:
                return
            slot = self._slots[partition] = len(self._slots)
            self._begins.setdefault(partition, first)
        data = _SLOT.pack(*partition, self._begins.get(partition, 0), *tail)
        at = TOP_BYTES + slot * _SLOT_BYTES
        self._mapped[at : at + _SLOT_BYTES] = data + _CHECKSUM.pack(zlib.crc32(data))

    def reach(self, end: int) -> None:
        """Tells where the log ends."""
        data = _TOP.pack(_TOP_MAGIC, self._begin, end)
        self._mapped[: _TOP.size + _CHECKSUM.size] = data + _CHECKSUM.pack(zlib.crc32(data))

    def begin_at(self, begin: int, begins: Mapping[Partition, int]) -> None:
        """Tells, durably where the disk lets it, where the log begins now."""
        known = self.read()
        self._begin, self._begins = begin, dict(begins)
        for partition, tail in known.tails.items():
            self.move(partition, tail)
        self.reach(known.end or begin)
        with contextlib.suppress(OSError):
            self._mapped.flush()

    def close(self) -> None:
        """Gives the mapping back."""
        self._mapped.close()


def read_known(files: Files) -> Known:
    """What the file of a folder tells; nothing when it has none, or of another size."""
    if TAILS_NAME not in files.names() or files.size(TAILS_NAME) != TAILS_FILE_BYTES:
        return NOTHING_KNOWN
    tails = Tails.open(files, writable=False)
    try:
        return tails.read()
    finally:
        tails.close()


def _unpack(form: struct.Struct, mapped: mmap.mmap, at: int) -> tuple[Any, ...] | None:
    data = mapped[at : at + form.size + _CHECKSUM.size]
    if not any(data) or _CHECKSUM.unpack_from(data, form.size)[0] != zlib.crc32(data[: form.size]):
        return None
    return form.unpack_from(data)
