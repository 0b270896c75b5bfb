"""The pool of warm lines, over lines that never leave the process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from connector.fake_hub import eventually
from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.connector import spares as spares_module
from isthmus.connector.dialling import DialFailed
from isthmus.connector.line import Line
from isthmus.connector.spares import DIALS_MAX, WAITING_MAX, SpareLines

WAIT_SECONDS = 5.0


class OpenLayer:
    """No protection, and no end but the socket's."""

    established = True
    ended = False
    server_name = ""
    peer_chain: tuple[bytes, ...] = ()
    version = ""

    def receive(self, data: bytes | memoryview) -> bytes:
        return b""

    def send(self, data: bytes | memoryview) -> None:
        raise AssertionError("nothing is sent on a spare line")

    def outgoing(self) -> bytes:
        return b""

    def finish(self) -> None:
        pass


@dataclass
class Dials:
    """Gives lines when it is told to, and keeps their far ends."""

    far: list[socket.socket] = field(default_factory=list)
    asked: int = 0
    failing: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def dial(self) -> Line:
        self.asked += 1
        self.changed.set()
        await self.gate.wait()
        if self.failing:
            raise DialFailed("no way")
        near, far = socket.socketpair()
        near.setblocking(False)
        self.far.append(far)
        self.changed.set()
        return Line(near, OpenLayer(), "hub:9443", 0.0)

    async def until(self, asked: int) -> None:
        """Waits for so many dials, counted from the beginning."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.asked < asked:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def dials() -> AsyncIterator[Dials]:
    made = Dials()
    made.gate.set()
    yield made
    for far in made.far:
        far.close()


@pytest.fixture
async def spares(dials: Dials) -> AsyncIterator[SpareLines]:
    pool = SpareLines(dials.dial, clock=SystemClock(), ids=RandomIds())
    yield pool
    await pool.close()


async def test_a_pool_that_was_never_opened_dials_nothing(spares: SpareLines, dials: Dials) -> None:
    taken: list[Line] = []
    assert spares.take("a", taken.append)
    await asyncio.sleep(0)
    assert (dials.asked, taken, spares.waiting) == (0, [], 1)


async def test_as_many_as_are_wanted_are_kept_ready(spares: SpareLines, dials: Dials) -> None:
    spares.keep(3)
    await _ready(spares, 3)
    assert dials.asked == 3


async def test_a_line_that_is_taken_is_replaced(spares: SpareLines, dials: Dials) -> None:
    spares.keep(2)
    await _ready(spares, 2)
    taken: list[Line] = []
    spares.take("a", taken.append)
    assert len(taken) == 1
    await dials.until(3)
    await _ready(spares, 2)
    taken[0].abort()


async def test_whoever_waited_longest_is_first(spares: SpareLines, dials: Dials) -> None:
    dials.gate.clear()
    spares.keep(0)
    order: list[str] = []

    def taker(name: str) -> None:
        def take(line: Line) -> None:
            order.append(name)
            line.abort()

        spares.take(name, take)

    for name in "abc":
        taker(name)
    spares.forget("b")
    dials.gate.set()
    await eventually(lambda: len(order) == 2)
    assert order == ["a", "c"]


async def test_no_more_dials_at_once_than_the_limit(spares: SpareLines, dials: Dials) -> None:
    dials.gate.clear()
    spares.keep(DIALS_MAX + 10)
    await dials.until(DIALS_MAX)
    await asyncio.sleep(0)
    assert dials.asked == DIALS_MAX
    dials.gate.set()
    await _ready(spares, DIALS_MAX + 10)


async def test_too_many_that_wait_are_turned_away(spares: SpareLines) -> None:
    assert all(spares.take(number, lambda line: None) for number in range(WAITING_MAX))
    assert not spares.take("one more", lambda line: None)


async def test_a_failed_dial_is_followed_by_another(spares: SpareLines, dials: Dials) -> None:
    dials.failing = True
    spares.keep(1)
    await dials.until(2)
    dials.failing = False
    await _ready(spares, 1)


async def test_a_line_that_the_hub_ends_is_replaced(spares: SpareLines, dials: Dials) -> None:
    spares.keep(1)
    await _ready(spares, 1)
    dials.far[0].close()
    await dials.until(2)
    await _ready(spares, 1)


async def test_a_line_that_ages_is_replaced(dials: Dials, spares: SpareLines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spares_module, "AGE_SECONDS_MIN", 0.05)
    monkeypatch.setattr(spares_module, "AGE_SECONDS_MAX", 0.05)
    spares.keep(1)
    await dials.until(3)
    assert dials.far[0].recv(1) == b""


async def test_a_pause_closes_what_is_ready_and_dials_no_more(spares: SpareLines, dials: Dials) -> None:
    spares.keep(2)
    await _ready(spares, 2)
    spares.pause()
    assert spares.ready == 0
    spares.take("a", lambda line: line.abort())
    await asyncio.sleep(0)
    assert dials.asked == 2
    spares.keep(1)
    await _ready(spares, 1)
    assert spares.waiting == 0


async def test_fewer_are_kept_when_fewer_are_wanted(spares: SpareLines, dials: Dials) -> None:
    spares.keep(3)
    await _ready(spares, 3)
    spares.keep(1)
    assert spares.ready == 1


async def _ready(spares: SpareLines, count: int) -> None:
    await eventually(lambda: spares.ready == count)
