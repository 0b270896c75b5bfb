"""The engine: twins follow the configurations of their hub."""

from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from configurations.fakes import World, device_content
from devices.fakes import HUB, OTHER_HUB, FakeDevice
from isthmus.backends.memory import MemoryState
from isthmus.base.filters import Filter
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import Change, Damaged, Key, OutboxEvent, Put, StateClosed, Stored
from isthmus.configurations.rollout import EVALUATION_SECONDS, PAGE
from isthmus.devices.documents import twin_key
from isthmus.telemetry.message import MessageSource

COUNT = 2 * PAGE + 1
IN_TEST = "tags.environment = 'test'"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.configurations.close()


async def tagged(world: World, name: str, environment: str = "test") -> DeviceRef:
    ref = await world.add(name)
    await world.twins.patch(ref, {"tags": {"environment": environment}}, None)
    return ref


async def test_every_target_gets_the_settings_and_a_connected_device_is_told(world: World) -> None:
    refs = [await tagged(world, f"d{number:03}") for number in range(COUNT)]
    other = await tagged(world, "other", "production")
    device = world.connected.devices[refs[3]] = FakeDevice()
    await world.create("c", device_content(chiller={"temperature": 66}), IN_TEST)
    await world.settled()
    twins = [await world.twin(ref) for ref in refs]
    assert {twin.properties.desired["chiller"]["temperature"] for twin in twins} == {66}  # type: ignore[index]
    assert {twin.desired_version for twin in twins} == {2}
    assert device.desired == [({"chiller": {"temperature": 66}, "$version": 2}, 2)]
    assert await world.statuses(refs[0]) == {"c": "Applied"}
    assert (await world.desired(other), await world.statuses(other)) == ({}, {})
    changes = [event for event in await world.events() if event.source is MessageSource.TWIN_CHANGES]
    written = [each for each in changes if b'"desired"' in each.body]
    assert {event.device_id for event in written} == {ref.device_id for ref in refs}


async def test_priority_decides_and_the_next_one_takes_over(world: World) -> None:
    ref = await tagged(world, "d")
    await world.create("low", device_content(a=1, b=2), priority=1)
    world.clock.now_ms += 1
    await world.create("high", device_content(a=10), IN_TEST, priority=9)
    world.clock.now_ms += 1
    await world.create("newer", device_content(b=20), priority=1)
    await world.settled()
    assert await world.desired(ref) == {"a": 10, "b": 20}
    assert await world.statuses(ref) == {"high": "Applied", "newer": "Applied", "low": "Targeted"}
    await world.configurations.delete(world.hub, "high", None)
    await world.configurations.delete(world.hub, "newer", None)
    await world.settled()
    assert (await world.desired(ref), await world.statuses(ref)) == ({"a": 1, "b": 2}, {"low": "Applied"})
    await world.configurations.delete(world.hub, "low", None)
    await world.settled()
    assert (await world.desired(ref), (await world.twin(ref)).configured) == ({}, msgspec.UNSET)


async def test_a_twin_that_changes_is_looked_at_at_once(world: World) -> None:
    ref = await world.add("d")
    await world.create("c", device_content(x=1), IN_TEST)
    await world.settled()
    passes = world.rollout.passes
    await world.twins.patch(ref, {"tags": {"environment": "test"}}, None)
    await world.settled()
    assert await world.desired(ref) == {"x": 1}
    await world.twins.patch(ref, {"properties": {"desired": {"x": 5, "y": 6}}}, None)
    await world.settled()
    assert await world.desired(ref) == {"x": 1, "y": 6}
    await world.twins.patch(ref, {"tags": {"environment": None}}, None)
    await world.settled()
    assert await world.desired(ref) == {"y": 6}
    new = await world.add("made-later")
    await world.twins.patch(new, {"tags": {"environment": "test"}}, None)
    await world.settled()
    assert await world.desired(new) == {"x": 1}
    assert world.rollout.passes == passes


async def test_reported_properties_count_where_a_condition_looks_at_them(world: World) -> None:
    ref = await world.add("d")
    await world.create("c", device_content(x=1), "properties.reported.ready = true")
    await world.settled()
    await world.twins.patch_reported(ref, {"ready": True})
    await world.settled()
    assert await world.desired(ref) == {"x": 1}


async def test_changed_conditions_and_priorities_are_followed(world: World) -> None:
    one, two = await tagged(world, "one", "one"), await tagged(world, "two", "two")
    made = await world.create("c", device_content(x=1), "tags.environment = 'one'")
    await world.create("d", device_content(x=2), "*", priority=5)
    await world.settled()
    body = {"targetCondition": "tags.environment = 'two'", "priority": 7}
    await world.configurations.put(world.hub, "c", body, made.etag)
    await world.settled()
    assert (await world.desired(one), await world.desired(two)) == ({"x": 2}, {"x": 1})


async def test_what_no_news_tells_is_found_by_the_clock(world: World) -> None:
    ref = await world.add("d")
    await world.create("c", device_content(x=1), "connectionState = 'Connected'")
    await world.settled()
    stored = await world.state.get(Key("presence", HUB, "d"))
    assert stored is not None
    presence = msgspec.json.decode(stored.body) | {"connectionState": "Connected"}
    await world.state.commit([rewritten(stored, presence)])
    passes = world.rollout.passes
    world.clock.now_ms += int(EVALUATION_SECONDS * 1000)
    await world.seen(lambda: world.rollout.passes > passes)
    assert await world.desired(ref) == {"x": 1}


async def test_a_twin_that_refuses_is_told_and_others_go_on(world: World) -> None:
    full, roomy = await world.add("full"), await world.add("roomy")
    big = {f"k{number}": "x" * 4_000 for number in range(8)}
    await world.twins.patch(full, {"properties": {"desired": big}}, None)
    await world.create("c", device_content(more="y" * 4_000))
    await world.settled()
    assert (await world.desired(full), await world.statuses(full)) == (big, {"c": "Targeted"})
    assert await world.statuses(roomy) == {"c": "Applied"}
    [told] = world.noted
    assert (told.device, told.rule, told.detail) == ("full", "contract.configuration", "c")
    await world.twins.patch(full, {"properties": {"desired": {"k0": None}}}, None)
    await world.settled()
    assert await world.statuses(full) == {"c": "Applied"}


async def test_another_process_goes_on_where_one_was_stopped(world: World) -> None:
    refs = [await world.add(f"d{number:03}") for number in range(COUNT)]
    await world.create("c", device_content(x=1))
    await world.configurations.close()
    other = World(world.state)
    await other.configurations.start([other.hub])
    await other.settled()
    assert [await other.desired(ref) for ref in refs] == [{"x": 1}] * COUNT
    await other.configurations.delete(other.hub, "c", None)
    await other.configurations.close()
    last = World(world.state)
    await last.configurations.start([last.hub])
    await last.settled()
    assert [await last.desired(ref) for ref in refs] == [{}] * COUNT
    assert last.rollout.active == 0


async def test_a_pass_is_gone_on_with_behind_the_last_page_that_was_committed() -> None:
    state = CountingState()
    world = World(state)
    for number in range(COUNT):
        await world.add(f"d{number:03}")
    state.fails_after = 2
    await world.create("c", device_content(x=1))
    await world.seen(lambda: state.fails_after < 0)
    await world.configurations.close()
    state.fails_after = 1_000
    state.read_after.clear()
    other = World(state)
    await other.configurations.start([other.hub])
    await other.settled()
    assert state.read_after[0] == f"d{PAGE - 1:03}"
    assert [await other.desired(DeviceRef(HUB, f"d{number:03}")) for number in range(COUNT)] == [{"x": 1}] * COUNT
    await other.configurations.close()


async def test_two_configurations_that_contradict_each_other_take_no_more_than_a_pass(world: World) -> None:
    ref = await world.add("d")
    await world.create("a", device_content(x=1))
    await world.create("b", device_content(x=2), "properties.desired.x = 1", priority=5)
    await world.settled()
    assert await world.desired(ref) in ({"x": 1}, {"x": 2})
    assert world.rollout.written <= 1 + world.rollout.passes


async def test_a_damaged_twin_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    state = CountingState()
    world = World(state)
    refs = [await world.add(f"d{number:03}") for number in range(COUNT)]
    state.damaged = twin_key(refs[150])
    await world.create("c", device_content(x=1))
    await world.settled()
    state.damaged = None
    assert [await world.desired(ref) for ref in refs] == [{} if ref is refs[150] else {"x": 1} for ref in refs]
    assert "device passed by" in caplog.text
    await world.configurations.close()


async def test_a_hub_without_configurations_has_no_engine(world: World) -> None:
    ref = await world.add("d")
    assert world.rollout.active == 0
    await world.create("c", device_content(x=1))
    await world.configurations.delete(world.hub, "c", None)
    await world.settled()
    assert world.rollout.active == 0
    await world.twins.patch(ref, {"tags": {"a": 1}}, None)
    assert world.rollout.waiting == 0


async def test_hubs_do_not_see_each_other(world: World) -> None:
    ref = await world.add("d", OTHER_HUB)
    await world.create("c", device_content(x=1))
    await world.settled()
    assert await world.desired(ref) == {}


async def test_content_for_modules_is_for_the_modules_that_are_meant(world: World) -> None:
    await world.add("d")
    camera, other = await world.add("d/camera"), await world.add("d/other")
    device = world.connected.devices[camera] = FakeDevice()
    content: dict[str, object] = {"moduleContent": {"properties.desired.rate": 5}}
    await world.create("m", content, "from devices.modules where moduleId = 'camera'")
    await world.settled()
    assert (await world.desired(camera), await world.desired(other)) == ({"rate": 5}, {})
    assert device.desired == [({"rate": 5, "$version": 2}, 2)]
    late = await world.add("d/late")
    await world.create("all", {"moduleContent": {"properties.desired.all": 1}}, "FROM  devices.modules")
    await world.settled()
    assert await world.desired(late) == {"all": 1}
    assert await world.statuses(camera) == {"m": "Applied", "all": "Applied"}


def rewritten(stored: Stored, body: object) -> Change:
    return Put(stored.key, msgspec.json.encode(body), stored.revision)


class CountingState(MemoryState):
    """Notes where pages begin; ends like a process that dies, and has a damaged document, when told."""

    def __init__(self) -> None:
        super().__init__()
        self.read_after: list[str] = []
        self.fails_after = 1_000
        self.damaged: Key | None = None

    async def get(self, key: Key) -> Stored | None:
        if key == self.damaged:
            raise Damaged(key)
        return await super().get(key)

    async def query_devices(
        self, hub: HubId, where: Filter, *, modules: bool, after: str, limit: int
    ) -> list[tuple[Stored, Stored, Stored | None]]:
        self.read_after.append(after)
        found = await super().query_devices(hub, where, modules=modules, after=after, limit=limit)
        for _, twin, _ in found:
            if twin.key == self.damaged:
                raise Damaged(twin.key)
        return found

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        if any(change.key.kind == "twin" for change in changes) and len(changes) > 10:
            self.fails_after -= 1
            if self.fails_after <= 0:
                self.fails_after = -1
                raise StateClosed("the process has died")
        return await super().commit(changes, outbox)
