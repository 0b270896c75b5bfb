"""Queues: one lock-queue with a policy per instance; messages are handed out under a lock and leave when settled."""

from isthmus.queues.lock_queue import LockLost, QueueFull, QueueHooks, Sequel
from isthmus.queues.lock_queues import LockQueues, QueueAddress
from isthmus.queues.message import Departure, LockedMessage, Outcome, QueuePolicy
from isthmus.queues.upkeep import Timed, keep_time

__all__ = [
    "Departure",
    "LockLost",
    "LockQueues",
    "LockedMessage",
    "Outcome",
    "QueueAddress",
    "QueueFull",
    "QueueHooks",
    "QueuePolicy",
    "Sequel",
    "Timed",
    "keep_time",
]
