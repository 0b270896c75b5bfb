"""The hubs of an installation: loaded once, served from memory, changed under compare-and-set.

Theory of operation. The state holds one document per hub; memory holds one snapshot per hub, which every door reads
without waiting. A change takes the snapshot, applies a pure rule, and commits with the snapshot's revision as
expectation; on `Conflict` the document is read and the rule applied again. After the commit the snapshot is replaced,
never by an older one, and all listeners are awaited: a change is answered only when the sessions it concerns are cut.
Of two changes at once the listeners may see the later snapshot twice, never an older one last. All of it runs to its
end even when the caller is cancelled. Numbers come from a counter document that is committed with the hub, so none is
ever given twice.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match
from isthmus.base.hosts import normal_host
from isthmus.base.ids import HubId, Ids
from isthmus.base.limits import HUBS_MAX
from isthmus.base.state import (
    COMMIT_TRIES_MAX,
    MUST_NOT_EXIST,
    NO_HUB,
    Change,
    Conflict,
    Delete,
    Key,
    Put,
    State,
    Stored,
)
from isthmus.completion import Completion
from isthmus.resources.arm_patch import apply_body, apply_patch
from isthmus.resources.hub import (
    LOCATION,
    PARTITIONS_MAX,
    Hub,
    check_host_name,
    check_hub_name,
    decode_hub,
    default_policies,
    encode_hub,
)
from isthmus.resources.hub_identity import FindIdentity, completed, no_such_identity
from isthmus.resources.shared_access_policies import completed_policies

COUNTER = Key("meta", NO_HUB, "hub-number")
"""The last number that was given to a hub."""

DELETED = "deleted "
"""Begins the name of the mark that a deleted hub leaves, kind `meta`; its number follows (`removal`)."""

HubListener = Callable[[Hub | None, Hub | None], Awaitable[None]]
"""Is told of a hub's old and new snapshot; None before it was made and after it was deleted."""

HubRule = Callable[[Hub], Hub]
"""A pure change of a hub; raises HubError to refuse."""


class Hubs:
    """All hubs; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock, ids: Ids, find_identity: FindIdentity = no_such_identity) -> None:
        self._find_identity = find_identity
        self._state = state
        self._clock = clock
        self._ids = ids
        self._completion = Completion()
        self._listeners: list[HubListener] = []
        self._by_name: dict[str, Hub] = {}
        self._by_host: dict[str, Hub] = {}
        self._by_number: dict[HubId, Hub] = {}

    async def load(self) -> None:
        """Reads all hubs; listeners are not told."""
        stored = await self._state.scan("hub", NO_HUB, limit=HUBS_MAX)
        for document in stored:
            hub = decode_hub(document.body, document.revision)
            self._by_name[hub.name.lower()] = hub
        self._index()

    def on_change(self, listener: HubListener) -> None:
        """Awaits `listener(old, new)` after each change that is in force, before the change is answered."""
        self._listeners.append(listener)

    def all(self) -> tuple[Hub, ...]:
        """All hubs in the order of their numbers."""
        return tuple(sorted(self._by_name.values(), key=lambda hub: hub.number))

    def by_name(self, name: str) -> Hub | None:
        """The hub of that name, compared without case."""
        return self._by_name.get(name.lower())

    def by_host(self, host: str) -> Hub | None:
        """The hub that has that host name or alias; port and case do not matter."""
        return self._by_host.get(normal_host(host))

    def by_number(self, number: HubId) -> Hub | None:
        """The hub of that number."""
        return self._by_number.get(number)

    def by_resource_id(self, resource_id: str) -> Hub | None:
        """The hub of that ARM id, compared without case."""
        hub = self.by_name(resource_id.rpartition("/")[2])
        return hub if hub is not None and hub.resource_id.lower() == resource_id.lower() else None

    def require(self, name: str) -> Hub:
        """As `by_name`; raises HubError GenericNotFound."""
        hub = self.by_name(name)
        if hub is None:
            known = ", ".join(each.name for each in self.all()) or "none"
            raise HubError(Code.NOT_FOUND, f"There is no hub {name}; hubs here: {known}")
        return hub

    async def create(
        self,
        name: str,
        *,
        host_name: str,
        partitions: int,
        aliases: Sequence[str] = (),
        location: str = "",
        rule: HubRule = lambda draft: draft,
    ) -> Hub:
        """Makes a hub with the default policies and random keys, as `rule` completes it.

        Raises HubError ArgumentInvalid for a bad name, host name or partition count, GenericConflict when the name or a
        host name is taken, QuotaExceeded above the limit of hubs, and whatever `rule` raises; then there is no hub.
        """
        check_hub_name(name)
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise HubError(Code.ARGUMENT_INVALID, f"partitions is 1 to {PARTITIONS_MAX}, not {partitions}")
        draft = Hub(
            number=HubId(0),
            name=name,
            host_name=normal_host(host_name),
            partitions=partitions,
            created_ms=self._clock.utc_ms(),
            aliases=tuple(normal_host(alias) for alias in aliases),
            policies=default_policies(self._ids),
            location=location or LOCATION,
        )
        return await self._completion.run(self._create(self._completed(rule(draft))))

    async def update(self, name: str, patch: Mapping[str, object], if_match: str | None = None) -> Hub:
        """Merges a fragment of an ARM body into the hub and returns the new snapshot, in force.

        `if_match` is an If-Match header's text. Raises HubError GenericNotFound, PreconditionFailed, and those of
        `apply_patch`. A patch that changes nothing changes nothing, not even the etag.
        """
        return await self.change(name, lambda hub: apply_patch(hub, patch), if_match)

    async def replace(self, name: str, body: Mapping[str, object], if_match: str | None = None) -> Hub:
        """As `update`, with a whole ARM body: what it leaves out goes back to its default (`apply_body`)."""
        return await self.change(name, lambda hub: apply_body(hub, body), if_match)

    async def change(self, name: str, rule: HubRule, if_match: str | None = None, also: Sequence[Change] = ()) -> Hub:
        """Applies a pure rule under compare-and-set; `also` is committed with it, and its conflicts are the caller's.

        Raises HubError as the rule does, GenericNotFound, PreconditionFailed, ServerBusy after too many conflicts.
        """
        return await self._completion.run(self._change(name, rule, if_match, also))

    async def delete(self, name: str, if_match: str | None = None) -> None:
        """Forgets the hub; its private endpoints are Disconnected from then on. Raises as `change`."""
        await self._completion.run(self._delete(name, if_match))

    async def _create(self, draft: Hub) -> Hub:
        for _ in range(COMMIT_TRIES_MAX):
            self._check_free(draft)
            counter = await self._state.get(COUNTER)
            hub = replace(draft, number=_following(counter))
            raised = Put(COUNTER, _counter_body(hub.number), counter.revision if counter else MUST_NOT_EXIST)
            try:
                revisions = await self._state.commit([raised, Put(hub_key(hub.name), encode_hub(hub), MUST_NOT_EXIST)])
            except Conflict as conflict:
                if conflict.index == 0:
                    continue
                raise HubError(Code.CONFLICT, f"There is a hub {hub.name} already") from conflict
            return await self._publish(replace(hub, revision=revisions[1]))
        raise _busy(draft.name)

    async def _change(self, name: str, rule: HubRule, if_match: str | None, also: Sequence[Change]) -> Hub:
        old = self.require(name)
        for _ in range(COMMIT_TRIES_MAX):
            _check_etag(old, if_match)
            new = self._completed(rule(old))
            if new == old and not also:
                return old
            try:
                revisions = await self._state.commit([Put(hub_key(old.name), encode_hub(new), old.revision), *also])
            except Conflict as conflict:
                if conflict.index:
                    raise
                old = await self._read(old)
                continue
            return await self._publish(replace(new, revision=revisions[0]))
        raise _busy(name)

    async def _delete(self, name: str, if_match: str | None) -> None:
        old = self.require(name)
        for _ in range(COMMIT_TRIES_MAX):
            _check_etag(old, if_match)
            try:
                mark = Put(Key("meta", NO_HUB, f"{DELETED}{old.number}"), b"{}")
                await self._state.commit([Delete(hub_key(old.name), old.revision), mark])
            except Conflict:
                old = await self._read(old)
                continue
            self._by_name.pop(old.name.lower(), None)
            self._index()
            await self._tell(old, None)
            return
        raise _busy(name)

    async def _read(self, known: Hub) -> Hub:
        """The hub as somebody else has just committed it; whoever did publishes it."""
        stored = await self._state.get(hub_key(known.name))
        if stored is None:
            raise HubError(Code.NOT_FOUND, f"The hub {known.name} was deleted")
        return decode_hub(stored.body, stored.revision)

    async def _publish(self, hub: Hub) -> Hub:
        old = self.by_name(hub.name)
        if old is None or old.number != hub.number or old.revision < hub.revision:
            self._by_name[hub.name.lower()] = hub
            self._index()
        await self._tell(old, self.by_name(hub.name))
        return hub

    async def _tell(self, old: Hub | None, new: Hub | None) -> None:
        failures: list[Exception] = []
        for listener in self._listeners:
            try:
                await listener(old, new)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("a change is in force, but not everybody could follow it", failures)

    def _completed(self, hub: Hub) -> Hub:
        endpoints = tuple(each if each.guid else replace(each, guid=self._ids.uuid()) for each in hub.endpoints)
        identity = completed(hub.identity, self._ids.uuid, self._find_identity)
        policies = completed_policies(hub.policies, self._ids.key)
        return replace(hub, identity=identity, endpoints=endpoints, policies=policies)

    def _index(self) -> None:
        self._by_host = {host: hub for hub in self.all() for host in hub.hosts}
        self._by_number = {hub.number: hub for hub in self._by_name.values()}

    def _check_free(self, draft: Hub) -> None:
        if self.by_name(draft.name) is not None:
            raise HubError(Code.CONFLICT, f"There is a hub {draft.name} already")
        taken = next((host for host in draft.hosts if host in self._by_host), None)
        if taken is not None:
            raise HubError(Code.CONFLICT, f"The host name {taken} belongs to the hub {self._by_host[taken].name}")
        for host in draft.hosts:
            check_host_name(host)
        if len(self._by_name) >= HUBS_MAX:
            raise HubError(Code.QUOTA_EXCEEDED, f"{HUBS_MAX} hubs are allowed in one process")


def hub_key(name: str) -> Key:
    """The document of the hub of that name."""
    return Key("hub", NO_HUB, name.lower())


def _following(counter: Stored | None) -> HubId:
    last = msgspec.json.decode(counter.body, type=dict[str, int])["last"] if counter else 0
    return HubId(last + 1)


def _counter_body(number: HubId) -> bytes:
    return msgspec.json.encode({"last": number})


def _check_etag(hub: Hub, if_match: str | None) -> None:
    wanted = parse_if_match(if_match)
    if wanted not in (None, "*", hub.etag):
        raise HubError(Code.PRECONDITION_FAILED, f"The hub {hub.name} was changed: its etag is {hub.etag}")


def _busy(name: str) -> HubError:
    return HubError(Code.SERVER_BUSY, f"The hub {name} is being changed by others; try again")
