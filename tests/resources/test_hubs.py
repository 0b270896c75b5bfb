"""Hubs: numbers are never reused, changes are compared and set, in force before they are answered, and survive."""

import asyncio

import pytest

from devices.fakes import CountedIds, StandingClock
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.limits import HUBS_MAX
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from resources.world import HOST, World

DISABLED: dict[str, object] = {"properties": {"publicNetworkAccess": "Disabled"}}
ENABLED: dict[str, object] = {"properties": {"publicNetworkAccess": "Enabled"}}


async def test_a_hub_is_found_by_all_its_names() -> None:
    world = World()
    hub = await world.hubs.create("Hub", host_name="Hub.Example.Test:443", partitions=4, aliases=["Plant.Example.Test"])
    assert hub.host_name == HOST
    assert hub.number == 1
    for found in (
        world.hubs.by_name("hub"),
        world.hubs.by_host("HUB.example.test:8883"),
        world.hubs.by_host("plant.example.test."),
        world.hubs.by_resource_id(hub.resource_id.upper()),
        world.hubs.by_number(hub.number),
        world.hubs.require("HUB"),
    ):
        assert found is hub
    assert world.hubs.by_host("other.example.test") is None
    assert world.hubs.by_resource_id(hub.resource_id.replace("Devices", "Other")) is None


async def test_a_restart_finds_everything() -> None:
    world = await World().with_hub()
    await world.hubs.update("hub", DISABLED)
    again = await World(state=world.state).loaded()
    assert again.hubs.all() == world.hubs.all()
    assert again.told == []


async def test_numbers_are_never_used_again() -> None:
    world = await World().with_hub()
    await world.with_hub("second")
    await world.hubs.delete("second")
    await world.with_hub("second")
    assert [hub.number for hub in world.hubs.all()] == [1, 3]


async def test_many_at_once_get_numbers_of_their_own() -> None:
    world = World()
    await asyncio.gather(*(world.with_hub(f"hub{number}") for number in range(8)))
    assert [hub.number for hub in world.hubs.all()] == list(range(1, 9))


@pytest.mark.parametrize(
    ("name", "host_name", "partitions", "code"),
    [
        ("hub", "new.example.test", 4, Code.CONFLICT),
        ("new", HOST, 4, Code.CONFLICT),
        ("-", "new.example.test", 4, Code.ARGUMENT_INVALID),
        ("new", "", 4, Code.ARGUMENT_INVALID),
        ("new", "new.example.test", 0, Code.ARGUMENT_INVALID),
        ("new", "new.example.test", 33, Code.ARGUMENT_INVALID),
    ],
)
async def test_a_bad_creation_is_refused(name: str, host_name: str, partitions: int, code: Code) -> None:
    world = await World().with_hub()
    with pytest.raises(HubError) as caught:
        await world.hubs.create(name, host_name=host_name, partitions=partitions)
    assert caught.value.code is code
    assert len(world.hubs.all()) == 1


async def test_a_name_that_a_rival_took_is_refused() -> None:
    world = World()
    rival = await World(state=world.state).with_hub()
    with pytest.raises(HubError) as caught:
        await world.with_hub()
    assert caught.value.code is Code.CONFLICT
    assert len(rival.hubs.all()) == 1


async def test_so_many_hubs_and_no_more() -> None:
    world = World()
    for number in range(HUBS_MAX):
        await world.with_hub(f"hub{number}")
    with pytest.raises(HubError) as caught:
        await world.with_hub("one-more")
    assert caught.value.code is Code.QUOTA_EXCEEDED


async def test_a_change_is_told_before_it_is_answered() -> None:
    world = await World().with_hub()
    (before,) = world.hubs.all()
    after = await world.hubs.update("hub", DISABLED)
    assert world.told[-1] == (before, after)
    assert world.hubs.by_name("hub") is after
    assert after.etag != before.etag


async def test_a_change_that_changes_nothing_is_not_told() -> None:
    world = await World().with_hub()
    (before,) = world.hubs.all()
    assert await world.hubs.update("hub", ENABLED) is before
    assert len(world.told) == 1


@pytest.mark.parametrize("form", ["{}", '"{}"', 'W/"{}"', "*", '"*"'])
async def test_a_fitting_etag_lets_a_change_through(form: str) -> None:
    world = await World().with_hub()
    etag = world.hubs.require("hub").etag
    assert not (await world.hubs.update("hub", DISABLED, form.format(etag))).public_network_access


async def test_an_old_etag_does_not() -> None:
    world = await World().with_hub()
    etag = world.hubs.require("hub").etag
    await world.hubs.update("hub", DISABLED)
    with pytest.raises(HubError) as caught:
        await world.hubs.update("hub", ENABLED, etag)
    assert caught.value.code is Code.PRECONDITION_FAILED
    with pytest.raises(HubError) as caught:
        await world.hubs.delete("hub", etag)
    assert caught.value.code is Code.PRECONDITION_FAILED


async def test_changes_at_once_all_count() -> None:
    world = await World().with_hub()
    settings: list[dict[str, object]] = [
        {"tags": {"a": "b"}},
        DISABLED,
        {"properties": {"cloudToDevice": {"maxDeliveryCount": 7}}},
    ]
    await asyncio.gather(*(world.hubs.update("hub", setting) for setting in settings))
    hub = world.hubs.require("hub")
    assert (hub.tags, hub.public_network_access, hub.cloud_to_device.max_delivery_count) == ({"a": "b"}, False, 7)
    assert (await World(state=world.state).loaded()).hubs.all() == (hub,)
    assert world.told[-1][1] == hub


async def test_a_change_after_a_rivals_change_keeps_both() -> None:
    world = await World().with_hub()
    rival = await World(state=world.state).loaded()
    await rival.hubs.update("hub", {"tags": {"a": "b"}})
    hub = await world.hubs.update("hub", DISABLED)
    assert hub.tags == {"a": "b"}


async def test_a_change_of_a_hub_that_a_rival_deleted_is_refused() -> None:
    world = await World().with_hub()
    rival = await World(state=world.state).loaded()
    await rival.hubs.delete("hub")
    with pytest.raises(HubError) as caught:
        await world.hubs.update("hub", DISABLED)
    assert caught.value.code is Code.NOT_FOUND


async def test_a_caller_that_hangs_up_does_not_stop_a_change() -> None:
    world = await World().with_hub()
    told = asyncio.Event()
    proceed = asyncio.Event()

    async def slow(old: Hub | None, new: Hub | None) -> None:
        told.set()
        await proceed.wait()

    world.hubs.on_change(slow)
    last = asyncio.Event()

    async def after(old: Hub | None, new: Hub | None) -> None:
        last.set()

    world.hubs.on_change(after)
    caller = asyncio.ensure_future(world.hubs.update("hub", DISABLED))
    await told.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    proceed.set()
    await asyncio.wait_for(last.wait(), 5)
    assert not world.hubs.require("hub").public_network_access


async def test_a_listener_that_fails_does_not_keep_the_others_from_hearing() -> None:
    hubs = Hubs(MemoryState(), StandingClock(), CountedIds())
    heard: list[Hub | None] = []

    async def failing(old: Hub | None, new: Hub | None) -> None:
        raise RuntimeError("broken")

    async def hearing(old: Hub | None, new: Hub | None) -> None:
        heard.append(new)

    hubs.on_change(failing)
    hubs.on_change(hearing)
    with pytest.raises(ExceptionGroup):
        await hubs.create("hub", host_name=HOST, partitions=1)
    assert heard == list(hubs.all())


async def test_a_deleted_hub_is_gone_everywhere() -> None:
    world = await World().with_hub()
    hub = world.hubs.require("hub")
    await world.hubs.delete("hub")
    assert world.hubs.by_host(HOST) is None
    assert world.told[-1] == (hub, None)
    with pytest.raises(HubError) as caught:
        world.hubs.require("hub")
    assert caught.value.code is Code.NOT_FOUND
    assert (await World(state=world.state).loaded()).hubs.all() == ()
