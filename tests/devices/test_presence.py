"""Presence: durable states, events in rising order, restarts."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from devices.fakes import HUB, NOW, NOW_MS, World
from isthmus.backends.memory import MemoryState
from isthmus.base.ids import DeviceRef
from isthmus.base.state import Key, State, Stored
from isthmus.devices.presence import BATCH_MAX, ConnectionState, Presence, PresenceRecord

DEVICE = DeviceRef(HUB, "dev1")


class Watched:
    """A state that tells which documents were asked for."""

    def __init__(self, state: MemoryState, looked: list[Key]) -> None:
        self._state = state
        self._looked = looked

    async def get(self, key: Key) -> Stored | None:
        self._looked.append(key)
        return await self._state.get(key)

    def __getattr__(self, name: str) -> Any:
        assert name in {"scan", "commit"}, "a start may not look at everybody"
        return getattr(self._state, name)


async def test_a_connection_is_recorded_with_its_event(world: World) -> None:
    await world.add("dev1")
    world.presence.connected(DEVICE, NOW_MS)
    await world.presence.flush()
    assert (await world.registry.view(DEVICE)).presence == PresenceRecord(ConnectionState.CONNECTED, NOW, NOW)
    event = (await world.events())[-1]
    assert (event.source, event.op_type) == ("deviceConnectionStateEvents", "deviceConnected")
    assert event.schema == "deviceConnectionStateNotification"


async def test_sequence_numbers_have_64_digits_and_rise_over_restarts(world: World) -> None:
    await world.add("dev1")
    for _ in range(3):
        await world.presence.open([HUB])
        for report in (world.presence.connected, world.presence.disconnected) * 2:
            report(DEVICE, NOW_MS)
            await world.presence.flush()
        world.clock.now_ms -= 3_600_000
        world.presence = Presence(world.state, world.clock)
    bodies = [msgspec.json.decode(event.body) for event in await world.events() if "onnected" in event.op_type]
    sequences = [body["sequenceNumber"] for body in bodies]
    assert len(sequences) == 12
    assert sequences == sorted(set(sequences))
    assert {len(sequence) for sequence in sequences} == {64}


async def test_a_flap_between_two_commits_leaves_no_event(world: World) -> None:
    await world.add("dev1")
    before = await world.events()
    world.presence.connected(DEVICE, NOW_MS)
    world.presence.disconnected(DEVICE, NOW_MS + 1)
    await world.presence.flush()
    assert await world.events() == before
    assert (await world.registry.view(DEVICE)).presence.connection_state == "Disconnected"


async def test_a_start_marks_everybody_as_disconnected(world: World) -> None:
    names = [f"d{number}" for number in range(BATCH_MAX + 1)]
    for name in (*names, "d0/m"):
        world.presence.connected(await world.add(name), NOW_MS)
    await world.presence.flush()
    await Presence(world.state, world.clock).open([HUB])
    states = {found.presence.connection_state for found in await world.registry.list(HUB)}
    module = await world.registry.view(DeviceRef(HUB, "d0", "m"))
    assert {*states, module.presence.connection_state} == {"Disconnected"}
    ends = [event for event in await world.events() if event.op_type == "deviceDisconnected"]
    assert len(ends) == len(names) + 1


async def test_a_start_looks_at_nobody_who_was_not_connected(world: World) -> None:
    for number in range(BATCH_MAX):
        await world.add(f"away{number}")
    world.presence.connected(await world.add("dev1"), NOW_MS)
    world.presence.connected(gone := await world.add("gone"), NOW_MS)
    world.presence.connected(left := await world.add("left"), NOW_MS)
    await world.presence.flush()
    world.presence.disconnected(left, NOW_MS)
    await world.presence.flush()
    await world.registry.delete(gone, None)
    looked: list[Key] = []
    await Presence(cast(State, Watched(world.state, looked)), world.clock).open([HUB])
    assert {key.name for key in looked if key.kind != "meta"} == {"dev1", "gone"}
    assert await world.state.count("online", HUB) == 0
    assert (await world.registry.view(DEVICE)).presence.connection_state == "Disconnected"


async def test_a_report_about_a_deleted_device_is_dropped(world: World) -> None:
    await world.add("dev1")
    world.presence.connected(DEVICE, NOW_MS)
    await world.registry.delete(DEVICE, None)
    await world.presence.flush()
    assert await world.names() == []


async def test_the_task_commits_what_is_reported(world: World) -> None:
    await world.add("dev1")
    committed = asyncio.Event()
    world.state.on_outbox(committed.set)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.presence.run())
        world.presence.connected(DEVICE, NOW_MS)
        async with asyncio.timeout(10):
            await committed.wait()
        running.cancel()
    assert (await world.registry.view(DEVICE)).presence.connection_state == "Connected"


@pytest.mark.parametrize("count", [BATCH_MAX * 2 + 1])
async def test_more_than_a_batch_is_committed_whole(world: World, count: int) -> None:
    for number in range(count):
        world.presence.connected(await world.add(f"d{number}"), NOW_MS)
    await world.presence.flush()
    found = await world.registry.list(HUB)
    assert {registered.presence.connection_state for registered in found} == {"Connected"}
    assert len(found) == count
