"""All lock-queues of one kind: read when they are needed, forgotten when they are not, expired when nobody calls.

Theory of operation. `start` reads which queues hold messages and when the first of each runs out; from then on that
table (one entry for each queue that is not empty) answers for queues that are not in memory: an empty one is never
read. A queue is read when something is done with it, and kept; above `QUEUES_LOADED_MAX` those used longest ago go
first, but never one that holds a lock or has a commit under way, since locks live nowhere else.

Every operation runs in a task of its own, so that a caller who is cancelled leaves no half-done step behind. An
operation first brings its queue to the present time: an expired message is never handed out, a lost lock never
settles. `tick` does the same for queues that nobody uses; its owner calls it at `next_deadline_ms` (see `upkeep`).
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId, Ids
from isthmus.base.state import Change, Delete, State
from isthmus.completion import Completion
from isthmus.queues.lock_queue import (
    LOADED_AT_ONCE,
    QUEUE_KIND,
    LockLost,
    LockQueue,
    QueueDeleted,
    QueueHooks,
    counter_key,
    queue_prefix,
    read_queue,
)
from isthmus.queues.message import LockedMessage, QueuePolicy, decode_message, split_name

QUEUES_LOADED_MAX = 4_096
"""Queues kept in memory while idle."""

EXPIRED_AT_ONCE = 64
"""Queues that `tick` works on side by side, so that they share commits."""

OLDEST_LOOKED_AT = 64
"""Queues looked at when there are too many; those that hold locks stay, so there may be that many more."""

DEADLINES_SPARE = 1_024
"""Outdated deadlines kept beyond one for each queue before they are swept out."""

T = TypeVar("T")
Operation = Callable[[LockQueue, QueuePolicy, int], Awaitable[T]]


class QueueAddress(NamedTuple):
    """Names a queue of a hub."""

    hub: HubId
    name: str


@dataclass(slots=True)
class _Holding:
    """A queue in memory, or on its way there, and how many operations are using it."""

    reading: asyncio.Task[LockQueue]
    users: int = 0

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

    async def start(self, hubs: Iterable[HubId]) -> None:
        """Finds the queues that hold messages; before anything else is called."""
        for hub in hubs:
            after = ""
            while page := await self._state.scan(
                QUEUE_KIND, hub, prefix=self._prefix, after=after, limit=LOADED_AT_ONCE
            ):
                for stored in page:
                    address = QueueAddress(hub, split_name(stored.key.name)[0])
                    expires_ms = decode_message(stored.body).expires_ms
                    self._set_due(address, min(expires_ms, self._due.get(address, expires_ms)))
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

        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> int:
            end_ms = now_ms + policy.ttl_ms if expires_ms is None else expires_ms
            return await queue.enqueue(body, policy, now_ms=now_ms, expires_ms=end_ms, along=along)

        return await self._use(address, operation)

    async def lock(self, address: QueueAddress) -> LockedMessage | None:
        """Hands out the first message that waits, or None; raises `Damaged` for one that cannot be read."""
        if self._is_empty(address):
            return None
        return await self._use(
            address, lambda queue, policy, now_ms: queue.lock(self._ids.uuid(), policy, now_ms=now_ms)
        )

    async def complete(self, address: QueueAddress, token: str) -> None:
        """Settles a message as delivered; raises `LockLost`."""
        self._require_loaded(address)
        await self._use(address, lambda queue, policy, now_ms: queue.complete(token, now_ms=now_ms))

    async def reject(self, address: QueueAddress, token: str) -> None:
        """Settles a message as refused; raises `LockLost`."""
        self._require_loaded(address)
        await self._use(address, lambda queue, policy, now_ms: queue.reject(token, now_ms=now_ms))

    async def abandon(self, address: QueueAddress, token: str) -> None:
        """Gives a message back, counting a failed delivery; raises `LockLost`."""
        self._require_loaded(address)
        await self._use(address, lambda queue, policy, now_ms: queue.abandon(token, policy, now_ms=now_ms))

    def release(self, address: QueueAddress, token: str) -> None:
        """Gives a message back, counting nothing; nothing happens when the lock is lost."""
        holding = self._holdings.get(address)
        if holding is not None and holding.queue is not None:
            holding.queue.release(token)
            self._note(address, holding)

    async def purge(self, address: QueueAddress) -> int:
        """Removes all messages except those being settled; returns how many."""
        if self._is_empty(address):
            return 0
        try:
            return await self._use(address, lambda queue, policy, now_ms: queue.purge(now_ms=now_ms))
        except QueueDeleted:
            return 0

    async def count(self, address: QueueAddress) -> int:
        """Messages in the queue, locked ones included."""
        if self._is_empty(address):
            return 0

        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> int:
            return len(queue)

        return await self._use(address, operation)

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
        self._holdings.pop(address, None)
        self._due.pop(address, None)

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do; None while nothing is due ever."""
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
                    self._set_due(address, self._clock.utc_ms())
                raise failures[0]

    async def _bring_forward(self, address: QueueAddress) -> None:
        async def operation(queue: LockQueue, policy: QueuePolicy, now_ms: int) -> None:
            return None

        if self._policy(address.hub) is None:
            self.forget(address)
        else:
            await self._use(address, operation)

    async def _use(self, address: QueueAddress, operation: Operation[T]) -> T:
        """Runs the operation on the queue as of now, to its end, whatever becomes of the caller."""
        return await self._completion.run(self._used(address, operation))

    async def _used(self, address: QueueAddress, operation: Operation[T]) -> T:
        policy = self._policy(address.hub)
        if policy is None:
            raise HubError(Code.HUB_NOT_FOUND, "Hub not found")
        holding = self._hold(address)
        holding.users += 1
        try:
            queue = await holding.reading
            now_ms = self._clock.utc_ms()
            await queue.expire(policy, now_ms=now_ms)
            if queue.is_stale:
                return await self._used(address, operation)
            return await operation(queue, policy, now_ms)
        finally:
            holding.users -= 1
            self._note(address, holding)

    def _hold(self, address: QueueAddress) -> _Holding:
        holding = self._holdings.pop(address, None)
        if holding is None or holding.is_spent:
            holding = _Holding(asyncio.create_task(read_queue(self._state, *address, self._hooks)))
        self._holdings[address] = holding  # behind all others: used last
        return holding

    def _note(self, address: QueueAddress, holding: _Holding) -> None:
        """After an operation: when the queue is due next, and whether some may be forgotten."""
        queue = holding.queue
        if self._holdings.get(address) is not holding:
            return
        if holding.is_spent or queue is None:
            del self._holdings[address]
        elif not queue:
            self._due.pop(address, None)
        elif (when := queue.next_deadline_ms()) is not None:
            self._set_due(address, when)
        if len(self._holdings) > QUEUES_LOADED_MAX:
            self._forget_idle()

    def _forget_idle(self) -> None:
        """Looks at the few used longest ago only: the rest are looked at when they are the oldest."""
        for address, holding in list(islice(self._holdings.items(), OLDEST_LOOKED_AT)):
            if holding.may_go:
                del self._holdings[address]

    def _set_due(self, address: QueueAddress, when: int) -> None:
        if self._due.get(address) == when:
            return
        earliest = self.next_deadline_ms()
        self._due[address] = when
        heapq.heappush(self._deadlines, (when, address))
        if len(self._deadlines) > 2 * len(self._due) + DEADLINES_SPARE:
            self._deadlines = [(when, address) for address, when in self._due.items()]
            heapq.heapify(self._deadlines)
        if earliest is None or when < earliest:
            for wake in self._earlier:
                wake()

    def _take_due(self) -> list[QueueAddress]:
        """Those that are due; they stay known as not empty, and get a deadline again when they have been worked on."""
        now_ms = self._clock.utc_ms()
        taken = []
        while (when := self.next_deadline_ms()) is not None and when <= now_ms:
            address = heapq.heappop(self._deadlines)[1]
            self._due[address] = _BEING_WORKED_ON
            taken.append(address)
        return taken

    def _is_empty(self, address: QueueAddress) -> bool:
        return address not in self._due and address not in self._holdings

    def _require_loaded(self, address: QueueAddress) -> None:
        """A queue that is not in memory holds no locks."""
        if address not in self._holdings:
            raise LockLost


_BEING_WORKED_ON = 2**63
"""A due time that never comes."""
