"""The registry over a state: who may be created, changed and deleted, and what goes with it."""

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from devices.fakes import HUB, NOW_MS, OTHER_HUB, Queues, World
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import identity_etag
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import DEVICES_PER_HUB_MAX, MODULES_PER_DEVICE_MAX
from isthmus.base.state import Change, Conflict, OutboxEvent, Put
from isthmus.devices.documents import identity_key, session_key
from isthmus.devices.identity import Identity
from isthmus.devices.registry import LIST_MAX, Registry

DEVICE = DeviceRef(HUB, "dev1")
MODULE = DeviceRef(HUB, "dev1", "mod1")


async def test_a_created_device_is_there_with_twin_and_presence(world: World) -> None:
    identity = await world.registry.put(DEVICE, {"deviceId": "dev1"}, None)
    assert await world.registry.get(DEVICE) == identity
    assert await world.registry.require(DEVICE) == identity
    assert await world.names() == ["identity:dev1", "twin:dev1", "presence:dev1"]


async def test_hubs_do_not_see_one_another(world: World) -> None:
    await world.add("dev1")
    elsewhere = DEVICE._replace(hub=OTHER_HUB)
    assert await world.registry.get(elsewhere) is None
    await world.add("dev1", OTHER_HUB)
    await world.registry.delete(elsewhere, None)
    assert await world.registry.get(DEVICE) is not None


async def test_if_match_decides_between_creating_and_changing(world: World) -> None:
    await refused(world.registry.put(DEVICE, {}, "*"), Code.DEVICE_NOT_FOUND)
    await refused(world.registry.put(DEVICE, {}, "MQ=="), Code.DEVICE_NOT_FOUND)
    created = await world.registry.put(DEVICE, {}, None)
    await refused(world.registry.put(DEVICE, {}, None), Code.DEVICE_ALREADY_EXISTS)
    await refused(world.registry.put(DEVICE, {}, identity_etag(7)), Code.PRECONDITION_FAILED)
    changed = await world.registry.put(DEVICE, {"status": "disabled"}, created.etag)
    assert not changed.enabled
    await refused(world.registry.put(DEVICE, {}, created.etag), Code.PRECONDITION_FAILED)
    assert (await world.registry.put(DEVICE, {}, "*")).enabled


async def test_a_module_needs_its_device(world: World) -> None:
    await refused(world.registry.put(MODULE, {}, None), Code.DEVICE_NOT_FOUND)
    await world.add("dev1")
    await refused(world.registry.put(MODULE, {}, "*"), Code.MODULE_NOT_FOUND)
    await refused(world.registry.require(MODULE), Code.MODULE_NOT_FOUND)
    await world.registry.put(MODULE, {"moduleId": "mod1", "managedBy": "me"}, None)
    assert (await world.registry.require(MODULE)).managed_by == "me"
    await refused(world.registry.put(MODULE, {}, None), Code.MODULE_ALREADY_EXISTS)
    assert [found.ref for found in await world.registry.modules(HUB, "dev1")] == [MODULE]


async def test_a_module_does_not_move_its_device_s_etag(world: World) -> None:
    await world.add("dev1")
    before = await world.registry.require(DEVICE)
    await world.add("dev1/mod1")
    assert await world.registry.require(DEVICE) == before


async def test_a_device_id_with_a_slash_is_not_taken_for_a_module(world: World) -> None:
    await world.add("dev1")
    await world.add("dev1/mod1")
    assert await world.registry.get(DeviceRef(HUB, "dev1/mod1")) is None
    await refused(world.registry.delete(DeviceRef(HUB, "dev1/mod1"), None), Code.DEVICE_NOT_FOUND)


async def test_a_device_has_so_many_modules_and_no_more(world: World) -> None:
    await world.add("dev1")
    for number in range(MODULES_PER_DEVICE_MAX):
        await world.add(f"dev1/m{number}")
    await refused(world.registry.put(MODULE, {}, None), Code.TOO_MANY_MODULES)
    await world.registry.delete(DeviceRef(HUB, "dev1", "m0"), None)
    await world.add("dev1/mod1")


async def test_a_hub_has_so_many_identities_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.devices.registry.DEVICES_PER_HUB_MAX", 3)
    assert DEVICES_PER_HUB_MAX == 1_000_000
    for name in ("a", "b", "b/m"):
        await world.add(name)
    await refused(world.registry.put(DEVICE, {}, None), Code.TOO_MANY_DEVICES)
    await world.registry.delete(DeviceRef(HUB, "a"), None)
    await world.add("dev1")


async def test_deleting_a_device_takes_all_that_belongs_to_it(world: World) -> None:
    for name in ("dev1", "dev1/mod1", "dev10"):
        await world.add(name)
    for ref in (DEVICE, MODULE):
        await world.state.commit([Put(session_key(ref), b"{}")])
    await world.state.commit([Put(identity_key(DEVICE)._replace(kind="queue"), b"{}")])
    await world.registry.delete(DEVICE, None)
    assert await world.names() == ["identity:dev10", "twin:dev10", "presence:dev10"]
    await refused(world.registry.delete(DEVICE, "*"), Code.DEVICE_NOT_FOUND)


async def test_deletion_obeys_the_etag(world: World) -> None:
    await world.add("dev1")
    await refused(world.registry.delete(DEVICE, identity_etag(1)), Code.PRECONDITION_FAILED)
    await world.registry.delete(DEVICE, (await world.registry.require(DEVICE)).etag)


async def test_deleting_a_module_leaves_its_device(world: World) -> None:
    await world.add("dev1")
    await world.add("dev1/mod1")
    await world.registry.delete(MODULE, "*")
    assert await world.names() == ["identity:dev1", "twin:dev1", "presence:dev1"]
    await refused(world.registry.delete(MODULE, "*"), Code.MODULE_NOT_FOUND)


async def test_an_edge_device_has_its_system_modules(world: World) -> None:
    edge = {"capabilities": {"iotEdge": True}}
    await world.registry.put(DEVICE, edge, None)
    modules = await world.registry.modules(HUB, "dev1")
    assert [found.ref.module_id for found in modules] == ["$edgeAgent", "$edgeHub"]
    assert {found.identity.authentication_type for found in modules} == {"none"}
    agent = DeviceRef(HUB, "dev1", "$edgeAgent")
    await refused(world.registry.put(agent, {}, "*"), Code.SYSTEM_MODULE)
    await refused(world.registry.delete(agent, "*"), Code.SYSTEM_MODULE)
    await world.registry.put(DEVICE, {}, "*")
    assert not await world.registry.modules(HUB, "dev1")
    await world.registry.put(DEVICE, edge, "*")
    assert len(await world.registry.modules(HUB, "dev1")) == 2


async def test_lifecycle_events_carry_the_twin(world: World) -> None:
    await world.add("dev1")
    await world.add("dev1/mod1")
    await world.registry.delete(DEVICE, None)
    events = await world.events()
    assert [(event.op_type, event.module_id) for event in events] == [
        ("createDeviceIdentity", ""),
        ("createDeviceIdentity", "mod1"),
        ("deleteDeviceIdentity", "mod1"),
        ("deleteDeviceIdentity", ""),
    ]
    never = '{"$metadata":{"$lastUpdated":"0001-01-01T00:00:00Z"},"$version":1}'
    properties = f'{{"desired":{never},"reported":{never}}}'
    assert events[1].body.decode() == (
        '{"deviceId":"dev1","moduleId":"mod1","etag":"AAAAAAAAAAE=","version":1,"properties":' + properties + "}"
    )
    assert (events[0].source, events[0].schema) == ("deviceLifecycleEvents", "deviceLifecycleNotification")
    assert events[0].operation_ms == NOW_MS


async def test_listeners_hear_before_and_after(world: World) -> None:
    told: list[tuple[DeviceRef, Identity | None, Identity | None]] = []
    world.registry.on_change(lambda ref, old, new: told.append((ref, old, new)))
    first = await world.registry.put(DEVICE, {}, None)
    second = await world.registry.put(DEVICE, {"status": "disabled"}, "*")
    await world.registry.delete(DEVICE, None)
    assert told == [(DEVICE, None, first), (DEVICE, first, second), (DEVICE, second, None)]


async def test_a_refused_change_leaves_nothing(world: World) -> None:
    await world.add("dev1")
    before = [await world.state.get(identity_key(DEVICE)), await world.events()]
    await refused(world.registry.put(DEVICE, {"status": "x"}, "*"), Code.ARGUMENT_INVALID)
    await refused(world.registry.put(DeviceRef(HUB, "a/b"), {}, None), Code.ARGUMENT_INVALID)
    assert before == [await world.state.get(identity_key(DEVICE)), await world.events()]


async def test_the_list_has_devices_only_and_a_bound(world: World) -> None:
    for name in ("a", "a/m", "b", "c"):
        await world.add(name)
    assert [found.ref.device_id for found in await world.registry.list(HUB, 2)] == ["a", "b"]
    for top in (0, -1, LIST_MAX + 1):
        assert len(await world.registry.list(HUB, top)) == 3


async def test_statistics_count_devices_by_status(world: World) -> None:
    for name in ("a", "a/m", "b", "c"):
        await world.add(name)
    await world.registry.put(DeviceRef(HUB, "b"), {"status": "disabled"}, "*")
    statistics = await world.registry.statistics(HUB)
    assert (statistics.total, statistics.enabled, statistics.disabled) == (3, 2, 1)


async def test_statistics_follow_every_change_of_status(world: World) -> None:
    ref = await world.add("dev1")
    await world.add("dev1/m")
    for status, disabled in (("disabled", 1), ("disabled", 1), ("enabled", 0), ("disabled", 1)):
        await world.registry.put(ref, {"status": status}, "*")
        assert (await world.registry.statistics(HUB)).disabled == disabled
    await world.registry.delete(ref, None)
    statistics = await world.registry.statistics(HUB)
    assert (statistics.total, statistics.disabled) == (0, 0)
    assert await world.names() == []


async def test_of_many_at_once_one_creates_and_the_others_hear_that_it_is_there(world: World) -> None:
    tries = [world.registry.put(DEVICE, {}, None) for _ in range(8)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    codes = [result.code for result in results if isinstance(result, HubError)]
    assert codes == [Code.DEVICE_ALREADY_EXISTS] * 7


async def test_a_document_that_never_stands_still_is_given_up_as_busy(world: World) -> None:
    registry = Registry(Restless(), world.clock, world.ids, Queues())
    await refused(registry.put(DEVICE, {}, None), Code.SERVER_BUSY)


async def refused(work: Awaitable[object], code: Code) -> None:
    with pytest.raises(HubError) as caught:
        await work
    assert caught.value.code is code


async def test_listeners_hear_also_when_the_caller_has_gone(world: World) -> None:
    state = Waiting()
    registry = Registry(state, world.clock, world.ids, Queues())
    told = asyncio.Event()
    registry.on_change(lambda ref, old, new: told.set())
    creating = asyncio.create_task(registry.put(DEVICE, {}, None))
    await state.committing.wait()
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    state.released.set()
    async with asyncio.timeout(10):
        await told.wait()


class Waiting(MemoryState):
    """A state whose commits wait until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.committing = asyncio.Event()
        self.released = asyncio.Event()

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        self.committing.set()
        await self.released.wait()
        return await super().commit(changes, outbox)


class Restless(MemoryState):
    """A state in which somebody else always was faster."""

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        raise Conflict(0)
