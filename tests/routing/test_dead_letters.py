"""Dead letters: kept with their reasons, listed, re-driven in order, purged."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing import dead_letters as module
from isthmus.routing.dead_letters import DeadLetters
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.telemetry.ports import Partition, Record
from isthmus.telemetry.reader import LogReader
from routing.fakes import HUB
from telemetry.fakes import START_MS, SetClock

STORE = RoutingEndpoint(2, "g", "store", EndpointKind.STORAGE, EndpointAuthentication.KEY)
PLANT = replace(HUB, endpoints=(STORE,), last_endpoint=2)


@dataclass
class World:
    """Two logs on disk and a state, as a server has them."""

    folder: Path
    state: MemoryState
    dead: SegmentLog
    log: SegmentLog

    async def reopened(self) -> DeadLetters:
        letters = DeadLetters(self.state, self.dead, self.log, SetClock())
        await letters.load(PLANT.number)
        return letters

    def driven(self) -> list[Record]:
        """What stands in the hub's log."""
        reader = LogReader(self.folder / "log")
        records, _ = reader.read_all(0, 10_000)
        reader.close()
        return records


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    dead, log = SegmentLog.open(tmp_path / "dead", SetClock()), SegmentLog.open(tmp_path / "log", SetClock())
    yield World(tmp_path, MemoryState(), dead, log)
    await dead.close()
    await log.close()


def records(count: int, first: int = 0) -> list[Record]:
    envelope = encode_envelope(Envelope("pump", properties={"a": "b"}))
    return [
        Record(Partition(1, place % 3), -1, 100 + place, START_MS, START_MS, (2,), 0, envelope, b"%d" % place)
        for place in range(first, first + count)
    ]


async def bury(letters: DeadLetters, count: int, first: int = 0) -> None:
    assert await letters.bury(PLANT.number, 2, records(count, first), "too far behind", "Code") == ""


async def test_dead_letters_are_listed_with_what_they_were(world: World) -> None:
    letters = await world.reopened()
    await bury(letters, 3)
    listed = (await world.reopened()).listed(PLANT.number, 2)
    assert [(each.number, each.payload, each.letter.partition, each.letter.offset) for each in listed] == [
        (0, b"0", 0, 100),
        (1, b"1", 1, 101),
        (2, b"2", 2, 102),
    ]
    assert {(each.letter.reason, each.letter.code) for each in listed} == {("too far behind", "Code")}
    assert listed[0].envelope == Envelope("pump", properties={"a": "b"})
    assert letters.listed(PLANT.number, 2, first=1, most=1) == listed[1:2]


async def test_they_are_driven_once_more_in_order_as_records_of_their_endpoint_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_RECORDS_MAX", 4)
    letters = await world.reopened()
    await bury(letters, 10)
    assert await letters.redrive(PLANT, 2, until=5) == 6
    assert await letters.redrive(PLANT, 2) == 4
    assert await letters.redrive(PLANT, 2) == 0
    driven = world.driven()
    for partition in range(3):
        mine = [int(each.payload) for each in driven if each.partition.number == partition]
        assert mine == list(range(partition, 10, 3))
    assert {each.endpoints for each in driven} == {(2,)}
    assert {each.sequence for each in driven} == {-1}
    assert (letters.count(PLANT.number, 2), (await world.reopened()).count(PLANT.number, 2)) == (0, 0)


async def test_numbers_go_on_after_a_purge(world: World) -> None:
    letters = await world.reopened()
    await bury(letters, 3)
    assert await letters.purge(PLANT.number, 2, until=0) == 1
    assert await letters.purge(PLANT.number, 2) == 2
    await bury(letters, 1, first=3)
    assert [each.number for each in (await world.reopened()).listed(PLANT.number, 2)] == [3]
    assert world.driven() == []


async def test_a_log_that_fails_leaves_them_dead(world: World) -> None:
    letters = await world.reopened()
    await bury(letters, 2)
    await world.log.close()
    with pytest.raises(HubError) as refused:
        await letters.redrive(PLANT, 2)
    assert refused.value.code is Code.SERVER_BUSY
    assert letters.count(PLANT.number, 2) == 2


async def test_a_dead_letter_log_that_fails_says_so(world: World) -> None:
    letters = await world.reopened()
    await world.dead.close()
    assert await letters.bury(PLANT.number, 2, records(1), "why", "") == "the log is closed"


async def test_one_call_at_a_time_moves_them(world: World) -> None:
    letters = await world.reopened()
    await bury(letters, 2)
    results = await asyncio.gather(letters.redrive(PLANT, 2), letters.purge(PLANT.number, 2), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], HubError)
    assert results[1].code is Code.CONFLICT


async def test_a_record_s_dead_letter_is_found_also_when_it_is_there_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_RECORDS_MAX", 2)
    letters = await world.reopened()
    await bury(letters, 5)
    found = await letters.find(PLANT.number, 2, (1, 104))
    assert found is not None
    assert (found[0].number, found[0].payload, found[1]) == (4, b"4", True)
    assert await letters.find(PLANT.number, 2, (2, 104)) is None
    await letters.purge(PLANT.number, 2, 4)
    gone = await letters.find(PLANT.number, 2, (1, 104))
    assert gone is not None
    assert gone[1] is False
    monkeypatch.setattr(module, "FIND_LETTERS_MAX", 3)
    assert await letters.find(PLANT.number, 2, (1, 104)) is None
