"""Heads go out at their pace; what does not take them is told and tried again, and holds nobody up."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from devices.fakes import StandingClock
from isthmus.access import head_export
from isthmus.access.head_export import RETRY_SECONDS, HeadExport, Pace
from isthmus.access.heads import heads_in
from isthmus.access.journal import Decision, Journal, Verdict
from isthmus.backends.memory import MemoryState

KEY = Ed25519PrivateKey.generate()


@dataclass
class Outlet:
    """Remembers heads; fails while `trouble` says so, hangs while `open` is not set."""

    name: str = "outlet"
    trouble: str = ""
    lines: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def write(self, line: str) -> None:
        self.open.wait()
        if self.trouble:
            raise OSError(self.trouble)
        self.lines.append(line)

    @property
    def sequences(self) -> list[int]:
        good, bad, _ = heads_in(self.lines, "outlet", KEY.public_key())
        assert not bad
        return [found.head.sequence for found in good]


@dataclass
class World:
    """A journal, and an export of its heads after three records or ten seconds."""

    clock: StandingClock = field(default_factory=StandingClock)
    outlet: Outlet = field(default_factory=Outlet)

    def __post_init__(self) -> None:
        self.journal = Journal(MemoryState(), self.clock)
        self.export = HeadExport(self.journal, KEY, [self.outlet], self.clock, Pace(3, 10))

    async def step(self, *, records: int = 0, seconds: float = 0) -> list[int]:
        for _ in range(records):
            self.journal.write(Decision(Verdict.CHANGED))
        self.clock.now_ms += int(seconds * 1000)
        await self.export.step()
        return self.outlet.sequences


async def test_the_first_head_goes_out_at_once() -> None:
    assert await World().step(records=1) == [1]


async def test_a_head_goes_out_after_so_many_records() -> None:
    world = World()
    await world.step(records=1)
    assert await world.step(records=2) == [1]
    assert await world.step(records=1) == [1, 4]


async def test_a_head_goes_out_after_so_much_time_when_there_is_anything_new() -> None:
    world = World()
    await world.step(records=1)
    assert await world.step(records=1, seconds=9) == [1]
    assert await world.step(seconds=1) == [1, 2]
    assert await world.step(seconds=100) == [1, 2]


async def test_the_last_head_goes_out_at_the_end() -> None:
    world = World()
    await world.step(records=1)
    world.journal.write(Decision(Verdict.CHANGED))
    await world.export.finish()
    assert world.outlet.sequences == [1, 2]


async def test_a_failure_is_told_and_tried_again_with_the_newest_head() -> None:
    world = World(outlet=Outlet(trouble="no space left"))
    assert await world.step(records=1) == []
    assert (world.export.trouble, world.export.failed) == ("outlet: no space left", 1)
    world.outlet.trouble = ""
    assert await world.step(records=1, seconds=RETRY_SECONDS - 1) == []
    assert await world.step(seconds=1) == [2]
    assert (world.export.trouble, world.export.exported) == ("", 1)


async def test_an_outlet_that_hangs_counts_as_failing_and_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_export, "ANSWER_SECONDS_MAX", 0.01)
    world = World()
    world.outlet.open.clear()
    await world.step(records=1)
    assert "no answer" in world.export.trouble
    await world.step(records=9, seconds=1_000)
    assert world.export.failed == 1
    world.outlet.open.set()
    async with asyncio.timeout(10):
        while world.export.trouble:
            await asyncio.sleep(0)
            await world.export.step()
    assert world.outlet.sequences == [1, 10]


async def test_one_that_fails_does_not_keep_another_waiting() -> None:
    world = World()
    broken = Outlet(name="away", trouble="unreachable")
    export = HeadExport(world.journal, KEY, [broken, world.outlet], world.clock, Pace(3, 10))
    await export.step()
    assert world.outlet.sequences == [0]
    assert export.trouble == "away: unreachable"
