"""Twins at hand follow what is committed."""

import asyncio

from devices.fakes import HUB, World
from isthmus.base.ids import DeviceRef

DEVICE = DeviceRef(HUB, "dev1")


async def test_a_held_twin_is_the_last_committed_one(world: World) -> None:
    await world.add("dev1")
    snapshots = world.twins.snapshots
    assert snapshots.get(DEVICE) is None
    await snapshots.hold(DEVICE)
    assert snapshots.get(DEVICE) == {"tags": {}, "properties": {"desired": {}, "reported": {}}}
    await world.twins.patch(DEVICE, {"tags": {"hall": 2}, "properties": {"desired": {"x": 1}}}, None)
    await world.twins.patch_reported(DEVICE, {"t": 1})
    assert snapshots.get(DEVICE) == {"tags": {"hall": 2}, "properties": {"desired": {"x": 1}, "reported": {"t": 1}}}
    snapshots.release(DEVICE)
    assert snapshots.get(DEVICE) is None


async def test_a_commit_while_it_is_read_is_not_lost(world: World) -> None:
    await world.add("dev1")
    snapshots = world.twins.snapshots
    for hall in range(20):
        await asyncio.gather(
            snapshots.hold(DEVICE), world.twins.patch(DEVICE, {"tags": {"hall": hall}}, None), snapshots.hold(DEVICE)
        )
        held = snapshots.get(DEVICE)
        assert held is not None
        assert held["tags"] == {"hall": hall}
        snapshots.release(DEVICE)


async def test_a_twin_that_is_not_held_is_read(world: World) -> None:
    assert await world.twins.snapshots.read(DEVICE) is None
    await world.add("dev1")
    assert await world.twins.snapshots.read(DEVICE) == {"tags": {}, "properties": {"desired": {}, "reported": {}}}
    assert world.twins.snapshots.get(DEVICE) is None


async def test_there_is_nothing_to_hold_of_a_stranger(world: World) -> None:
    await world.twins.snapshots.hold(DEVICE)
    assert world.twins.snapshots.get(DEVICE) is None
