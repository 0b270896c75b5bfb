"""Twins over a state: one commit with its event, the etag, the news for a connected device."""

import asyncio
import base64
from collections.abc import Awaitable, Sequence

import msgspec
import pytest

from devices.fakes import HUB, NOW, FakeDevice, World
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.state import Change, OutboxEvent
from isthmus.devices.documents import twin_key
from isthmus.devices.twin import Twin
from isthmus.devices.views import twin_to_wire

DEVICE = DeviceRef(HUB, "dev1")
MODULE = DeviceRef(HUB, "dev1", "mod1")


async def test_a_patch_is_there_afterwards(world: World) -> None:
    await world.add("dev1")
    view = await world.twins.patch(DEVICE, wish({"x": 1}, tags={"hall": 2}), None)
    assert view.twin == (await world.twins.get(DEVICE)).twin
    assert view.twin.properties.desired == {"x": 1}
    assert view.twin.tags == {"hall": 2}


async def test_the_etag_guards_patch_and_replacement(world: World) -> None:
    await world.add("dev1")
    first = (await world.twins.get(DEVICE)).twin.etag
    second = (await world.twins.patch(DEVICE, wish({"x": 1}), first)).twin.etag
    for write in (world.twins.patch, world.twins.replace):
        await refused(write(DEVICE, wish({"x": 2}), first), Code.PRECONDITION_FAILED)
    await world.twins.replace(DEVICE, wish({"y": 1}), second)
    assert (await world.twins.patch(DEVICE, wish({"z": 1}), "*")).twin.properties.desired == {"y": 1, "z": 1}


async def test_unknown_names_are_refused(world: World) -> None:
    for work in (world.twins.get, world.twins.device_view):
        await refused(work(DEVICE), Code.DEVICE_NOT_FOUND)
        await refused(work(MODULE), Code.DEVICE_NOT_FOUND)
    await refused(world.twins.patch_reported(DEVICE, {}), Code.DEVICE_NOT_FOUND)
    await world.add("dev1")
    await refused(world.twins.patch(MODULE, {}, None), Code.MODULE_NOT_FOUND)
    await refused(world.twins.patch_reported(MODULE, {}), Code.MODULE_NOT_FOUND)


async def test_reported_properties_return_their_version(world: World) -> None:
    await world.add("dev1")
    assert await world.twins.patch_reported(DEVICE, {"t": 1}) == 2
    assert await world.twins.patch_reported(DEVICE, {"t": None}, 2) == 3
    await refused(world.twins.patch_reported(DEVICE, {}, 2), Code.PRECONDITION_FAILED)
    await refused(world.twins.patch_reported(DEVICE, ["t"]), Code.ARGUMENT_INVALID)


async def test_the_device_reads_both_sections_with_versions_only(world: World) -> None:
    await world.add("dev1")
    await world.twins.patch(DEVICE, wish({"x": 1}, tags={"secret": 1}), None)
    assert await world.twins.device_view(DEVICE) == {"desired": {"x": 1, "$version": 2}, "reported": {"$version": 1}}


async def test_a_connected_device_hears_what_was_wished(world: World) -> None:
    await world.add("dev1")
    device = world.connected.devices[DEVICE] = FakeDevice()
    await world.twins.patch(DEVICE, wish({"x": 1, "y": None}), None)
    await world.twins.replace(DEVICE, wish({"z": 1, "gone": None}), None)
    await world.twins.patch(DEVICE, {"tags": {"t": 1}}, None)
    assert device.desired == [({"x": 1, "y": None, "$version": 2}, 2), ({"z": 1, "$version": 3}, 3)]


async def test_a_refused_patch_is_not_told(world: World) -> None:
    await world.add("dev1")
    device = world.connected.devices[DEVICE] = FakeDevice()
    await refused(world.twins.patch(DEVICE, wish({"a b": 1}), None), Code.ARGUMENT_INVALID)
    assert not device.desired


async def test_a_patch_is_an_event_with_what_changed(world: World) -> None:
    await world.add("dev1")
    await world.twins.patch(DEVICE, wish({"x": 1, "y": None}, tags={"t": None}), None)
    event = (await world.events())[-1]
    assert (event.source, event.op_type, event.schema) == ("twinChangeEvents", "updateTwin", "twinChangeNotification")
    stamp = {"$lastUpdated": NOW, "$lastUpdatedVersion": 2}
    assert msgspec.json.decode(event.body) == {
        "version": 2,
        "tags": {"t": None},
        "properties": {"desired": {"x": 1, "y": None, "$metadata": {**stamp, "x": stamp}, "$version": 2}},
    }


async def test_a_report_is_an_event_with_what_changed(world: World) -> None:
    await world.add("dev1")
    await world.twins.patch_reported(DEVICE, {"t": 1})
    stamp = {"$lastUpdated": NOW}
    assert msgspec.json.decode((await world.events())[-1].body) == {
        "version": 1,
        "properties": {"reported": {"t": 1, "$metadata": {**stamp, "t": stamp}, "$version": 2}},
    }


async def test_a_replacement_is_an_event_with_the_whole(world: World) -> None:
    await world.add("dev1")
    await world.add("dev1/mod1")
    await world.twins.replace(MODULE, wish({"x": 1}, tags={"t": 1}), None)
    event = (await world.events())[-1]
    body = msgspec.json.decode(event.body)
    assert event.op_type == "replaceTwin"
    assert list(body) == ["deviceId", "moduleId", "etag", "version", "tags", "properties"]
    assert body["properties"]["desired"]["x"] == 1


async def test_patches_at_once_all_take_effect(world: World) -> None:
    await world.add("dev1")
    await asyncio.gather(*(world.twins.patch_reported(DEVICE, {f"k{number}": number}) for number in range(10)))
    assert (await world.twins.device_view(DEVICE))["reported"] == {
        **{f"k{number}": number for number in range(10)},
        "$version": 11,
    }


async def test_somebody_faster_makes_the_patch_start_again() -> None:
    state = Interrupted()
    world = World(state)
    await world.add("dev1")
    state.interruption = world.twins.patch_reported(DEVICE, {"t": 1})
    view = await world.twins.patch(DEVICE, wish({"x": 1}), None)
    assert view.twin.properties.reported == {"t": 1}


async def test_a_model_is_kept_and_written_once(world: World) -> None:
    ref = await world.add("dev1")
    before = (await world.twins.get(ref)).twin
    await world.twins.set_model(ref, "dtmi:a;1")
    stored = await world.state.get(twin_key(ref))
    await world.twins.set_model(ref, "dtmi:a;1")
    assert await world.state.get(twin_key(ref)) == stored
    assert (await world.twins.get(ref)).twin == msgspec.structs.replace(before, model_id="dtmi:a;1")
    await refused(world.twins.set_model(ref._replace(device_id="none"), "dtmi:a;1"), Code.DEVICE_NOT_FOUND)


async def test_what_a_twin_is_to_become_is_made_anew_when_somebody_was_faster() -> None:
    state = Interrupted()
    world = World(state)
    ref = await world.add("dev1")
    await world.twins.patch(ref, wish({"count": 1}), None)

    def one_more(twin: Twin) -> dict[str, object]:
        count = twin.properties.desired["count"]
        return {"count": count + 1} if isinstance(count, int) and count < 11 else {}

    state.interruption = world.twins.patch(ref, wish({"count": 10}), None)
    assert (await world.twins.desire(ref, one_more, None)).twin.properties.desired == {"count": 11}
    same = await world.twins.desire(ref, one_more, "*")
    assert same.twin.desired_version == (await world.twins.get(ref)).twin.desired_version
    await refused(world.twins.desire(ref, lambda twin: {"x": 1}, "no"), Code.PRECONDITION_FAILED)


async def test_a_twin_on_the_wire_has_all_its_members(world: World) -> None:
    await world.add("dev1")
    wire = twin_to_wire(await world.twins.get(DEVICE), 3, with_model_id=True)
    identity = await world.registry.require(DEVICE)
    never = "0001-01-01T00:00:00Z"
    section = {"$metadata": {"$lastUpdated": never}, "$version": 1}
    assert wire == {
        "deviceId": "dev1",
        "etag": "AAAAAAAAAAE=",
        "deviceEtag": identity.etag,
        "status": "enabled",
        "statusUpdateTime": never,
        "connectionState": "Disconnected",
        "lastActivityTime": never,
        "cloudToDeviceMessageCount": 3,
        "authenticationType": "sas",
        "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
        "modelId": "",
        "version": 1,
        "tags": {},
        "properties": {"desired": section, "reported": section},
        "capabilities": {"iotEdge": False},
    }
    assert int.from_bytes(base64.b64decode("AAAAAAAAAAE="), "big") == 1


async def refused(work: Awaitable[object], code: Code) -> None:
    with pytest.raises(HubError) as caught:
        await work
    assert caught.value.code is code


def wish(desired: dict[str, object], tags: dict[str, object] | None = None) -> dict[str, object]:
    return {"tags": tags, "properties": {"desired": desired}}


class Interrupted(MemoryState):
    """A state in which something else commits just before the next commit, once."""

    interruption: Awaitable[object] | None = None

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        interruption, self.interruption = self.interruption, None
        if interruption is not None:
            await interruption
        return await super().commit(changes, outbox)
