"""Lock-queues over a state in memory: order, locks, counts, expiry, and what a crash leaves."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.backends.memory import MemoryState
from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.base.state import MUST_NOT_EXIST, Check, Conflict, Damaged, Key, Put, State, StateClosed, Stored
from isthmus.queues import (
    Departure,
    LockedMessage,
    LockLost,
    LockQueues,
    Outcome,
    QueueAddress,
    QueueFull,
    QueueHooks,
    QueuePolicy,
    Sequel,
)
from isthmus.queues import lock_queues as lock_queues_module
from isthmus.queues.lock_queues import STEP_MS
from isthmus.queues.message import NO_LIMIT
from queues.fakes import START_MS, CountedIds, FailingState, MovedClock

HUB = HubId(1)
ADDRESS = QueueAddress(HUB, "test/a")
OTHER = QueueAddress(HUB, "test/b")
POLICY = QueuePolicy(depth_max=5, ttl_ms=3_600_000, lock_ms=60_000, delivery_count_max=3, lock_expiry_counts=False)


@dataclass
class Bench:
    """Queues with their clock and what they told."""

    state: State = field(default_factory=MemoryState)
    clock: MovedClock = field(default_factory=MovedClock)
    policy: QueuePolicy = POLICY
    departures: list[Departure] = field(default_factory=list)
    available: list[str] = field(default_factory=list)
    durable: list[int] = field(default_factory=list)

    def open(self) -> LockQueues:
        hooks = QueueHooks(self._settled, lambda hub, name: self.available.append(name))
        return LockQueues(
            self.state,
            self.clock,
            CountedIds(),
            prefix="test/",
            policy=lambda hub: self.policy if hub == HUB else None,
            hooks=hooks,
        )

    async def restarted(self) -> LockQueues:
        queues = self.open()
        await queues.start([HUB])
        return queues

    def _settled(self, hub: HubId, name: str, departure: Departure) -> Sequel:
        self.departures.append(departure)
        trace = Put(Key("trace", hub, f"{name} {departure.sequence}"), departure.outcome.value.encode())
        return Sequel((trace,), lambda: self.durable.append(departure.sequence))


async def test_first_in_first_out() -> None:
    queues = Bench().open()
    for body in (b"a", b"b", b"c"):
        await queues.enqueue(ADDRESS, body)
    assert [(one.sequence, one.body) for one in await lock_all(queues)] == [(1, b"a"), (2, b"b"), (3, b"c")]


async def test_an_empty_queue_gives_none() -> None:
    assert await Bench().open().lock(ADDRESS) is None


async def test_queues_do_not_mix() -> None:
    queues = Bench().open()
    await queues.enqueue(ADDRESS, b"a")
    await queues.enqueue(OTHER, b"b")
    assert [(await locked(queues, address)).body for address in (OTHER, ADDRESS)] == [b"b", b"a"]


async def test_a_locked_message_is_invisible_and_counts() -> None:
    queues = Bench().open()
    await queues.enqueue(ADDRESS, b"a")
    await locked(queues)
    assert await queues.lock(ADDRESS) is None
    assert await queues.count(ADDRESS) == 1


async def test_what_a_lock_tells() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    bench.clock.move(seconds=1)
    assert await queues.lock(ADDRESS) == LockedMessage(
        token="00000001-0000-4000-8000-000000000000",
        sequence=1,
        delivery_count=0,
        enqueued_ms=START_MS,
        expires_ms=START_MS + 3_600_000,
        locked_until_ms=START_MS + 61_000,
        body=b"a",
    )


@pytest.mark.parametrize(("settle", "outcome"), [("complete", Outcome.COMPLETED), ("reject", Outcome.REJECTED)])
async def test_a_settled_message_leaves(settle: str, outcome: Outcome) -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    message = await locked(queues)
    bench.clock.move(seconds=5)
    await getattr(queues, settle)(ADDRESS, message.token)
    assert bench.departures == [Departure(1, START_MS, outcome, START_MS + 5_000, b"a")]
    assert bench.durable == [1]
    assert await queues.count(ADDRESS) == 0
    assert await bench.state.count("queue", HUB) == 0


async def test_the_departure_commits_with_what_follows_from_it() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    await queues.complete(ADDRESS, (await locked(queues)).token)
    trace = await bench.state.get(Key("trace", HUB, "test/a 1"))
    assert trace is not None
    assert trace.body == b"completed"


@pytest.mark.parametrize("settle", ["complete", "reject", "abandon"])
async def test_a_token_settles_once(settle: str) -> None:
    queues = Bench().open()
    await queues.enqueue(ADDRESS, b"a")
    message = await locked(queues)
    await queues.complete(ADDRESS, message.token)
    with pytest.raises(LockLost):
        await getattr(queues, settle)(ADDRESS, message.token)


async def test_two_settlements_at_once_settle_once() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    message = await locked(queues)
    results = await asyncio.gather(
        queues.complete(ADDRESS, message.token), queues.reject(ADDRESS, message.token), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), LockLost]
    assert [departure.outcome for departure in bench.departures] == [Outcome.COMPLETED]


async def test_a_token_of_another_queue_settles_nothing() -> None:
    queues = Bench().open()
    await queues.enqueue(ADDRESS, b"a")
    await queues.enqueue(OTHER, b"b")
    message = await locked(queues)
    with pytest.raises(LockLost):
        await queues.complete(OTHER, message.token)


async def test_an_abandoned_message_comes_first_again_and_counts() -> None:
    queues = Bench().open()
    await queues.enqueue(ADDRESS, b"a")
    await queues.enqueue(ADDRESS, b"b")
    await queues.abandon(ADDRESS, (await locked(queues)).token)
    message = await locked(queues)
    assert (message.body, message.delivery_count) == (b"a", 1)


async def test_the_last_abandonment_removes_the_message() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    for _ in range(POLICY.delivery_count_max):
        await queues.abandon(ADDRESS, (await locked(queues)).token)
    assert await queues.lock(ADDRESS) is None
    assert [departure.outcome for departure in bench.departures] == [Outcome.DELIVERY_COUNT_EXCEEDED]


async def test_a_released_message_comes_first_again_and_does_not_count() -> None:
    queues = Bench().open()
    await queues.enqueue(ADDRESS, b"a")
    await queues.enqueue(ADDRESS, b"b")
    queues.release(ADDRESS, (await locked(queues)).token)
    message = await locked(queues)
    assert (message.body, message.delivery_count) == (b"a", 0)


async def test_releasing_what_is_not_locked_does_nothing() -> None:
    queues = Bench().open()
    queues.release(ADDRESS, "never")
    await queues.enqueue(ADDRESS, b"a")
    queues.release(ADDRESS, "never")
    assert (await locked(queues)).body == b"a"


async def test_a_lock_runs_out_without_counting() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    first = await locked(queues)
    bench.clock.move(seconds=60)
    with pytest.raises(LockLost):
        await queues.complete(ADDRESS, first.token)
    assert (await locked(queues)).delivery_count == 0


async def test_a_lock_runs_out_and_counts_where_the_policy_says_so() -> None:
    bench = Bench(policy=replace(POLICY, lock_expiry_counts=True))
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    for count in range(POLICY.delivery_count_max):
        assert (await locked(queues)).delivery_count == count
        bench.clock.move(seconds=60)
    assert await queues.lock(ADDRESS) is None
    assert [departure.outcome for departure in bench.departures] == [Outcome.DELIVERY_COUNT_EXCEEDED]


async def test_a_lock_holds_until_its_last_millisecond() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    message = await locked(queues)
    bench.clock.move(seconds=59.999)
    await queues.complete(ADDRESS, message.token)


@pytest.mark.parametrize("seconds", [3_600, -3_600, 86_400 * 365])
async def test_a_lock_lasts_as_long_though_the_clock_is_set(seconds: float) -> None:
    bench = Bench(policy=replace(POLICY, ttl_ms=NO_LIMIT // 2))
    queues = bench.open()
    for body in (b"a", b"b"):
        await queues.enqueue(ADDRESS, body)
    first, second = await lock_all(queues)
    bench.clock.move(seconds=20)
    bench.clock.set_by(seconds=seconds)
    bench.clock.move(seconds=39.999)
    await queues.tick()
    await queues.complete(ADDRESS, first.token)
    assert await queues.lock(ADDRESS) is None
    bench.clock.move(seconds=0.001)
    assert queues.next_deadline_ms() == bench.clock.now_ms
    with pytest.raises(LockLost):
        await queues.complete(ADDRESS, second.token)
    assert (await locked(queues)).body == b"b"


async def test_the_end_of_a_lock_is_told_by_the_clock_as_it_was_set() -> None:
    bench = Bench(policy=replace(POLICY, ttl_ms=NO_LIMIT // 2))
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    token = (await locked(queues)).token
    bench.clock.set_by(seconds=7_200)
    assert await queues.renew(ADDRESS, token) == START_MS + 7_260_000
    bench.clock.set_by(seconds=-7_200)
    bench.clock.move(seconds=1)
    assert await queues.renew(ADDRESS, token) == START_MS + 61_000


async def test_whoever_waits_for_a_lock_to_end_is_woken_though_the_clock_was_set_back() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    await locked(queues)
    bench.clock.set_by(seconds=-3_600)
    bench.clock.move(seconds=60)
    bench.available.clear()
    due_ms = queues.next_deadline_ms()
    assert due_ms is not None
    assert due_ms <= bench.clock.now_ms
    await queues.tick()
    assert bench.available == ["test/a"]


async def test_a_message_expires_by_the_clock_as_it_is_set() -> None:
    """An expiry is a moment, told by whoever sent the message; see `docs/concepts/clocks.md`."""
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    bench.clock.set_by(seconds=3_600)
    await queues.tick()
    assert [departure.outcome for departure in bench.departures] == [Outcome.EXPIRED]


@given(steps=st.lists(st.tuples(st.integers(0, 3_000), st.integers(-10_000_000, 10_000_000)), max_size=30))
async def test_a_lock_that_is_in_time_is_never_lost(steps: list[tuple[int, int]]) -> None:
    """However often the clock is set, by a step that counts as one, a lock holds for its minute and no more."""
    bench = Bench(policy=replace(POLICY, ttl_ms=NO_LIMIT // 2))
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    token = (await locked(queues)).token
    passed_ms = 0
    for pass_ms, set_ms in steps:
        bench.clock.move(seconds=pass_ms / 1000)
        passed_ms += pass_ms
        if abs(set_ms) >= STEP_MS:
            bench.clock.set_by(seconds=set_ms / 1000)
        await queues.tick()
        assert (await queues.lock(ADDRESS) is None) == (passed_ms < POLICY.lock_ms)
        if passed_ms >= POLICY.lock_ms:
            return
    await queues.complete(ADDRESS, token)


async def test_an_expired_message_is_not_handed_out() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a", expires_ms=START_MS + 1_000)
    await queues.enqueue(ADDRESS, b"b")
    bench.clock.move(seconds=1)
    assert (await locked(queues)).body == b"b"
    assert [(departure.outcome, departure.body) for departure in bench.departures] == [(Outcome.EXPIRED, b"a")]


async def test_a_lock_protects_from_expiry_until_it_ends() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a", expires_ms=START_MS + 1_000)
    message = await locked(queues)
    bench.clock.move(seconds=59)
    await queues.tick()
    assert bench.departures == []
    queues.release(ADDRESS, message.token)
    assert await queues.lock(ADDRESS) is None
    assert [departure.outcome for departure in bench.departures] == [Outcome.EXPIRED]


async def test_the_policy_gives_messages_their_life() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    bench.clock.move(seconds=3_600)
    await queues.tick()
    assert [departure.outcome for departure in bench.departures] == [Outcome.EXPIRED]


async def test_a_full_queue_refuses() -> None:
    queues = Bench().open()
    await asyncio.gather(*(queues.enqueue(ADDRESS, b"a") for _ in range(POLICY.depth_max)))
    with pytest.raises(QueueFull):
        await queues.enqueue(ADDRESS, b"a")
    await queues.complete(ADDRESS, (await locked(queues)).token)
    await queues.enqueue(ADDRESS, b"a")


async def test_purge_takes_what_waits_and_what_is_locked() -> None:
    bench = Bench()
    queues = bench.open()
    for _ in range(3):
        await queues.enqueue(ADDRESS, b"a")
    message = await locked(queues)
    assert await queues.purge(ADDRESS) == 3
    assert [departure.outcome for departure in bench.departures] == [Outcome.PURGED] * 3
    with pytest.raises(LockLost):
        await queues.complete(ADDRESS, message.token)
    assert await queues.purge(ADDRESS) == 0


async def test_sequences_are_never_used_again() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    await queues.complete(ADDRESS, (await locked(queues)).token)
    assert await (await bench.restarted()).enqueue(ADDRESS, b"b") == 2


async def test_a_condition_that_does_not_hold_stores_nothing() -> None:
    bench = Bench()
    queues = bench.open()
    with pytest.raises(Conflict):
        await queues.enqueue(ADDRESS, b"a", along=[Check(Key("thing", HUB, "absent"), 1)])
    assert await queues.lock(ADDRESS) is None
    await queues.enqueue(ADDRESS, b"b", along=[Check(Key("thing", HUB, "absent"), MUST_NOT_EXIST)])
    assert (await locked(queues)).body == b"b"


async def test_a_restart_returns_locked_messages_with_their_counts() -> None:
    bench = Bench()
    queues = bench.open()
    for body in (b"a", b"b"):
        await queues.enqueue(ADDRESS, body)
    await queues.abandon(ADDRESS, (await locked(queues)).token)
    await lock_all(queues)
    again = await lock_all(await bench.restarted())
    assert [(one.body, one.delivery_count) for one in again] == [(b"a", 1), (b"b", 0)]


async def test_messages_tell_when_they_become_available() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    queues.release(ADDRESS, (await locked(queues)).token)
    await queues.abandon(ADDRESS, (await locked(queues)).token)
    await locked(queues)
    bench.clock.move(seconds=60)
    await queues.tick()
    assert bench.available == ["test/a"] * 4


async def test_expiry_comes_without_traffic_also_after_a_restart() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a", expires_ms=START_MS + 2_000)
    await queues.enqueue(OTHER, b"b", expires_ms=START_MS + 1_000)
    restarted = await bench.restarted()
    assert restarted.next_deadline_ms() == START_MS + 1_000
    bench.clock.move(seconds=1)
    await restarted.tick()
    assert [departure.body for departure in bench.departures] == [b"b"]
    assert restarted.next_deadline_ms() == START_MS + 2_000
    bench.clock.move(seconds=1)
    await restarted.tick()
    assert restarted.next_deadline_ms() is None


async def test_an_earlier_deadline_wakes() -> None:
    queues = Bench().open()
    woken: list[int | None] = []
    queues.on_earlier(lambda: woken.append(queues.next_deadline_ms()))
    for expires_ms in (START_MS + 5_000, START_MS + 9_000, START_MS + 1_000):
        await queues.enqueue(ADDRESS, b"a", expires_ms=expires_ms)
    assert woken == [START_MS + 5_000, START_MS + 1_000]


async def test_a_failed_commit_is_told_and_the_message_is_handed_out_again() -> None:
    state = FailingState()
    queues = Bench(state=state).open()
    await queues.enqueue(ADDRESS, b"a")
    message = await locked(queues)
    state.failures = 1
    with pytest.raises(StateClosed):
        await queues.complete(ADDRESS, message.token)
    assert (await locked(queues)).sequence == 1


async def test_a_failed_enqueue_leaves_nothing() -> None:
    state = FailingState()
    queues = Bench(state=state).open()
    state.failures = 1
    with pytest.raises(StateClosed):
        await queues.enqueue(ADDRESS, b"a")
    assert await queues.count(ADDRESS) == 0


async def test_a_failed_expiry_is_tried_again() -> None:
    state = FailingState()
    bench = Bench(state=state)
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a", expires_ms=START_MS + 1_000)
    bench.clock.move(seconds=1)
    state.failures = 1
    with pytest.raises(StateClosed):
        await queues.tick()
    deadline = queues.next_deadline_ms()
    assert deadline is not None
    assert deadline <= bench.clock.utc_ms()
    await queues.tick()
    assert bench.durable == [1]


async def test_a_caller_who_leaves_does_not_stop_a_settlement() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a")
    message = await locked(queues)
    settling = asyncio.create_task(queues.complete(ADDRESS, message.token))
    await asyncio.sleep(0)
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    await queues.close()
    assert bench.durable == [1]


async def test_removal_deletes_everything_and_the_next_queue_begins_anew() -> None:
    bench = Bench()
    queues = bench.open()
    for _ in range(3):
        await queues.enqueue(ADDRESS, b"a")
    await queues.enqueue(OTHER, b"b")
    message = await locked(queues)
    await bench.state.commit(await queues.removal(ADDRESS))
    with pytest.raises(LockLost):
        await queues.complete(ADDRESS, message.token)
    queues.forget(ADDRESS)
    assert bench.departures == []
    assert await queues.count(ADDRESS) == 0
    assert await queues.enqueue(ADDRESS, b"new") == 1
    assert (await locked(queues, OTHER)).body == b"b"


async def test_a_message_that_comes_during_the_removal_makes_it_a_conflict() -> None:
    bench = Bench()
    queues = bench.open()
    removal = await queues.removal(ADDRESS)
    await queues.enqueue(ADDRESS, b"a")
    with pytest.raises(Conflict):
        await bench.state.commit(removal)


async def test_a_queue_deleted_unseen_is_read_anew() -> None:
    bench = Bench()
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"a", expires_ms=START_MS + 1_000)
    await bench.state.commit(await queues.removal(ADDRESS))
    bench.clock.move(seconds=2)
    assert await queues.enqueue(ADDRESS, b"b") == 1
    assert (await locked(queues)).body == b"b"
    assert bench.departures == []


async def test_idle_queues_are_forgotten_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_queues_module, "QUEUES_LOADED_MAX", 3)
    queues = Bench().open()
    addresses = [QueueAddress(HUB, f"test/{number}") for number in range(10)]
    await queues.enqueue(ADDRESS, b"held")
    held = await locked(queues)
    for address in addresses:
        await queues.enqueue(address, address.name.encode())
    assert [(await locked(queues, address)).body for address in addresses] == [
        address.name.encode() for address in addresses
    ]
    await queues.complete(ADDRESS, held.token)


async def test_a_damaged_message_does_not_block_those_behind_it() -> None:
    state = DamagedState("test/a\n0000000000000001")
    bench = Bench(state=state)
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"damaged")
    await queues.enqueue(ADDRESS, b"sound")
    with pytest.raises(Damaged):
        await queues.lock(ADDRESS)
    assert (await locked(queues)).body == b"sound"
    bench.clock.move(seconds=3_600)
    await queues.tick()
    await queues.tick()
    assert [departure.body for departure in bench.departures] == [b"sound"]
    assert await queues.count(ADDRESS) == 0


async def test_a_damaged_message_is_counted_and_leaves_when_its_lock_runs_out() -> None:
    bench = Bench(state=DamagedState("test/a\n0000000000000001"), policy=replace(POLICY, lock_expiry_counts=True))
    queues = bench.open()
    await queues.enqueue(ADDRESS, b"damaged")
    for _ in range(POLICY.delivery_count_max):
        with pytest.raises(Damaged):
            await queues.lock(ADDRESS)
        bench.clock.move(seconds=60)
        await queues.tick()
    assert await queues.count(ADDRESS) == 0


async def test_a_hub_that_is_not_there_has_no_queues() -> None:
    with pytest.raises(HubError):
        await Bench().open().enqueue(QueueAddress(HubId(9), "test/a"), b"a")


class DamagedState(MemoryState):
    """One document of it cannot be read."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._damaged = name

    async def get(self, key: Key) -> Stored | None:
        if key.name == self._damaged:
            raise Damaged(key)
        return await super().get(key)


async def locked(queues: LockQueues, address: QueueAddress = ADDRESS) -> LockedMessage:
    message = await queues.lock(address)
    assert message is not None
    return message


async def lock_all(queues: LockQueues) -> list[LockedMessage]:
    messages = []
    while (message := await queues.lock(ADDRESS)) is not None:
        messages.append(message)
    return messages
