"""One lock-queue: messages are handed out under a lock, in order, and leave when they are settled.

Theory of operation. What is durable is the message: its document is written when it is enqueued, rewritten when its
delivery count rises, deleted when it leaves, and each of these is one commit. Locks are not durable: they live here,
and a restart returns every message to `ENQUEUED` with the delivery count it had. Nothing in between can be seen by a
crash, since a commit is all or nothing. The bodies stay in the state and are read when a message is handed out or
leaves; here are some ten words per message.

Each message is a small machine (`message.TRANSITIONS`). `STORING` and `CHANGING` mark a commit under way: such a
message is neither handed out nor settled a second time. A commit that fails leaves the message `ENQUEUED`, and the
caller hears of the failure.

What follows from a departure - a feedback record, a dead-letter copy - is told by the `settled` hook as further changes
for the *same* commit, so that neither happens without the other.

Deadlines are looked at when somebody calls: `expire` brings the queue to the given time (locks that ran out first, then
messages that did), and `next_deadline_ms` says when to call again. A lock protects its message from expiring.

Sequence numbers are taken from a counter document that every enqueue writes along. It keeps them from being used again
after the queue ran empty, and whoever deletes the whole queue deletes the counter with the revision that was read, so
that a message enqueued meanwhile makes that commit a conflict.

A `Conflict` on a message's own document says that the queue was deleted by somebody else: the queue is then `is_stale`,
holds nothing, and its owner reads it anew.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import MUST_NOT_EXIST, Change, Conflict, Damaged, Delete, Key, Put, State
from isthmus.queues.message import (
    Departure,
    LockedMessage,
    MessageState,
    Outcome,
    QueuePolicy,
    Step,
    StoredMessage,
    decode_message,
    encode_message,
    next_state,
    sequence_name,
    split_name,
)

QUEUE_KIND = "queue"
COUNTER_KIND = "meta"

LOADED_AT_ONCE = 64
"""Messages read in one piece, so that a queue of large ones does not take the memory of all of them."""

REMOVED_AT_ONCE = 64
"""Messages that leave in one commit."""

DEADLINES_SPARE = 64
"""Outdated deadlines kept beyond one for each message before they are swept out."""


class QueueFull(Exception):  # noqa: N818 - a state of the queue
    """The queue holds as many messages as its policy allows."""


class LockLost(Exception):  # noqa: N818 - a state of the message
    """The token settles nothing: never given, used before, or its lock ran out."""


class QueueDeleted(LockLost):
    """The queue's documents were deleted by somebody else."""


@dataclass(frozen=True, slots=True)
class Sequel:
    """What follows from a departure: changes for the same commit, and a call when that is durable."""

    changes: tuple[Change, ...] = ()
    committed: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class QueueHooks:
    """What a queue tells its owner: a departure about to be committed, and that messages can be had."""

    settled: Callable[[HubId, str, Departure], Sequel]
    available: Callable[[HubId, str], None]


@dataclass(slots=True)
class _Message:
    key: Key
    sequence: int
    revision: int
    enqueued_ms: int
    expires_ms: int
    delivery_count: int
    state: MessageState
    token: str = ""
    locked_until_ms: int = 0

    @property
    def deadline_ms(self) -> int | None:
        """When this message needs attention, as things stand."""
        if self.state is MessageState.LOCKED:
            return self.locked_until_ms
        return self.expires_ms if self.state is MessageState.ENQUEUED else None


class LockQueue:
    """One queue in memory; made by `read_queue`, used by one event loop.

    None of the coroutines may be cancelled: a commit under way would be left without its consequence here. Their
    owner, `LockQueues`, sees to that.
    """

    def __init__(self, state: State, hub: HubId, name: str, hooks: QueueHooks, next_sequence: int) -> None:
        self._state = state
        self._hub = hub
        self._name = name
        self._hooks = hooks
        self._next_sequence = next_sequence
        self._messages: dict[int, _Message] = {}
        self._locked: dict[str, _Message] = {}
        self._ready: list[int] = []
        self._deadlines: list[tuple[int, int]] = []
        self._under_way: set[int] = set()
        self.is_stale = False

    def __len__(self) -> int:
        """Messages in whatever state."""
        return len(self._messages)

    @property
    def is_idle(self) -> bool:
        """True when nothing would be lost by forgetting this object."""
        return not self._locked and not self._under_way

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do; None while nothing is due ever."""
        while self._deadlines:
            when, sequence = self._deadlines[0]
            message = self._messages.get(sequence)
            if message is not None and message.deadline_ms == when:
                return when
            heapq.heappop(self._deadlines)
        return None

    async def enqueue(
        self, body: bytes, policy: QueuePolicy, *, now_ms: int, expires_ms: int, along: Sequence[Change] = ()
    ) -> int:
        """Stores a message and returns its sequence; `along` are part of the commit, which may raise `Conflict`.

        Raises `QueueFull`.
        """
        if len(self._messages) >= policy.depth_max:
            raise QueueFull
        sequence = self._next_sequence
        self._next_sequence += 1
        key = Key(QUEUE_KIND, self._hub, sequence_name(self._name, sequence))
        message = _Message(key, sequence, 0, now_ms, expires_ms, 0, MessageState.STORING)
        self._messages[sequence] = message
        self._under_way.add(sequence)
        stored = encode_message(StoredMessage(now_ms, expires_ms, 0, body))
        counter = Put(counter_key(self._hub, self._name), str(self._next_sequence).encode())
        try:
            revisions = await self._state.commit([*along, counter, Put(key, stored, MUST_NOT_EXIST)])
        except BaseException as error:
            self._step(message, Step.FAILED)
            if isinstance(error, Conflict) and error.index >= len(along):
                self._lose_all()
            raise
        message.revision = revisions[-1]
        self._step(message, Step.STORED)
        return sequence

    async def lock(self, token: str, policy: QueuePolicy, *, now_ms: int) -> LockedMessage | None:
        """Hands out the first message that waits, or None.

        Raises `Damaged` for a message that cannot be read; it stays locked, so that those behind it are served.
        """
        message = self._first_ready(now_ms)
        if message is None:
            return None
        message.token = token
        message.locked_until_ms = now_ms + policy.lock_ms
        self._locked[token] = message
        self._step(message, Step.LOCK)
        stored = await self._state.get(message.key)
        if stored is None:
            self._lose_all()
            return None
        return LockedMessage(
            token=token,
            sequence=message.sequence,
            delivery_count=message.delivery_count,
            enqueued_ms=message.enqueued_ms,
            expires_ms=message.expires_ms,
            locked_until_ms=message.locked_until_ms,
            body=decode_message(stored.body).body,
        )

    async def complete(self, token: str, *, now_ms: int) -> None:
        """Removes a locked message as delivered; raises `LockLost`."""
        await self._remove([self._held(token, now_ms)], Outcome.COMPLETED, now_ms)

    async def reject(self, token: str, *, now_ms: int) -> None:
        """Removes a locked message as refused; raises `LockLost`."""
        await self._remove([self._held(token, now_ms)], Outcome.REJECTED, now_ms)

    async def abandon(self, token: str, policy: QueuePolicy, *, now_ms: int) -> None:
        """Gives a locked message back and counts a failed delivery; raises `LockLost`."""
        await self._count_delivery(self._held(token, now_ms), policy, now_ms)

    def release(self, token: str) -> None:
        """Gives a locked message back as if it had never been handed out; nothing happens when the lock is lost."""
        message = self._locked.get(token)
        if message is not None:
            self._unlock(message, Step.RELEASE)

    async def purge(self, *, now_ms: int) -> int:
        """Removes all messages, locked ones too, except those being settled; returns how many.

        Raises `QueueDeleted` when somebody else was faster.
        """
        return await self._remove_all(list(self._messages.values()), Outcome.PURGED, now_ms)

    async def expire(self, policy: QueuePolicy, *, now_ms: int) -> None:
        """Takes back locks that ran out and removes messages that did."""
        due: dict[int, _Message] = {}
        try:
            while (when := self.next_deadline_ms()) is not None and when <= now_ms:
                message = self._messages[heapq.heappop(self._deadlines)[1]]
                due[message.sequence] = message
                if message.state is MessageState.LOCKED and not policy.lock_expiry_counts:
                    self._unlock(message, Step.RELEASE)
            in_order = [due[sequence] for sequence in sorted(due)]
            for message in [one for one in in_order if one.state is MessageState.LOCKED]:
                await self._count_delivery(message, policy, now_ms)
            await self._remove_all(in_order, Outcome.EXPIRED, now_ms)
        except QueueDeleted:
            due.clear()  # nothing is left to expire; the owner sees `is_stale`
        finally:
            for message in due.values():
                self._await_deadline(message)

    def adopt(self, sequence: int, revision: int, stored: StoredMessage) -> None:
        """Takes in a message found in the state."""
        key = Key(QUEUE_KIND, self._hub, sequence_name(self._name, sequence))
        message = _Message(
            key, sequence, revision, stored.enqueued_ms, stored.expires_ms, stored.delivery_count, MessageState.ENQUEUED
        )
        self._messages[sequence] = message
        self._next_sequence = max(self._next_sequence, sequence + 1)
        heapq.heappush(self._ready, sequence)
        self._await_deadline(message)

    def _first_ready(self, now_ms: int) -> _Message | None:
        """The first enqueued message that has not expired; `expire` finds the others by their deadlines."""
        while self._ready:
            message = self._messages.get(heapq.heappop(self._ready))
            if message is not None and message.state is MessageState.ENQUEUED and message.expires_ms > now_ms:
                return message
        return None

    def _held(self, token: str, now_ms: int) -> _Message:
        message = self._locked.get(token)
        if message is None or message.locked_until_ms <= now_ms:
            raise LockLost
        return message

    async def _count_delivery(self, message: _Message, policy: QueuePolicy, now_ms: int) -> None:
        """Puts a message back with one more delivery, or removes it when that was the last."""
        count = message.delivery_count + 1
        if count >= policy.delivery_count_max:
            await self._remove([message], Outcome.DELIVERY_COUNT_EXCEEDED, now_ms)
            return
        with self._changing([message]):
            stored = await self._state.get(message.key)
            if stored is None:
                raise Conflict(0)
            counted = msgspec.structs.replace(decode_message(stored.body), delivery_count=count)
            (message.revision,) = await self._state.commit(
                [Put(message.key, encode_message(counted), message.revision)]
            )
        message.delivery_count = count
        self._step(message, Step.RETURNED)

    async def _remove_all(self, messages: Sequence[_Message], outcome: Outcome, now_ms: int) -> int:
        """Removes those of `messages` that nobody else is changing, some at a time; returns how many."""
        removed = 0
        for start in range(0, len(messages), REMOVED_AT_ONCE):
            chunk = [one for one in messages[start : start + REMOVED_AT_ONCE] if _may_leave(one, outcome, now_ms)]
            if chunk:
                await self._remove(chunk, outcome, now_ms)
                removed += len(chunk)
        return removed

    async def _remove(self, messages: Sequence[_Message], outcome: Outcome, now_ms: int) -> None:
        with self._changing(messages):
            sequels = [await self._sequel(message, outcome, now_ms) for message in messages]
            removals: list[Change] = [Delete(message.key, message.revision) for message in messages]
            await self._state.commit([*removals, *(change for sequel in sequels for change in sequel.changes)])
        for message in messages:
            self._step(message, Step.REMOVED)
        for sequel in sequels:
            if sequel.committed is not None:
                sequel.committed()

    async def _sequel(self, message: _Message, outcome: Outcome, now_ms: int) -> Sequel:
        try:
            stored = await self._state.get(message.key)
        except Damaged:
            return Sequel()  # nobody can say what it was, and it must not stay for ever
        if stored is None:
            raise Conflict(0)
        body = decode_message(stored.body).body
        departure = Departure(message.sequence, message.enqueued_ms, outcome, now_ms, body)
        return self._hooks.settled(self._hub, self._name, departure)

    @contextmanager
    def _changing(self, messages: Sequence[_Message]) -> Iterator[None]:
        """Keeps others off `messages` while a commit changes them, whose first changes are theirs."""
        for message in messages:
            self._unlock(message, Step.CHANGE)
        try:
            yield
        except BaseException as error:
            for message in messages:
                self._step(message, Step.FAILED)
            if isinstance(error, Conflict) and error.index < len(messages):
                self._lose_all()
                raise QueueDeleted from error
            raise

    def _unlock(self, message: _Message, step: Step) -> None:
        self._locked.pop(message.token, None)
        message.token = ""
        self._step(message, step)

    def _step(self, message: _Message, step: Step) -> None:
        message.state = next_state(message.state, step)
        if self.is_stale:
            return
        if message.state is MessageState.CHANGING:
            self._under_way.add(message.sequence)
        else:
            self._under_way.discard(message.sequence)
        if message.state is MessageState.GONE:
            del self._messages[message.sequence]
        self._await_deadline(message)
        if message.state is MessageState.ENQUEUED:
            heapq.heappush(self._ready, message.sequence)
            self._hooks.available(self._hub, self._name)

    def _await_deadline(self, message: _Message) -> None:
        when = message.deadline_ms
        if when is None or self.is_stale:
            return
        heapq.heappush(self._deadlines, (when, message.sequence))
        if len(self._deadlines) > 2 * len(self._messages) + DEADLINES_SPARE:
            current = ((one.deadline_ms, one.sequence) for one in self._messages.values())
            self._deadlines = [(when, sequence) for when, sequence in current if when is not None]
            heapq.heapify(self._deadlines)

    def _lose_all(self) -> None:
        self.is_stale = True
        self._messages.clear()
        self._locked.clear()
        self._under_way.clear()
        self._ready.clear()
        self._deadlines.clear()


async def read_queue(state: State, hub: HubId, name: str, hooks: QueueHooks) -> LockQueue:
    """The queue as it stands in the state: every message enqueued, none locked."""
    counter = await state.get(counter_key(hub, name))
    queue = LockQueue(state, hub, name, hooks, int(counter.body) if counter else 1)
    prefix = queue_prefix(name)
    after = ""
    while page := await state.scan(QUEUE_KIND, hub, prefix=prefix, after=after, limit=LOADED_AT_ONCE):
        for stored in page:
            queue.adopt(split_name(stored.key.name)[1], stored.revision, decode_message(stored.body))
        after = page[-1].key.name
    return queue


def counter_key(hub: HubId, name: str) -> Key:
    """The document that holds the queue's next sequence number."""
    return Key(COUNTER_KIND, hub, f"{QUEUE_KIND} {name}")


def queue_prefix(name: str) -> str:
    """How the names of the queue's messages begin."""
    return f"{name}\n"


def _may_leave(message: _Message, outcome: Outcome, now_ms: int) -> bool:
    """A purge takes what is locked too; a message that another step has in hand is left to that."""
    if outcome is Outcome.PURGED:
        return message.deadline_ms is not None
    return message.state is MessageState.ENQUEUED and message.expires_ms <= now_ms
