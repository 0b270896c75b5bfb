"""What a lock-queue does beyond handing out and settling: schedules, sets aside, moves, and tells what is there."""

from dataclasses import replace

import pytest

from isthmus.base.ids import HubId
from isthmus.base.state import StateClosed
from isthmus.queues import (
    NO_LIMIT,
    Counts,
    DeadLetter,
    Departure,
    LockedMessage,
    LockLost,
    LockQueues,
    NewMessage,
    NoSuchMessage,
    Outcome,
    QueueAddress,
    QueueFull,
    QueueHooks,
    QueuePolicy,
    Sequel,
    Standing,
)
from isthmus.queues import lock_queues as lock_queues_module
from queues.fakes import START_MS, CountedIds, FailingState, MovedClock

HUB = HubId(1)
ADDRESS = QueueAddress(HUB, "test/a")
OTHERS = [QueueAddress(HubId(number), "test/b") for number in (2, 3)]
DEAD = QueuePolicy(
    depth_max=NO_LIMIT, ttl_ms=NO_LIMIT, lock_ms=30_000, delivery_count_max=NO_LIMIT, lock_expiry_counts=True
)
POLICY = QueuePolicy(
    depth_max=5,
    ttl_ms=3_600_000,
    lock_ms=60_000,
    delivery_count_max=2,
    lock_expiry_counts=True,
    bytes_max=100,
    dead_letter=DeadLetter(frozenset({Outcome.REJECTED, Outcome.DELIVERY_COUNT_EXCEEDED}), DEAD),
)


class Bench:
    """Queues over one state, which may be opened again."""

    def __init__(self) -> None:
        self.state = FailingState()
        self.clock = MovedClock()
        self.policy = POLICY
        self.available: list[str] = []
        self.queues = self.open()

    def open(self) -> LockQueues:
        hooks = QueueHooks(lambda hub, name, departure: Sequel(), self._available, self._dead_lettered)
        self.queues = LockQueues(
            self.state, self.clock, CountedIds(), prefix="test/", policy=lambda hub: self.policy, hooks=hooks
        )
        return self.queues

    async def restart(self) -> LockQueues:
        queues = self.open()
        await queues.start([HUB, *(address.hub for address in OTHERS)])
        return queues

    async def locked(self, address: QueueAddress = ADDRESS) -> LockedMessage:
        message = await self.queues.lock(address)
        assert message is not None
        return message

    async def bodies(self, address: QueueAddress = ADDRESS) -> list[bytes]:
        return [message.body for message in await self.queues.peek(address, 0, 100)]

    def _available(self, hub: HubId, name: str) -> None:
        self.available.append(name)

    def _dead_lettered(self, hub: HubId, name: str, departure: Departure) -> bytes:
        return departure.body + b" " + departure.outcome.value.encode()


async def test_many_messages_are_one_commit() -> None:
    bench = Bench()
    assert await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"a"), NewMessage(b"b")]) == [1, 2]
    bench.state.failures = 1
    with pytest.raises(StateClosed):
        await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"c"), NewMessage(b"d")])
    assert await bench.bodies() == [b"a", b"b"]


async def test_a_queue_is_full_by_bytes_too() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a" * 60)
    with pytest.raises(QueueFull):
        await bench.queues.enqueue(ADDRESS, b"a" * 41)
    await bench.queues.enqueue(ADDRESS, b"a" * 40)


async def test_dead_letters_count_for_the_room_of_their_queue() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a" * 60)
    await bench.queues.reject(ADDRESS, (await bench.locked()).token)
    await (await bench.restart()).enqueue(ADDRESS, b"b")
    with pytest.raises(QueueFull):
        await bench.queues.enqueue(ADDRESS, b"a" * 60)


async def test_a_refused_message_moves_with_what_its_reader_says_of_it() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    await bench.queues.reject(ADDRESS, (await bench.locked()).token, lambda body: body + b" bad")
    assert await bench.bodies() == []
    message = await bench.locked(ADDRESS.dead_letters)
    assert (message.body, message.first_sequence) == (b"a bad rejected", 1)
    assert message.locked_until_ms == START_MS + DEAD.lock_ms


async def test_a_move_that_fails_leaves_the_message_where_it_was() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    bench.state.failures = 1
    with pytest.raises(StateClosed):
        await bench.queues.reject(ADDRESS, (await bench.locked()).token)
    assert await bench.bodies() == [b"a"]
    assert await bench.bodies(ADDRESS.dead_letters) == []


async def test_dead_letters_outlive_a_restart_and_stay_when_they_are_not_taken() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    for _ in range(POLICY.delivery_count_max):
        await bench.queues.abandon(ADDRESS, (await bench.locked()).token)
    await bench.restart()
    for _ in range(20):
        await bench.queues.abandon(ADDRESS.dead_letters, (await bench.locked(ADDRESS.dead_letters)).token)
    assert await bench.bodies(ADDRESS.dead_letters) == [b"a delivery count exceeded"]


async def test_a_dead_letter_queue_stays_in_memory_as_long_as_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_queues_module, "QUEUES_LOADED_MAX", 1)
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    held = await bench.locked()
    for number in range(10):
        await bench.queues.enqueue(QueueAddress(HubId(10 + number), "test/c"), b"x")
    await bench.queues.reject(ADDRESS, held.token)
    assert await bench.bodies(ADDRESS.dead_letters) == [b"a rejected"]


async def test_a_scheduled_message_comes_in_its_time_behind_those_that_wait() -> None:
    bench = Bench()
    await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"later", scheduled_ms=START_MS + 10_000)])
    assert await bench.queues.lock(ADDRESS) is None
    bench.clock.move(seconds=5)
    await bench.queues.enqueue(ADDRESS, b"now")
    await bench.restart()
    assert bench.queues.next_deadline_ms() == START_MS + 10_000
    bench.clock.move(seconds=5)
    await bench.queues.tick()
    assert bench.available[-1:] == ["test/a"]
    assert [(await bench.locked()).body for _ in range(2)] == [b"now", b"later"]


async def test_a_scheduled_message_lives_from_its_time_on_and_keeps_its_first_number() -> None:
    bench = Bench()
    await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"later", scheduled_ms=START_MS + 10_000)])
    bench.clock.move(seconds=11)
    message = await bench.locked()
    assert (message.sequence, message.first_sequence, message.enqueued_ms) == (2, 1, START_MS + 11_000)
    assert message.expires_ms == START_MS + 10_000 + POLICY.ttl_ms


async def test_a_scheduled_message_can_be_cancelled_until_it_comes() -> None:
    bench = Bench()
    later = [NewMessage(b"later", scheduled_ms=START_MS + 10_000) for _ in range(2)]
    await bench.queues.enqueue_all(ADDRESS, later)
    with pytest.raises(NoSuchMessage):
        await bench.queues.cancel(ADDRESS, [1, 9])
    await bench.queues.cancel(ADDRESS, [1])
    bench.clock.move(seconds=10)
    with pytest.raises(NoSuchMessage):
        await bench.queues.cancel(ADDRESS, [2])
    assert await bench.bodies() == [b"later"]


async def test_a_deferred_message_is_had_by_its_number_only() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    await bench.queues.defer(ADDRESS, (await bench.locked()).token, lambda body: body + b" aside")
    await bench.restart()
    assert await bench.queues.lock(ADDRESS) is None
    (message,) = await bench.queues.lock_deferred(ADDRESS, [1])
    assert (message.body, message.standing) == (b"a aside", Standing.DEFERRED)
    with pytest.raises(NoSuchMessage):
        await bench.queues.lock_deferred(ADDRESS, [1])
    await bench.queues.abandon(ADDRESS, message.token)
    assert await bench.queues.lock(ADDRESS) is None
    await bench.queues.complete(ADDRESS, (await bench.queues.lock_deferred(ADDRESS, [1]))[0].token)
    assert await bench.queues.counts(ADDRESS) == Counts()


async def test_of_deferred_messages_all_are_locked_or_none() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    await bench.queues.defer(ADDRESS, (await bench.locked()).token)
    with pytest.raises(NoSuchMessage):
        await bench.queues.lock_deferred(ADDRESS, [1, 2])
    assert len(await bench.queues.take_deferred(ADDRESS, [1])) == 1


async def test_a_deferred_message_expires_when_somebody_asks_for_it() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a", expires_ms=START_MS + 1_000)
    await bench.queues.defer(ADDRESS, (await bench.locked()).token)
    bench.clock.move(seconds=2)
    await bench.queues.tick()
    assert await bench.bodies() == [b"a"]
    with pytest.raises(NoSuchMessage):
        await bench.queues.lock_deferred(ADDRESS, [1])
    assert await bench.bodies() == []


async def test_a_taken_message_is_gone_before_it_is_seen() -> None:
    bench = Bench()
    await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"a"), NewMessage(b"b"), NewMessage(b"c")])
    assert [message.body for message in await bench.queues.take(ADDRESS, 2)] == [b"a", b"b"]
    await bench.restart()
    assert await bench.bodies() == [b"c"]


async def test_a_look_shows_everything_and_takes_nothing() -> None:
    bench = Bench()
    later = NewMessage(b"later", scheduled_ms=START_MS + 10_000)
    await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"a"), NewMessage(b"b"), NewMessage(b"c"), later])
    await bench.queues.defer(ADDRESS, (await bench.locked()).token)
    await bench.locked()
    seen = [(one.sequence, one.standing) for one in await bench.queues.peek(ADDRESS, 0, 10)]
    active = Standing.ACTIVE
    assert seen == [(1, Standing.DEFERRED), (2, active), (3, active), (4, Standing.SCHEDULED)]
    assert [one.sequence for one in await bench.queues.peek(ADDRESS, 2, 2)] == [2, 3]
    assert await bench.queues.counts(ADDRESS) == Counts(active=2, scheduled=1, deferred=1, size=8)


async def test_a_renewed_lock_holds_longer() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    message = await bench.locked()
    bench.clock.move(seconds=50)
    assert await bench.queues.renew(ADDRESS, message.token) == START_MS + 110_000
    bench.clock.move(seconds=59)
    await bench.queues.tick()
    await bench.queues.complete(ADDRESS, message.token)


async def test_a_lost_lock_is_not_renewed() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    message = await bench.locked()
    bench.clock.move(seconds=60)
    with pytest.raises(LockLost):
        await bench.queues.renew(ADDRESS, message.token)
    assert (await bench.locked()).delivery_count == 1


async def test_messages_reach_all_queues_or_none() -> None:
    bench = Bench()
    await bench.queues.spread({address: [NewMessage(b"a")] for address in OTHERS})
    bench.state.failures = 1
    with pytest.raises(StateClosed):
        await bench.queues.spread({address: [NewMessage(b"b")] for address in OTHERS})
    await bench.queues.enqueue_all(OTHERS[1], [NewMessage(b"x")] * 4)
    with pytest.raises(QueueFull):
        await bench.queues.spread({address: [NewMessage(b"c")] for address in OTHERS})
    assert await bench.bodies(OTHERS[0]) == [b"a"]


async def test_a_message_moves_to_several_queues_in_one_commit() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a")
    message = await bench.locked()
    bench.state.failures = 1
    with pytest.raises(StateClosed):
        await bench.queues.move(ADDRESS, message.token, {address: [NewMessage(b"a")] for address in OTHERS})
    assert [await bench.bodies(address) for address in (ADDRESS, *OTHERS)] == [[b"a"], [], []]
    again = await bench.locked()
    await bench.queues.move(ADDRESS, again.token, {address: [NewMessage(b"a")] for address in OTHERS})
    assert [await bench.bodies(address) for address in (ADDRESS, *OTHERS)] == [[], [b"a"], [b"a"]]
    with pytest.raises(LockLost):
        await bench.queues.move(ADDRESS, again.token, {address: [NewMessage(b"a")] for address in OTHERS})
    assert await bench.queues.counts(OTHERS[0]) == Counts(active=1, size=1)


async def test_several_messages_are_locked_at_once() -> None:
    bench = Bench()
    await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"a"), NewMessage(b"b"), NewMessage(b"c")])
    locked = await bench.queues.lock_all(ADDRESS, 2)
    assert [one.body for one in locked] == [b"a", b"b"]
    assert len({one.token for one in locked}) == 2
    assert [one.body for one in await bench.queues.lock_all(ADDRESS, 9)] == [b"c"]


async def test_what_is_handed_out_at_once_ends_with_the_bytes_that_are_enough() -> None:
    bench = Bench()
    await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"a" * 10) for _ in range(5)])
    assert len(await bench.queues.lock_all(ADDRESS, 9, 15)) == 2
    assert len(await bench.queues.take(ADDRESS, 9, 15)) == 2
    assert len(await bench.queues.take(ADDRESS, 9, 1)) == 1


async def test_expired_messages_go_on_only_where_the_policy_says_so() -> None:
    bench = Bench()
    await bench.queues.enqueue(ADDRESS, b"a", expires_ms=START_MS + 1_000)
    bench.clock.move(seconds=1)
    await bench.queues.tick()
    assert await bench.bodies(ADDRESS.dead_letters) == []
    dead_letter = DeadLetter(frozenset({Outcome.EXPIRED}), DEAD)
    bench.policy = replace(POLICY, dead_letter=dead_letter)
    await bench.queues.enqueue(ADDRESS, b"b", expires_ms=START_MS + 2_000)
    bench.clock.move(seconds=1)
    await bench.queues.tick()
    assert await bench.bodies(ADDRESS.dead_letters) == [b"b expired"]


async def test_several_messages_are_completed_together_and_lost_locks_are_told() -> None:
    bench = Bench()
    await bench.queues.enqueue_all(ADDRESS, [NewMessage(b"a"), NewMessage(b"b"), NewMessage(b"c")])
    tokens = [one.token for one in await bench.queues.lock_all(ADDRESS, 2)]
    assert await bench.queues.complete_all(ADDRESS, [tokens[0], "never", tokens[1], tokens[0]]) == [
        True,
        False,
        True,
        True,
    ]
    assert await bench.queues.complete_all(ADDRESS, tokens) == [False, False]
    assert await bench.bodies() == [b"c"]
