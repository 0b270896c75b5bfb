"""One socket of the link door on its way in: who it is, what for, and for whom it speaks.

It is the guard of its layer (`link_layer.py`) and the owner of its connection at a time. It remembers what it has told,
so that the owner reads one reason for one socket.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from isthmus.access.connector_authority import ConnectorIdentity, identity_in
from isthmus.base.errors import HubError, Refusal
from isthmus.network.door import Door, DoorKind
from isthmus.resources.connector import Connector
from isthmus.servers.gateway.accepted import Accepted
from isthmus.servers.gateway.connection import HANDSHAKE_SECONDS, Connection, Failure, Handler
from isthmus.servers.gateway.link_layer import LinkEnded, LinkLayer, Role
from isthmus.servers.gateway.link_refusals import handshake_refused, header_refused, link_refused, not_a_connector
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.socket_refusals import refusal_of
from isthmus.wire.link.messages import CONTROL_PROTOCOL, SPARE_SECONDS_MAX
from isthmus.wire.proxy_protocol import ProxyHeader, ProxyHeaderError
from isthmus.wire.tls import Layer, LinkContexts, ServerContexts


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a carried connection goes on: a private endpoint's door, and the plane of its port."""

    door: Door
    plane: Plane
    contexts: ServerContexts
    make_handler: Callable[[], Handler]


class LinkHouse(Protocol):
    """What a socket asks of the link door."""

    @property
    def contexts(self) -> LinkContexts:
        """The contexts of connectors' TLS."""

    def admit(self, identity: ConnectorIdentity) -> Connector:
        """The connector that a certificate names; raises HubError."""

    def destination(self, connector: Connector, header: ProxyHeader) -> Destination:
        """Where a header leads; raises HubError."""

    def make_handler(self, socket: "LinkSocket") -> Handler:
        """The handler of a connection that carries nothing."""

    def joined(self, socket: "LinkSocket") -> None:
        """The socket is its connector's now."""

    def begun(self, socket: "LinkSocket") -> None:
        """It is no spare one any more."""

    def left(self, socket: "LinkSocket") -> None:
        """It is closed; also called for one that never joined."""


class LinkSocket:
    """Guard and owner of one socket. `connector` and `identity` are None until its certificate was judged."""

    __slots__ = ("_accepted", "_destination", "_house", "_told", "connector", "identity", "layer", "role")

    def __init__(self, house: LinkHouse, accepted: Accepted) -> None:
        self.connector: Connector | None = None
        self.identity: ConnectorIdentity | None = None
        self.role: Role | None = None
        self.layer = LinkLayer(house.contexts, self)
        self._house = house
        self._accepted = accepted
        self._destination: Destination | None = None
        self._told = False

    @property
    def connection(self) -> Connection:
        """The socket's connection."""
        return self._accepted.connection

    @property
    def carries_somebody(self) -> bool:
        """True once a header has told for whom it speaks."""
        return self._destination is not None

    def refuse(self, refusal: Refusal, *, door: Door | None = None, address: str = "") -> None:
        """Tells the owner why it ends; door and address are the connection's own where not given. Once only."""
        if not self._told:
            self._told = True
            self._accepted.refuse(refusal, door=door, address=address)

    # ── the layer's guard ────────────────────────────────────────────────────────────────────────────────────────

    def presented(self, chain: tuple[bytes, ...], protocol: str, *, enrolling: bool) -> Role:
        """Judges the certificate, which the handshake has verified."""
        if enrolling:
            self.role = Role.ENROLLING
            return self.role
        self.identity = identity = identity_in(chain[0]) if chain else None
        if identity is None:
            self._end(not_a_connector())
        door = Door(DoorKind.LINK, connection=identity.name)
        control = protocol == CONTROL_PROTOCOL
        try:
            self.connector = self._house.admit(identity)
        except HubError as error:
            if not control or error.refusal is None:
                self._end(error.refusal, door)
            # Its process has to hear of it, or would come again and again.
            self.refuse(error.refusal, door=door)
            self.role = Role.TURNED_AWAY
            return self.role
        connection = self.connection
        connection.stand_for(
            door,
            peer_address=connection.peer_address,
            peer_port=connection.peer_port,
            local_address=connection.local_address,
        )
        self.role = Role.CONTROL if control else Role.CARRYING
        self._accepted.advanced(proven=True)
        if not control:
            connection.wait_at_most(SPARE_SECONDS_MAX, Failure.IDLE_TIME)
        self._house.joined(self)
        return self.role

    def begun(self) -> None:
        """A header has begun to come."""
        self.connection.wait_at_most(HANDSHAKE_SECONDS, Failure.HANDSHAKE_TIME)
        self._house.begun(self)

    def malformed(self, error: ProxyHeaderError) -> NoReturn:
        """What should be a header is none."""
        assert self.connector is not None
        self._end(header_refused(self.connector, str(error)))

    def carries(self, header: ProxyHeader) -> Layer:
        """Stands for whom the header names from now on."""
        connector, identity = self.connector, self.identity
        assert connector is not None
        assert identity is not None
        if header.local:
            # A health check of a proxy: it wants to see that somebody is there, and has.
            self._told = True
            raise LinkEnded("nobody is carried")
        if header.link_id is not None and header.link_id != identity.link_id:
            self._end(link_refused(connector, header))
        try:
            destination = self._house.destination(connector, header)
        except HubError as error:
            self._end(error.refusal, address=header.source_address)
        self._destination = destination
        self.connection.stand_for(
            destination.door,
            peer_address=header.source_address,
            peer_port=header.source_port,
            local_address=header.destination_address,
        )
        self._accepted.carries(destination.plane, address=header.destination_address, place=connector.place)
        return destination.contexts.layer()

    # ── the connection's owner ───────────────────────────────────────────────────────────────────────────────────

    def make_handler(self) -> Handler:
        """The pump of the plane that it came for, or of the link's own protocol."""
        if self._destination is not None:
            return self._destination.make_handler()
        return self._house.make_handler(self)

    def advanced(self, _connection: Connection, *, proven: bool) -> None:
        """A step of a handshake, or a proof."""
        self._accepted.advanced(proven=proven)

    def failed(self, _connection: Connection, failure: Failure, detail: str) -> None:
        """Tells why it ended, unless it was a spare one: that is how they all end."""
        if self.role is None:
            self.refuse(handshake_refused(failure, detail))
        elif self.role is Role.CARRYING and self._destination is None:
            if failure is Failure.HANDSHAKE_TIME and self.connector is not None:
                self.refuse(header_refused(self.connector, "it did not come whole in time"))
        else:
            self.refuse(refusal_of(failure, detail))

    def released(self, _connection: Connection) -> None:
        """The descriptor is closed."""
        self._house.left(self)
        self._accepted.released()

    def _end(self, refusal: Refusal | None, door: Door | None = None, address: str = "") -> NoReturn:
        if refusal is not None:
            self.refuse(refusal, door=door, address=address)
        raise LinkEnded(refusal.rule if refusal is not None else "refused")
