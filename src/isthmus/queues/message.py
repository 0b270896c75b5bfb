"""A message in a lock-queue: its states, the steps between them, and its stored form; pure."""

from dataclasses import dataclass
from enum import Enum

import msgspec


class MessageState(Enum):
    """Where a message stands; only `ENQUEUED` ones are handed out, and what is `GONE` is forgotten."""

    STORING = "storing"
    ENQUEUED = "enqueued"
    LOCKED = "locked"
    CHANGING = "changing"
    GONE = "gone"


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


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """What holds for one kind of queue.

    `depth_max` messages, whatever their state; the next is refused. A message lives `ttl_ms` when its sender gives no
    end. A lock holds `lock_ms`; when it runs out, that counts as a delivery only if `lock_expiry_counts`. A message
    that was delivered `delivery_count_max` times without success leaves the queue.
    """

    depth_max: int
    ttl_ms: int
    lock_ms: int
    delivery_count_max: int
    lock_expiry_counts: bool


class StoredMessage(msgspec.Struct, frozen=True, rename="camel"):
    """A message as a document; times in milliseconds since the epoch. Fields are only ever added, with defaults."""

    enqueued_ms: int
    expires_ms: int
    delivery_count: int
    body: bytes


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


@dataclass(frozen=True, slots=True)
class Departure:
    """A message about to leave the queue at `at_ms`."""

    sequence: int
    enqueued_ms: int
    outcome: Outcome
    at_ms: int
    body: bytes


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
