"""The messages of one lock-queue in memory: by number, by lock, by turn and by deadline; no state, no I/O.

Some ten words per message: bodies stay in the state. The heaps hold what was true once; an entry counts only while its
message still says the same, and what no longer counts is swept out when there is too much of it.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from isthmus.queues.message import (
    Counts,
    MessageState,
    Standing,
    Step,
    StoredMessage,
    deadline_of,
    next_state,
)

DEADLINES_SPARE = 64
"""Outdated deadlines kept beyond one for each message before they are swept out."""


@dataclass(slots=True, eq=False)
class Entry:
    """One message of a queue."""

    sequence: int
    revision: int
    enqueued_ms: int
    expires_ms: int
    delivery_count: int
    standing: Standing
    scheduled_ms: int
    first_sequence: int
    size: int
    state: MessageState
    token: str = ""
    locked_until_ms: int = 0

    @classmethod
    def of(cls, sequence: int, revision: int, stored: StoredMessage, state: MessageState) -> "Entry":
        """The entry of a message that is, or is about to be, in the state."""
        return cls(
            sequence=sequence,
            revision=revision,
            enqueued_ms=stored.enqueued_ms,
            expires_ms=stored.expires_ms,
            delivery_count=stored.delivery_count,
            standing=stored.standing,
            scheduled_ms=stored.scheduled_ms,
            first_sequence=stored.first_sequence,
            size=len(stored.body),
            state=state,
        )

    @property
    def deadline_ms(self) -> int | None:
        """When this message needs attention, as things stand."""
        if self.state is MessageState.LOCKED:
            return self.locked_until_ms
        if self.state is not MessageState.ENQUEUED:
            return None
        return deadline_of(self.standing, expires_ms=self.expires_ms, scheduled_ms=self.scheduled_ms)


class Shelf:
    """All messages of one queue; `available` is called when one can be handed out."""

    def __init__(self, available: Callable[[], None]) -> None:
        self._available = available
        self._entries: dict[int, Entry] = {}
        self._locked: dict[str, Entry] = {}
        self._ready: list[int] = []
        self._deadlines: list[tuple[int, int]] = []
        self._under_way: set[int] = set()
        self._standings = dict.fromkeys(Standing, 0)
        self._size = 0
        self.is_closed = False

    def __len__(self) -> int:
        """Messages in whatever state."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in the order of their numbers."""
        return iter(self._entries.values())

    @property
    def is_idle(self) -> bool:
        """True when nothing would be lost by forgetting this object."""
        return not self._locked and not self._under_way

    @property
    def counts(self) -> Counts:
        """How many there are, and their bytes."""
        return Counts(
            active=self._standings[Standing.ACTIVE],
            scheduled=self._standings[Standing.SCHEDULED],
            deferred=self._standings[Standing.DEFERRED],
            size=self._size,
        )

    def add(self, entry: Entry) -> None:
        """Takes in a message with a number above all others."""
        self._entries[entry.sequence] = entry
        self._standings[entry.standing] += 1
        self._size += entry.size
        if entry.state is MessageState.STORING:
            self._under_way.add(entry.sequence)
        else:
            self._await(entry)

    def find(self, sequence: int) -> Entry | None:
        """The message of that number."""
        return self._entries.get(sequence)

    def held(self, token: str) -> Entry | None:
        """The message that is locked under that token."""
        return self._locked.get(token)

    def first_ready(self, now_ms: int) -> Entry | None:
        """The first message that waits for anybody and has not expired; it loses its turn."""
        while self._ready:
            entry = self._entries.get(heapq.heappop(self._ready))
            if entry is not None and _is_ready(entry) and entry.expires_ms > now_ms:
                return entry
        return None

    def lock(self, entry: Entry, token: str, until_ms: int) -> None:
        """Puts a waiting message under a lock."""
        entry.token = token
        entry.locked_until_ms = until_ms
        self._locked[token] = entry
        self.step(entry, Step.LOCK)

    def renew(self, entry: Entry, until_ms: int) -> None:
        """Lets a lock hold longer."""
        entry.locked_until_ms = until_ms
        self.await_deadline(entry)

    def shift_locks(self, by_ms: int) -> bool:
        """Moves the ends of all locks; False when there is none."""
        for entry in self._locked.values():
            entry.locked_until_ms += by_ms
            self.await_deadline(entry)
        return bool(self._locked)

    def unlock(self, entry: Entry, step: Step) -> None:
        """Takes the lock away, if there is one, by a step."""
        self._locked.pop(entry.token, None)
        entry.token = ""
        self.step(entry, step)

    def rewrite(self, entry: Entry, stored: StoredMessage) -> None:
        """Takes over what has been committed of a message."""
        self._standings[entry.standing] -= 1
        self._standings[stored.standing] += 1
        self._size += len(stored.body) - entry.size
        entry.delivery_count = stored.delivery_count
        entry.standing = stored.standing
        entry.size = len(stored.body)

    def step(self, entry: Entry, step: Step) -> None:
        """Moves a message on; one that is gone is forgotten."""
        entry.state = next_state(entry.state, step)
        if self.is_closed:
            return
        if entry.state is MessageState.CHANGING:
            self._under_way.add(entry.sequence)
        else:
            self._under_way.discard(entry.sequence)
        if entry.state is MessageState.GONE:
            del self._entries[entry.sequence]
            self._standings[entry.standing] -= 1
            self._size -= entry.size
        self._await(entry)
        if _is_ready(entry):
            self._available()

    def next_deadline_ms(self) -> int | None:
        """When a message needs attention; None while none does ever."""
        while self._deadlines:
            when, sequence = self._deadlines[0]
            entry = self._entries.get(sequence)
            if entry is not None and entry.deadline_ms == when:
                return when
            heapq.heappop(self._deadlines)
        return None

    def take_due(self) -> Entry:
        """The message that `next_deadline_ms` spoke of; it is not told of again before `await_deadline`."""
        return self._entries[heapq.heappop(self._deadlines)[1]]

    def await_deadline(self, entry: Entry) -> None:
        """Notes when a message needs attention."""
        when = entry.deadline_ms
        if when is None or self.is_closed:
            return
        heapq.heappush(self._deadlines, (when, entry.sequence))
        if len(self._deadlines) > 2 * len(self._entries) + DEADLINES_SPARE:
            current = ((one.deadline_ms, one.sequence) for one in self._entries.values())
            self._deadlines = [(when, sequence) for when, sequence in current if when is not None]
            heapq.heapify(self._deadlines)

    def close(self) -> None:
        """Forgets everything, for good."""
        self.is_closed = True
        self._standings = dict.fromkeys(Standing, 0)
        self._size = 0
        for held in (self._entries, self._locked, self._under_way, self._ready, self._deadlines):
            held.clear()

    def _await(self, entry: Entry) -> None:
        self.await_deadline(entry)
        if _is_ready(entry):
            heapq.heappush(self._ready, entry.sequence)


def _is_ready(entry: Entry) -> bool:
    """True for a message that anybody may have."""
    return entry.state is MessageState.ENQUEUED and entry.standing is Standing.ACTIVE
