"""The event hubs of all hosted namespaces: loaded once, served from memory, changed under compare-and-set.

Theory of operation. As the hubs themselves (`resources.hubs`): a document for each event hub, below its namespace's
number; a snapshot of each in memory, which every door reads without waiting; a change commits with the snapshot's
revision as expectation, then replaces the snapshot, never by an older one, and awaits all listeners before it is
answered. All of it runs to its end even when the caller is cancelled. When a namespace is deleted its event hubs are
gone at once; what is left of them in the state is swept up by whoever sweeps up behind the namespace.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match
from isthmus.base.ids import HubId
from isthmus.base.state import COMMIT_TRIES_MAX, MUST_NOT_EXIST, Conflict, Delete, Key, Put, State
from isthmus.completion import Completion
from isthmus.neighbours.event_hub import (
    EVENT_HUBS_MAX,
    EventHub,
    EventHubRule,
    check_event_hub_name,
    decode_event_hub,
    encode_event_hub,
)
from isthmus.resources.numbers import draw

KIND = "event-hub"
"""Kind of the documents."""

EventHubListener = Callable[[EventHub | None, EventHub | None], Awaitable[None]]
"""Is told of an event hub's old and new snapshot; None before it was made and after it was deleted."""


class EventHubs:
    """All event hubs; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._completion = Completion()
        self._listeners: list[EventHubListener] = []
        self._by_name: dict[HubId, dict[str, EventHub]] = {}

    async def load(self, namespaces: Iterable[HubId]) -> None:
        """Reads the event hubs of these namespaces; listeners are not told."""
        for namespace in namespaces:
            for stored in await self._state.scan(KIND, namespace, limit=EVENT_HUBS_MAX):
                self._keep(decode_event_hub(stored.body, stored.revision))

    def on_change(self, listener: EventHubListener) -> None:
        """Awaits `listener(old, new)` after each change that is in force, before the change is answered."""
        self._listeners.append(listener)

    def of(self, namespace: HubId) -> tuple[EventHub, ...]:
        """The event hubs of a namespace in the order of their names."""
        known = self._by_name.get(namespace, {})
        return tuple(known[name] for name in sorted(known))

    def find(self, namespace: HubId, name: str) -> EventHub | None:
        """The event hub of that name, compared without case."""
        return self._by_name.get(namespace, {}).get(name.lower())

    def require(self, namespace: HubId, name: str) -> EventHub:
        """As `find`; raises HubError GenericNotFound."""
        found = self.find(namespace, name)
        if found is None:
            known = ", ".join(each.name for each in self.of(namespace)) or "none"
            raise HubError(Code.NOT_FOUND, f"There is no event hub {name}; event hubs of this namespace: {known}")
        return found

    async def create(self, namespace: HubId, name: str, rule: EventHubRule) -> EventHub:
        """Makes an event hub as `rule` completes it.

        Raises HubError ArgumentInvalid for a bad name, GenericConflict when the name is taken, QuotaExceeded above the
        limit, and whatever `rule` raises; then there is none.
        """
        check_event_hub_name(name)
        now_ms = self._clock.utc_ms()
        draft = rule(EventHub(HubId(0), namespace, name, created_ms=now_ms, updated_ms=now_ms))
        groups = tuple(replace(each, created_ms=now_ms, updated_ms=now_ms) for each in draft.groups)
        return await self._completion.run(self._create(replace(draft, groups=groups)))

    async def change(self, namespace: HubId, name: str, rule: EventHubRule, if_match: str | None = None) -> EventHub:
        """Applies a pure rule under compare-and-set and returns the new snapshot, in force.

        Raises HubError as the rule does, GenericNotFound, PreconditionFailed, ServerBusy after too many conflicts.
        """
        return await self._completion.run(self._change(namespace, name, rule, if_match))

    async def delete(self, namespace: HubId, name: str) -> None:
        """Forgets the event hub; its events are nobody's from then on. Raises as `change`."""
        await self._completion.run(self._delete(namespace, name))

    async def forget(self, namespace: HubId) -> None:
        """Forgets the event hubs of a namespace that was deleted, and tells listeners of each."""
        for gone in self._by_name.pop(namespace, {}).values():
            await self._tell(gone, None)

    async def settled(self) -> None:
        """Returns when no change is under way."""
        await self._completion.settled()

    async def _create(self, draft: EventHub) -> EventHub:
        for _ in range(COMMIT_TRIES_MAX):
            self._check_free(draft)
            number, taken = await draw(self._state)
            made = replace(draft, number=number)
            try:
                revisions = await self._state.commit([taken, Put(_key(made), encode_event_hub(made), MUST_NOT_EXIST)])
            except Conflict as conflict:
                if conflict.index == 0:
                    continue
                raise _taken(draft.name) from conflict
            return await self._publish(replace(made, revision=revisions[1]))
        raise _busy(draft.name)

    async def _change(self, namespace: HubId, name: str, rule: EventHubRule, if_match: str | None) -> EventHub:
        old = self.require(namespace, name)
        for _ in range(COMMIT_TRIES_MAX):
            _check_etag(old, if_match)
            new = rule(old)
            if new == old:
                return old
            new = replace(new, updated_ms=self._clock.utc_ms())
            try:
                revisions = await self._state.commit([Put(_key(old), encode_event_hub(new), old.revision)])
            except Conflict:
                old = await self._read(old)
                continue
            return await self._publish(replace(new, revision=revisions[0]))
        raise _busy(name)

    async def _delete(self, namespace: HubId, name: str) -> None:
        old = self.require(namespace, name)
        for _ in range(COMMIT_TRIES_MAX):
            try:
                await self._state.commit([Delete(_key(old), old.revision)])
            except Conflict:
                old = await self._read(old)
                continue
            self._by_name.get(namespace, {}).pop(old.name.lower(), None)
            await self._tell(old, None)
            return
        raise _busy(name)

    async def _read(self, known: EventHub) -> EventHub:
        """The event hub as somebody else has just committed it; whoever did publishes it."""
        stored = await self._state.get(_key(known))
        if stored is None:
            raise HubError(Code.NOT_FOUND, f"The event hub {known.name} was deleted")
        return decode_event_hub(stored.body, stored.revision)

    async def _publish(self, event_hub: EventHub) -> EventHub:
        old = self.find(event_hub.namespace, event_hub.name)
        if old is None or old.number != event_hub.number or old.revision < event_hub.revision:
            self._keep(event_hub)
        await self._tell(old, self.find(event_hub.namespace, event_hub.name))
        return event_hub

    def _keep(self, event_hub: EventHub) -> None:
        self._by_name.setdefault(event_hub.namespace, {})[event_hub.name.lower()] = event_hub

    async def _tell(self, old: EventHub | None, new: EventHub | None) -> None:
        for listener in self._listeners:
            await listener(old, new)

    def _check_free(self, draft: EventHub) -> None:
        known = self._by_name.get(draft.namespace, {})
        if draft.name.lower() in known:
            raise _taken(draft.name)
        if len(known) >= EVENT_HUBS_MAX:
            raise HubError(Code.QUOTA_EXCEEDED, f"A namespace has at most {EVENT_HUBS_MAX} event hubs")


def _key(event_hub: EventHub) -> Key:
    return Key(KIND, event_hub.namespace, event_hub.name.lower())


def _check_etag(event_hub: EventHub, if_match: str | None) -> None:
    wanted = parse_if_match(if_match)
    if wanted not in (None, "*", event_hub.etag):
        message = f"The event hub {event_hub.name} was changed: its etag is {event_hub.etag}"
        raise HubError(Code.PRECONDITION_FAILED, message)


def _taken(name: str) -> HubError:
    return HubError(Code.CONFLICT, f"There is an event hub {name} already")


def _busy(name: str) -> HubError:
    return HubError(Code.SERVER_BUSY, f"The event hub {name} is being changed by others; try again")
