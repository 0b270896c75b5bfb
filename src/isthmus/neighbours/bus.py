"""The messages of hosted Service Bus namespaces: sent, spread over subscriptions, received and settled.

Theory of operation. Every queue and every subscription is a lock-queue (`queues`) with a dead-letter queue beside it,
known by the entity's number. What is sent to a topic goes to the subscriptions that select it, all of them in one
commit; a subscription is judged by its rules of that moment. A topic has a lock-queue only for what is scheduled: when
the time has come, the message is locked there, judged, and moved to the subscriptions in one commit, so that a crash
neither loses nor doubles it. `start` moves what had come when the process ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from isthmus.base.clock import Clock, is_over
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId, Ids
from isthmus.base.state import Damaged, State, StateClosed
from isthmus.neighbours.bus_entities import BusEntities
from isthmus.neighbours.bus_entity import MESSAGES_MAX, Entity, EntityKind, queue_policy
from isthmus.neighbours.bus_message import (
    BusMessage,
    Incoming,
    dead_letter,
    decode_message,
    encode_message,
)
from isthmus.neighbours.bus_readers import BusReaders
from isthmus.neighbours.bus_rules import Facts, selected
from isthmus.queues import (
    DEAD_LETTERS,
    NO_LIMIT,
    Counts,
    Departure,
    Edit,
    LockedMessage,
    LockLost,
    LockQueues,
    NewMessage,
    NoSuchMessage,
    QueueAddress,
    QueueFull,
    QueueHooks,
    QueuePolicy,
    Sequel,
)

PREFIX: Final = "bus/"
MAIN: Final = "bus/main"
"""The name of an entity's lock-queue below the entity's number."""

HANDED_OUT_BYTES: Final = 262_144
"""Bytes of messages handed out in one go, the last one included whole: what a slow receiver makes us hold."""

AGAIN_MS: Final = 1_000
"""After a message of a topic could not be spread, for the disk to recover."""

FactsOf = Callable[[BusMessage], Facts]
"""Reads what filters look at."""

T = TypeVar("T")


class Bus:
    """The messages of all entities; belongs to one event loop.

    What is called with the address of a queue takes that of its dead-letter queue as well. All of it runs to its end
    once called, also when the caller is cancelled. Raises HubError: GenericNotFound for an entity that is gone,
    QuotaExceeded for a full one, MessageLockLost, ServerBusy.
    """

    def __init__(self, state: State, clock: Clock, ids: Ids, entities: BusEntities, facts_of: FactsOf) -> None:
        self._clock = clock
        self._ids = ids
        self._entities = entities
        self._facts_of = facts_of
        self._come: dict[HubId, bool] = {}
        self._again: dict[HubId, int] = {}
        self._earlier: list[Callable[[], None]] = []
        self._awaited: set[asyncio.Task[None]] = set()
        self.readers = BusReaders()
        self.queues = LockQueues(
            state,
            clock,
            ids,
            prefix=PREFIX,
            policy=self._policy,
            hooks=QueueHooks(_nothing_follows, self._available, self._dead_lettered),
        )

    async def start(self, entities: Iterable[Entity]) -> None:
        """Finds what waited when the process ended; before anything else is called."""
        found = tuple(entities)
        await self.queues.start([entity.number for entity in found])
        for entity in found:
            if entity.kind is EntityKind.TOPIC:
                await self._move_come(entity.number)

    async def close(self) -> None:
        """Waits for the operations under way."""
        while self._awaited:
            await asyncio.wait(self._awaited)
        await self.queues.close()

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do; None while nothing is due ever."""
        now_ms = self._clock.utc_ms()
        again = (now_ms if is_over(when, now_ms, of_ms=AGAIN_MS) else when for when in self._again.values())
        deadlines = [*again, self.queues.next_deadline_ms()]
        return min((when for when in deadlines if when is not None), default=None)

    def on_earlier(self, wake: Callable[[], None]) -> None:
        """Calls `wake` when `next_deadline_ms` has become earlier."""
        self._earlier.append(wake)
        self.queues.on_earlier(wake)

    async def tick(self) -> None:
        """Brings all queues that are due to the present time, and tries again to spread what could not be."""
        now_ms = self._clock.utc_ms()
        for number in [number for number, when in self._again.items() if is_over(when, now_ms, of_ms=AGAIN_MS)]:
            del self._again[number]
            self._begin_to_move(number)
        await self.queues.tick()

    async def entity_changed(self, old: Entity | None, new: Entity | None) -> None:
        """Listens to the entities: what is in memory of a deleted one's queue is dropped."""
        if old is not None and new is None:
            self.queues.forget(address_of(old))
            self.queues.forget(address_of(old).dead_letters)

    def message_id(self) -> str:
        """An id for a message that was sent without one."""
        return self._ids.uuid().replace("-", "")

    async def send(self, entity: Entity, messages: Sequence[Incoming]) -> list[int]:
        """Stores messages, all or none, and returns when they are durable.

        The numbers are those that cancel scheduled messages, where all are scheduled; what goes to a topic at once has
        none, and gives 0.
        """
        now_ms = self._clock.utc_ms()
        later = [_new(one) for one in messages if one.scheduled_ms > now_ms]
        try:
            if entity.kind is EntityKind.QUEUE:
                new = [_new(one) for one in messages]
                return await _told(self.queues.enqueue_all(address_of(entity), new))
            if len(later) == len(messages):
                return await _told(self.queues.enqueue_all(address_of(entity), later))
            copies = self._copies(entity, [one.message for one in messages if one.scheduled_ms <= now_ms])
            await _told(self.queues.spread({**copies, address_of(entity): later} if later else copies))
            return [0] * len(messages)
        except QueueFull as error:
            raise _full(entity) from error

    async def cancel(self, entity: Entity, sequences: Sequence[int]) -> None:
        """Removes scheduled messages; raises HubError GenericNotFound."""
        await _told(self.queues.cancel(address_of(entity), sequences))

    async def lock(self, address: QueueAddress, limit: int) -> list[LockedMessage]:
        """Hands out the first messages that wait, each under a lock."""
        return await _told(self.queues.lock_all(address, limit, HANDED_OUT_BYTES))

    async def take(self, address: QueueAddress, limit: int) -> list[LockedMessage]:
        """Removes the first messages that wait and hands them out."""
        return await _told(self.queues.take(address, limit, HANDED_OUT_BYTES))

    async def lock_deferred(self, address: QueueAddress, sequences: Sequence[int]) -> list[LockedMessage]:
        """Hands out deferred messages by their numbers; raises HubError GenericNotFound."""
        return await _told(self.queues.lock_deferred(address, sequences))

    async def take_deferred(self, address: QueueAddress, sequences: Sequence[int]) -> list[LockedMessage]:
        """Removes deferred messages and hands them out; raises HubError GenericNotFound."""
        return await _told(self.queues.take_deferred(address, sequences))

    async def peek(self, address: QueueAddress, from_sequence: int, limit: int) -> list[LockedMessage]:
        """Shows messages from a number on and takes none."""
        return await _told(self.queues.peek(address, from_sequence, limit))

    async def complete(self, address: QueueAddress, token: str) -> None:
        """Removes a message as done with."""
        await _told(self.queues.complete(address, token))

    async def complete_all(self, address: QueueAddress, tokens: Sequence[str]) -> list[bool]:
        """Removes messages as done with; tells of each whether its lock held."""
        return await _told(self.queues.complete_all(address, tokens))

    async def abandon(self, address: QueueAddress, token: str, edit: Edit | None = None) -> None:
        """Gives a message back, counting a failed delivery."""
        await _told(self.queues.abandon(address, token, edit))

    async def defer(self, address: QueueAddress, token: str, edit: Edit | None = None) -> None:
        """Sets a message aside."""
        await _told(self.queues.defer(address, token, edit))

    async def reject(self, address: QueueAddress, token: str, edit: Edit | None = None) -> None:
        """Moves a message to the dead-letter queue; raises HubError InvalidOperation for one that is there already."""
        if address.name.endswith(DEAD_LETTERS):
            raise _dead_already()
        await _told(self.queues.reject(address, token, edit))

    async def renew(self, address: QueueAddress, token: str) -> int:
        """Lets a lock hold longer; returns its new end."""
        return await _told(self.queues.renew(address, token))

    def release(self, address: QueueAddress, token: str) -> None:
        """Gives a message back as if it had never been handed out."""
        self.queues.release(address, token)

    async def counts(self, address: QueueAddress) -> Counts:
        """How many messages wait for what."""
        return await _told(self.queues.counts(address))

    async def purge(self, address: QueueAddress) -> int:
        """Removes all messages; returns how many."""
        return await _told(self.queues.purge(address))

    def _copies(self, topic: Entity, messages: Sequence[BusMessage]) -> dict[QueueAddress, list[NewMessage]]:
        """What each subscription gets of messages that are sent to its topic now."""
        bodies = [encode_message(message) for message in messages]
        facts = [_Once(self._facts_of, message) for message in messages]
        copies: dict[QueueAddress, list[NewMessage]] = {}
        for subscription in self._entities.of(topic.namespace, EntityKind.SUBSCRIPTION, topic.name):
            chosen = [
                NewMessage(body, ttl_ms=min(topic.ttl_ms, _life(message)))
                for message, body, known in zip(messages, bodies, facts, strict=True)
                if subscription.status.sends and selected(subscription.rules, known)
            ]
            if chosen:
                copies[address_of(subscription)] = chosen
        return copies

    def _policy(self, number: HubId) -> QueuePolicy | None:
        entity = self._entities.by_number(number)
        return None if entity is None else queue_policy(entity)

    def _available(self, number: HubId, name: str) -> None:
        entity = self._entities.by_number(number)
        if entity is not None and entity.kind is EntityKind.TOPIC:
            self._begin_to_move(number)
        else:
            self.readers.wake(QueueAddress(number, name))

    def _begin_to_move(self, number: HubId) -> None:
        """Moves what has come, in a task of its own: who tells of it is in the middle of something."""
        if number in self._come:
            self._come[number] = True
            return
        self._come[number] = True
        task = asyncio.get_running_loop().create_task(self._move_come(number))
        self._awaited.add(task)
        task.add_done_callback(self._awaited.discard)

    async def _move_come(self, number: HubId) -> None:
        """Spreads the messages of a topic whose time has come; what fails is tried again."""
        self._come[number] = True
        try:
            while self._come[number]:
                self._come[number] = False
                await self._move_all(number)
        except (HubError, LockLost, Damaged, StateClosed):
            self._again[number] = self._clock.utc_ms() + AGAIN_MS
            for wake in self._earlier:
                wake()
        finally:
            del self._come[number]

    async def _move_all(self, number: HubId) -> None:
        while (topic := self._entities.by_number(number)) is not None:
            locked = await self.queues.lock(address_of(topic))
            if locked is None:
                return
            copies = self._copies(topic, [decode_message(locked.body)])
            await self.queues.move(address_of(topic), locked.token, copies)

    def _dead_lettered(self, number: HubId, name: str, departure: Departure) -> bytes:
        entity = self._entities.by_number(number)
        if entity is None:
            return departure.body
        return dead_letter(departure, source=entity.path, max_delivery_count=entity.max_delivery_count)


class _Once:
    """The facts of a message, read when they are first asked for."""

    __slots__ = ("_facts", "_message", "_read")

    def __init__(self, read: FactsOf, message: BusMessage) -> None:
        self._read = read
        self._message = message
        self._facts: Facts | None = None

    def __call__(self) -> Facts:
        if self._facts is None:
            self._facts = self._read(self._message)
        return self._facts


def address_of(entity: Entity) -> QueueAddress:
    """The lock-queue of an entity; its `dead_letters` are those of its dead-letter queue."""
    return QueueAddress(entity.number, MAIN)


def _new(incoming: Incoming) -> NewMessage:
    """The message as its entity's queue takes it: its sender may shorten its life, never lengthen it."""
    return NewMessage(
        encode_message(incoming.message), ttl_ms=_life(incoming.message), scheduled_ms=incoming.scheduled_ms
    )


def _life(message: BusMessage) -> int:
    return NO_LIMIT if message.ttl_ms is None else message.ttl_ms


def _nothing_follows(hub: HubId, name: str, departure: Departure) -> Sequel:
    return Sequel()


async def _told(operation: Awaitable[T]) -> T:
    """What the operation gives; what stands in its way in the words of the catalogue."""
    try:
        return await operation
    except LockLost as error:
        raise lock_lost() from error
    except NoSuchMessage as error:
        raise _no_such_message() from error
    except HubError as error:
        raise (gone() if error.code is Code.HUB_NOT_FOUND else error) from error


def lock_lost() -> HubError:
    """The refusal of a token that settles nothing."""
    return HubError(
        Code.MESSAGE_LOCK_LOST,
        "The lock supplied is invalid. Either the lock expired, or the message has already been removed.",
        Refusal(Hop.CONTRACT, "contract.lock-lost", "lock token", "Settle in time, or renew the lock before it ends."),
    )


def gone() -> HubError:
    """The refusal of an entity that was deleted meanwhile."""
    return HubError(
        Code.NOT_FOUND,
        "The messaging entity could not be found.",
        Refusal(Hop.CONTRACT, "contract.address", "deleted entity", "Make the entity again, or use another."),
    )


def _dead_already() -> HubError:
    return HubError(
        Code.INVALID_OPERATION,
        "A message of a dead-letter queue cannot be dead-lettered.",
        Refusal(Hop.CONTRACT, "contract.dead-letter", "dead-letter queue", "Complete it, or leave it where it is."),
    )


def _no_such_message() -> HubError:
    return HubError(
        Code.NOT_FOUND,
        "Failed to locate the message by its sequence number.",
        Refusal(
            Hop.CONTRACT,
            "contract.sequence-number",
            "sequence numbers",
            "Give numbers of messages that are scheduled, or deferred and not locked.",
        ),
    )


def _full(entity: Entity) -> HubError:
    return HubError(
        Code.QUOTA_EXCEEDED,
        f"The maximum entity size has been reached or exceeded for {entity.kind}: '{entity.path}'.",
        Refusal(
            Hop.LIMIT,
            "limit.entity-size",
            f"{entity.max_megabytes} MB or {MESSAGES_MAX} messages",
            "Receive messages, purge the dead-letter queue, or make the entity larger.",
        ),
    )
