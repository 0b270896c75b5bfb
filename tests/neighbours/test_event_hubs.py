"""The store of event hubs: compare-and-set, restarts, rivals, and what goes with a namespace."""

import asyncio
from dataclasses import replace

import pytest

from devices.fakes import StandingClock
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import State
from isthmus.neighbours.event_hub import EVENT_HUBS_MAX, EventHub, put_group
from isthmus.neighbours.event_hubs import EventHubs

NAMESPACE, OTHER = HubId(2), HubId(3)


class Store:
    """A store with its listener; a second one over the same state is a restart, or a rival."""

    def __init__(self, state: State) -> None:
        self.clock = StandingClock()
        self.event_hubs = EventHubs(state, self.clock)
        self.told: list[tuple[EventHub | None, EventHub | None]] = []
        self.event_hubs.on_change(self._changed)

    async def _changed(self, old: EventHub | None, new: EventHub | None) -> None:
        self.told.append((old, new))

    async def make(self, name: str = "telemetry", namespace: HubId = NAMESPACE) -> EventHub:
        return await self.event_hubs.create(namespace, name, lambda draft: draft)


@pytest.fixture
def state() -> State:
    return MemoryState()


@pytest.fixture
def store(state: State) -> Store:
    return Store(state)


async def test_what_is_made_is_there_after_a_restart(store: Store, state: State) -> None:
    made = await store.make()
    assert made.number == 1
    assert made.groups[0].created_ms == made.created_ms == store.clock.utc_ms()
    other = await store.make(namespace=OTHER)
    restarted = Store(state)
    await restarted.event_hubs.load([NAMESPACE])
    assert restarted.event_hubs.of(NAMESPACE) == (made,)
    assert restarted.event_hubs.find(OTHER, "telemetry") is None
    assert store.told == [(None, made), (None, other)]


async def test_names_have_no_case_and_are_taken_once(store: Store) -> None:
    made = await store.make("Telemetry")
    assert store.event_hubs.find(NAMESPACE, "TELEMETRY") == made
    with pytest.raises(HubError) as refused:
        await store.make("telemetry")
    assert refused.value.code is Code.CONFLICT
    with pytest.raises(HubError, match="event hubs of this namespace: Telemetry"):
        store.event_hubs.require(NAMESPACE, "other")
    with pytest.raises(HubError, match="1 to 256"):
        await store.make("a/b")


async def test_a_rival_that_was_first_keeps_the_name(store: Store, state: State) -> None:
    await Store(state).make()
    with pytest.raises(HubError) as refused:
        await store.make()
    assert refused.value.code is Code.CONFLICT


async def test_a_change_is_applied_to_what_a_rival_has_committed(store: Store, state: State) -> None:
    await store.make()
    rival = Store(state)
    await rival.event_hubs.load([NAMESPACE])
    await rival.event_hubs.change(
        NAMESPACE, "telemetry", lambda one: put_group(one, "theirs", user_metadata="", now_ms=0)
    )
    changed = await store.event_hubs.change(
        NAMESPACE, "telemetry", lambda one: put_group(one, "ours", user_metadata="", now_ms=0)
    )
    assert [group.name for group in changed.groups] == ["$Default", "theirs", "ours"]
    assert store.event_hubs.find(NAMESPACE, "telemetry") == changed


async def test_an_etag_that_is_past_changes_nothing(store: Store) -> None:
    made = await store.make()
    with pytest.raises(HubError) as refused:
        await store.event_hubs.change(NAMESPACE, "telemetry", lambda one: replace(one, user_metadata="x"), '"other"')
    assert refused.value.code is Code.PRECONDITION_FAILED
    same = await store.event_hubs.change(NAMESPACE, "telemetry", lambda one: one, f'"{made.etag}"')
    assert (same, len(store.told)) == (made, 1)


async def test_a_deleted_event_hub_is_gone_and_its_number_too(store: Store, state: State) -> None:
    made = await store.make()
    await store.event_hubs.delete(NAMESPACE, "TELEMETRY")
    assert store.told[-1] == (made, None)
    assert (await store.make()).number == 2
    with pytest.raises(HubError, match="There is no event hub"):
        await store.event_hubs.delete(NAMESPACE, "other")


async def test_a_change_runs_to_its_end_though_the_caller_has_left(store: Store, state: State) -> None:
    caller = asyncio.create_task(store.make())
    await asyncio.sleep(0)
    caller.cancel()
    await store.event_hubs.settled()
    assert len(store.told) == 1


async def test_a_namespace_takes_its_event_hubs_with_it(store: Store) -> None:
    gone, kept = await store.make(), await store.make(namespace=OTHER)
    await store.event_hubs.forget(NAMESPACE)
    assert store.told[-1] == (gone, None)
    assert (store.event_hubs.of(NAMESPACE), store.event_hubs.of(OTHER)) == ((), (kept,))


async def test_a_namespace_has_a_limit(store: Store) -> None:
    for number in range(EVENT_HUBS_MAX):
        await store.make(f"hub-{number}")
    with pytest.raises(HubError) as refused:
        await store.make("one-more")
    assert refused.value.code is Code.QUOTA_EXCEEDED
