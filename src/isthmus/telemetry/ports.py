"""The log port: append with group commit, read by cursor, per stream and partition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

EVENTS = 1
"""Endpoint id of the built-in endpoint `events`; ids of other endpoints follow and are never reused."""


class Partition(NamedTuple):
    """A stream is a hub's telemetry (its number is the hub's); a partition is an ordered slice of it, from 0."""

    stream: int
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """A committed record; `sequence` is -1 for records that do not name `events`.

    `offset` rises within the log and names the record for ever; `enqueued_ms` never falls within a partition.
    """

    partition: Partition
    sequence: int
    offset: int
    enqueued_ms: int
    ingress_ms: int
    endpoints: tuple[int, ...]
    outbox_id: int
    envelope: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """What `$management` tells of a partition of the built-in endpoint; an empty one has `last_sequence` -1.

    `next_sequence` follows the last one, unless numbers were skipped that nobody may be given again.
    """

    begin_sequence: int
    last_sequence: int
    last_offset: int
    last_enqueued_ms: int
    next_sequence: int

    @property
    def is_empty(self) -> bool:
        return self.last_sequence < self.begin_sequence


class CommitWaiter(Protocol):
    """Is told on the event loop, once per commit, which of its appends are durable."""

    def committed(self, cookies: list[int]) -> None:
        """The cookies of this waiter's appends in this commit, in the order they were appended."""

    def failed(self, cookies: list[int], reason: str) -> None:
        """These appends are not durable and will not be; the peer must not be acknowledged.

        Everything appended later and before this call fails too: what is durable is a prefix of what was appended.
        """


class Log(Protocol):
    """The only queue of the house."""

    def append(
        self,
        partition: Partition,
        endpoints: tuple[int, ...],
        envelope: bytes,
        payload: bytes,
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
        outbox_id: int = 0,
    ) -> None:
        """Takes a record into the next group commit; `waiter` hears of it. Never blocks and never raises for load.

        Waiters hear of commits in the order of appends, never during this call. Raises `ValueError` for a record that
        is larger than any endpoint takes. Callers should give the same `endpoints` tuple again and again.
        """

    def append_all(
        self,
        partition: Partition,
        endpoints: tuple[int, ...],
        events: Sequence[tuple[bytes, bytes]],
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
    ) -> None:
        """As `append`, for events that share a fate: pairs of envelope and payload that go into one commit, in order.

        `waiter` hears the cookie once for each event. Nothing is appended when one of them is too large.
        """

    @property
    def backlog_bytes(self) -> int:
        """Bytes taken and not yet durable; doors stop reading above `limits.LOG_BACKLOG_BYTES_MAX`."""

    def info(self, partition: Partition) -> PartitionInfo:
        """First and last retained event of the built-in endpoint's view."""

    def last_outbox_id(self, stream: int) -> int:
        """Highest outbox id of that stream in the log, 0 when there is none: what the relay may skip."""

    def seek_sequence(self, partition: Partition, sequence: int) -> int:
        """Cursor at the first retained event whose sequence number is at least `sequence`; the end when none is."""

    def seek_offset(self, partition: Partition, offset: int) -> int:
        """Cursor at the first retained event whose offset is at least `offset`; the end when none is."""

    def seek_time(self, partition: Partition, utc_ms: int) -> int:
        """Cursor at the first retained event enqueued at or after `utc_ms`; the end when none is."""

    def seek_end(self, partition: Partition) -> int:
        """Cursor behind the last durable event: only what comes later is read."""

    def read(self, partition: Partition, cursor: int, max_records: int, max_bytes: int) -> tuple[list[Record], int]:
        """Durable events of the built-in endpoint's view from `cursor` on, and the cursor behind them.

        At least one record is returned when there is one, whatever its size; `max_bytes` counts envelopes and payloads.
        A cursor is a log position: opaque, valid for ever; one that lies before retention reads from the first retained
        event, and any number not negative may be given as one. Recent events come from memory, others from disk, up to
        256 KiB a call.
        """

    def on_growth(self, partition: Partition, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` on the event loop after each commit that grew the partition; returns the undo."""

    async def close(self) -> None:
        """Commits what was taken, then closes; idempotent."""
