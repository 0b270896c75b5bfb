"""The neighbours of an installation (see `stored_resources` for how they are kept)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId, Ids
from isthmus.base.state import Change, State
from isthmus.neighbours.neighbour import (
    Neighbour,
    check_name,
    decode_neighbour,
    encode_neighbour,
    neighbour_host,
    with_first_keys,
)
from isthmus.network.private_endpoints import PrivateEndpointConnection
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.hub import LOCATION, check_host_name
from isthmus.resources.stored_resources import Form, StoredResources

NEIGHBOURS_MAX = 1_000
"""Namespaces, and storage accounts, of a process; each has a certificate and a TLS context. The next is refused."""

NeighbourRule = Callable[[Neighbour], Neighbour]
"""A pure change of a neighbour; raises HubError to refuse."""


def form(word: str, document: str) -> Form[Neighbour]:
    """How neighbours of one domain are called and stored."""
    return Form(
        word=word,
        document=document,
        most=NEIGHBOURS_MAX,
        encode=encode_neighbour,
        decode=decode_neighbour,
        numbered=lambda neighbour, number: replace(neighbour, number=number),
        at=lambda neighbour, revision: replace(neighbour, revision=revision),
    )


class Neighbours(StoredResources[Neighbour]):
    """The neighbours of one domain; `load` first. Reading is synchronous; on the event loop only.

    Two such are in an installation: namespaces of both kinds, whose names are unique among them, and storage accounts.
    """

    def __init__(
        self, state: State, clock: Clock, ids: Ids, neighbour_form: Form[Neighbour], hub_host: Callable[[], str]
    ) -> None:
        """`hub_host` gives the first hub's host name, whose domain the neighbours are in."""
        super().__init__(state, neighbour_form)
        self._clock = clock
        self._ids = ids
        self._hub_host = hub_host

    def of(self, kind: ResourceKind) -> tuple[Neighbour, ...]:
        """Those of a kind, in the order of their numbers."""
        return tuple(found for found in self.all() if found.kind is kind)

    def find(self, kind: ResourceKind, name: str) -> Neighbour:
        """The one of that kind and name; raises HubError GenericNotFound."""
        found = self.by_name(name)
        if found is None or found.kind is not kind:
            known = ", ".join(each.name for each in self.of(kind)) or "none"
            raise HubError(Code.NOT_FOUND, f"There is no {kind.command} {name} here; there are: {known}")
        return found

    async def create(
        self,
        kind: ResourceKind,
        name: str,
        *,
        location: str = "",
        rule: NeighbourRule = lambda draft: draft,
    ) -> Neighbour:
        """Makes a neighbour with random keys, as `rule` completes it.

        Raises HubError ArgumentInvalid for a bad name, GenericConflict for one that is taken, QuotaExceeded, and
        whatever `rule` raises; then there is no neighbour.
        """
        check_name(kind, name)
        draft = Neighbour(
            number=HubId(0),
            kind=kind,
            name=name,
            host_name=neighbour_host(kind, name, self._hub_host()),
            created_ms=self._clock.utc_ms(),
            location=location or LOCATION,
        )
        return await self._completion.run(self._create(self._finished(rule(with_first_keys(draft, self._ids)))))

    async def change_connections(
        self,
        resource_id: str,
        rule: Callable[[tuple[PrivateEndpointConnection, ...]], tuple[PrivateEndpointConnection, ...]],
        also: Sequence[Change] = (),
    ) -> Neighbour:
        """As `change`, of the connections of the neighbour of that ARM id."""
        name = resource_id.rpartition("/")[2]
        return await self.change(name, lambda found: replace(found, connections=rule(found.connections)), also=also)

    def _finished(self, changed: Neighbour) -> Neighbour:
        return changed

    def _check_host(self, host: str) -> None:
        check_host_name(host)


def namespaces(state: State, clock: Clock, ids: Ids, hub_host: Callable[[], str]) -> Neighbours:
    """The namespaces of both kinds."""
    return Neighbours(state, clock, ids, form("namespace", "namespace"), hub_host)


def storage_accounts(state: State, clock: Clock, ids: Ids, hub_host: Callable[[], str]) -> Neighbours:
    """The storage accounts."""
    return Neighbours(state, clock, ids, form("storage account", "account"), hub_host)
