"""The link door: where connectors dial in, with a listener, an authority, address rules and a protocol of its own.

Theory of operation. The door carries; it decides nothing about devices. A carried connection leaves it as a connection
to the private endpoint that its header names, and meets the same front door as one that came to an address by itself.

    connector ──TLS 1.3, certificate──▶ link door ─┬─ control: setup, renewals, checks
                                                   └─ carried: header ─▶ the endpoint's door ─▶ TLS of the device ─▶ …

It listens from the first time on that somebody may dial: a connector that is enrolled, or a token that waits.
publicNetworkAccess does not concern it. What is true of a connector is asked when a socket comes; a change afterwards
comes by `connector_changed`, which closes what has lost its right before it returns.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isthmus.access.connector_authority import ConnectorIdentity
from isthmus.access.journal import Decision, Journal, Verdict
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, ConfigurationError, HubError, Refusal
from isthmus.network.virtual_networks import holds
from isthmus.resources.connector import Connector
from isthmus.resources.connectors import Connectors
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.servers.gateway.accepted import Accepted
from isthmus.servers.gateway.connection import Handler, Owner
from isthmus.servers.gateway.link_certifying import Certifying, Issuing
from isthmus.servers.gateway.link_control import ControlHandler, EnrolHandler, TurnedAwayHandler
from isthmus.servers.gateway.link_layer import Role
from isthmus.servers.gateway.link_refusals import address_refused, destination_refused, network_refused, too_many
from isthmus.servers.gateway.link_socket import Destination, LinkSocket
from isthmus.servers.gateway.links import Links
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.plane import Plane
from isthmus.wire.link.messages import (
    ENDPOINTS_MAX,
    EndpointSetup,
    RefusalCode,
    Result,
    Setup,
)
from isthmus.wire.proxy_protocol import ProxyHeader
from isthmus.wire.tls import Layer, LinkContexts, ServerContexts

CONTROLS_MAX = 16
"""Control connections of one connector, one for each of its processes: a few pods, and those that have not gone yet."""

SETTLE_SECONDS = 3.0
"""How long a change waits for connectors to have carried it out; one that is slower is reported by its status."""

logger = logging.getLogger(__name__)

NamesOf = Callable[[str], dict[str, object]]
"""What the name service of a network answers, in the form of `Setup.names`."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the link door is and who may come to it: `allow` are CIDR blocks, none for everybody."""

    addresses: tuple[str, ...]
    port: int
    allow: tuple[str, ...] = ()
    spares: int = 4


@dataclass(frozen=True, slots=True)
class Inside:
    """Where carried connections go on: the planes' ports and pumps, and the contexts of devices' TLS."""

    contexts: ServerContexts
    ports: Callable[[], Mapping[Plane, int]]
    handlers: Mapping[Plane, Callable[[], Handler]]


@dataclass(frozen=True, slots=True)
class LinkTrust:
    """What the link door proves itself with, and makes connectors' certificates with."""

    contexts: LinkContexts
    issuing: Issuing


class LinkDoor:
    """Everything that connectors reach; on the event loop only. `Reception`, `LinkHouse` and `ControlHouse` in one."""

    def __init__(
        self,
        settings: LinkSettings,
        trust: LinkTrust,
        inside: Inside,
        *,
        listeners: Listeners,
        connectors: Connectors,
        endpoints: PrivateEndpoints,
        journal: Journal,
        clock: Clock,
        names_of: NamesOf = lambda network: {},
    ) -> None:
        self.links = Links()
        self.certifying = Certifying(trust.issuing, connectors, journal, clock)
        self._settings = settings
        self._trust = trust
        self._inside = inside
        self._listeners = listeners
        self._connectors = connectors
        self._endpoints = endpoints
        self._journal = journal
        self._clock = clock
        self._names_of = names_of
        self._listening = False
        self._draining = False

    # ── listening ────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Listens where it does not yet; at all addresses or at none. Raises `ConfigurationError`."""
        settings = self._settings
        if self._listening:
            return
        if not settings.port:
            raise ConfigurationError("The link door is off (link_port = 0): start the server with --link-port 9443.")
        opened: list[str] = []
        try:
            for address in settings.addresses:
                self._listeners.open_link(address, settings.port, self)
                opened.append(address)
        except ConfigurationError:
            for address in opened:
                self._listeners.close(address, settings.port)
            raise
        self._listening = True
        logger.info("link door is open", extra={"addresses": list(settings.addresses), "port": settings.port})

    def open_if_needed(self) -> None:
        """At a start: listens when somebody may dial; raises `ConfigurationError`."""
        if self._settings.port and self._connectors.any_may_dial:
            self.open()

    def drain(self) -> None:
        """Tells all connectors that the hub is about to stop, and takes no more."""
        self._draining = True
        for control in self.links.controls():
            control.drain()

    async def close(self) -> None:
        """Waits for enrolments and renewals that are under way."""
        await self.certifying.drained()

    # ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def connector_changed(self, old: Connector | None, new: Connector | None) -> None:
        """Closes the links that a connector has lost its right to; returns when they are closed."""
        if old is None:
            return
        for socket in list(self.links.of(old.name).sockets):
            identity = socket.identity
            if identity is None or (new is not None and new.has_link(identity.link_id)):
                continue
            control = next((each for each in self.links.of(old.name).controls if each.socket is socket), None)
            if control is not None:
                control.turn_away(RefusalCode.REVOKED, "The connector was revoked.")
            else:
                socket.connection.abort("connector revoked")

    async def endpoint_changed(self, old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        """Has connectors listen at a new endpoint's address, and no more at a deleted one's."""
        await self.refresh()

    async def refresh(self) -> None:
        """Tells each connector what has changed for it, and waits for a moment until they have carried it out."""
        told = [control for control in self.links.controls() if self._set_up(control)]
        if told:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await asyncio.gather(*(control.settled() for control in told))

    async def check(self, name: str, request: dict[str, object]) -> Result:
        """Has a connector try something out in its network; raises HubError when it is not connected."""
        controls = self.links.of(name).controls
        if not controls:
            raise HubError(Code.SERVICE_UNAVAILABLE, f"The connector {name} is not connected")
        return await controls[-1].check(request)

    def shown(self, name: str) -> dict[str, object]:
        """What a connector has open now, for people."""
        return self.links.of(name).shown()

    # ── sockets (see `accepted.Reception`, `link_socket.LinkHouse`) ──────────────────────────────────────────────

    def objection(self, peer_address: str) -> Refusal | None:
        """The door's own address rules."""
        allow = self._settings.allow
        return None if not allow or holds(allow, peer_address) else address_refused(peer_address)

    def receive(self, accepted: Accepted) -> tuple[Owner, Layer]:
        """A new socket."""
        socket = LinkSocket(self, accepted)
        return socket, socket.layer

    @property
    def contexts(self) -> LinkContexts:
        """The contexts of connectors' TLS."""
        return self._trust.contexts

    def admit(self, identity: ConnectorIdentity) -> Connector:
        """The connector that a certificate names; raises HubError."""
        return self._connectors.admit(identity)

    def destination(self, connector: Connector, header: ProxyHeader) -> Destination:
        """The private endpoint, in the connector's own network, that a header leads to; raises HubError."""
        endpoint = self._endpoints.at(header.destination_address, connector.place)
        plane = self._plane_at(header.destination_port)
        if endpoint is None or plane is None:
            raise _refused(destination_refused(connector, header))
        if not _is_in(endpoint, connector):
            raise _refused(network_refused(connector, header, endpoint.door.network))
        return Destination(endpoint.door, plane, self._inside.contexts, self._inside.handlers[plane])

    def make_handler(self, socket: LinkSocket) -> Handler:
        """The handler of a connection that carries nothing."""
        if socket.role is Role.CONTROL:
            return ControlHandler(self, self.certifying, socket, self._clock, asyncio.get_running_loop())
        if socket.role is Role.ENROLLING:
            return EnrolHandler(self.certifying, socket)
        return TurnedAwayHandler("The connector was revoked.")

    def joined(self, socket: LinkSocket) -> None:
        """A connector has one more connection."""
        oldest = self.links.join(socket)
        if oldest is not None:
            oldest.connection.abort("too many spare connections")

    def begun(self, socket: LinkSocket) -> None:
        """It is no spare one any more."""
        self.links.begun(socket)

    def left(self, socket: LinkSocket) -> None:
        """It is closed."""
        self.links.leave(socket)

    # ── control connections (see `link_control.ControlHouse`) ────────────────────────────────────────────────────

    def greeted(self, control: ControlHandler) -> str:
        """Takes a control connection in, and sets its connector up."""
        if self._draining:
            return "The hub is stopping; come back by and by."
        replaced = self.links.greet(control)
        if replaced is not None:
            replaced.socket.connection.abort("replaced by a newer connection of its process")
        if len(self.links.of(control.connector.name).controls) > CONTROLS_MAX:
            self.links.gone(control)
            control.socket.refuse(too_many(control.connector, CONTROLS_MAX))
            return f"There are {CONTROLS_MAX} control connections of this connector already."
        hello = control.hello
        said = f"process {hello.instance} at {hello.hostname}" if hello is not None else ""
        self._admitted(control, f"connector {control.connector.name} is connected: {said}")
        self._set_up(control)
        return ""

    def reported(self, control: ControlHandler) -> None:
        """Logs what a connector could not do."""
        for each in control.status.endpoints if control.status is not None else ():
            if not each.listening:
                logger.error(
                    "connector does not listen",
                    extra={"connector": control.connector.name, "address": each.address, "reason": each.reason},
                )

    def gone(self, control: ControlHandler) -> None:
        """A control connection is closed."""
        self.links.gone(control)
        self.certifying.gone(control)

    def _admitted(self, control: ControlHandler, what: str) -> None:
        connection = control.socket.connection
        self._journal.write(
            Decision(
                Verdict.ALLOWED,
                plane=Plane.LINK.value,
                door=connection.door.label,
                address=connection.peer_address,
                principal=f"connector:{control.connector.name}",
                rule="link.certificate",
                detail=what,
            )
        )

    def _set_up(self, control: ControlHandler) -> bool:
        connector = control.connector
        try:
            return control.set_up(self._setup_of(connector))
        except ValueError as error:
            logger.error("setup of a connector is too large", extra={"connector": connector.name, "reason": str(error)})
            return False

    def _setup_of(self, connector: Connector) -> Setup:
        ports = tuple(sorted(set(self._inside.ports().values())))
        own = [each for each in self._endpoints.all() if each.place == connector.place and _is_in(each, connector)]
        if len(own) > ENDPOINTS_MAX:
            logger.error("a connector has too many endpoints", extra={"connector": connector.name, "count": len(own)})
        return Setup(
            generation=0,
            endpoints=tuple(
                EndpointSetup(address=each.address, ports=ports, name=each.name) for each in own[:ENDPOINTS_MAX]
            ),
            names=self._names_of(connector.network),
            spares=self._settings.spares,
        )

    def _plane_at(self, port: int) -> Plane | None:
        return next((plane for plane, own in self._inside.ports().items() if own == port), None)


def _is_in(endpoint: PrivateEndpoint, connector: Connector) -> bool:
    return endpoint.door.network.lower() == connector.network.lower()


def _refused(refusal: Refusal) -> HubError:
    return HubError(Code.UNAUTHORIZED_ACCESS, "The connection is refused", refusal)
