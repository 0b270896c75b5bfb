"""All lock-queues of one kind: read when they are needed, forgotten when they are not, expired when nobody calls.

Theory of operation. `start` reads which queues hold messages and when the first of each needs attention; from then on
that table (one entry for each queue that is not empty) answers for queues that are not in memory: an empty one is never
read. A queue is read when something is done with it, and kept; above `QUEUES_LOADED_MAX` those used longest ago go
first, but never one that holds a lock or has a commit under way, since locks live nowhere else.

Every operation runs in a task of its own, so that a caller who is cancelled leaves no half-done step behind. An
operation first brings its queues to the present time: an expired message is never handed out, a lost lock never
settles. `tick` does the same for queues that nobody uses; its owner calls it at `next_deadline_ms` (see `upkeep`).

Deadlines of messages are wall time, and so are the ends of locks. But a lock is a duration: when the wall clock is set,
which is noticed by how far it is ahead of the monotonic one, at the next operation or the next look at deadlines, the
ends of all locks are moved by as much. Whoever sets the clock forward by an hour does not end them, nor make them an
hour longer by setting it back. Locks do not outlive the process, so this never has to be known after a restart.

A queue whose policy knows a dead-letter queue has one at `QueueAddress.dead_letters`. It is read with the queue, and
kept as long as that is, so that a message can move there in the commit that removes it here.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId, Ids
from isthmus.base.state import Change, Damaged, Delete, State
from isthmus.completion import Completion
from isthmus.queues.lock_queue import (
    LOADED_AT_ONCE,
    Edit,
    LockLost,
    LockQueue,
    NoSuchMessage,
    QueueDeleted,
    QueueHooks,
    counter_key,
    queue_prefix,
    read_queue,
)
from isthmus.queues.message import (
    NO_LIMIT,
    Counts,
    LockedMessage,
    NewMessage,
    QueuePolicy,
    decode_message,
    split_name,
)
from isthmus.queues.placement import QUEUE_KIND, commit_with

QUEUES_LOADED_MAX = 4_096
"""Queues kept in memory while idle."""

EXPIRED_AT_ONCE = 64
"""Queues that `tick` works on side by side, so that they share commits."""

OLDEST_LOOKED_AT = 64
"""Queues looked at when there are too many; those that hold locks stay, so there may be that many more."""

DEADLINES_SPARE = 1_024
"""Outdated deadlines kept beyond one for each queue before they are swept out."""

DEAD_LETTERS: Final = "/$dead"
"""Ends the name of a dead-letter queue; no other queue's name ends so."""

STEP_MS = 1_000
"""A wall clock that moved by so much more or less than the monotonic one was set; below, it was kept right."""

T = TypeVar("T")
Operation = Callable[[LockQueue, QueuePolicy, int], Awaitable[T]]


class QueueAddress(NamedTuple):
    """Names a queue of a hub."""

    hub: HubId
    name: str

    @property
    def dead_letters(self) -> "QueueAddress":
        """Where messages go that could not be delivered."""
        return QueueAddress(self.hub, self.name + DEAD_LETTERS)


class _Ready(NamedTuple):
    """A queue as of now, and what holds for it."""

    queue: LockQueue
    policy: QueuePolicy


@dataclass(slots=True)
class _Holding:
    """A queue in memory, or on its way there, and how many operations are using it."""

    reading: asyncio.Task[LockQueue]
    users: int = 0
    dead_letters: "_Holding | None" = None

    @property
    def queue(self) -> LockQueue | None:
        """The queue once it has been read."""
        if not self.reading.done() or self.reading.cancelled() or self.reading.exception() is not None:
            return None
        return self.reading.result()

    @property
    def is_spent(self) -> bool:
        """True when the queue could not be read, or was deleted by somebody else."""
        return self.reading.done() and (self.queue is None or self.queue.is_stale)

    @property
    def may_go(self) -> bool:
        """True when nobody would miss it."""
        return not self.users and self.queue is not None and self.queue.is_idle


class LockQueues:
    """Belongs to one event loop; names of its queues begin with `prefix`, which no other kind's do.

    `policy` tells what holds for a hub now, None when there is no such hub.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        ids: Ids,
        *,
        prefix: str,
        policy: Callable[[HubId], QueuePolicy | None],
        hooks: QueueHooks,
    ) -> None:
        self._state = state
        self._clock = clock
        self._ids = ids
        self._prefix = prefix
        self._policy = policy
        self._hooks = hooks
        self._holdings: dict[QueueAddress, _Holding] = {}
        self._due: dict[QueueAddress, int] = {}
        self._deadlines: list[tuple[int, QueueAddress]] = []
        self._earlier: list[Callable[[], None]] = []
        self._completion = Completion()
        self._ahead_ms = _ahead_ms(clock)

    async def start(self, hubs: Iterable[HubId]) -> None:
        """Finds the queues that hold messages; before anything else is called."""
        for hub in hubs:
            after = ""
            while page := await self._state.scan(
                QUEUE_KIND, hub, prefix=self._prefix, after=after, limit=LOADED_AT_ONCE
            ):
                for stored in page:
                    address = QueueAddress(hub, split_name(stored.key.name)[0])
                    deadline_ms = decode_message(stored.body).deadline_ms
                    due_ms = NO_LIMIT if deadline_ms is None else deadline_ms
                    self._set_due(address, min(due_ms, self._due.get(address, due_ms)))
                after = page[-1].key.name

    async def close(self) -> None:
        """Waits for the operations under way."""
        await self._completion.settled()

    async def enqueue(
        self, address: QueueAddress, body: bytes, *, expires_ms: int | None = None, along: Sequence[Change] = ()
    ) -> int:
        """Stores a message and returns its sequence; without `expires_ms` it lives as long as the policy says.

        `along` are part of the commit. Raises `QueueFull` or `Conflict`.
        """

        (sequence,) = await self.enqueue_all(address, [NewMessage(body, expires_ms)], along=along)
        return sequence

    async def enqueue_all(
        self, address: QueueAddress, messages: Sequence[NewMessage], *, along: Sequence[Change] = ()
    ) -> list[int]:
        """Stores messages in one commit and returns their numbers; as `enqueue`."""
        return await self._use(
            address, lambda queue, policy, now_ms: queue.enqueue(messages, policy, now_ms=now_ms, along=along)
        )

    async def spread(self, messages: Mapping[QueueAddress, Sequence[NewMessage]]) -> None:
        """Stores messages in several queues in one commit; raises `QueueFull` when one of them has no room."""

        async def operation(queues: Sequence[_Ready], now_ms: int) -> None:
            parts = list(zip(queues, messages.values(), strict=True))
            for (queue, policy), new in parts:
                queue.check_room(new, policy)
            placements = [queue.reserve(new, policy, now_ms=now_ms) for (queue, policy), new in parts]
            await commit_with(self._state, (), placements)

        if messages:
            await self._use_all(list(messages), operation)

    async def move(
        self, address: QueueAddress, token: str, messages: Mapping[QueueAddress, Sequence[NewMessage]]
    ) -> None:
        """Removes a locked message and stores others in other queues, in one commit; their limits do not hold.

        Raises `LockLost`.
        """

        async def operation(queues: Sequence[_Ready], now_ms: int) -> None:
            (queue, policy), *targets = queues
            placements = [
                target.reserve(new, target_policy, now_ms=now_ms)
                for (target, target_policy), new in zip(targets, messages.values(), strict=True)
            ]
            await queue.complete(token, policy, now_ms=now_ms, placements=placements)

        self._require_loaded(address)
        await self._use_all([address, *messages], operation)

    async def lock(self, address: QueueAddress) -> LockedMessage | None:
        """Hands out the first message that waits, or None; raises `Damaged` for one that cannot be read."""
        if self._is_empty(address):
            return None
        return await self._use(
            address, lambda queue, policy, now_ms: queue.lock(self._ids.uuid(), policy, now_ms=now_ms)
        )

    async def lock_all(self, address: QueueAddress, limit: int, size_max: int = NO_LIMIT) -> list[LockedMessage]:
        """As `lock`, for the first messages that wait; stops before one that cannot be read.

        At most `limit`, and no more once their bodies have `size_max` bytes.
        """

        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> list[LockedMessage]:
            locked: list[LockedMessage] = []
            size = 0
            while len(locked) < limit and size < size_max:
                try:
                    message = await queue.lock(self._ids.uuid(), policy, now_ms=now_ms)
                except Damaged:
                    if not locked:
                        raise
                    break
                if message is None:
                    break
                locked.append(message)
                size += len(message.body)
            return locked

        return [] if self._is_empty(address) else await self._use(address, operation)

    async def lock_deferred(self, address: QueueAddress, sequences: Sequence[int]) -> list[LockedMessage]:
        """Hands out deferred messages by their numbers, all or none; raises `NoSuchMessage`."""

        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> list[LockedMessage]:
            locked: list[LockedMessage] = []
            try:
                for sequence in sequences:
                    message = await queue.lock_deferred(sequence, self._ids.uuid(), policy, now_ms=now_ms)
                    if message is not None:
                        locked.append(message)
            except NoSuchMessage:
                for one in locked:
                    queue.release(one.token)
                raise
            return locked

        return await self._use(address, operation)

    async def take(self, address: QueueAddress, limit: int, size_max: int = NO_LIMIT) -> list[LockedMessage]:
        """Removes the first messages that wait and returns them; limits as of `lock_all`."""
        if self._is_empty(address):
            return []
        return await self._use(
            address, lambda queue, policy, now_ms: queue.take(policy, now_ms=now_ms, limit=limit, size_max=size_max)
        )

    async def take_deferred(self, address: QueueAddress, sequences: Sequence[int]) -> list[LockedMessage]:
        """Removes deferred messages and returns them; raises `NoSuchMessage` at the first that is not there."""

        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> list[LockedMessage]:
            taken = [await queue.take_deferred(sequence, policy, now_ms=now_ms) for sequence in sequences]
            return [message for message in taken if message is not None]

        return await self._use(address, operation)

    async def peek(self, address: QueueAddress, from_sequence: int, limit: int) -> list[LockedMessage]:
        """The messages from a number on, at most `limit`, without locking them; none of them has a token to settle."""
        if self._is_empty(address):
            return []
        return await self._use(address, lambda queue, policy, now_ms: queue.peek(from_sequence, limit))

    async def renew(self, address: QueueAddress, token: str) -> int:
        """Lets a lock hold for its whole time from now, and returns its end; raises `LockLost`."""

        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> int:
            return queue.renew(token, policy, now_ms=now_ms)

        self._require_loaded(address)
        return await self._use(address, operation)

    async def complete(self, address: QueueAddress, token: str) -> None:
        """Settles a message as delivered; raises `LockLost`."""
        self._require_loaded(address)
        await self._use(address, lambda queue, policy, now_ms: queue.complete(token, policy, now_ms=now_ms))

    async def complete_all(self, address: QueueAddress, tokens: Sequence[str]) -> list[bool]:
        """Settles messages as delivered, as many as can in one commit; tells of each whether it was locked."""
        if address not in self._holdings:
            return [False] * len(tokens)
        return await self._use(address, lambda queue, policy, now_ms: queue.complete_all(tokens, policy, now_ms=now_ms))

    async def reject(self, address: QueueAddress, token: str, edit: Edit | None = None) -> None:
        """Settles a message as refused; raises `LockLost`. `edit` changes what goes to the dead-letter queue."""
        self._require_loaded(address)
        await self._use(address, lambda queue, policy, now_ms: queue.reject(token, policy, now_ms=now_ms, edit=edit))

    async def abandon(self, address: QueueAddress, token: str, edit: Edit | None = None) -> None:
        """Gives a message back, counting a failed delivery; raises `LockLost`."""
        self._require_loaded(address)
        await self._use(address, lambda queue, policy, now_ms: queue.abandon(token, policy, now_ms=now_ms, edit=edit))

    async def defer(self, address: QueueAddress, token: str, edit: Edit | None = None) -> None:
        """Sets a message aside, to be had by its number only; raises `LockLost`."""
        self._require_loaded(address)
        await self._use(address, lambda queue, policy, now_ms: queue.defer(token, now_ms=now_ms, edit=edit))

    def release(self, address: QueueAddress, token: str) -> None:
        """Gives a message back, counting nothing; nothing happens when the lock is lost."""
        holding = self._holdings.get(address)
        if holding is not None and holding.queue is not None:
            holding.queue.release(token)
            self._note(address, holding)

    async def cancel(self, address: QueueAddress, sequences: Sequence[int]) -> None:
        """Removes scheduled messages, all or none; raises `NoSuchMessage`."""
        await self._use(address, lambda queue, policy, now_ms: queue.cancel(sequences, policy, now_ms=now_ms))

    async def purge(self, address: QueueAddress) -> int:
        """Removes all messages except those being settled; returns how many."""
        if self._is_empty(address):
            return 0
        try:
            return await self._use(address, lambda queue, policy, now_ms: queue.purge(policy, now_ms=now_ms))
        except QueueDeleted:
            return 0

    async def count(self, address: QueueAddress) -> int:
        """Messages in the queue, locked ones included."""
        return (await self.counts(address)).all

    async def counts(self, address: QueueAddress) -> Counts:
        """Messages in the queue by how they wait, locked ones included."""

        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> Counts:
            return queue.counts

        return Counts() if self._is_empty(address) else await self._use(address, operation)

    async def removal(self, address: QueueAddress) -> list[Change]:
        """The changes that delete the whole queue; a message enqueued before they are committed is a `Conflict`."""
        counter = counter_key(*address)
        stored = await self._state.get(counter)
        changes: list[Change] = [Delete(counter, stored.revision if stored else 0)]
        prefix, after = queue_prefix(address.name), ""
        while page := await self._state.scan(QUEUE_KIND, address.hub, prefix=prefix, after=after, limit=LOADED_AT_ONCE):
            changes += [Delete(message.key) for message in page]
            after = page[-1].key.name
        return changes

    def forget(self, address: QueueAddress) -> None:
        """Drops what is in memory of a queue whose deletion has been committed."""
        self._drop(address)
        self._due.pop(address, None)

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do; None while nothing is due ever."""
        self._now()
        return self._earliest()

    def _earliest(self) -> int | None:
        while self._deadlines:
            when, address = self._deadlines[0]
            if self._due.get(address) == when:
                return when
            heapq.heappop(self._deadlines)
        return None

    def on_earlier(self, wake: Callable[[], None]) -> None:
        """Calls `wake` when `next_deadline_ms` has become earlier."""
        self._earlier.append(wake)

    async def tick(self) -> None:
        """Brings all queues that are due to the present time; raises what the first that failed raised."""
        addresses = self._take_due()
        for start in range(0, len(addresses), EXPIRED_AT_ONCE):
            chunk = addresses[start : start + EXPIRED_AT_ONCE]
            results = await asyncio.gather(*map(self._bring_forward, chunk), return_exceptions=True)
            failures = [result for result in results if isinstance(result, BaseException)]
            if failures:
                for address in addresses[start:]:
                    self._set_due(address, self._now())
                raise failures[0]

    async def _bring_forward(self, address: QueueAddress) -> None:
        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> None:
            return None

        if self._policy_of(address) is None:
            self.forget(address)
        else:
            await self._use(address, operation)

    def _policy_of(self, address: QueueAddress) -> QueuePolicy | None:
        policy = self._policy(address.hub)
        if policy is None or not address.name.endswith(DEAD_LETTERS):
            return policy
        return None if policy.dead_letter is None else policy.dead_letter.policy

    async def _use(self, address: QueueAddress, operation: Operation[T]) -> T:
        """Runs the operation on the queue as of now, to its end, whatever becomes of the caller."""

        async def of_one(queues: Sequence[_Ready], now_ms: int) -> T:
            return await operation(*queues[0], now_ms)

        return await self._use_all([address], of_one)

    async def _use_all(
        self, addresses: Sequence[QueueAddress], operation: Callable[[Sequence[_Ready], int], Awaitable[T]]
    ) -> T:
        """As `_use`, on several queues."""
        return await self._completion.run(self._used(addresses, operation))

    async def _used(
        self, addresses: Sequence[QueueAddress], operation: Callable[[Sequence[_Ready], int], Awaitable[T]]
    ) -> T:
        policies = [self._required_policy(address) for address in addresses]
        holdings = [self._hold(address, policy) for address, policy in zip(addresses, policies, strict=True)]
        for holding in holdings:
            holding.users += 1
        try:
            queues = [_Ready(await holding.reading, policy) for holding, policy in zip(holdings, policies, strict=True)]
            now_ms = self._now()
            for queue, policy in queues:
                await queue.expire(policy, now_ms=now_ms)
            if any(queue.is_stale for queue, _ in queues):
                return await self._used(addresses, operation)
            return await operation(queues, self._now())
        finally:
            for address, holding in zip(addresses, holdings, strict=True):
                holding.users -= 1
                self._note(address, holding)

    def _required_policy(self, address: QueueAddress) -> QueuePolicy:
        policy = self._policy_of(address)
        if policy is None:
            raise HubError(Code.HUB_NOT_FOUND, "Hub not found")
        return policy

    def _hold(self, address: QueueAddress, policy: QueuePolicy) -> _Holding:
        holding = self._holdings.get(address)
        if holding is None or holding.is_spent:
            self._drop(address)
            holding = self._read(address, policy)
        self._holdings.pop(address, None)
        self._holdings[address] = holding  # behind all others: used last
        return holding

    def _read(self, address: QueueAddress, policy: QueuePolicy) -> _Holding:
        """Begins to read a queue, and with it the one that its dead letters go to."""
        if policy.dead_letter is None:
            return _Holding(asyncio.create_task(read_queue(self._state, *address, self._hooks)))
        dead_letters = self._hold(address.dead_letters, policy.dead_letter.policy)
        dead_letters.users += 1

        async def reading() -> LockQueue:
            return await read_queue(self._state, *address, self._hooks, await asyncio.shield(dead_letters.reading))

        return _Holding(asyncio.create_task(reading()), dead_letters=dead_letters)

    def _drop(self, address: QueueAddress) -> None:
        """Lets go of a queue in memory, and of its dead-letter queue."""
        holding = self._holdings.pop(address, None)
        if holding is not None and holding.dead_letters is not None:
            holding.dead_letters.users -= 1

    def _note(self, address: QueueAddress, holding: _Holding) -> None:
        """After an operation: when the queue is due next, and whether some may be forgotten."""
        queue = holding.queue
        if self._holdings.get(address) is not holding:
            return
        if holding.dead_letters is not None:
            self._note(address.dead_letters, holding.dead_letters)
        if holding.is_spent or queue is None:
            self._drop(address)
        elif not queue:
            self._due.pop(address, None)
        else:
            when = queue.next_deadline_ms()
            self._set_due(address, NO_LIMIT if when is None else when)
        if len(self._holdings) > QUEUES_LOADED_MAX:
            self._forget_idle()

    def _forget_idle(self) -> None:
        """Looks at the few used longest ago only: the rest are looked at when they are the oldest."""
        for address, holding in list(islice(self._holdings.items(), OLDEST_LOOKED_AT)):
            if holding.may_go:
                self._drop(address)

    def _set_due(self, address: QueueAddress, when: int) -> None:
        if self._due.get(address) == when:
            return
        earliest = self._earliest()
        self._due[address] = when
        if when >= NO_LIMIT:
            return
        heapq.heappush(self._deadlines, (when, address))
        if len(self._deadlines) > 2 * len(self._due) + DEADLINES_SPARE:
            self._deadlines = [(when, address) for address, when in self._due.items() if when < NO_LIMIT]
            heapq.heapify(self._deadlines)
        if earliest is None or when < earliest:
            for wake in self._earlier:
                wake()

    def _take_due(self) -> list[QueueAddress]:
        """Those that are due; they stay known as not empty, and get a deadline again when they have been worked on."""
        now_ms = self._now()
        taken = []
        while (when := self._earliest()) is not None and when <= now_ms:
            address = heapq.heappop(self._deadlines)[1]
            self._due[address] = _BEING_WORKED_ON
            taken.append(address)
        return taken

    def _is_empty(self, address: QueueAddress) -> bool:
        return address not in self._due and address not in self._holdings

    def _now(self) -> int:
        """Wall time; when it was set, locks go along."""
        ahead_ms = _ahead_ms(self._clock)
        by_ms = ahead_ms - self._ahead_ms
        if abs(by_ms) >= STEP_MS:
            self._ahead_ms = ahead_ms
            for address, holding in list(self._holdings.items()):
                if holding.queue is not None and holding.queue.shift_locks(by_ms):
                    self._note(address, holding)
        return self._clock.utc_ms()

    def _require_loaded(self, address: QueueAddress) -> None:
        """A queue that is not in memory holds no locks."""
        if address not in self._holdings:
            raise LockLost


def _ahead_ms(clock: Clock) -> int:
    """By how much the wall clock is ahead of the monotonic one."""
    return clock.utc_ms() - round(clock.monotonic() * 1000)


_BEING_WORKED_ON: Final = 2 * NO_LIMIT
"""A due time that never comes, of a queue that is known not to be empty."""
