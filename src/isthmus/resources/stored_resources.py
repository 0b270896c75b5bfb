"""Resources of one kind: loaded once, served from memory, changed under compare-and-set.

Theory of operation. The state holds one document for each resource; memory holds one snapshot of each, which every door
reads without waiting. A change takes the snapshot, applies a pure rule, and commits with the snapshot's revision as
expectation; on `Conflict` the document is read and the rule applied again. After the commit the snapshot is replaced,
never by an older one, and all listeners are awaited: a change is answered only when the sessions it concerns are cut.
Of two changes at once the listeners may see the later snapshot twice, never an older one last. All of it runs to its
end even when the caller is cancelled. A new resource's number is drawn in the commit that makes it (`numbers`), and one
that is deleted leaves a mark, by which what is left of it is swept up (`removal`).
"""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match
from isthmus.base.hosts import normal_host
from isthmus.base.ids import HubId
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
)
from isthmus.completion import Completion
from isthmus.resources.guarded import Guarded
from isthmus.resources.numbers import draw

DELETED = "deleted "
"""Begins the name of the mark that a deleted resource leaves, kind `meta`; its number follows."""


class Kept(Guarded, Protocol):
    """A guarded resource as its document has it; `revision` is the state's."""

    @property
    def etag(self) -> str: ...
    @property
    def revision(self) -> int: ...


R = TypeVar("R", bound=Kept)


@dataclass(frozen=True, slots=True)
class Form(Generic[R]):
    """How resources of one kind are called and stored; `word` is "hub" or the like, `document` the kind of document.

    `numbered` and `at` give a draft its number and a snapshot its revision.
    """

    word: str
    document: str
    most: int
    encode: Callable[[R], bytes]
    decode: Callable[[bytes, int], R]
    numbered: Callable[[R, HubId], R]
    at: Callable[[R, int], R]

    def key(self, name: str) -> Key:
        """The document of the resource of that name."""
        return Key(self.document, NO_HUB, name.lower())


class StoredResources(Generic[R]):
    """All resources of one form; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, form: Form[R]) -> None:
        self._state = state
        self._form = form
        self._completion = Completion()
        self._listeners: list[Callable[[R | None, R | None], Awaitable[None]]] = []
        self._by_name: dict[str, R] = {}
        self._by_host: dict[str, R] = {}
        self._by_number: dict[HubId, R] = {}
        self._host_owner: Callable[[str], Guarded | None] = self._by_host.get

    async def load(self) -> None:
        """Reads all of them; listeners are not told."""
        for document in await self._state.scan(self._form.document, NO_HUB, limit=self._form.most):
            found = self._form.decode(document.body, document.revision)
            self._by_name[found.name.lower()] = found
        self._index()

    def on_change(self, listener: Callable[[R | None, R | None], Awaitable[None]]) -> None:
        """Awaits `listener(old, new)` after each change that is in force, before the change is answered."""
        self._listeners.append(listener)

    def host_owner(self, owner: Callable[[str], Guarded | None]) -> None:
        """From now on a host name must be free also by this, which may know of other forms."""
        self._host_owner = owner

    def all(self) -> tuple[R, ...]:
        """All of them in the order of their numbers."""
        return tuple(sorted(self._by_name.values(), key=lambda found: found.number))

    def by_name(self, name: str) -> R | None:
        """The one of that name, compared without case."""
        return self._by_name.get(name.lower())

    def by_host(self, host: str) -> R | None:
        """The one that has that host name or alias; port and case do not matter."""
        return self._by_host.get(normal_host(host))

    def by_number(self, number: HubId) -> R | None:
        """The one of that number."""
        return self._by_number.get(number)

    def by_resource_id(self, resource_id: str) -> R | None:
        """The one of that ARM id, compared without case."""
        found = self.by_name(resource_id.rpartition("/")[2])
        return found if found is not None and found.resource_id.lower() == resource_id.lower() else None

    def require(self, name: str) -> R:
        """As `by_name`; raises HubError GenericNotFound."""
        found = self.by_name(name)
        if found is None:
            known = ", ".join(each.name for each in self.all()) or "none"
            raise HubError(Code.NOT_FOUND, f"There is no {self._form.word} {name}; {self._form.word}s here: {known}")
        return found

    async def change(
        self, name: str, rule: Callable[[R], R], if_match: str | None = None, also: Sequence[Change] = ()
    ) -> R:
        """Applies a pure rule under compare-and-set; `also` is committed with it, and its conflicts are the caller's.

        Raises HubError as the rule does, GenericNotFound, PreconditionFailed, ServerBusy after too many conflicts.
        """
        return await self._completion.run(self._change(name, rule, if_match, also))

    async def delete(self, name: str, if_match: str | None = None) -> None:
        """Forgets the resource; its private endpoints are Disconnected from then on. Raises as `change`."""
        await self._completion.run(self._delete(name, if_match))

    @abstractmethod
    def _finished(self, changed: R) -> R:
        """What a rule made, completed by what only this one knows; raises HubError."""

    @abstractmethod
    def _check_host(self, host: str) -> None:
        """Raises HubError when none can have that host name (normal form)."""

    async def _create(self, draft: R) -> R:
        form = self._form
        for _ in range(COMMIT_TRIES_MAX):
            self._check_free(draft)
            number, taken = await draw(self._state)
            made = form.numbered(draft, number)
            try:
                revisions = await self._state.commit(
                    [taken, Put(form.key(made.name), form.encode(made), MUST_NOT_EXIST)]
                )
            except Conflict as conflict:
                if conflict.index == 0:
                    continue
                raise HubError(Code.CONFLICT, f"There is a {form.word} {made.name} already") from conflict
            return await self._publish(form.at(made, revisions[1]))
        raise self._busy(draft.name)

    async def _change(self, name: str, rule: Callable[[R], R], if_match: str | None, also: Sequence[Change]) -> R:
        form, old = self._form, self.require(name)
        for _ in range(COMMIT_TRIES_MAX):
            self._check_etag(old, if_match)
            new = self._finished(rule(old))
            if new == old and not also:
                return old
            try:
                revisions = await self._state.commit([Put(form.key(old.name), form.encode(new), old.revision), *also])
            except Conflict as conflict:
                if conflict.index:
                    raise
                old = await self._read(old)
                continue
            return await self._publish(form.at(new, revisions[0]))
        raise self._busy(name)

    async def _delete(self, name: str, if_match: str | None) -> None:
        old = self.require(name)
        for _ in range(COMMIT_TRIES_MAX):
            self._check_etag(old, if_match)
            try:
                mark = Put(Key("meta", NO_HUB, f"{DELETED}{old.number}"), b"{}")
                await self._state.commit([Delete(self._form.key(old.name), old.revision), mark])
            except Conflict:
                old = await self._read(old)
                continue
            self._by_name.pop(old.name.lower(), None)
            self._index()
            await self._tell(old, None)
            return
        raise self._busy(name)

    async def _read(self, known: R) -> R:
        """The resource as somebody else has just committed it; whoever did publishes it."""
        stored = await self._state.get(self._form.key(known.name))
        if stored is None:
            raise HubError(Code.NOT_FOUND, f"The {self._form.word} {known.name} was deleted")
        return self._form.decode(stored.body, stored.revision)

    async def _publish(self, made: R) -> R:
        old = self.by_name(made.name)
        if old is None or old.number != made.number or old.revision < made.revision:
            self._by_name[made.name.lower()] = made
            self._index()
        await self._tell(old, self.by_name(made.name))
        return made

    async def _tell(self, old: R | None, new: R | None) -> None:
        failures: list[Exception] = []
        for listener in self._listeners:
            try:
                await listener(old, new)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("a change is in force, but not everybody could follow it", failures)

    def _index(self) -> None:
        self._by_host.clear()
        self._by_host.update({host: found for found in self.all() for host in found.hosts})
        self._by_number = {found.number: found for found in self._by_name.values()}

    def _check_free(self, draft: R) -> None:
        if self.by_name(draft.name) is not None:
            raise HubError(Code.CONFLICT, f"There is a {self._form.word} {draft.name} already")
        for host in draft.hosts:
            owner = self._host_owner(host)
            if owner is not None:
                raise HubError(Code.CONFLICT, f"The host name {host} belongs to {owner.kind.word} {owner.name}")
            self._check_host(host)
        if len(self._by_name) >= self._form.most:
            raise HubError(Code.QUOTA_EXCEEDED, f"{self._form.most} {self._form.word}s are allowed in one process")

    def _check_etag(self, found: R, if_match: str | None) -> None:
        wanted = parse_if_match(if_match)
        if wanted not in (None, "*", found.etag):
            message = f"The {self._form.word} {found.name} was changed: its etag is {found.etag}"
            raise HubError(Code.PRECONDITION_FAILED, message)

    def _busy(self, name: str) -> HubError:
        return HubError(Code.SERVER_BUSY, f"The {self._form.word} {name} is being changed by others; try again")
