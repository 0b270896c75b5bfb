"""A message in a lock-queue: its states, the steps between them, and its stored form; pure."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec


class MessageState(Enum):
    """What is done with a message; only `ENQUEUED` ones are handed out, and what is `GONE` is forgotten."""

    STORING = "storing"
    ENQUEUED = "enqueued"
    LOCKED = "locked"
    CHANGING = "changing"
    GONE = "gone"


class Standing(Enum):
    """How an enqueued message waits: for anybody, for its time, or for who asks for it by its number; durable."""

    ACTIVE = "active"
    SCHEDULED = "scheduled"
    DEFERRED = "deferred"


class Step(Enum):
    """What happens to a message."""

    STORED = "stored"
    LOCK = "lock"
    RELEASE = "release"
    CHANGE = "change"
    RETURNED = "returned"
    REMOVED = "removed"
    FAILED = "failed"


TRANSITIONS = {
    (MessageState.STORING, Step.STORED): MessageState.ENQUEUED,
    (MessageState.STORING, Step.FAILED): MessageState.GONE,
    (MessageState.ENQUEUED, Step.LOCK): MessageState.LOCKED,
    (MessageState.ENQUEUED, Step.CHANGE): MessageState.CHANGING,
    (MessageState.LOCKED, Step.RELEASE): MessageState.ENQUEUED,
    (MessageState.LOCKED, Step.CHANGE): MessageState.CHANGING,
    (MessageState.CHANGING, Step.RETURNED): MessageState.ENQUEUED,
    (MessageState.CHANGING, Step.REMOVED): MessageState.GONE,
    # Whoever settled it was told that this failed; the message is handed out again.
    (MessageState.CHANGING, Step.FAILED): MessageState.ENQUEUED,
}
"""All there are; any other step is a fault of this package."""


class Outcome(Enum):
    """Why a message left the queue."""

    COMPLETED = "completed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DELIVERY_COUNT_EXCEEDED = "delivery count exceeded"
    PURGED = "purged"
    CANCELLED = "cancelled"


NO_LIMIT: Final = 2**62
"""As a size, a count or a time: none that is ever reached."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """What holds for one kind of queue.

    `depth_max` messages of `bytes_max` together, whatever their state; the next is refused. A message lives `ttl_ms`
    when its sender gives no end. A lock holds `lock_ms`; when it runs out, that counts as a delivery only if
    `lock_expiry_counts`. A message that was delivered `delivery_count_max` times without success leaves the queue.
    """

    depth_max: int
    ttl_ms: int
    lock_ms: int
    delivery_count_max: int
    lock_expiry_counts: bool
    bytes_max: int = NO_LIMIT
    dead_letter: "DeadLetter | None" = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Messages that leave by these outcomes go on to the queue's dead-letter queue, which has a policy of its own.

    They count for both limits of the queue they came from; a move is never refused.
    """

    outcomes: frozenset[Outcome]
    policy: QueuePolicy


class StoredMessage(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A message as a document; times in milliseconds since the epoch. Fields are only ever added, with defaults.

    `first_sequence` is the number a message had before it was given another one, 0 when it has its first.
    """

    enqueued_ms: int
    expires_ms: int
    delivery_count: int
    body: bytes
    standing: Standing = Standing.ACTIVE
    scheduled_ms: int = 0
    first_sequence: int = 0

    @property
    def deadline_ms(self) -> int | None:
        """When the message needs attention while nobody has it in hand."""
        return deadline_of(self.standing, expires_ms=self.expires_ms, scheduled_ms=self.scheduled_ms)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored; without `expires_ms` it lives as long as the policy says, or `ttl_ms` if that is shorter.

    It waits for anybody from `scheduled_ms` on, or at once, and its life begins then. The others are those of a message
    that was somewhere else before.
    """

    body: bytes
    expires_ms: int | None = None
    ttl_ms: int = NO_LIMIT
    scheduled_ms: int = 0
    enqueued_ms: int | None = None
    delivery_count: int = 0
    first_sequence: int = 0


@dataclass(frozen=True, slots=True)
class LockedMessage:
    """A message handed out; `token` settles it until the lock runs out at `locked_until_ms`.

    `delivery_count` counts earlier deliveries that failed, from 0; `sequence` rises with each message of the queue,
    from 1.
    """

    token: str
    sequence: int
    delivery_count: int
    enqueued_ms: int
    expires_ms: int
    locked_until_ms: int
    body: bytes
    standing: Standing = Standing.ACTIVE
    first_sequence: int = 0
    scheduled_ms: int = 0


@dataclass(frozen=True, slots=True)
class Departure:
    """A message about to leave the queue at `at_ms`, by its `outcome`."""

    sequence: int
    enqueued_ms: int
    outcome: Outcome
    at_ms: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages a queue holds by how they wait, locked ones included, and the bytes of their bodies."""

    active: int = 0
    scheduled: int = 0
    deferred: int = 0
    size: int = 0

    @property
    def all(self) -> int:
        """Messages in whatever state."""
        return self.active + self.scheduled + self.deferred


def deadline_of(standing: Standing, *, expires_ms: int, scheduled_ms: int) -> int | None:
    """When a message that waits needs attention.

    One that was set aside expires only when somebody asks for it (Azure Service Bus, "Message expiration").
    """
    match standing:
        case Standing.ACTIVE:
            return expires_ms if expires_ms < NO_LIMIT else None
        case Standing.SCHEDULED:
            return scheduled_ms
        case Standing.DEFERRED:
            return None


def next_state(state: MessageState, step: Step) -> MessageState:
    """The state after the step; raises `KeyError` for a step that is not in the table."""
    return TRANSITIONS[state, step]


encode_message = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredMessage).decode


def decode_message(data: bytes) -> StoredMessage:
    """The message of a document; raises `msgspec.DecodeError` on damage."""
    return _decode(data)


def sequence_name(queue: str, sequence: int) -> str:
    """Name of a message's document; in binary order messages stand in order of sequence."""
    return f"{queue}\n{sequence:016x}"


def split_name(name: str) -> tuple[str, int]:
    """Queue and sequence of a message's document."""
    queue, _, sequence = name.rpartition("\n")
    return queue, int(sequence, 16)
