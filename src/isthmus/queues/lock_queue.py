"""One lock-queue: messages are handed out under a lock, in order, and leave when they are settled.

Theory of operation. What is durable is the message: its document is written when it is enqueued, rewritten when its
delivery count rises or its owner edits it, deleted when it leaves, and each of these is one commit. Locks are not
durable: they live here, and a restart returns every message to `ENQUEUED` with the delivery count it had. Nothing in
between can be seen by a crash, since a commit is all or nothing. The bodies stay in the state and are read when a
message is handed out or leaves.

Each message is a small machine (`message.TRANSITIONS`). `STORING` and `CHANGING` mark a commit under way: such a
message is neither handed out nor settled a second time. A commit that fails leaves the message `ENQUEUED`, and the
caller hears of the failure. How an enqueued message waits is its `Standing`, which is durable: only active ones are
handed out in turn. A scheduled one becomes active when its time has come, as a new message with a new number, in one
commit; a deferred one is locked by its number, and waits as before when that lock ends.

What follows from a departure - a feedback record, a dead-letter copy, copies in other queues - is part of the *same*
commit, so that neither happens without the other: further changes are told by the `settled` hook, and messages of other
queues are placed (`placement.py`).

A lock lasts as long as its policy says, by the monotonic clock; its end is kept as wall time, because that is what
clients are told and what all other deadlines are. When the wall clock is set, `shift_locks` moves the ends along.

Deadlines are looked at when somebody calls: `expire` brings the queue to the given time (locks that ran out first, then
messages whose time has come, then messages that did), and `next_deadline_ms` says when to call again. A lock protects
its message from expiring.

Sequence numbers are taken from a counter document that every enqueue writes along. It keeps them from being used again
after the queue ran empty, and whoever deletes the whole queue deletes the counter with the revision that was read, so
that a message enqueued meanwhile makes that commit a conflict.

A `Conflict` on a message's own document says that the queue was deleted by somebody else: the queue is then `is_stale`,
holds nothing, and its owner reads it anew.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import Change, Conflict, Damaged, Delete, Key, Put, State, Stored
from isthmus.queues.message import (
    NO_LIMIT,
    Counts,
    Departure,
    LockedMessage,
    MessageState,
    NewMessage,
    Outcome,
    QueuePolicy,
    Standing,
    Step,
    StoredMessage,
    decode_message,
    encode_message,
    sequence_name,
    split_name,
)
from isthmus.queues.placement import COUNTER_KIND, QUEUE_KIND, Placement, commit_with
from isthmus.queues.shelf import Entry, Shelf

LOADED_AT_ONCE = 64
"""Messages read in one piece, so that a queue of large ones does not take the memory of all of them."""

CHANGED_AT_ONCE = 64
"""Messages that leave, or change, in one commit."""

Edit = Callable[[bytes], bytes]
"""A pure change of a message's body by who settles it."""


class QueueFull(Exception):  # noqa: N818 - a state of the queue
    """The queue holds as many messages, or bytes, as its policy allows."""


class LockLost(Exception):  # noqa: N818 - a state of the message
    """The token settles nothing: never given, used before, or its lock ran out."""


class QueueDeleted(LockLost):
    """The queue's documents were deleted by somebody else."""


class NoSuchMessage(Exception):  # noqa: N818 - a state of the queue
    """No message of that number waits as it would have to."""


@dataclass(frozen=True, slots=True)
class Sequel:
    """What follows from a departure: changes for the same commit, and a call when that is durable."""

    changes: tuple[Change, ...] = ()
    committed: Callable[[], None] | None = None


def _as_it_was(hub: HubId, name: str, departure: Departure) -> bytes:
    return departure.body


@dataclass(frozen=True, slots=True)
class QueueHooks:
    """What a queue tells its owner: a departure about to be committed, and that messages can be had.

    `dead_lettered` gives the body of a message that goes on to the dead-letter queue.
    """

    settled: Callable[[HubId, str, Departure], Sequel]
    available: Callable[[HubId, str], None]
    dead_lettered: Callable[[HubId, str, Departure], bytes] = _as_it_was


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A message on its way out, as stored; `stored` is None where that cannot be read."""

    entry: Entry
    stored: StoredMessage | None
    departure: Departure | None
    sequel: Sequel


class LockQueue:
    """One queue in memory; made by `read_queue`, used by one event loop.

    None of the coroutines may be cancelled: a commit under way would be left without its consequence here. Their
    owner, `LockQueues`, sees to that.
    """

    def __init__(
        self,
        state: State,
        hub: HubId,
        name: str,
        hooks: QueueHooks,
        next_sequence: int,
        dead_letters: "LockQueue | None" = None,
    ) -> None:
        self._state = state
        self._hub = hub
        self._name = name
        self._hooks = hooks
        self._next_sequence = next_sequence
        self._dead_letters = dead_letters
        self._shelf = Shelf(lambda: hooks.available(hub, name))

    def __len__(self) -> int:
        """Messages in whatever state."""
        return len(self._shelf)

    @property
    def counts(self) -> Counts:
        """How many messages wait for what."""
        return self._shelf.counts

    @property
    def is_idle(self) -> bool:
        """True when nothing would be lost by forgetting this object."""
        return self._shelf.is_idle

    @property
    def is_stale(self) -> bool:
        """True when the queue, or the one that its dead letters go to, was deleted by somebody else."""
        return self._shelf.is_closed or (self._dead_letters is not None and self._dead_letters.is_stale)

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do; None while nothing is due ever."""
        return self._shelf.next_deadline_ms()

    def check_room(self, messages: Sequence[NewMessage], policy: QueuePolicy) -> None:
        """Raises `QueueFull` when the messages are too many, or too large, for the queue."""
        held = [queue.counts for queue in (self, self._dead_letters) if queue is not None]
        if sum(counts.all for counts in held) + len(messages) > policy.depth_max:
            raise QueueFull
        new = sum(len(message.body) for message in messages)
        if sum(counts.size for counts in held) + new > policy.bytes_max:
            raise QueueFull

    def reserve(self, messages: Sequence[NewMessage], policy: QueuePolicy, *, now_ms: int) -> Placement:
        """Gives messages their numbers; they are there when the placement has been committed."""
        stored = [_to_store(message, policy, now_ms) for message in messages]
        first = self._next_sequence
        self._next_sequence += len(stored)
        keys = [self._key(first + index) for index in range(len(stored))]
        counter = Put(counter_key(self._hub, self._name), str(self._next_sequence).encode())
        return Placement(self._shelf, first, keys, stored, counter)

    async def enqueue(
        self, messages: Sequence[NewMessage], policy: QueuePolicy, *, now_ms: int, along: Sequence[Change] = ()
    ) -> list[int]:
        """Stores messages and returns their numbers; `along` are part of the commit, which may raise `Conflict`.

        Raises `QueueFull`.
        """
        self.check_room(messages, policy)
        placement = self.reserve(messages, policy, now_ms=now_ms)
        await commit_with(self._state, along, [placement])
        return placement.sequences

    async def lock(self, token: str, policy: QueuePolicy, *, now_ms: int) -> LockedMessage | None:
        """Hands out the first message that waits, or None.

        Raises `Damaged` for a message that cannot be read; it stays locked, so that those behind it are served.
        """
        entry = self._shelf.first_ready(now_ms)
        if entry is None:
            return None
        return await self._hand_out(entry, token, policy, now_ms)

    async def lock_deferred(
        self, sequence: int, token: str, policy: QueuePolicy, *, now_ms: int
    ) -> LockedMessage | None:
        """Hands out the deferred message of that number; raises `NoSuchMessage`, also for one that has expired."""
        entry = await self._deferred(sequence, policy, now_ms)
        return await self._hand_out(entry, token, policy, now_ms)

    async def take(
        self, policy: QueuePolicy, *, now_ms: int, limit: int, size_max: int = NO_LIMIT
    ) -> list[LockedMessage]:
        """Removes the first messages that wait and returns them: they are handed out once at most.

        At most `limit`, and no more once their bodies have `size_max` bytes.
        """
        entries: list[Entry] = []
        size = 0
        while len(entries) < limit and size < size_max and (entry := self._shelf.first_ready(now_ms)) is not None:
            entries.append(entry)
            size += entry.size
        leaving = await self._remove(entries, Outcome.COMPLETED, policy, now_ms) if entries else []
        return [_message(one.entry, one.stored) for one in leaving if one.stored is not None]

    async def take_deferred(self, sequence: int, policy: QueuePolicy, *, now_ms: int) -> LockedMessage | None:
        """As `take`, for the deferred message of that number; raises `NoSuchMessage`."""
        entry = await self._deferred(sequence, policy, now_ms)
        (leaving,) = await self._remove([entry], Outcome.COMPLETED, policy, now_ms)
        return None if leaving.stored is None else _message(entry, leaving.stored)

    async def peek(self, from_sequence: int, limit: int) -> list[LockedMessage]:
        """The messages from a number on, at most `limit`, whatever they wait for and whoever has locked them."""
        found: list[LockedMessage] = []
        after = sequence_name(self._name, max(from_sequence, 1) - 1)
        while len(found) < limit:
            wanted = min(limit - len(found), LOADED_AT_ONCE)
            page = await self._scan(after, wanted)
            found += [message for stored in page if (message := self._seen(stored)) is not None]
            if len(page) < wanted:
                break
            after = page[-1].key.name
        return found

    def renew(self, token: str, policy: QueuePolicy, *, now_ms: int) -> int:
        """Lets a lock hold for its whole time from now, and returns its end; raises `LockLost`."""
        entry = self._held(token, now_ms)
        self._shelf.renew(entry, now_ms + policy.lock_ms)
        return entry.locked_until_ms

    def shift_locks(self, by_ms: int) -> bool:
        """Lets locks end so much later, or earlier: the wall clock was set, and they hold as long as they would have.

        False when there is none.
        """
        return self._shelf.shift_locks(by_ms)

    async def complete(
        self, token: str, policy: QueuePolicy, *, now_ms: int, placements: Sequence[Placement] = ()
    ) -> None:
        """Removes a locked message as delivered, in one commit with the placements; raises `LockLost`."""
        try:
            entry = self._held(token, now_ms)
        except LockLost:
            for placement in placements:
                placement.failed(conflicted=False)
            raise
        await self._remove([entry], Outcome.COMPLETED, policy, now_ms, placements=placements)

    async def complete_all(self, tokens: Sequence[str], policy: QueuePolicy, *, now_ms: int) -> list[bool]:
        """As `complete`, of several messages in few commits; tells of each whether it was locked."""
        entries: dict[str, Entry] = {}
        for token in tokens:
            with suppress(LockLost):
                entries[token] = self._held(token, now_ms)
        for chunk in _chunks(list(entries.values())):
            await self._remove(chunk, Outcome.COMPLETED, policy, now_ms)
        return [token in entries for token in tokens]

    async def reject(self, token: str, policy: QueuePolicy, *, now_ms: int, edit: Edit | None = None) -> None:
        """Removes a locked message as refused; raises `LockLost`."""
        await self._remove([self._held(token, now_ms)], Outcome.REJECTED, policy, now_ms, edit=edit)

    async def abandon(self, token: str, policy: QueuePolicy, *, now_ms: int, edit: Edit | None = None) -> None:
        """Gives a locked message back and counts a failed delivery; raises `LockLost`."""
        await self._count_deliveries([self._held(token, now_ms)], policy, now_ms, edit=edit)

    async def defer(self, token: str, *, now_ms: int, edit: Edit | None = None) -> None:
        """Sets a locked message aside, to be had by its number only; raises `LockLost`."""
        entry = self._held(token, now_ms)

        def deferred(stored: StoredMessage) -> StoredMessage:
            return msgspec.structs.replace(_edited(stored, edit), standing=Standing.DEFERRED)

        await self._rewrite([entry], deferred)

    def release(self, token: str) -> None:
        """Gives a locked message back as if it had never been handed out; nothing happens when the lock is lost."""
        entry = self._shelf.held(token)
        if entry is not None:
            self._shelf.unlock(entry, Step.RELEASE)

    async def cancel(self, sequences: Sequence[int], policy: QueuePolicy, *, now_ms: int) -> None:
        """Removes scheduled messages, all or none; raises `NoSuchMessage`."""
        entries = [self._waiting(sequence, Standing.SCHEDULED) for sequence in dict.fromkeys(sequences)]
        await self._remove(entries, Outcome.CANCELLED, policy, now_ms)

    async def purge(self, policy: QueuePolicy, *, now_ms: int) -> int:
        """Removes all messages, locked ones too, except those being settled; returns how many.

        Raises `QueueDeleted` when somebody else was faster.
        """
        return await self._remove_all(list(self._shelf), Outcome.PURGED, policy, now_ms)

    async def expire(self, policy: QueuePolicy, *, now_ms: int) -> None:
        """Takes back locks that ran out, lets scheduled messages come, and removes messages that ran out."""
        due: dict[int, Entry] = {}
        try:
            while (when := self.next_deadline_ms()) is not None and when <= now_ms:
                entry = self._shelf.take_due()
                due[entry.sequence] = entry
                if entry.state is MessageState.LOCKED and not policy.lock_expiry_counts:
                    self._shelf.unlock(entry, Step.RELEASE)
            in_order = [due[sequence] for sequence in sorted(due)]
            for chunk in _chunks([one for one in in_order if one.state is MessageState.LOCKED]):
                await self._count_deliveries(chunk, policy, now_ms)
            for chunk in _chunks([one for one in in_order if one.standing is Standing.SCHEDULED]):
                await self._activate(chunk, policy, now_ms)
            await self._remove_all(in_order, Outcome.EXPIRED, policy, now_ms)
        except QueueDeleted:
            due.clear()  # nothing is left to expire; the owner sees `is_stale`
        finally:
            for entry in due.values():
                self._shelf.await_deadline(entry)

    def adopt(self, sequence: int, revision: int, stored: StoredMessage) -> None:
        """Takes in a message found in the state."""
        self._shelf.add(Entry.of(sequence, revision, stored, MessageState.ENQUEUED))
        self._next_sequence = max(self._next_sequence, sequence + 1)

    def _held(self, token: str, now_ms: int) -> Entry:
        entry = self._shelf.held(token)
        if entry is None or entry.locked_until_ms <= now_ms:
            raise LockLost
        return entry

    def _waiting(self, sequence: int, standing: Standing) -> Entry:
        entry = self._shelf.find(sequence)
        if entry is None or entry.state is not MessageState.ENQUEUED or entry.standing is not standing:
            raise NoSuchMessage
        return entry

    async def _deferred(self, sequence: int, policy: QueuePolicy, now_ms: int) -> Entry:
        entry = self._waiting(sequence, Standing.DEFERRED)
        if entry.expires_ms <= now_ms:
            await self._remove([entry], Outcome.EXPIRED, policy, now_ms)
            raise NoSuchMessage
        return entry

    async def _hand_out(self, entry: Entry, token: str, policy: QueuePolicy, now_ms: int) -> LockedMessage | None:
        self._shelf.lock(entry, token, now_ms + policy.lock_ms)
        stored = await self._state.get(self._key(entry.sequence))
        if stored is None:
            self._lose_all()
            return None
        return _message(entry, decode_message(stored.body))

    def _seen(self, stored: Stored) -> LockedMessage | None:
        entry = self._shelf.find(split_name(stored.key.name)[1])
        return None if entry is None else _message(entry, decode_message(stored.body))

    async def _scan(self, after: str, limit: int) -> list[Stored]:
        return await self._state.scan(QUEUE_KIND, self._hub, prefix=queue_prefix(self._name), after=after, limit=limit)

    async def _count_deliveries(
        self, entries: Sequence[Entry], policy: QueuePolicy, now_ms: int, edit: Edit | None = None
    ) -> None:
        """Puts messages back with one more delivery, or removes those for which that was the last."""
        last = [entry for entry in entries if entry.delivery_count + 1 >= policy.delivery_count_max]
        if last:
            await self._remove(last, Outcome.DELIVERY_COUNT_EXCEEDED, policy, now_ms, edit=edit)
        others = [entry for entry in entries if entry.delivery_count + 1 < policy.delivery_count_max]

        def counted(stored: StoredMessage) -> StoredMessage:
            return msgspec.structs.replace(_edited(stored, edit), delivery_count=stored.delivery_count + 1)

        if others:
            await self._rewrite(others, counted)

    async def _rewrite(self, entries: Sequence[Entry], rule: Callable[[StoredMessage], StoredMessage]) -> None:
        """Gives messages back as a pure rule has changed them; what cannot be read stays, and is counted here only."""
        with self._changing(entries):
            found = [(entry, await self._readable(entry)) for entry in entries]
            changed = [(entry, rule(stored)) for entry, stored in found if stored is not None]
            puts = [Put(self._key(entry.sequence), encode_message(new), entry.revision) for entry, new in changed]
            revisions = await self._state.commit(puts)
        for (entry, new), revision in zip(changed, revisions, strict=True):
            entry.revision = revision
            self._shelf.rewrite(entry, new)
        for entry, stored in found:
            entry.delivery_count += stored is None
            self._shelf.step(entry, Step.RETURNED)

    async def _activate(self, entries: Sequence[Entry], policy: QueuePolicy, now_ms: int) -> None:
        """Appends messages whose time has come, as if they came now (Azure Service Bus, "Scheduled messages")."""
        with self._changing(entries):
            found = [(entry, await self._readable(entry)) for entry in entries]
            come = [_come(entry, stored) for entry, stored in found if stored is not None]
            placement = self.reserve(come, policy, now_ms=now_ms)
            removals: list[Change] = [Delete(self._key(entry.sequence), entry.revision) for entry in entries]
            await commit_with(self._state, removals, [placement])
        for entry in entries:
            self._shelf.step(entry, Step.REMOVED)

    async def _remove_all(self, entries: Sequence[Entry], outcome: Outcome, policy: QueuePolicy, now_ms: int) -> int:
        """Removes those of `entries` that nobody else is changing, some at a time; returns how many."""
        removed = 0
        for chunk in _chunks(entries):
            leaving = [one for one in chunk if _may_leave(one, outcome, now_ms)]
            if leaving:
                await self._remove(leaving, outcome, policy, now_ms)
                removed += len(leaving)
        return removed

    async def _remove(
        self,
        entries: Sequence[Entry],
        outcome: Outcome,
        policy: QueuePolicy,
        now_ms: int,
        *,
        edit: Edit | None = None,
        placements: Sequence[Placement] = (),
    ) -> list[_Leaving]:
        with self._changing(entries, placements):
            leaving = [await self._leaving(entry, outcome, now_ms, edit) for entry in entries]
            removals: list[Change] = [Delete(self._key(entry.sequence), entry.revision) for entry in entries]
            further = [change for one in leaving for change in one.sequel.changes]
            placed = [*placements, *self._dead_lettered(leaving, policy, now_ms)]
            await commit_with(self._state, [*removals, *further], placed)
        for entry in entries:
            self._shelf.step(entry, Step.REMOVED)
        for one in leaving:
            if one.sequel.committed is not None:
                one.sequel.committed()
        return leaving

    async def _leaving(self, entry: Entry, outcome: Outcome, now_ms: int, edit: Edit | None) -> _Leaving:
        found = await self._readable(entry)
        if found is None:
            return _Leaving(entry, None, None, Sequel())  # nobody can say what it was, and it must not stay for ever
        stored = _edited(found, edit)
        departure = Departure(entry.sequence, entry.enqueued_ms, outcome, now_ms, stored.body)
        return _Leaving(entry, stored, departure, self._hooks.settled(self._hub, self._name, departure))

    def _dead_lettered(self, leaving: Sequence[_Leaving], policy: QueuePolicy, now_ms: int) -> list[Placement]:
        """What of it goes on to the dead-letter queue."""
        target = policy.dead_letter
        if target is None or self._dead_letters is None:
            return []
        messages = [
            NewMessage(
                self._hooks.dead_lettered(self._hub, self._name, one.departure),
                enqueued_ms=one.entry.enqueued_ms,
                delivery_count=one.entry.delivery_count,
                first_sequence=one.entry.first_sequence or one.entry.sequence,
            )
            for one in leaving
            if one.departure is not None and one.departure.outcome in target.outcomes
        ]
        return [self._dead_letters.reserve(messages, target.policy, now_ms=now_ms)] if messages else []

    async def _readable(self, entry: Entry) -> StoredMessage | None:
        """The message as stored; None when it is damaged."""
        try:
            stored = await self._state.get(self._key(entry.sequence))
        except Damaged:
            return None
        if stored is None:
            raise Conflict(0)
        return decode_message(stored.body)

    @contextmanager
    def _changing(self, entries: Sequence[Entry], placements: Sequence[Placement] = ()) -> Iterator[None]:
        """Keeps others off `entries` while a commit changes them, whose first changes are theirs.

        Placements that came along are given up when it does not get as far as the commit.
        """
        for entry in entries:
            self._shelf.unlock(entry, Step.CHANGE)
        try:
            yield
        except BaseException as error:
            for placement in placements:
                placement.failed(conflicted=False)
            for entry in entries:
                self._shelf.step(entry, Step.FAILED)
            if isinstance(error, Conflict) and error.index < len(entries):
                self._lose_all()
                raise QueueDeleted from error
            raise

    def _key(self, sequence: int) -> Key:
        return Key(QUEUE_KIND, self._hub, sequence_name(self._name, sequence))

    def _lose_all(self) -> None:
        self._shelf.close()


async def read_queue(
    state: State, hub: HubId, name: str, hooks: QueueHooks, dead_letters: LockQueue | None = None
) -> LockQueue:
    """The queue as it stands in the state: every message enqueued, none locked."""
    counter = await state.get(counter_key(hub, name))
    queue = LockQueue(state, hub, name, hooks, int(counter.body) if counter else 1, dead_letters)
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


def _to_store(message: NewMessage, policy: QueuePolicy, now_ms: int) -> StoredMessage:
    scheduled_ms = message.scheduled_ms if message.scheduled_ms > now_ms else 0
    life_ms = min(policy.ttl_ms, message.ttl_ms)
    end_ms = max(scheduled_ms, now_ms) + life_ms if message.expires_ms is None else message.expires_ms
    return StoredMessage(
        enqueued_ms=now_ms if message.enqueued_ms is None else message.enqueued_ms,
        expires_ms=end_ms,
        delivery_count=message.delivery_count,
        body=message.body,
        standing=Standing.SCHEDULED if scheduled_ms else Standing.ACTIVE,
        scheduled_ms=message.scheduled_ms,
        first_sequence=message.first_sequence,
    )


def _come(entry: Entry, stored: StoredMessage) -> NewMessage:
    """A scheduled message as one that comes now."""
    return NewMessage(
        stored.body,
        expires_ms=stored.expires_ms,
        scheduled_ms=stored.scheduled_ms,
        first_sequence=stored.first_sequence or entry.sequence,
    )


def _edited(stored: StoredMessage, edit: Edit | None) -> StoredMessage:
    return stored if edit is None else msgspec.structs.replace(stored, body=edit(stored.body))


def _message(entry: Entry, stored: StoredMessage) -> LockedMessage:
    return LockedMessage(
        token=entry.token,
        sequence=entry.sequence,
        delivery_count=entry.delivery_count,
        enqueued_ms=entry.enqueued_ms,
        expires_ms=entry.expires_ms,
        locked_until_ms=entry.locked_until_ms if entry.token else 0,
        body=stored.body,
        standing=entry.standing,
        first_sequence=entry.first_sequence,
        scheduled_ms=entry.scheduled_ms,
    )


def _chunks(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), CHANGED_AT_ONCE):
        yield entries[start : start + CHANGED_AT_ONCE]


def _may_leave(entry: Entry, outcome: Outcome, now_ms: int) -> bool:
    """A purge takes what is locked or set aside too; a message that another step has in hand is left to that."""
    if outcome is Outcome.PURGED:
        return entry.state in (MessageState.LOCKED, MessageState.ENQUEUED)
    waits = entry.state is MessageState.ENQUEUED and entry.standing is Standing.ACTIVE
    return waits and entry.expires_ms <= now_ms
