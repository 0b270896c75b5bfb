"""A lock-queue against an obvious model of it, with crashes before and after any commit.

The model keeps a list of messages and does everything at once. After each step both are brought to the same time and
must agree on what was answered, on what is stored, and on what has left the queue and why.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.ids import HubId
from isthmus.base.state import Key, StateClosed
from isthmus.queues import (
    NO_LIMIT,
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
from isthmus.queues.message import decode_message, split_name
from queues.fakes import CountedIds, FailingState, MovedClock

HUB = HubId(1)
ADDRESS = QueueAddress(HUB, "test/a")
LOCK_MS = 5_000
TTL_MS = 20_000

LOCK = st.tuples(st.just("lock"), st.just(0))
ABANDON = st.tuples(st.just("abandon"), st.integers(0, 1))
DEAD = QueuePolicy(
    depth_max=NO_LIMIT, ttl_ms=NO_LIMIT, lock_ms=LOCK_MS, delivery_count_max=NO_LIMIT, lock_expiry_counts=True
)
DEAD_LETTER = DeadLetter(frozenset({Outcome.REJECTED, Outcome.DELIVERY_COUNT_EXCEEDED, Outcome.EXPIRED}), DEAD)
STEPS = st.one_of(
    st.tuples(st.just("enqueue"), st.integers(5, 60)),
    st.tuples(st.just("schedule"), st.integers(1, 30)),
    st.tuples(st.sampled_from(["lock_deferred", "take_deferred", "cancel"]), st.integers(1, 8)),
    st.tuples(st.sampled_from(["defer", "defer", "renew"]), st.integers(0, 1)),
    st.tuples(st.just("take"), st.integers(1, 2)),
    LOCK,
    LOCK,
    ABANDON,
    ABANDON,
    st.tuples(st.sampled_from(["complete", "reject", "abandon", "release"]), st.integers(0, 3)),
    st.tuples(st.just("move"), st.integers(1, 6)),
    st.tuples(st.sampled_from(["purge", "crash", "lock", "lock"]), st.just(0)),
)
RUNS = st.lists(st.tuples(STEPS, st.sampled_from([False] * 15 + [True])), min_size=20, max_size=100)


@given(RUNS, st.booleans(), st.sampled_from([None, DEAD_LETTER]))
@settings(max_examples=200, deadline=None)
def test_the_queue_does_what_the_model_does(
    run: list[tuple[tuple[str, int], bool]], lock_expiry_counts: bool, dead_letter: DeadLetter | None
) -> None:
    policy = QueuePolicy(
        depth_max=6,
        ttl_ms=TTL_MS,
        lock_ms=LOCK_MS,
        delivery_count_max=3,
        lock_expiry_counts=lock_expiry_counts,
        dead_letter=dead_letter,
    )
    asyncio.run(compare(run, policy))


async def compare(run: Sequence[tuple[tuple[str, int], bool]], policy: QueuePolicy) -> None:
    real, model = Real(policy), Model(policy)
    for (name, argument), crashes in run:
        if crashes:
            await real.crash_before_the_commit(name, argument)
            model.step("crash", 0)
        else:
            assert await real.step(name, argument) == model.step(name, argument)
        assert await real.stored() == [model.told(one) for one in model.messages]
        assert await real.peeked() == [(one.sequence, one.standing) for one in model.messages]
        assert await real.dead() == model.dead
        assert real.left == model.left


@dataclass
class Modelled:
    sequence: int
    body: bytes
    expires_ms: int
    delivery_count: int = 0
    locked_until_ms: int | None = None
    standing: Standing = Standing.ACTIVE
    scheduled_ms: int = 0

    @property
    def is_waiting(self) -> bool:
        return self.locked_until_ms is None and self.standing is Standing.ACTIVE


@dataclass
class Model:
    """The obvious version."""

    policy: QueuePolicy
    clock: MovedClock = field(default_factory=MovedClock)
    messages: list[Modelled] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    left: list[tuple[int, Outcome]] = field(default_factory=list)
    dead: list[bytes] = field(default_factory=list)
    next_sequence: int = 1

    def step(self, name: str, argument: int) -> object:
        answer: object = getattr(self, f"do_{name}")(argument)
        self._pass()
        return answer

    def told(self, message: Modelled) -> tuple[int, int, bytes]:
        return (message.sequence, message.delivery_count, message.body)

    def do_enqueue(self, seconds: int) -> object:
        return self._append(self.clock.now_ms + seconds * 1000)

    def do_schedule(self, seconds: int) -> object:
        at_ms = self.clock.now_ms + seconds * 1000
        return self._append(at_ms + 10_000, at_ms)

    def _append(self, expires_ms: int, scheduled_ms: int = 0) -> object:
        if len(self.messages) + len(self.dead) >= self.policy.depth_max:
            return "full"
        message = Modelled(self.next_sequence, b"%d" % self.next_sequence, expires_ms)
        if scheduled_ms:
            message.standing, message.scheduled_ms = Standing.SCHEDULED, scheduled_ms
        self.messages.append(message)
        self.next_sequence += 1
        return message.sequence

    def do_lock(self, argument: int) -> object:
        for message in self.messages:
            if message.is_waiting:
                return self._lock(message)
        return None

    def do_lock_deferred(self, sequence: int) -> object:
        message = self._deferred(sequence)
        return "none" if message is None else self._lock(message)

    def do_take_deferred(self, sequence: int) -> object:
        message = self._deferred(sequence)
        if message is None:
            return "none"
        self._remove(message, Outcome.COMPLETED)
        return message.sequence

    def do_cancel(self, sequence: int) -> object:
        for message in self.messages:
            if message.sequence == sequence and message.standing is Standing.SCHEDULED:
                self._remove(message, Outcome.CANCELLED)
                return None
        return "none"

    def do_take(self, limit: int) -> object:
        taken = [message for message in self.messages if message.is_waiting][:limit]
        for message in taken:
            self._remove(message, Outcome.COMPLETED)
        return [message.sequence for message in taken]

    def do_defer(self, which: int) -> object:
        return self._settle(which, self._defer)

    def do_renew(self, which: int) -> object:
        if which >= len(self.held):
            return None
        for message in self.messages:
            if message.sequence == self.held[which]:
                message.locked_until_ms = self.clock.now_ms + self.policy.lock_ms
        return None

    def _lock(self, message: Modelled) -> object:
        message.locked_until_ms = self.clock.now_ms + self.policy.lock_ms
        self.held.append(message.sequence)
        return self.told(message)

    def _defer(self, message: Modelled) -> None:
        message.standing = Standing.DEFERRED
        self._unlock(message)

    def _deferred(self, sequence: int) -> Modelled | None:
        for message in self.messages:
            if (message.sequence, message.standing) == (sequence, Standing.DEFERRED):
                if message.locked_until_ms is not None:
                    return None
                if message.expires_ms > self.clock.now_ms:
                    return message
                self._remove(message, Outcome.EXPIRED)
                return None
        return None

    def do_complete(self, which: int) -> object:
        return self._settle(which, lambda message: self._remove(message, Outcome.COMPLETED))

    def do_reject(self, which: int) -> object:
        return self._settle(which, lambda message: self._remove(message, Outcome.REJECTED))

    def do_abandon(self, which: int) -> object:
        return self._settle(which, self._count)

    def do_release(self, which: int) -> object:
        self._settle(which, self._unlock)
        return None

    def do_purge(self, argument: int) -> object:
        count = len(self.messages)
        for message in list(self.messages):
            self._remove(message, Outcome.PURGED)
        return count

    def do_move(self, seconds: int) -> object:
        self.clock.move(seconds=seconds)
        return None

    def do_crash(self, argument: int) -> object:
        for message in self.messages:
            message.locked_until_ms = None
        self.held.clear()
        return None

    def _settle(self, which: int, settle: Callable[[Modelled], None]) -> object:
        """Takes the lock taken as the `which`th of those not settled yet."""
        if which >= len(self.held):
            return None
        sequence = self.held.pop(which)
        for message in self.messages:
            if message.sequence == sequence and message.locked_until_ms is not None:
                settle(message)
                return None
        return "lost"

    def _pass(self) -> None:
        """Brings the queue to the present time."""
        for message in list(self.messages):
            if message.locked_until_ms is not None and message.locked_until_ms <= self.clock.now_ms:
                self.held.remove(message.sequence)
                if self.policy.lock_expiry_counts:
                    self._count(message)
                else:
                    self._unlock(message)
        for message in list(self.messages):
            if message.standing is Standing.SCHEDULED and message.scheduled_ms <= self.clock.now_ms:
                self.messages.remove(message)
                self.messages.append(Modelled(self.next_sequence, message.body, message.expires_ms))
                self.next_sequence += 1
        for message in list(self.messages):
            if message.is_waiting and message.expires_ms <= self.clock.now_ms:
                self._remove(message, Outcome.EXPIRED)

    def _count(self, message: Modelled) -> None:
        message.delivery_count += 1
        self._unlock(message)
        if message.delivery_count == self.policy.delivery_count_max:
            self._remove(message, Outcome.DELIVERY_COUNT_EXCEEDED)

    def _unlock(self, message: Modelled) -> None:
        message.locked_until_ms = None

    def _remove(self, message: Modelled, outcome: Outcome) -> None:
        self.messages.remove(message)
        if message.sequence in self.held:
            self.held.remove(message.sequence)
        self.left.append((message.sequence, outcome))
        if self.policy.dead_letter is not None and outcome in self.policy.dead_letter.outcomes:
            self.dead.append(message.body)


class Real:
    """The queue, driven by the model's steps."""

    def __init__(self, policy: QueuePolicy) -> None:
        self.left: list[tuple[int, Outcome]] = []
        self._policy = policy
        self._state = FailingState()
        self._clock = MovedClock()
        self._ids = CountedIds()
        self._held: list[LockedMessage] = []
        self._queues = self._open()

    async def step(self, name: str, argument: int) -> object:
        answer = await self._do(name, argument)
        await self._queues.tick()
        await self._queues.tick()
        self._held = [held for held in self._held if held.locked_until_ms > self._clock.now_ms]
        return answer

    async def crash_before_the_commit(self, name: str, argument: int) -> None:
        """Lets no commit of this step happen, and starts again."""
        if name != "move":
            self._state.failures = 1_000
            with suppress(StateClosed):
                await self._do(name, argument)
            self._state.failures = 0
        await self.step("crash", 0)

    async def stored(self) -> list[tuple[int, int, bytes]]:
        """What a crash now would leave."""
        documents = await self._state.scan("queue", HUB, prefix=f"{ADDRESS.name}\n")
        messages = [(split_name(one.key.name)[1], decode_message(one.body)) for one in documents]
        return [(sequence, message.delivery_count, message.body) for sequence, message in messages]

    async def peeked(self) -> list[tuple[int, Standing]]:
        """What somebody sees who takes nothing."""
        return [(one.sequence, one.standing) for one in await self._queues.peek(ADDRESS, 0, 100)]

    async def dead(self) -> list[bytes]:
        """What is in the dead-letter queue."""
        return [one.body for one in await self._queues.peek(ADDRESS.dead_letters, 0, 100)]

    async def _do(self, name: str, argument: int) -> object:
        if name == "enqueue":
            return await self._enqueue(argument)
        if name == "lock":
            return await self._lock()
        if name in ("schedule", "lock_deferred", "take_deferred", "cancel", "take"):
            return await self._do_more(name, argument)
        if name == "purge":
            self._held.clear()
            return await self._queues.purge(ADDRESS)
        if name == "move":
            self._clock.move(seconds=argument)
        elif name == "crash":
            self._held.clear()
            self._queues = self._open()
            await self._queues.start([HUB])
        elif name == "renew":
            await self._renew(argument)
        elif argument < len(self._held):
            return await self._settle(name, self._held.pop(argument).token)
        return None

    async def _do_more(self, name: str, argument: int) -> object:
        now_ms = self._clock.now_ms
        try:
            match name:
                case "schedule":
                    return await self._enqueue(argument + 10, now_ms + argument * 1000)
                case "lock_deferred":
                    return self._hold(*await self._queues.lock_deferred(ADDRESS, [argument]))
                case "take_deferred":
                    return (await self._queues.take_deferred(ADDRESS, [argument]))[0].sequence
                case "cancel":
                    await self._queues.cancel(ADDRESS, [argument])
                    return None
            return [one.sequence for one in await self._queues.take(ADDRESS, argument)]
        except NoSuchMessage:
            return "none"

    async def _enqueue(self, seconds: int, scheduled_ms: int = 0) -> object:
        counter = await self._state.get(Key("meta", HUB, f"queue {ADDRESS.name}"))
        body = counter.body if counter is not None else b"1"
        message = NewMessage(body, self._clock.now_ms + seconds * 1000, scheduled_ms=scheduled_ms)
        try:
            return (await self._queues.enqueue_all(ADDRESS, [message]))[0]
        except QueueFull:
            return "full"

    async def _lock(self) -> object:
        locked = await self._queues.lock(ADDRESS)
        return None if locked is None else self._hold(locked)

    async def _renew(self, which: int) -> None:
        if which < len(self._held):
            held = self._held[which]
            until_ms = await self._queues.renew(ADDRESS, held.token)
            self._held[which] = replace(held, locked_until_ms=until_ms)

    def _hold(self, locked: LockedMessage) -> object:
        self._held.append(locked)
        return (locked.sequence, locked.delivery_count, locked.body)

    async def _settle(self, name: str, token: str) -> object:
        if name == "release":
            self._queues.release(ADDRESS, token)
            return None
        try:
            await getattr(self._queues, name)(ADDRESS, token)
        except LockLost:
            return "lost"
        return None

    def _open(self) -> LockQueues:
        return LockQueues(
            self._state,
            self._clock,
            self._ids,
            prefix="test/",
            policy=lambda hub: self._policy,
            hooks=QueueHooks(self._settled, lambda hub, name: None),
        )

    def _settled(self, hub: HubId, name: str, departure: Departure) -> Sequel:
        return Sequel(committed=lambda: self.left.append((departure.sequence, departure.outcome)))
