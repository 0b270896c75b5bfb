"""Private endpoints and their connections: made, decided, deleted; both sides in one commit.

Theory of operation. An endpoint is a document, its connection a part of the resource's document, and whatever concerns
both is one commit of both. The resource's listeners hear of the connection (and cut sessions that are not admitted any
more), the listeners here hear of the address (and bind or release it); a change is answered after both. An address is
judged by its endpoint from the moment it is listened on, in whatever state the connection is. When the address cannot
be listened on after all, the endpoint is taken back, and the maker hears why. An endpoint in a subnet is committed only
while the subnet is declared, and counts as in it from before that commit.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.base.hosts import normal_address
from isthmus.base.ids import Ids
from isthmus.base.state import MUST_NOT_EXIST, NO_HUB, Change, Conflict, Delete, Key, Put, State
from isthmus.completion import Completion
from isthmus.network.door import Door
from isthmus.network.private_endpoints import ConnectionStatus, PrivateEndpointConnection, move
from isthmus.network.virtual_networks import check_usable, first_free
from isthmus.resources.directory import Connections, Directory
from isthmus.resources.private_endpoint import (
    PrivateEndpoint,
    check_group,
    decode_endpoint,
    encode_endpoint,
    endpoint_to_arm,
    parse_endpoint,
    same_request,
)
from isthmus.resources.virtual_network_arm import parse_subnet_id, subnet_id
from isthmus.resources.virtual_networks import VirtualNetworks

PRIVATE_ENDPOINTS_MAX = 1_000
"""Private endpoints of an installation; each holds an address and its sockets."""

EndpointListener = Callable[[PrivateEndpoint | None, PrivateEndpoint | None], Awaitable[None]]
"""Is told of an endpoint's old and new record; None before it was made and after it was deleted."""

AddressCheck = Callable[[str, str], str]
"""Says in a sentence why an address (normal form) in a place cannot be an endpoint's; empty when it can."""

Spot = tuple[str, str]
"""A place and an address (normal form) in it: what an endpoint owns."""


class PrivateEndpoints:
    """All private endpoints; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(
        self, state: State, directory: Directory, ids: Ids, objection: AddressCheck, networks: VirtualNetworks
    ) -> None:
        self._state = state
        self._directory = directory
        self._ids = ids
        self._objection = objection
        self._completion = Completion()
        self._listeners: list[EndpointListener] = []
        self._by_name: dict[str, PrivateEndpoint] = {}
        self._by_spot: dict[Spot, PrivateEndpoint] = {}
        self._in_making: dict[Spot, PrivateEndpoint] = {}
        self._networks = networks
        networks.ask_first(self._in_subnet)

    async def load(self) -> None:
        """Reads all endpoints; listeners are not told."""
        for document in await self._state.scan("endpoint", NO_HUB, limit=PRIVATE_ENDPOINTS_MAX):
            self._publish(decode_endpoint(document.body, document.revision))

    def on_change(self, listener: EndpointListener) -> None:
        """Awaits `listener(None, new)` to have the address listened on, `listener(old, None)` to have it released."""
        self._listeners.append(listener)

    def all(self) -> tuple[PrivateEndpoint, ...]:
        """All endpoints in the order of their names."""
        return tuple(sorted(self._by_name.values(), key=lambda endpoint: endpoint.name.lower()))

    def find(self, name: str) -> PrivateEndpoint | None:
        """The endpoint of that name, compared without case, or None."""
        return self._by_name.get(name.lower())

    def require(self, name: str) -> PrivateEndpoint:
        """As `find`; raises HubError GenericNotFound."""
        endpoint = self.find(name)
        if endpoint is None:
            raise HubError(Code.NOT_FOUND, f"There is no private endpoint {name}")
        return endpoint

    def at(self, address: str, place: str = "") -> PrivateEndpoint | None:
        """The endpoint that owns an address in a place, this machine for none; None when nobody does."""
        return self._by_spot.get((place, normal_address(address)))

    def door_of(self, address: str, place: str = "") -> Door | None:
        """The private door of an address in a place, whatever its connection's state; None when no endpoint owns it."""
        endpoint = self.at(address, place)
        return endpoint.door if endpoint is not None else None

    def status(self, endpoint: PrivateEndpoint) -> ConnectionStatus:
        """The state of its connection; Disconnected when the resource has none."""
        connection = self._connection_of(endpoint)
        return connection.status if connection is not None else ConnectionStatus.DISCONNECTED

    def to_arm(self, endpoint: PrivateEndpoint) -> dict[str, object]:
        """The endpoint as `az network private-endpoint show` prints it."""
        connection = self._connection_of(endpoint)
        target = self._directory.by_resource_id(endpoint.target_id)
        description = connection.description if connection is not None else ""
        return endpoint_to_arm(endpoint, target, self.status(endpoint), description)

    def connection(self, resource_id: str, name: str) -> PrivateEndpointConnection:
        """A resource's connection by its name, or by its endpoint's where that tells one; raises GenericNotFound."""
        return _find(self._directory.require(resource_id).connections, name)

    async def create(self, name: str, body: Mapping[str, object]) -> PrivateEndpoint:
        """Makes the endpoint that an ARM body asks for, and its connection: Approved, or Pending when asked manually.

        Without an address it gets the lowest free one of its subnet. Making the same again changes its tags only.
        Raises HubError ArgumentInvalid, GenericNotFound for a resource or subnet that is not here, GenericConflict when
        the name or address is taken, QuotaExceeded.
        """
        return await self._completion.run(self._create(parse_endpoint(name, body)))

    async def delete(self, name: str) -> None:
        """Forgets the endpoint and its connection; returns when its sessions are cut and its address is released."""
        await self._completion.run(self._delete(self.require(name)))

    async def decide(
        self, resource_id: str, name: str, status: ConnectionStatus, description: str
    ) -> PrivateEndpointConnection:
        """Approves or rejects a connection as the resource's owner; returns when sessions without a right are cut.

        Raises HubError GenericNotFound, OperationNotAllowedInCurrentState naming both states, ArgumentInvalid for
        Disconnected, which is what deleting makes.
        """
        if status is ConnectionStatus.DISCONNECTED:
            raise HubError(Code.ARGUMENT_INVALID, "A connection is approved or rejected; delete it to disconnect it")
        full_name = self.connection(resource_id, name).name

        def moved(connections: Connections) -> Connections:
            new = move(_find(connections, full_name), status, description)
            return tuple(new if each.name == full_name else each for each in connections)

        return _find((await self._directory.change_connections(resource_id, moved)).connections, full_name)

    async def delete_connection(self, resource_id: str, name: str) -> None:
        """Deletes a connection as the resource's owner: its endpoint is Disconnected from then on.

        Raises as `decide`.
        """
        full_name = self.connection(resource_id, name).name
        await self._directory.change_connections(resource_id, lambda connections: _without(connections, full_name))

    async def _create(self, asked: PrivateEndpoint) -> PrivateEndpoint:
        existing = self._by_name.get(asked.name.lower())
        if existing is not None:
            if same_request(existing, asked):
                return existing if existing.tags == asked.tags else await self._tag(existing, asked.tags)
            raise HubError(Code.CONFLICT, f"There is a private endpoint {asked.name} already, for something else")
        target = self._directory.require(asked.target_id)
        check_group(asked, target.kind)
        placed = self._placed(asked)
        self._check_spot(placed.place, placed.address)
        guid = self._ids.uuid()
        endpoint = replace(
            placed,
            target_id=target.resource_id,
            group_id=target.kind.group_id,
            guid=guid,
            connection=f"{asked.name}.{guid}",
        )
        self._in_making[_spot(endpoint)] = endpoint
        try:
            return await self._commit_new(endpoint)
        finally:
            del self._in_making[_spot(endpoint)]

    async def _tag(self, endpoint: PrivateEndpoint, tags: dict[str, str]) -> PrivateEndpoint:
        """Replaces the tags, which concern nobody who listens."""
        tagged = replace(endpoint, tags=tags)
        try:
            (revision,) = await self._state.commit([Put(_key(tagged.name), encode_endpoint(tagged), endpoint.revision)])
        except Conflict as conflict:
            raise HubError(Code.SERVER_BUSY, f"{endpoint.name} is being changed by others; try again") from conflict
        self._publish(replace(tagged, revision=revision))
        return self.require(tagged.name)

    async def _commit_new(self, endpoint: PrivateEndpoint) -> PrivateEndpoint:
        connection = PrivateEndpointConnection(
            name=endpoint.connection,
            status=ConnectionStatus.PENDING if endpoint.manual else ConnectionStatus.APPROVED,
            description=endpoint.request_message if endpoint.manual else "Auto-Approved",
            endpoint_id=endpoint.resource_id,
            address=endpoint.address,
            group_id=endpoint.group_id,
        )
        also: list[Change] = [Put(_key(endpoint.name), encode_endpoint(endpoint), MUST_NOT_EXIST)]
        if endpoint.subnet_id:
            also.append(self._networks.unchanged)
        try:
            await self._directory.change_connections(endpoint.target_id, lambda now: (*now, connection), also)
        except Conflict as conflict:
            if conflict.index == len(also):
                # Changes count from the resource's own: this is the last one, the networks'.
                raise HubError(Code.SERVER_BUSY, "The networks are being changed by others; try again") from conflict
            raise HubError(Code.CONFLICT, f"There is a private endpoint {endpoint.name} already") from conflict
        made = replace(endpoint, revision=1)
        self._publish(made)
        try:
            await self._tell(None, made)
        except ConfigurationError as error:
            await self._delete(made)
            raise HubError(Code.ARGUMENT_INVALID, f"{endpoint.address} cannot be listened on. {error}") from error
        return made

    async def _delete(self, endpoint: PrivateEndpoint) -> None:
        gone = Delete(_key(endpoint.name))
        if self._connection_of(endpoint) is not None:
            await self._directory.change_connections(
                endpoint.target_id, lambda now: _without(now, endpoint.connection), [gone]
            )
        else:
            await self._state.commit([gone])
        self._by_name.pop(endpoint.name.lower(), None)
        try:
            await self._tell(endpoint, None)
        finally:
            # Only now: until its sockets are closed, the address must not count as public.
            self._by_spot.pop(_spot(endpoint), None)

    def _placed(self, asked: PrivateEndpoint) -> PrivateEndpoint:
        """The endpoint at an address of its subnet, where it names a declared one.

        With an address of its own, it may also name a network that nobody has declared: `az` asks for a name.
        """
        if not asked.subnet_id or (not asked.dynamic and not self._networks.declares(asked.subnet_id)):
            return asked
        network, subnet = self._networks.subnet_of(asked.subnet_id)
        place = network.presence.place
        if asked.dynamic:
            address = first_free(subnet, lambda address: self._is_taken((place, address)))
        else:
            address = asked.address
            check_usable(subnet, address)
        return replace(asked, address=address, place=place, subnet_id=subnet_id(network.name, subnet.name))

    def _is_taken(self, spot: Spot) -> bool:
        return spot in self._by_spot or spot in self._in_making or bool(self._objection(*spot))

    def _in_subnet(self, network: str, subnet: str) -> tuple[str, ...]:
        wanted = (network.lower(), subnet.lower())
        endpoints = {each.name: each for each in (*self._by_name.values(), *self._in_making.values())}
        return tuple(
            each.resource_id for each in endpoints.values() if parse_subnet_id(each.subnet_id.lower()) == wanted
        )

    def _check_spot(self, place: str, address: str) -> None:
        owner = self._by_spot.get((place, address))
        if owner is not None or (place, address) in self._in_making:
            raise HubError(
                Code.CONFLICT, f"{address} belongs to the private endpoint {owner.name if owner else 'in making'}"
            )
        if len(self._by_name) >= PRIVATE_ENDPOINTS_MAX:
            raise HubError(Code.QUOTA_EXCEEDED, f"{PRIVATE_ENDPOINTS_MAX} private endpoints are allowed")
        objection = self._objection(place, address)
        if objection:
            raise HubError(Code.ARGUMENT_INVALID, objection)

    def _connection_of(self, endpoint: PrivateEndpoint) -> PrivateEndpointConnection | None:
        target = self._directory.by_resource_id(endpoint.target_id)
        connections = target.connections if target is not None else ()
        return next((each for each in connections if each.name == endpoint.connection), None)

    def _publish(self, endpoint: PrivateEndpoint) -> None:
        self._by_name[endpoint.name.lower()] = endpoint
        self._by_spot[_spot(endpoint)] = endpoint

    async def _tell(self, old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        for listener in self._listeners:
            await listener(old, new)


def _spot(endpoint: PrivateEndpoint) -> Spot:
    return endpoint.place, endpoint.address


def _key(name: str) -> Key:
    return Key("endpoint", NO_HUB, name.lower())


def _find(connections: Connections, name: str) -> PrivateEndpointConnection:
    exact = [each for each in connections if each.name == name]
    found = exact or [each for each in connections if each.name.rpartition(".")[0].lower() == name.lower()]
    if len(found) != 1:
        known = ", ".join(each.name for each in connections) or "none"
        raise HubError(Code.NOT_FOUND, f"There is no connection {name}; there are: {known}")
    return found[0]


def _without(connections: Connections, name: str) -> Connections:
    return tuple(each for each in connections if each.name != name)
