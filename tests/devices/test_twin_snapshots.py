"""Twins at hand follow what is committed."""

import asyncio

import pytest

from devices.fakes import HUB, World
from isthmus.base.ids import DeviceRef
from isthmus.base.state import Key, Stored
from isthmus.devices.twin_snapshots import LINGERING_MAX

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


async def test_a_released_twin_lingers_and_follows_what_is_committed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add("dev1")
    snapshots = world.twins.snapshots
    reads = count_reads(world, monkeypatch)
    await snapshots.hold(DEVICE)
    snapshots.release(DEVICE)
    assert snapshots.get(DEVICE) is None
    await world.twins.patch(DEVICE, {"tags": {"hall": 2}}, None)
    before = len(reads)
    await snapshots.hold(DEVICE)
    held = snapshots.get(DEVICE)
    assert held is not None
    assert held["tags"] == {"hall": 2}
    assert len(reads) == before


async def test_the_longest_released_is_forgotten_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = world.twins.snapshots
    refs = [await world.add(f"d{number}") for number in range(LINGERING_MAX + 1)]
    for ref in refs:
        await snapshots.hold(ref)
        snapshots.release(ref)
    reads = count_reads(world, monkeypatch)
    await snapshots.hold(refs[1])
    assert not reads
    await snapshots.hold(refs[0])
    assert len(reads) == 1


async def test_a_twin_does_not_linger_for_another_identity_of_the_name(world: World) -> None:
    snapshots = world.twins.snapshots
    world.registry.on_change(snapshots.identity_changed)
    await world.add("dev1")
    await world.twins.patch(DEVICE, {"tags": {"hall": 2}}, None)
    await snapshots.hold(DEVICE)
    snapshots.release(DEVICE)
    await world.registry.delete(DEVICE, None)
    await world.add("dev1")
    await snapshots.hold(DEVICE)
    assert snapshots.get(DEVICE) == {"tags": {}, "properties": {"desired": {}, "reported": {}}}


async def test_a_twin_that_was_held_when_its_identity_ended_leaves_nothing(world: World) -> None:
    snapshots = world.twins.snapshots
    world.registry.on_change(snapshots.identity_changed)
    await world.add("dev1")
    await world.twins.patch(DEVICE, {"tags": {"hall": 2}}, None)
    await snapshots.hold(DEVICE)
    await world.registry.delete(DEVICE, None)
    assert snapshots.get(DEVICE) is None
    snapshots.release(DEVICE)
    await world.add("dev1")
    await snapshots.hold(DEVICE)
    assert snapshots.get(DEVICE) == {"tags": {}, "properties": {"desired": {}, "reported": {}}}


async def test_who_holds_while_another_reads_has_it_at_hand_too(world: World) -> None:
    await world.add("dev1")
    snapshots = world.twins.snapshots
    held: list[object] = []

    async def hold() -> None:
        await snapshots.hold(DEVICE)
        held.append(snapshots.get(DEVICE))

    await asyncio.gather(hold(), hold(), hold())
    assert held == [{"tags": {}, "properties": {"desired": {}, "reported": {}}}] * 3


def count_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """The keys that are read from now on."""
    reads: list[Key] = []
    read = world.state.get

    async def noted(key: Key) -> Stored | None:
        reads.append(key)
        return await read(key)

    monkeypatch.setattr(world.state, "get", noted)
    return reads
