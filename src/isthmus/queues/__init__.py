"""Queues: one lock-queue with a policy per instance; messages are handed out under a lock and leave when settled."""

from isthmus.queues.lock_queue import Edit, LockLost, NoSuchMessage, QueueFull, QueueHooks, Sequel
from isthmus.queues.lock_queues import DEAD_LETTERS, LockQueues, QueueAddress
from isthmus.queues.message import (
    NO_LIMIT,
    Counts,
    DeadLetter,
    Departure,
    LockedMessage,
    NewMessage,
    Outcome,
    QueuePolicy,
    Standing,
)
from isthmus.queues.upkeep import Timed, keep_time

__all__ = [
    "DEAD_LETTERS",
    "NO_LIMIT",
    "Counts",
    "DeadLetter",
    "Departure",
    "Edit",
    "LockLost",
    "LockQueues",
    "LockedMessage",
    "NewMessage",
    "NoSuchMessage",
    "Outcome",
    "QueueAddress",
    "QueueFull",
    "QueueHooks",
    "QueuePolicy",
    "Sequel",
    "Standing",
    "Timed",
    "keep_time",
]
