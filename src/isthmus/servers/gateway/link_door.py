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
from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, ConfigurationError, HubError, Refusal
from isthmus.network.virtual_networks import holds
from isthmus.resources.connector import Connector
from isthmus.resources.connectors import Connectors, Issue
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.servers.gateway.accepted import Accepted
from isthmus.servers.gateway.connection import Handler, Owner
from isthmus.servers.gateway.lasting_work import LastingWork
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
    EndpointStatus,
    Enrol,
    RefusalCode,
    Refused,
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
    """What the link door proves itself with, and makes connectors' certificates with; `authorities` is the hub's CA."""

    contexts: LinkContexts
    issue: Issue
    authorities: str


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
        self.enrolments = 0
        """Certificates that were made for a token, since the start."""
        self._settings = settings
        self._trust = trust
        self._inside = inside
        self._listeners = listeners
        self._connectors = connectors
        self._endpoints = endpoints
        self._journal = journal
        self._clock = clock
        self._names_of = names_of
        self._work = LastingWork()
        self._listening = False
        self._draining = False

    # ── listening ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def listening(self) -> bool:
        """True while connectors can dial."""
        return self._listening

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
        await self._work.drained()

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
        links = self.links.of(name)
        return {
            "connected": bool(links.controls),
            "processes": [_process(control) for control in links.controls],
            "carriedConnections": links.carried,
            "spareConnections": len(links.waiting),
        }

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
            return ControlHandler(self, socket, self._clock, asyncio.get_running_loop())
        if socket.role is Role.ENROLLING:
            return EnrolHandler(self, socket)
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
        if len(self.links.of(control.connector.name).controls) >= CONTROLS_MAX:
            control.socket.refuse(too_many(control.connector, CONTROLS_MAX))
            return f"There are {CONTROLS_MAX} control connections of this connector already."
        replaced = self.links.greet(control)
        if replaced is not None:
            replaced.socket.connection.abort("replaced by a newer connection of its process")
        hello = control.hello
        said = f"process {hello.instance} at {hello.hostname}" if hello is not None else ""
        self._note(control, Verdict.ALLOWED, f"connector {control.connector.name} is connected: {said}")
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

    def spawn_renewal(self, control: ControlHandler, csr: str) -> None:
        """Makes a new certificate for a connector, and tells it."""
        self._work.spawn(self._renew(control, csr))

    def spawn_enrolment(self, enrolment: EnrolHandler, request: Enrol) -> None:
        """Makes a first certificate for whoever has a token, and tells."""
        self._work.spawn(self._enrol(enrolment, request))

    async def _renew(self, control: ControlHandler, csr: str) -> None:
        try:
            issued = await self._connectors.renew(control.identity, csr, self._trust.issue)
        except HubError as error:
            self._renewal_refused(control, error)
            return
        until = iso_utc(issued.identity.not_after_ms)
        self._note(control, Verdict.CHANGED, f"certificate of connector {control.connector.name} renewed until {until}")
        control.certified(issued, self._trust.authorities)

    def _renewal_refused(self, control: ControlHandler, error: HubError) -> None:
        code = _code_of(error)
        if error.refusal is not None:
            control.socket.refuse(error.refusal)
        if code == RefusalCode.REVOKED:
            control.turn_away(code, error.message)
        else:
            # The old certificate is as good as before: the connector may ask again.
            control.say(Refused(code=code, message=error.message))

    async def _enrol(self, enrolment: EnrolHandler, request: Enrol) -> None:
        try:
            self._journal.require_room()
            connector, issued = await self._connectors.enrol(request.token_secret, request.csr, self._trust.issue)
        except HubError as error:
            enrolment.refuse(error.refusal, _code_of(error), error.message)
            return
        self.enrolments += 1
        connection = enrolment.socket.connection
        self._journal.write(
            Decision(
                Verdict.CHANGED,
                plane=Plane.LINK.value,
                door=connection.door.label,
                address=connection.peer_address,
                principal=_principal(connector),
                detail=f"connector {connector.name} enrolled as link {connector.link_id}",
            )
        )
        enrolment.certified(issued, self._trust.authorities)

    def _note(self, control: ControlHandler, verdict: Verdict, what: str) -> None:
        connection = control.socket.connection
        self._journal.write(
            Decision(
                verdict,
                plane=Plane.LINK.value,
                door=connection.door.label,
                address=connection.peer_address,
                principal=_principal(control.connector),
                rule="link.certificate" if verdict is Verdict.ALLOWED else "",
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


def _principal(connector: Connector) -> str:
    return f"connector:{connector.name}"


_CODES = {
    "link.request": RefusalCode.REQUEST,
    "link.revoked": RefusalCode.REVOKED,
    "link.unknown-connector": RefusalCode.REVOKED,
    "link.token-unknown": RefusalCode.TOKEN,
    "link.token-used": RefusalCode.TOKEN,
    "link.token-expired": RefusalCode.TOKEN,
}


def _code_of(error: HubError) -> str:
    return _CODES.get(error.refusal.rule if error.refusal is not None else "", RefusalCode.BUSY)


def _process(control: ControlHandler) -> dict[str, object]:
    hello, status = control.hello, control.status
    return {
        "instance": hello.instance if hello is not None else "",
        "hostName": hello.hostname if hello is not None else "",
        "address": control.peer_address,
        "connectedTime": iso_utc(control.since_ms),
        "certificateExpiryTime": iso_utc(control.identity.not_after_ms),
        "setUp": status is not None and status.generation >= control.generation,
        "endpoints": [_status(each) for each in (status.endpoints if status is not None else ())],
        "names": [_status(each) for each in (status.names if status is not None else ())],
    }


def _status(status: EndpointStatus) -> dict[str, object]:
    return {
        "address": status.address,
        "ports": list(status.ports),
        "listening": status.listening,
        "reason": status.reason,
    }
