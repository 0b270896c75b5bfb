"""Which sockets listen where: the public door's addresses, one address for each private endpoint, and the metrics.

Every door serves all planes of the hubs by the same ports. An endpoint listens from the moment it is made until it is
deleted, whatever the state of its connection: a socket that reaches its address is judged by the endpoint and never as
public. An endpoint whose address the machine does not have at start (a network that comes up late, an interface that is
gone) keeps nobody else from being served: it is reported, and tried again with each `try_again`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from isthmus.base.errors import ConfigurationError
from isthmus.base.hosts import normal_address
from isthmus.network.door import PUBLIC_DOOR, Door
from isthmus.network.virtual_networks import PresenceKind
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.connection import Handler
from isthmus.servers.gateway.listener import Listeners, PortNotPermitted
from isthmus.servers.gateway.plane import Plane
from isthmus.wire.tls import ServerContexts

logger = logging.getLogger(__name__)

HTTPS_PORT = 443
HTTPS_PORT_FALLBACK = 8443
"""Taken for HTTPS alone when 443 may not be bound and nobody asked for another port."""


@dataclass(frozen=True, slots=True)
class PlaneSetting:
    """A plane's port, and what makes the handler of a connection."""

    port: int
    make_handler: Callable[[], Handler]


class Doors:
    """Opens and closes the listeners of all planes."""

    def __init__(
        self, listeners: Listeners, contexts: ServerContexts, planes: Mapping[Plane, PlaneSetting], *, fallback: bool
    ) -> None:
        """With `fallback` HTTPS may move to `HTTPS_PORT_FALLBACK` when its port is not permitted."""
        self._listeners = listeners
        self._contexts = contexts
        self._handlers = {plane: setting.make_handler for plane, setting in planes.items()}
        self._fallback = fallback
        self._public: set[str] = set()
        self._missing: dict[str, tuple[PrivateEndpoint, str]] = {}
        self.ports = {plane: setting.port for plane, setting in planes.items()}

    def open_public(self, addresses: tuple[str, ...]) -> None:
        """Listens at the public door's addresses; raises `ConfigurationError` in one sentence."""
        for address in addresses:
            self._public.add(normal_address(address))
            for plane in self.ports:
                self._open_falling_back(address, plane, PUBLIC_DOOR)

    def open_metrics(self, address: str, port: int, make_handler: Callable[[], Handler]) -> None:
        """Listens for whoever reads the metrics; raises `ConfigurationError` in one sentence."""
        self._listeners.open(
            address,
            port,
            door=PUBLIC_DOOR,
            plane=Plane.METRICS,
            contexts=self._contexts,
            make_handler=make_handler,
        )

    def open_known(self, endpoints: Iterable[PrivateEndpoint]) -> None:
        """Listens at the addresses of endpoints that were made before; those that cannot be had are `missing`."""
        for endpoint in endpoints:
            try:
                self.open_private(endpoint)
            except ConfigurationError as error:
                self._missing[endpoint.name] = (endpoint, str(error))
                logger.error("private endpoint is out", extra={"endpoint": endpoint.name, "reason": str(error)})

    def try_again(self) -> None:
        """Tries the addresses that could not be had so far."""
        for name, (endpoint, _) in list(self._missing.items()):
            try:
                self.open_private(endpoint)
            except ConfigurationError:
                continue
            del self._missing[name]
            logger.info("private endpoint is in", extra={"endpoint": endpoint.name})

    @property
    def missing(self) -> str:
        """Which endpoints nobody can reach, and why; empty when all are listened at."""
        return " ".join(f"{endpoint.name}: {reason}" for endpoint, reason in self._missing.values())

    def objection(self, place: str, address: str) -> str:
        """Why an address in a place cannot be a private endpoint's; empty when it can."""
        if not place and address in self._public:
            return f"{address} is the public door's address; give the endpoint one of its own"
        return ""

    async def endpoint_changed(self, old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        """Listens at a new endpoint's address and releases a deleted one's; raises `ConfigurationError`."""
        if old is not None:
            self._missing.pop(old.name, None)
            self._listeners.release(old.address, old.place)
        if new is not None:
            self.open_private(new)

    def open_private(self, endpoint: PrivateEndpoint) -> None:
        """Listens at an endpoint's address on all planes, or on none; raises `ConfigurationError`.

        Where the network's own connector listens, nothing is opened here.
        """
        if endpoint.place.startswith(f"{PresenceKind.CONNECTOR}:"):
            return
        if endpoint.place:
            raise ConfigurationError(f"{endpoint.place} cannot be listened in: nobody makes sockets in namespaces.")
        opened: list[int] = []
        try:
            for plane, port in self.ports.items():
                self._open(endpoint.address, plane, endpoint.door)
                opened.append(port)
        except ConfigurationError:
            self._close(endpoint.address, opened)
            raise

    def _open_falling_back(self, address: str, plane: Plane, door: Door) -> None:
        try:
            self._open(address, plane, door)
        except PortNotPermitted as refused:
            if plane is not Plane.HTTPS or not self._fallback or self.ports[plane] != HTTPS_PORT:
                raise
            self.ports[plane] = HTTPS_PORT_FALLBACK
            self._open(address, plane, door)
            logger.warning(
                "HTTPS is served on another port", extra={"reason": str(refused), "port": HTTPS_PORT_FALLBACK}
            )

    def _open(self, address: str, plane: Plane, door: Door) -> None:
        self._listeners.open(
            address,
            self.ports[plane],
            door=door,
            plane=plane,
            contexts=self._contexts,
            make_handler=self._handlers[plane],
        )

    def _close(self, address: str, ports: Iterable[int]) -> None:
        for port in ports:
            self._listeners.close(address, port)
