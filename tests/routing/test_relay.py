"""The outbox relay: in order, once, and through crashes and failures."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.base.ids import HubId
from isthmus.base.state import OutboxEvent
from isthmus.resources.hub import Hub, Route, RouteSource
from isthmus.routing.accept import Accept
from isthmus.routing.relay import ROWS_MAX, OutboxRelay
from isthmus.routing.route import partition_number
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.message import MessageSource, decode_envelope
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.reader import LogReader
from routing.fakes import TWIN_ROUTE, FakeTwins, hub_with, row, twin_change
from telemetry.fakes import Disk, SetClock, die, read_whole

TWIN_HUB = hub_with(TWIN_ROUTE)


@dataclass
class Bench:
    """A state that outlives crashes, and a log and a relay that do not."""

    folder: Path
    hub: Hub | None = TWIN_HUB
    state: MemoryState = field(default_factory=MemoryState)
    pauses: list[float] = field(default_factory=list)
    on_pause: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.disk = Disk(self.folder)
        self.log = SegmentLog.open(self.folder, SetClock(), files=self.disk, config=LogConfig(segment_bytes=2_000))
        self.relay = OutboxRelay(
            self.state, self.log, Accept(self.log, FakeTwins()), lambda number: self.hub, SetClock(), pause=self._pause
        )

    async def change(self, *events: OutboxEvent) -> None:
        await self.state.commit([], events)

    def relayed(self, device_id: str = "pump") -> list[bytes]:
        return [record.payload for record in read_whole(self.log, Partition(1, partition_number(device_id, 4)))]

    async def left(self) -> int:
        return len(await self.state.outbox(after=0, limit=10_000))

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.on_pause()


@pytest.fixture
def bench_folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def test_events_become_records_in_order_and_leave_the_outbox(bench_folder: Path) -> None:
    bench = Bench(bench_folder)
    await bench.change(*(row(twin_change(number)) for number in range(ROWS_MAX + 3)))
    await bench.relay.drain()
    assert bench.relayed() == [b'{"version":%d}' % number for number in range(ROWS_MAX + 3)]
    assert (await bench.left(), bench.relay.relayed) == (0, ROWS_MAX + 3)
    await bench.log.close()


async def test_the_task_wakes_with_each_commit(bench_folder: Path) -> None:
    bench = Bench(bench_folder)
    await bench.change(row(twin_change(0)))
    task = asyncio.create_task(bench.relay.run())
    for number in range(1, 4):
        grown = asyncio.Event()
        bench.log.on_growth(Partition(1, partition_number("pump", 4)), grown.set)
        await bench.change(row(twin_change(number)))
        await grown.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.relay.drain()
    assert bench.relayed() == [b'{"version":%d}' % number for number in range(4)]
    await bench.log.close()


async def test_events_nobody_asked_for_leave_no_trace(bench_folder: Path) -> None:
    bench = Bench(bench_folder, hub=hub_with(Route("life", RouteSource.DEVICE_LIFECYCLE)))
    lifecycle = twin_change(2, source=MessageSource.DEVICE_LIFECYCLE)
    await bench.change(row(twin_change(1)), row(lifecycle), row(twin_change(3)))
    await bench.relay.drain()
    assert bench.relayed() == [b'{"version":2}']
    assert await bench.left() == 0
    await bench.log.close()


async def test_a_crash_before_the_outbox_forgets_relays_nothing_twice(bench_folder: Path) -> None:
    bench = Bench(bench_folder)
    await bench.change(*(row(twin_change(number)) for number in range(5)))
    forget = bench.state.outbox_done

    async def killed(upto: int) -> None:
        raise ConnectionAbortedError

    bench.state.outbox_done = killed  # type: ignore[method-assign]
    with pytest.raises(ConnectionAbortedError):
        await bench.relay.drain()
    await die(bench.log, bench.disk)
    bench.state.outbox_done = forget  # type: ignore[method-assign]
    bench.open()
    await bench.change(row(twin_change(5)))
    await bench.relay.drain()
    assert bench.relayed() == [b'{"version":%d}' % number for number in range(6)]
    assert await bench.left() == 0
    await bench.log.close()


@pytest.mark.parametrize("verb", ["write", "sync"])
@pytest.mark.parametrize("keep", range(0, 1_500, 100))
async def test_a_crash_within_the_commit_relays_each_event_once(bench_folder: Path, verb: str, keep: int) -> None:
    """Devices of all partitions, so that the commit's bytes are not in the order of the rows."""
    bench = Bench(bench_folder)
    devices = ["fan", "pump", "valve", "drill", "fan", "pump"]
    await bench.change(*(row(twin_change(number, name)) for number, name in enumerate(devices)))
    bench.disk.die_at(verb, after=1)
    bench.on_pause = lambda: relaying.cancel()
    relaying = asyncio.create_task(bench.relay.drain())
    with pytest.raises(asyncio.CancelledError):
        await relaying
    await die(bench.log, bench.disk, keep)
    bench.open()
    await bench.relay.drain()
    for name in set(devices):
        found = read_whole(bench.log, Partition(1, partition_number(name, 4)))
        own = [each.payload for each in found if decode_envelope(each.envelope).device_id == name]
        assert own == [b'{"version":%d}' % number for number, each in enumerate(devices) if each == name]
    await bench.log.close()


async def test_a_failing_log_makes_events_wait(bench_folder: Path) -> None:
    bench = Bench(bench_folder)
    await bench.change(row(twin_change(0)))
    await bench.relay.drain()
    bench.disk.fail("sync", times=6)
    await bench.change(row(twin_change(1)), row(twin_change(2)))
    await bench.relay.drain()
    assert len(bench.pauses) == 3
    assert bench.relayed() == [b'{"version":%d}' % number for number in range(3)]
    await bench.log.close()


async def test_an_unreadable_row_is_counted_and_does_not_hold_up_others(
    bench_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(bench_folder)
    await bench.change(row(twin_change(0)), OutboxEvent(HubId(1), b"\xc1 damaged"), row(twin_change(1)))
    await bench.relay.drain()
    assert bench.relayed() == [b'{"version":0}', b'{"version":1}']
    assert (bench.relay.unreadable, await bench.left()) == (1, 0)
    assert "outbox row is unreadable" in caplog.text
    await bench.log.close()


async def test_events_of_a_deleted_hub_go_with_it(bench_folder: Path) -> None:
    bench = Bench(bench_folder, hub=None)
    await bench.change(row(twin_change(0)))
    await bench.relay.drain()
    assert (bench.relayed(), await bench.left()) == ([], 0)
    await bench.log.close()


async def test_a_route_that_is_not_offered_holds_its_events_until_it_is_gone(bench_folder: Path) -> None:
    bench = Bench(bench_folder, hub=hub_with(Route("hot", RouteSource.TWIN_CHANGES, condition="x = 1")))
    await bench.change(row(twin_change(0)))

    def repair() -> None:
        bench.hub = TWIN_HUB

    bench.on_pause = repair
    await bench.relay.drain()
    assert bench.relayed() == [b'{"version":0}']
    await bench.log.close()


async def test_records_carry_the_outbox_id_for_other_processes_too(bench_folder: Path) -> None:
    bench = Bench(bench_folder)
    await bench.change(row(twin_change(0)), row(twin_change(1)))
    await bench.relay.drain()
    reader = LogReader(bench_folder)
    assert [record.outbox_id for record in reader.read_all(0, 10)[0]] == [1, 2]
    reader.close()
    await bench.log.close()
