"""The log against the obvious: a plain list of events, whatever is done to both, in whatever order.

Blocks and segments are tiny here, so that a few records make many of them.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS, Partition, Record
from telemetry.fakes import P0, P1, Disk, SetClock, Waiter, die, read_whole

PARTITIONS = (P0, P1, Partition(2, 0))
CONFIG = LogConfig(segment_bytes=900, retention_bytes=4_000, retention_ms=50_000, tail_cache_bytes=2_500)


@dataclass(frozen=True, slots=True)
class Append:
    """One commit: partition, size and whether the built-in endpoint is named, for each record."""

    records: tuple[tuple[int, int, bool], ...]


@dataclass(frozen=True, slots=True)
class Fail:
    """The next call of a verb fails, once or twice."""

    verb: str
    times: int


@dataclass(frozen=True, slots=True)
class Crash:
    """The process dies; so many bytes of what was not durable were written."""

    keep: int


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes, or the clock is set back; then retention."""

    ms: int


@dataclass(frozen=True, slots=True)
class Reopen:
    """The log is closed and opened."""


Step = Append | Fail | Crash | Pass | Reopen

appends = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300), st.booleans()), min_size=1, max_size=6).map(
    lambda records: Append(tuple(records))
)
others = st.one_of(
    st.builds(Fail, st.sampled_from(["write", "sync", "rename", "sync_folder"]), st.integers(1, 2)),
    st.builds(Crash, st.integers(0, 2_000)),
    st.builds(Pass, st.integers(-20_000, 60_000)),
    st.just(Reopen()),
)


@pytest.fixture(scope="module", autouse=True)
def tiny_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.telemetry.index.BLOCK_BYTES", 250)
        yield


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(appends, appends, others), max_size=25))
def test_the_log_is_a_list_of_events(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(Path(folder), steps))


async def _play(folder: Path, steps: list[Step]) -> None:
    pair = Pair(folder)
    for step in steps:
        await pair.take(step)
        pair.compare()
    await pair.log.close()


@dataclass(slots=True)
class Pair:
    """The log, and all that was acknowledged by partition."""

    folder: Path
    clock: SetClock = field(default_factory=SetClock)
    disk: Disk = field(init=False)
    log: SegmentLog = field(init=False)
    events: dict[Partition, list[bytes]] = field(default_factory=lambda: {each: [] for each in PARTITIONS})
    sent: int = 0

    def __post_init__(self) -> None:
        self._open()

    async def take(self, step: Step) -> None:
        match step:
            case Append(records):
                await self._append(records)
            case Fail(verb, times):
                self.disk.fail(verb, times)
            case Crash(keep):
                await die(self.log, self.disk, keep)
                self._open()
            case Pass(ms):
                self.clock.now_ms += ms
                self.log.tick(self.clock.now_ms)
            case Reopen():
                self.disk.mend()
                await self.log.close()
                self._open()

    def compare(self) -> None:
        for partition in PARTITIONS:
            expected = self.events[partition]
            info = self.log.info(partition)
            assert info.last_sequence == len(expected) - 1
            found = read_whole(self.log, partition)
            assert [record.sequence for record in found] == list(range(info.begin_sequence, len(expected)))
            assert [record.payload for record in found] == expected[info.begin_sequence :]
            times = [record.enqueued_ms for record in found]
            assert times == sorted(times)
            self._compare_seeks(partition, found)

    def _compare_seeks(self, partition: Partition, found: list[Record]) -> None:
        log, end = self.log, self.log.seek_end(partition)
        for record in found[:: max(len(found) // 3, 1)]:
            assert log.seek_sequence(partition, record.sequence) == record.offset
            assert log.read(partition, record.offset, 1, 1)[0] == [record]
            first = next(each for each in found if each.enqueued_ms >= record.enqueued_ms)
            assert log.seek_time(partition, record.enqueued_ms) == first.offset
            after = next((each for each in found if each.offset > record.offset), None)
            assert log.read(partition, log.seek_offset(partition, record.offset + 1), 1, 1)[0] == (
                [after] if after else []
            )
        assert log.seek_sequence(partition, len(self.events[partition])) == end
        assert log.read(partition, end, 1, 1) == ([], end)

    async def _append(self, records: tuple[tuple[int, int, bool], ...]) -> None:
        waiter = Waiter()
        payloads = []
        for cookie, (partition, size, is_event) in enumerate(records):
            payloads.append(f"{self.sent}:".encode() + b"x" * size)
            endpoints = (EVENTS,) if is_event else (7,)
            self.log.append(PARTITIONS[partition], endpoints, b"", payloads[-1], 0, waiter, cookie)
            self.sent += 1
        await waiter.heard(len(records))
        assert waiter.acknowledged in ([], list(range(len(records))))
        for cookie in waiter.acknowledged:
            partition, _, is_event = records[cookie]
            if is_event:
                self.events[PARTITIONS[partition]].append(payloads[cookie])

    def _open(self) -> None:
        self.disk = Disk(self.folder)
        self.log = SegmentLog.open(self.folder, self.clock, files=self.disk, config=CONFIG)
        assert self.log.recovery.damages == ()
