"""A lock-queue against an obvious model of it, with crashes before and after any commit.

The model keeps a list of messages and does everything at once. After each step both are brought to the same time and
must agree on what was answered, on what is stored, and on what has left the queue and why.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.ids import HubId
from isthmus.base.state import StateClosed
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
from isthmus.queues.message import decode_message, split_name
from queues.fakes import CountedIds, FailingState, MovedClock

HUB = HubId(1)
ADDRESS = QueueAddress(HUB, "test/a")
LOCK_MS = 5_000
TTL_MS = 20_000

LOCK = st.tuples(st.just("lock"), st.just(0))
ABANDON = st.tuples(st.just("abandon"), st.integers(0, 1))
STEPS = st.one_of(
    st.tuples(st.just("enqueue"), st.integers(5, 60)),
    LOCK,
    LOCK,
    ABANDON,
    ABANDON,
    st.tuples(st.sampled_from(["complete", "reject", "abandon", "release"]), st.integers(0, 3)),
    st.tuples(st.just("move"), st.integers(1, 6)),
    st.tuples(st.sampled_from(["purge", "crash", "lock", "lock"]), st.just(0)),
)
RUNS = st.lists(st.tuples(STEPS, st.sampled_from([False] * 15 + [True])), min_size=20, max_size=100)


@given(RUNS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_queue_does_what_the_model_does(run: list[tuple[tuple[str, int], bool]], lock_expiry_counts: bool) -> None:
    asyncio.run(compare(run, lock_expiry_counts))


async def compare(run: Sequence[tuple[tuple[str, int], bool]], lock_expiry_counts: bool) -> None:
    policy = QueuePolicy(
        depth_max=4, ttl_ms=TTL_MS, lock_ms=LOCK_MS, delivery_count_max=3, lock_expiry_counts=lock_expiry_counts
    )
    real, model = Real(policy), Model(policy)
    for (name, argument), crashes in run:
        if crashes:
            await real.crash_before_the_commit(name, argument)
            model.step("crash", 0)
        else:
            assert await real.step(name, argument) == model.step(name, argument)
        assert await real.stored() == [(m.sequence, m.delivery_count, m.body) for m in model.messages]
        assert real.left == model.left


@dataclass
class Modelled:
    sequence: int
    body: bytes
    expires_ms: int
    delivery_count: int = 0
    locked_until_ms: int | None = None


@dataclass
class Model:
    """The obvious version."""

    policy: QueuePolicy
    clock: MovedClock = field(default_factory=MovedClock)
    messages: list[Modelled] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    left: list[tuple[int, Outcome]] = field(default_factory=list)
    next_sequence: int = 1

    def step(self, name: str, argument: int) -> object:
        answer: object = getattr(self, f"do_{name}")(argument)
        self._pass()
        return answer

    def do_enqueue(self, seconds: int) -> object:
        if len(self.messages) >= self.policy.depth_max:
            return "full"
        body = b"%d" % self.next_sequence
        self.messages.append(Modelled(self.next_sequence, body, self.clock.now_ms + seconds * 1000))
        self.next_sequence += 1
        return self.next_sequence - 1

    def do_lock(self, argument: int) -> object:
        for message in self.messages:
            if message.locked_until_ms is None:
                message.locked_until_ms = self.clock.now_ms + self.policy.lock_ms
                self.held.append(message.sequence)
                return (message.sequence, message.delivery_count, message.body)
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
            if message.locked_until_ms is None and message.expires_ms <= self.clock.now_ms:
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
        documents = await self._state.scan("queue", HUB)
        messages = [(split_name(one.key.name)[1], decode_message(one.body)) for one in documents]
        return [(sequence, message.delivery_count, message.body) for sequence, message in messages]

    async def _do(self, name: str, argument: int) -> object:
        if name == "enqueue":
            return await self._enqueue(argument)
        if name == "lock":
            return await self._lock()
        if name == "purge":
            self._held.clear()
            return await self._queues.purge(ADDRESS)
        if name == "move":
            self._clock.move(seconds=argument)
        elif name == "crash":
            self._held.clear()
            self._queues = self._open()
            await self._queues.start([HUB])
        elif argument < len(self._held):
            return await self._settle(name, self._held.pop(argument).token)
        return None

    async def _enqueue(self, seconds: int) -> object:
        documents = await self._state.scan("meta", HUB)
        body = documents[0].body if documents else b"1"
        try:
            return await self._queues.enqueue(ADDRESS, body, expires_ms=self._clock.now_ms + seconds * 1000)
        except QueueFull:
            return "full"

    async def _lock(self) -> object:
        locked = await self._queues.lock(ADDRESS)
        if locked is None:
            return None
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
