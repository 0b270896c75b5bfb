"""Which sockets listen where: the public door's addresses, those of the private endpoints, metrics and management.

Every door serves all planes of the hubs by the same ports; `private_doors` has what is particular about private ones.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from isthmus.base.hosts import normal_address
from isthmus.network.door import MANAGEMENT_DOOR, PUBLIC_DOOR, Door
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.connection import Handler
from isthmus.servers.gateway.listener import Listeners, PortNotPermitted
from isthmus.servers.gateway.places import Nowhere, Places
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.private_doors import PrivateDoors
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
        self,
        listeners: Listeners,
        contexts: ServerContexts,
        planes: Mapping[Plane, PlaneSetting],
        *,
        fallback: bool,
        places: Places | None = None,
        add_addresses: bool = False,
    ) -> None:
        """With `fallback` HTTPS may move to `HTTPS_PORT_FALLBACK` when its port is not permitted.

        `places` makes sockets in namespaces. With `add_addresses` it also adds endpoints' addresses to this machine.
        """
        self._listeners = listeners
        self._contexts = contexts
        self._handlers = {plane: setting.make_handler for plane, setting in planes.items()}
        self._fallback = fallback
        self._public: set[str] = set()
        self._managed: set[str] = set()
        self.ports = {plane: setting.port for plane, setting in planes.items()}
        self._asked = tuple(self.ports.items())
        self.private = PrivateDoors(
            listeners,
            self._open_private,
            places or Nowhere(),
            ports=self.ports.items,
            ports_elsewhere=self._ports_elsewhere,
            add_addresses=add_addresses,
        )

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

    def open_management(self, addresses: Iterable[str], port: int, make_handler: Callable[[], Handler]) -> None:
        """Listens for operators with a token; raises `ConfigurationError` in one sentence."""
        for address in addresses:
            self._managed.add(normal_address(address))
            self._listeners.open(
                address,
                port,
                door=MANAGEMENT_DOOR,
                plane=Plane.MANAGEMENT,
                contexts=self._contexts,
                make_handler=make_handler,
            )

    def objection(self, place: str, address: str) -> str:
        """Why an address in a place cannot be a private endpoint's; empty when it can."""
        if not place and address in self._public:
            return f"{address} is the public door's address; give the endpoint one of its own"
        if not place and address in self._managed:
            return f"{address} is the management door's address; give the endpoint one of its own"
        return ""

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

    def _ports_elsewhere(self) -> tuple[tuple[Plane, int], ...]:
        """A port that this server may not bind itself is served where others make its sockets, beside the fallback."""
        return (*self.ports.items(), *(asked for asked in self._asked if asked not in self.ports.items()))

    def _open_private(self, endpoint: PrivateEndpoint, plane: Plane, port: int, opened: socket.socket | None) -> None:
        self._listen(endpoint.address, port, plane, endpoint.door, place=endpoint.place, opened=opened)

    def _open(self, address: str, plane: Plane, door: Door) -> None:
        self._listen(address, self.ports[plane], plane, door)

    def _listen(
        self,
        address: str,
        port: int,
        plane: Plane,
        door: Door,
        *,
        place: str = "",
        opened: socket.socket | None = None,
    ) -> None:
        self._listeners.open(
            address,
            port,
            door=door,
            plane=plane,
            contexts=self._contexts,
            make_handler=self._handlers[plane],
            place=place,
            opened=opened,
        )
