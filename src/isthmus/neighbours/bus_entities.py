"""Queues, topics and subscriptions of all hosted namespaces: loaded once, served from memory, compared and set.

Theory of operation. As the hubs themselves (`resources.hubs`): a document for each entity, below its namespace's
number; a snapshot of each in memory, which every door reads without waiting; a change commits with the snapshot's
revision as expectation, then replaces the snapshot, never by an older one, and awaits all listeners before it is
answered. All of it runs to its end even when the caller is cancelled. A topic is deleted with its subscriptions in one
commit, which leaves a mark for each lock-queue that is nobody's from then on (`resources.removal`). When a namespace is
deleted its entities are gone at once; whoever sweeps up behind it finds their documents, and marks their queues.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match
from isthmus.base.ids import HubId
from isthmus.base.state import (
    COMMIT_TRIES_MAX,
    MUST_NOT_EXIST,
    Change,
    Check,
    Conflict,
    Delete,
    Key,
    Put,
    State,
)
from isthmus.completion import Completion
from isthmus.neighbours.bus_entity import (
    ENTITIES_MAX,
    SUBSCRIPTIONS_MAX,
    Entity,
    EntityKind,
    EntityRule,
    check_entity,
    decode_entity,
    encode_entity,
    new_entity,
    path_of,
)
from isthmus.resources.numbers import draw
from isthmus.resources.removal import mark_of

KIND = "bus-entity"
"""Kind of the documents."""

LOADED_AT_ONCE = 1_000
"""Documents read in one piece."""

EntityListener = Callable[[Entity | None, Entity | None], Awaitable[None]]
"""Is told of an entity's old and new snapshot; None before it was made and after it was deleted."""


class BusEntities:
    """All entities; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._completion = Completion()
        self._listeners: list[EntityListener] = []
        self._by_path: dict[HubId, dict[str, Entity]] = {}
        self._by_number: dict[HubId, Entity] = {}

    async def load(self, namespaces: Iterable[HubId]) -> None:
        """Reads the entities of these namespaces; listeners are not told."""
        for namespace in namespaces:
            after = ""
            while page := await self._state.scan(KIND, namespace, after=after, limit=LOADED_AT_ONCE):
                for stored in page:
                    self._keep(decode_entity(stored.body, stored.revision))
                after = page[-1].key.name

    def on_change(self, listener: EntityListener) -> None:
        """Awaits `listener(old, new)` after each change that is in force, before the change is answered."""
        self._listeners.append(listener)

    def all(self) -> tuple[Entity, ...]:
        """All entities of all namespaces in the order of their numbers."""
        return tuple(self._by_number[number] for number in sorted(self._by_number))

    def of(self, namespace: HubId, kind: EntityKind, topic: str = "") -> tuple[Entity, ...]:
        """The entities of one kind, the subscriptions of one topic, in the order of their names."""
        known = self._by_path.get(namespace, {})
        wanted = topic.lower()
        return tuple(
            entity for _, entity in sorted(known.items()) if entity.kind is kind and entity.topic.lower() == wanted
        )

    def in_namespace(self, namespace: HubId) -> tuple[Entity, ...]:
        """All entities of a namespace."""
        return tuple(self._by_path.get(namespace, {}).values())

    def find(self, namespace: HubId, path: str) -> Entity | None:
        """The entity at that path, compared without case."""
        return self._by_path.get(namespace, {}).get(path.lower())

    def by_number(self, number: HubId) -> Entity | None:
        """The entity of that number."""
        return self._by_number.get(number)

    def require(self, namespace: HubId, kind: EntityKind, name: str, topic: str = "") -> Entity:
        """The entity of that kind and name; raises HubError GenericNotFound."""
        found = self.find(namespace, path_of(topic, name))
        if found is None or found.kind is not kind:
            known = ", ".join(each.name for each in self.of(namespace, kind, topic)) or "none"
            raise HubError(Code.NOT_FOUND, f"There is no {kind} {name}; there are: {known}")
        return found

    async def create(
        self, namespace: HubId, kind: EntityKind, name: str, rule: EntityRule, *, topic: str = ""
    ) -> Entity:
        """Makes an entity as `rule` completes it.

        Raises HubError ArgumentInvalid for a bad name or number, GenericConflict when the name is taken, QuotaExceeded
        above the limits, GenericNotFound without the topic, and whatever `rule` raises; then there is none.
        """
        draft = rule(new_entity(namespace, kind, name, topic=topic, now_ms=self._clock.utc_ms()))
        return await self._completion.run(self._create(check_entity(draft)))

    async def change(self, entity: Entity, rule: EntityRule, if_match: str | None = None) -> Entity:
        """Applies a pure rule under compare-and-set and returns the new snapshot, in force.

        Raises HubError as the rule does, ArgumentInvalid, GenericNotFound, PreconditionFailed, ServerBusy after too
        many conflicts.
        """
        return await self._completion.run(self._change(entity, rule, if_match))

    async def delete(self, entity: Entity) -> None:
        """Forgets the entity with its messages, a topic with its subscriptions. Raises as `change`."""
        await self._completion.run(self._delete(entity))

    async def forget(self, namespace: HubId) -> None:
        """Forgets the entities of a namespace that was deleted, and tells listeners of each."""
        for entity in self._by_path.pop(namespace, {}).values():
            self._by_number.pop(entity.number, None)
            await self._tell(entity, None)

    async def settled(self) -> None:
        """Returns when no change is under way."""
        await self._completion.settled()

    async def _create(self, draft: Entity) -> Entity:
        for _ in range(COMMIT_TRIES_MAX):
            self._check_free(draft)
            number, taken = await draw(self._state)
            made = replace(draft, number=number)
            changes: list[Change] = [taken, Put(_key(made), encode_entity(made), MUST_NOT_EXIST)]
            if made.topic:
                topic = self.require(made.namespace, EntityKind.TOPIC, made.topic)
                changes.append(Check(_key(topic), topic.revision))
            try:
                revisions = await self._state.commit(changes)
            except Conflict as conflict:
                if conflict.index == 1:
                    raise _taken(draft) from conflict
                continue
            return await self._publish(replace(made, revision=revisions[1]))
        raise _busy(draft.path)

    async def _change(self, old: Entity, rule: EntityRule, if_match: str | None) -> Entity:
        for _ in range(COMMIT_TRIES_MAX):
            _check_etag(old, if_match)
            new = check_entity(rule(old))
            if new == old:
                return old
            new = replace(new, updated_ms=self._clock.utc_ms())
            try:
                revisions = await self._state.commit([Put(_key(old), encode_entity(new), old.revision)])
            except Conflict:
                old = await self._read(old)
                continue
            return await self._publish(replace(new, revision=revisions[0]))
        raise _busy(old.path)

    async def _delete(self, entity: Entity) -> None:
        for _ in range(COMMIT_TRIES_MAX):
            gone = [entity, *self._below(entity)]
            marks = [mark_of(each.number) for each in gone]
            try:
                await self._state.commit([*(Delete(_key(each), each.revision) for each in gone), *marks])
            except Conflict:
                entity = await self._read(entity)
                continue
            for each in reversed(gone):
                self._by_path.get(each.namespace, {}).pop(each.path.lower(), None)
                self._by_number.pop(each.number, None)
                await self._tell(each, None)
            return
        raise _busy(entity.path)

    def _below(self, entity: Entity) -> Sequence[Entity]:
        """The subscriptions that go with a topic."""
        if entity.kind is not EntityKind.TOPIC:
            return ()
        return self.of(entity.namespace, EntityKind.SUBSCRIPTION, entity.name)

    async def _read(self, known: Entity) -> Entity:
        """The entity as somebody else has just committed it; whoever did publishes it."""
        stored = await self._state.get(_key(known))
        if stored is None:
            raise HubError(Code.NOT_FOUND, f"The {known.kind} {known.path} was deleted")
        return decode_entity(stored.body, stored.revision)

    async def _publish(self, entity: Entity) -> Entity:
        old = self.find(entity.namespace, entity.path)
        if old is None or old.number != entity.number or old.revision < entity.revision:
            self._keep(entity)
        await self._tell(old, self.find(entity.namespace, entity.path))
        return entity

    def _keep(self, entity: Entity) -> None:
        self._by_path.setdefault(entity.namespace, {})[entity.path.lower()] = entity
        self._by_number[entity.number] = entity

    async def _tell(self, old: Entity | None, new: Entity | None) -> None:
        for listener in self._listeners:
            await listener(old, new)

    def _check_free(self, draft: Entity) -> None:
        if self.find(draft.namespace, draft.path) is not None:
            raise _taken(draft)
        if draft.kind is EntityKind.SUBSCRIPTION:
            self.require(draft.namespace, EntityKind.TOPIC, draft.topic)
            if len(self.of(draft.namespace, draft.kind, draft.topic)) >= SUBSCRIPTIONS_MAX:
                raise HubError(Code.QUOTA_EXCEEDED, f"A topic has at most {SUBSCRIPTIONS_MAX} subscriptions")
            return
        known = self._by_path.get(draft.namespace, {}).values()
        if sum(1 for each in known if each.kind is not EntityKind.SUBSCRIPTION) >= ENTITIES_MAX:
            raise HubError(Code.QUOTA_EXCEEDED, f"A namespace has at most {ENTITIES_MAX} queues and topics")


def _key(entity: Entity) -> Key:
    return Key(KIND, entity.namespace, entity.path.lower())


def _check_etag(entity: Entity, if_match: str | None) -> None:
    wanted = parse_if_match(if_match)
    if wanted not in (None, "*", entity.etag):
        message = f"The {entity.kind} {entity.path} was changed: its etag is {entity.etag}"
        raise HubError(Code.PRECONDITION_FAILED, message)


def _taken(draft: Entity) -> HubError:
    return HubError(Code.CONFLICT, f"There is an entity {draft.path} already")


def _busy(path: str) -> HubError:
    return HubError(Code.SERVER_BUSY, f"The entity {path} is being changed by others; try again")
