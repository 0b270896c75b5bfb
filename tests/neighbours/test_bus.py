"""Entities and their messages over a state in memory: sending, spreading, scheduling, deletion, and restarts."""

from dataclasses import replace

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import StateClosed
from isthmus.neighbours import bus_entity
from isthmus.neighbours.bus import Bus, address_of
from isthmus.neighbours.bus_entities import BusEntities
from isthmus.neighbours.bus_entity import Entity, EntityKind, EntityRule, put_rule, remove_rule
from isthmus.neighbours.bus_message import BusMessage, Incoming, decode_message, refused
from isthmus.neighbours.bus_rules import Facts, FilterKind, Rule
from isthmus.neighbours.event_hub import EntityStatus
from isthmus.queues import QueueAddress, Standing
from isthmus.resources.removal import Removal
from queues.fakes import START_MS, CountedIds, FailingState, MovedClock

NAMESPACE = HubId(7)
HOT = Rule("hot", FilterKind.CORRELATION, Facts(label="hot"))


class World:
    """A namespace's entities and messages, which may be opened again."""

    def __init__(self) -> None:
        self.state = FailingState()
        self.clock = MovedClock()
        self.removal = Removal(self.state)
        self.open()

    def open(self) -> None:
        self.entities = BusEntities(self.state, self.clock)
        self.bus = Bus(self.state, self.clock, CountedIds(), self.entities, _facts)
        self.entities.on_change(self.bus.entity_changed)

    async def restart(self) -> None:
        await self.bus.close()
        self.open()
        await self.removal.finish()
        await self.entities.load([NAMESPACE])
        await self.bus.start(self.entities.all())

    async def make(
        self, kind: EntityKind, name: str, *, topic: str = "", rule: EntityRule = lambda draft: draft
    ) -> Entity:
        return await self.entities.create(NAMESPACE, kind, name, rule, topic=topic)

    async def bodies(self, address: QueueAddress) -> list[bytes]:
        return [decode_message(each.body).sections for each in await self.bus.peek(address, 0, 100)]


def _facts(message: BusMessage) -> Facts:
    """In these tests the body is the label."""
    return Facts(label=message.sections.decode())


def incoming(*texts: str, scheduled_ms: int = 0, ttl_ms: int | None = None) -> list[Incoming]:
    return [Incoming(BusMessage(text.encode(), ttl_ms=ttl_ms), scheduled_ms) for text in texts]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_name_is_taken_whatever_its_kind_and_case(world: World) -> None:
    await world.make(EntityKind.QUEUE, "orders")
    with pytest.raises(HubError) as told:
        await world.make(EntityKind.TOPIC, "ORDERS")
    assert told.value.code is Code.CONFLICT


async def test_a_subscription_needs_its_topic(world: World) -> None:
    with pytest.raises(HubError) as told:
        await world.make(EntityKind.SUBSCRIPTION, "s", topic="alarms")
    assert told.value.code is Code.NOT_FOUND


async def test_numbers_are_never_given_twice(world: World) -> None:
    first = await world.make(EntityKind.QUEUE, "orders")
    await world.entities.delete(first)
    await world.restart()
    assert (await world.make(EntityKind.QUEUE, "orders")).number > first.number


async def test_a_queue_made_again_has_nothing_of_the_old_one(world: World) -> None:
    old = await world.make(EntityKind.QUEUE, "orders")
    await world.bus.send(old, incoming("a"))
    await world.entities.delete(old)
    new = await world.make(EntityKind.QUEUE, "orders")
    assert await world.bodies(address_of(new)) == []
    with pytest.raises(HubError) as told:
        await world.bus.send(old, incoming("b"))
    assert told.value.code is Code.NOT_FOUND
    await world.restart()
    assert await world.state.count("queue", old.number) == 0


async def test_what_a_deleted_namespace_held_is_swept_up(world: World) -> None:
    queue = await world.make(EntityKind.QUEUE, "orders")
    await world.bus.send(queue, incoming("a"))
    await world.entities.forget(NAMESPACE)
    assert world.entities.all() == ()
    world.removal.number_gone(NAMESPACE)
    await world.removal._sweep(NAMESPACE)
    await world.restart()
    assert await world.state.count("queue", queue.number) == 0
    assert await world.state.count("bus-entity", NAMESPACE) == 0


async def test_a_message_lives_no_longer_than_its_queue_says(world: World) -> None:
    queue = await world.make(EntityKind.QUEUE, "orders", rule=lambda draft: replace(draft, ttl_ms=10_000))
    await world.bus.send(queue, incoming("short", ttl_ms=5_000))
    await world.bus.send(queue, incoming("long", ttl_ms=50_000))
    ends = [each.expires_ms - START_MS for each in await world.bus.peek(address_of(queue), 0, 10)]
    assert ends == [5_000, 10_000]


async def test_a_full_queue_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_entity, "MESSAGES_MAX", 2)
    queue = await world.make(EntityKind.QUEUE, "orders")
    await world.bus.send(queue, incoming("a", "b"))
    with pytest.raises(HubError) as told:
        await world.bus.send(queue, incoming("c"))
    assert told.value.code is Code.QUOTA_EXCEEDED


async def topic_with(world: World) -> tuple[Entity, Entity, Entity]:
    """A topic with a subscription to everything and one to what is hot."""
    topic = await world.make(EntityKind.TOPIC, "alarms")
    everything = await world.make(EntityKind.SUBSCRIPTION, "all", topic="alarms")
    hot = await world.make(EntityKind.SUBSCRIPTION, "hot", topic="alarms")
    hot = await world.entities.change(hot, lambda now: put_rule(remove_rule(now, "$Default"), HOT))
    return topic, everything, hot


async def test_what_is_sent_to_a_topic_goes_where_it_is_wanted(world: World) -> None:
    topic, everything, hot = await topic_with(world)
    await world.bus.send(topic, incoming("hot", "cold", "hot"))
    assert await world.bodies(address_of(everything)) == [b"hot", b"cold", b"hot"]
    assert await world.bodies(address_of(hot)) == [b"hot", b"hot"]


async def test_a_topic_reaches_all_or_none(world: World) -> None:
    topic, everything, hot = await topic_with(world)
    world.state.failures = 1
    with pytest.raises(StateClosed):
        await world.bus.send(topic, incoming("hot"))
    assert [await world.bodies(address_of(each)) for each in (everything, hot)] == [[], []]


async def test_a_subscription_that_is_switched_off_gets_nothing(world: World) -> None:
    topic, everything, hot = await topic_with(world)
    await world.entities.change(everything, lambda now: replace(now, status=EntityStatus.SEND_DISABLED))
    await world.bus.send(topic, incoming("hot"))
    assert [await world.bodies(address_of(each)) for each in (everything, hot)] == [[], [b"hot"]]


async def test_a_scheduled_message_of_a_topic_is_judged_when_it_comes(world: World) -> None:
    topic, everything, hot = await topic_with(world)
    (number, _) = await world.bus.send(topic, incoming("hot", "cold", scheduled_ms=START_MS + 5_000))
    await world.bus.cancel(topic, [number])
    await world.entities.change(everything, lambda now: remove_rule(now, "$Default"))
    assert [each.standing for each in await world.bus.peek(address_of(topic), 0, 9)] == [Standing.SCHEDULED]
    world.clock.move(seconds=5)
    await world.bus.queues.tick()
    await world.bus.close()
    assert [await world.bodies(address_of(each)) for each in (topic, everything, hot)] == [[], [], []]


async def test_messages_that_come_together_are_spread_once_and_in_order(world: World) -> None:
    topic, everything, _ = await topic_with(world)
    await world.bus.send(topic, incoming("a", "b", "c", scheduled_ms=START_MS + 5_000))
    world.clock.move(seconds=5)
    await world.bus.tick()
    moving = set(world.bus._awaited)
    await world.bus.close()
    assert [task.exception() for task in moving] == [None]
    assert await world.bodies(address_of(everything)) == [b"a", b"b", b"c"]


async def test_what_had_come_when_the_process_ended_is_moved_at_the_next_start(world: World) -> None:
    topic, everything, _ = await topic_with(world)
    await world.bus.send(topic, incoming("hot", scheduled_ms=START_MS + 5_000))
    world.clock.move(seconds=6)
    await world.restart()
    await world.bus.queues.tick()
    await world.restart()
    assert await world.bodies(address_of(topic)) == []
    assert await world.bodies(address_of(everything)) == [b"hot"]


async def test_a_move_that_fails_is_made_up_for(world: World) -> None:
    topic, everything, hot = await topic_with(world)
    await world.bus.send(topic, incoming("hot", scheduled_ms=START_MS + 5_000))
    world.clock.move(seconds=5)
    await world.bus.queues.counts(address_of(topic))
    world.state.failures = 1
    await world.bus.close()
    assert await world.bodies(address_of(topic)) == [b"hot"]
    deadline = world.bus.next_deadline_ms()
    assert deadline is not None
    world.clock.move(seconds=(deadline - world.clock.utc_ms()) / 1000)
    await world.bus.tick()
    await world.bus.close()
    assert [await world.bodies(address_of(each)) for each in (topic, everything, hot)] == [[], [b"hot"], [b"hot"]]


async def test_a_deleted_topic_takes_its_subscriptions_along(world: World) -> None:
    topic, everything, _ = await topic_with(world)
    await world.bus.send(topic, incoming("hot"))
    await world.entities.delete(topic)
    assert world.entities.all() == ()
    await world.restart()
    assert world.entities.all() == ()
    assert await world.state.count("queue", everything.number) == 0


async def test_a_dead_letter_tells_why_and_where_from_and_cannot_die_again(world: World) -> None:
    queue = await world.make(EntityKind.QUEUE, "orders", rule=lambda draft: replace(draft, max_delivery_count=1))
    await world.bus.send(queue, incoming("a", "b"))
    first, second = await world.bus.lock(address_of(queue), 2)
    await world.bus.abandon(address_of(queue), first.token)
    await world.bus.reject(address_of(queue), second.token, refused("broken", None, {}))
    dead = await world.bus.lock(address_of(queue).dead_letters, 2)
    told = [(decode_message(each.body).reason, decode_message(each.body).source) for each in dead]
    assert told == [("MaxDeliveryCountExceeded", "orders"), ("broken", "orders")]
    with pytest.raises(HubError) as again:
        await world.bus.reject(address_of(queue).dead_letters, dead[0].token, refused("x", None, {}))
    assert again.value.code is Code.INVALID_OPERATION
    assert len(await world.bodies(address_of(queue).dead_letters)) == 2
