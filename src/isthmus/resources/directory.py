"""All resources of an installation that have doors, whatever their kind: found by name, number or ARM id."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import Change
from isthmus.network.private_endpoints import PrivateEndpointConnection
from isthmus.resources.guarded import Guarded

Connections = tuple[PrivateEndpointConnection, ...]
ConnectionsRule = Callable[[Connections], Connections]
"""A pure change of a resource's connections; raises HubError to refuse."""

ResourceListener = Callable[[Guarded | None, Guarded | None], Awaitable[None]]
"""Is told of a resource's old and new snapshot; None before it was made and after it was deleted."""


class Resources(Protocol):
    """Some of the resources; `hubs.Hubs` and the neighbours are such."""

    def all(self) -> Sequence[Guarded]: ...
    def by_host(self, host: str) -> Guarded | None: ...
    def by_number(self, number: HubId) -> Guarded | None: ...
    def by_resource_id(self, resource_id: str) -> Guarded | None: ...
    def on_change(self, listener: ResourceListener) -> None: ...
    async def change_connections(
        self, resource_id: str, rule: ConnectionsRule, also: Sequence[Change] = ()
    ) -> Guarded: ...


class Directory:
    """Several of them as one; the first that knows answers."""

    def __init__(self, *sources: Resources) -> None:
        self._sources = sources

    def all(self) -> tuple[Guarded, ...]:
        """All resources, those of the first source first."""
        return tuple(found for source in self._sources for found in source.all())

    def by_host(self, host: str) -> Guarded | None:
        """The resource that has that host name or alias; port and case do not matter."""
        return next(filter(None, (source.by_host(host) for source in self._sources)), None)

    def by_number(self, number: HubId) -> Guarded | None:
        """The resource of that number."""
        return next(filter(None, (source.by_number(number) for source in self._sources)), None)

    def by_resource_id(self, resource_id: str) -> Guarded | None:
        """The resource of that ARM id, compared without case."""
        return next(filter(None, (source.by_resource_id(resource_id) for source in self._sources)), None)

    def require(self, resource_id: str) -> Guarded:
        """As `by_resource_id`; raises HubError GenericNotFound."""
        found = self.by_resource_id(resource_id)
        if found is None:
            raise HubError(Code.NOT_FOUND, f"There is no resource {resource_id} here")
        return found

    def on_change(self, listener: ResourceListener) -> None:
        """Awaits `listener(old, new)` after each change that is in force, before the change is answered."""
        for source in self._sources:
            source.on_change(listener)

    async def change_connections(self, resource_id: str, rule: ConnectionsRule, also: Sequence[Change] = ()) -> Guarded:
        """Changes a resource's connections under compare-and-set, `also` in the same commit.

        Raises HubError as the rule does, GenericNotFound, ServerBusy; conflicts of `also` are the caller's.
        """
        for source in self._sources:
            if source.by_resource_id(resource_id) is not None:
                return await source.change_connections(resource_id, rule, also)
        raise HubError(Code.NOT_FOUND, f"There is no resource {resource_id} here")
