"""What the services of a hub read of it: feedback and file notifications, each from one queue of the hub.

A reader is handed a message under a lock and settles it; what it does not settle in time waits for the next reader
(IoT Hub developer guide, "Receive cloud-to-device message feedback" and "File upload notifications").
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from isthmus.base.clock import Clock
from isthmus.base.ids import HubId, Ids
from isthmus.base.state import Change, State
from isthmus.commands.ports import HubOf, HubSettings, ServiceboundSettings
from isthmus.commands.settling import lock_kept
from isthmus.queues import (
    Departure,
    LockedMessage,
    LockQueues,
    QueueAddress,
    QueueHooks,
    QueuePolicy,
    Sequel,
)

WAITING_MAX = 1_024
"""Messages of one kind that wait for the readers of a hub; what becomes of the next is its writer's to say."""


@dataclass(frozen=True, slots=True)
class ServiceboundMessage:
    """A message handed out; `user_id` is the name of the hub."""

    lock_token: str
    sequence: int
    delivery_count: int
    enqueued_ms: int
    expires_ms: int
    user_id: str
    body: bytes


class ServiceboundQueue:
    """One kind of message to services, a queue for each hub; belongs to one event loop.

    `name` is that of the queues; `settings` picks what holds for this kind out of a hub's.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        ids: Ids,
        *,
        name: str,
        hub_of: HubOf,
        settings: Callable[[HubSettings], ServiceboundSettings],
    ) -> None:
        self._name = name
        self._hub_of = hub_of
        self._settings = settings
        self._readers: list[Callable[[HubId], None]] = []
        hooks = QueueHooks(settled=_nothing_follows, available=self._available)
        self._queues = LockQueues(state, clock, ids, prefix=f"{name}\n", policy=self._policy, hooks=hooks)

    async def start(self, hubs: Iterable[HubId]) -> None:
        """Finds what waited when the process ended; before anything else is called."""
        await self._queues.start(hubs)

    async def close(self) -> None:
        """Waits for the operations under way."""
        await self._queues.close()

    async def send(self, hub: HubId, body: bytes, *, along: Sequence[Change] = ()) -> None:
        """Stores a message; `along` are part of the commit. Raises `QueueFull` or `Conflict`."""
        await self._queues.enqueue(self._address(hub), body, along=along)

    async def receive(self, hub: HubId, limit: int = 1) -> list[ServiceboundMessage]:
        """Hands out the messages that wait, at most `limit`, each under a lock."""
        messages: list[ServiceboundMessage] = []
        while len(messages) < limit and (locked := await self._queues.lock(self._address(hub))) is not None:
            messages.append(self._message(hub, locked))
        return messages

    async def complete(self, hub: HubId, lock_token: str) -> None:
        """Settles a message as read; raises `HubError` (`MESSAGE_LOCK_LOST`)."""
        with lock_kept():
            await self._queues.complete(self._address(hub), lock_token)

    async def reject(self, hub: HubId, lock_token: str) -> None:
        """Settles a message as useless to its reader; raises `HubError` (`MESSAGE_LOCK_LOST`)."""
        with lock_kept():
            await self._queues.reject(self._address(hub), lock_token)

    async def abandon(self, hub: HubId, lock_token: str) -> None:
        """Gives a message back, counting a failed delivery; raises `HubError` (`MESSAGE_LOCK_LOST`)."""
        with lock_kept():
            await self._queues.abandon(self._address(hub), lock_token)

    def release(self, hub: HubId, lock_token: str) -> None:
        """Gives a message back, counting nothing; nothing happens when the lock is lost."""
        self._queues.release(self._address(hub), lock_token)

    def on_available(self, wake: Callable[[HubId], None]) -> Callable[[], None]:
        """Calls `wake` when a message of a hub can be received; returns the undo."""
        self._readers.append(wake)
        return lambda: self._readers.remove(wake)

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do; None while nothing is due ever."""
        return self._queues.next_deadline_ms()

    def on_earlier(self, wake: Callable[[], None]) -> None:
        """Calls `wake` when `next_deadline_ms` has become earlier."""
        self._queues.on_earlier(wake)

    async def tick(self) -> None:
        """Expires messages that nobody read."""
        await self._queues.tick()

    def _policy(self, hub: HubId) -> QueuePolicy | None:
        found = self._hub_of(hub)
        if found is None:
            return None
        settings = self._settings(found)
        return QueuePolicy(
            depth_max=WAITING_MAX,
            ttl_ms=settings.ttl_ms,
            lock_ms=settings.lock_ms,
            delivery_count_max=settings.max_delivery_count,
            lock_expiry_counts=False,
        )

    def _available(self, hub: HubId, name: str) -> None:
        for wake in tuple(self._readers):
            wake(hub)

    def _message(self, hub: HubId, locked: LockedMessage) -> ServiceboundMessage:
        found = self._hub_of(hub)
        return ServiceboundMessage(
            lock_token=locked.token,
            sequence=locked.sequence,
            delivery_count=locked.delivery_count,
            enqueued_ms=locked.enqueued_ms,
            expires_ms=locked.expires_ms,
            user_id=found.name if found else "",
            body=locked.body,
        )

    def _address(self, hub: HubId) -> QueueAddress:
        return QueueAddress(hub, self._name)


def _nothing_follows(hub: HubId, name: str, departure: Departure) -> Sequel:
    """Nobody is told what became of what services were told."""
    return Sequel()
