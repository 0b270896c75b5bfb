"""Edge deployments by the engine, and content applied by hand."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from configurations.fakes import World
from devices.fakes import FakeDevice
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import MODULES_PER_DEVICE_MAX
from isthmus.configurations.metrics import MetricCounts
from isthmus.configurations.rollout import EVALUATION_SECONDS
from isthmus.devices.twin import JsonObject


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.configurations.close()


async def edge(world: World, name: str) -> DeviceRef:
    ref = DeviceRef(world.hub.number, name)
    await world.registry.put(ref, {"capabilities": {"iotEdge": True}}, None)
    return ref


def content(*running: str, **modules: JsonObject) -> JsonObject:
    """Whole content that runs some modules, and writes the desired properties of some."""
    agent = {"modules": {name: {"version": "1.0"} for name in running}}
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": agent},
            "$edgeHub": {"properties.desired": {"routes": {}}},
            **{name: {"properties.desired": settings} for name, settings in modules.items()},
        }
    }


async def modules_of(world: World, device: DeviceRef) -> list[str]:
    return [each.ref.module_id for each in await world.registry.modules(device.hub, device.device_id)]


async def test_a_deployment_is_for_edge_devices_with_all_their_modules(world: World) -> None:
    gateway, leaf = await edge(world, "gateway"), await world.add("leaf")
    agent, camera = gateway._replace(module_id="$edgeAgent"), gateway._replace(module_id="camera")
    await world.create("d", content("camera", "idle", camera={"rate": 5}))
    await world.settled()
    assert await modules_of(world, gateway) == ["$edgeAgent", "$edgeHub", "camera", "idle"]
    assert (await world.desired(camera), await world.statuses(camera)) == ({"rate": 5}, {})
    assert await world.statuses(agent) == {"d": "Applied"}
    assert await world.desired(leaf) == {}
    later = await edge(world, "later")
    await world.settled()
    assert await modules_of(world, later) == ["$edgeAgent", "$edgeHub", "camera", "idle"]
    await world.configurations.delete(world.hub, "d", None)
    await world.settled()
    assert (await world.desired(camera), await world.desired(agent)) == ({}, {})


async def test_layers_add_to_a_deployment_and_what_loses_everywhere_is_only_targeted(world: World) -> None:
    gateway = await edge(world, "gateway")
    agent, camera = gateway._replace(module_id="$edgeAgent"), gateway._replace(module_id="camera")
    layer: JsonObject = {"modulesContent": {"camera": {"properties.desired.more": 1}}}
    await world.create("old", content("camera", camera={"rate": 1}), priority=1)
    await world.create("new", content("camera", camera={"rate": 2}), priority=2)
    await world.create("layer", layer, priority=3)
    await world.settled()
    assert await world.desired(camera) == {"rate": 2, "more": 1}
    assert await world.statuses(agent) == {"old": "Targeted", "new": "Applied", "layer": "Applied"}


async def test_modules_of_a_device_that_is_no_edge_device_any_more_are_cleaned(world: World) -> None:
    gateway = await edge(world, "gateway")
    camera = gateway._replace(module_id="camera")
    await world.create("d", content("camera", camera={"rate": 5}))
    await world.create("m", {"moduleContent": {"properties.desired.own": 1}}, "from devices.modules")
    await world.settled()
    assert await world.desired(camera) == {"rate": 5, "own": 1}
    await world.registry.put(gateway, {"capabilities": {"iotEdge": False}}, "*")
    await world.settled()
    passes = world.rollout.passes
    world.clock.now_ms += int(EVALUATION_SECONDS * 1000)
    await world.seen(lambda: world.rollout.passes > passes)
    assert await world.desired(camera) == {"own": 1}


async def test_what_edge_devices_report_is_counted(world: World) -> None:
    for name, code in (("good", 200), ("bad", 500), ("silent", None)):
        agent = (await edge(world, name))._replace(module_id="$edgeAgent")
        made = await world.configurations.find(world.hub.number, "d") or await world.create("d", content())
        await world.settled()
        if code is not None:
            version = (await world.twin(agent)).desired_version
            reported = {"lastDesiredVersion": version, "lastDesiredStatus": {"code": code}}
            await world.twins.patch_reported(agent, reported)
    counts = MetricCounts(world.state, world.clock)
    system, own = await counts.results(world.hub.number, made, counts.begin())
    assert (system, own) == (
        {"targetedCount": 3, "appliedCount": 3, "reportedSuccessfulCount": 1, "reportedFailedCount": 1},
        {},
    )


async def test_numbers_that_there_was_no_time_for_are_left_out(world: World) -> None:
    await world.add("d")
    made = await world.create("c", {"deviceContent": {}})
    counts = MetricCounts(world.state, world.clock)
    assert await counts.results(world.hub.number, made, 0) == ({}, {})
    await counts.results(world.hub.number, made, counts.begin())
    await world.add("e")
    assert (await counts.results(world.hub.number, made, 0))[0]["targetedCount"] == 1
    assert (await counts.results(world.hub.number, made, counts.begin()))[0]["targetedCount"] == 2


async def test_content_makes_writes_and_removes_in_one_commit(world: World) -> None:
    gateway = await edge(world, "gateway")
    own = await world.add("gateway/own")
    camera = gateway._replace(module_id="camera")
    await world.edge.apply(gateway, content("camera", camera={"rate": 5, "gone": 1}))
    device = world.connected.devices[camera] = FakeDevice()
    await world.edge.apply(gateway, content("camera", camera={"rate": 6}))
    assert device.desired == [({"rate": 6, "gone": None, "$version": 3}, 3)]
    await world.edge.apply(gateway, content("other"))
    assert await modules_of(world, gateway) == ["$edgeAgent", "$edgeHub", "other", own.module_id]
    assert {event.device_id for event in await world.events()} == {"gateway"}


async def test_content_that_does_not_fit_changes_nothing(world: World) -> None:
    gateway, leaf = await edge(world, "gateway"), await world.add("leaf")
    for number in range(MODULES_PER_DEVICE_MAX - 3):
        await world.add(f"gateway/own{number}")
    with pytest.raises(HubError) as full:
        await world.edge.apply(gateway, content("a", "b", "c"))
    assert full.value.code is Code.TOO_MANY_MODULES
    assert len(await modules_of(world, gateway)) == MODULES_PER_DEVICE_MAX - 1
    for ref, code in ((leaf, Code.ARGUMENT_INVALID), (leaf._replace(device_id="no"), Code.DEVICE_NOT_FOUND)):
        with pytest.raises(HubError) as refused:
            await world.edge.apply(ref, content("a"))
        assert refused.value.code is code


async def test_a_second_content_at_the_same_time_is_refused(world: World) -> None:
    gateway = await edge(world, "gateway")
    outcomes = await asyncio.gather(
        *(world.edge.apply(gateway, content("a")) for _ in range(2)), return_exceptions=True
    )
    [refused] = [each for each in outcomes if isinstance(each, HubError)]
    assert (refused.code, outcomes.count(None)) == (Code.APPLYING_IN_PROGRESS, 1)
    await world.edge.apply(gateway, content("a"))
