"""A batch of appended records as bytes: the log's hot loop, pure, plain enough to be compiled."""

from dataclasses import dataclass, field
from zlib import crc32

from isthmus.telemetry.ports import EVENTS, CommitWaiter, Partition
from isthmus.telemetry.record import BATCH_END, FIELDS, HEADER_BYTES, MAGIC, PREFIX, VERSION, pack_endpoints
from isthmus.telemetry.segment import Carry, Tail

PARTS_PER_BUFFER = 2048
"""Pieces of records joined into one buffer: few large buffers cost the kernel less than many small ones, and joining is
the longest time the writer holds the interpreter in one go."""

Item = tuple[Partition, tuple[int, ...], bytes, bytes, int, CommitWaiter, int, int]
"""What `Log.append` was given, in the order of its arguments. A plain tuple: one is made for each message."""

Event = tuple[tuple[int, ...], bytes, bytes, int, int]
"""Endpoints, envelope, payload, ingress time, outbox id: an item without its waiter, which must not be kept alive."""


@dataclass(slots=True)
class Run:
    """Events of one partition in one commit: sequence numbers from `sequence` on; `end` lies behind the last one."""

    partition: Partition
    sequence: int
    enqueued_ms: int
    positions: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    end: int = 0


class Batch:
    """Encodes items from a position on, grouped by partition, in order within it.

    Sequence numbers and times go on where `carry` ends; `carry` itself is moved on by `settle` only, when the bytes are
    durable. Times never fall within a partition, whatever the clock does.
    """

    def __init__(self, items: list[Item], position: int, now_ms: int, carry: Carry) -> None:
        self.start = position
        self.end = position
        self.newest_ms = now_ms
        self.runs: list[Run] = []
        self.outbox: dict[int, int] = {}
        self._now_ms = now_ms
        self._carry = carry
        self._parts: list[bytes] = []
        groups: dict[Partition, list[Item]] = {}
        for item in items:
            groups.setdefault(item[0], []).append(item)
        left = len(groups)
        for partition, group in groups.items():
            left -= 1
            self._encode(partition, group, closes=left == 0)

    def buffers(self) -> list[bytes]:
        """The bytes, in few pieces."""
        parts = self._parts
        return [b"".join(parts[at : at + PARTS_PER_BUFFER]) for at in range(0, len(parts), PARTS_PER_BUFFER)]

    def settle(self) -> None:
        """Moves `carry` behind the batch."""
        for run in self.runs:
            self._carry.tails[run.partition] = Tail(run.sequence + len(run.events), run.enqueued_ms, run.positions[-1])
        self._carry.outbox.update(self.outbox)

    def _encode(self, partition: Partition, group: list[Item], *, closes: bool) -> None:
        """Encodes the events of a partition; when it `closes` the batch, its last record ends the commit."""
        stream, number = partition
        tail = self._carry.tail(partition)
        sequence = tail.next_sequence
        enqueued_ms = max(self._now_ms, tail.last_ms)
        run = Run(partition, sequence, enqueued_ms)
        position = self.end
        endpoints: tuple[int, ...] | None = None
        ids, is_event = b"", False
        parts = self._parts
        left = len(group)
        for _, named, envelope, payload, ingress_ms, _, _, outbox_id in group:
            left -= 1
            if named is not endpoints:
                endpoints, ids, is_event = named, pack_endpoints(named), EVENTS in named
            length = HEADER_BYTES + len(ids) + len(envelope) + len(payload)
            fields = FIELDS.pack(
                length,
                VERSION,
                BATCH_END if closes and not left else 0,
                number,
                stream,
                stream,
                len(named),
                0,
                sequence if is_event else -1,
                position,
                enqueued_ms,
                ingress_ms,
                outbox_id,
                len(envelope),
                len(payload),
            )
            body = b"".join((fields, ids, envelope, payload))
            parts.append(PREFIX.pack(MAGIC, crc32(body)))
            parts.append(body)
            if is_event:
                run.positions.append(position)
                run.events.append((named, envelope, payload, ingress_ms, outbox_id))
                run.end = position + length
                sequence += 1
            if outbox_id:
                self.outbox[stream] = max(outbox_id, self.outbox.get(stream, self._carry.outbox.get(stream, 0)))
            position += length
        self.end = position
        self.newest_ms = max(self.newest_ms, enqueued_ms)
        if run.events:
            self.runs.append(run)
