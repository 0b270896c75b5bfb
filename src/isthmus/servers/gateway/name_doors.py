"""Where the hub serves names: at its private endpoints' own addresses, each network's clients hearing their own names.

Theory of operation. An address is served when a private endpoint has it, or when it was named as a DNS server of a
network whose endpoints are on this machine. Never one that strangers reach: that would be a server for everybody. What
is served is told from the listeners themselves, so that an endpoint whose sockets go takes its names with it; `settle`
opens what is wanted and is not there, and closes what is not wanted any more. It is called after each change and now
and then, and may wait for who makes sockets in namespaces; what another call is opening meanwhile is left to it. An
address where port 53 cannot be had is reported and tried again: nothing else of the hub depends on it. Connectors serve
the names of their networks themselves.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import SocketKind
from isthmus.names.serve import NameServer, is_inside
from isthmus.network.door import Door, DoorKind
from isthmus.network.virtual_networks import NetworkFacts, PresenceKind, holds
from isthmus.resources.network_names import NetworkNames
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.servers.gateway.listener import Listeners, PortNotPermitted
from isthmus.servers.gateway.places import Places
from isthmus.servers.gateway.plane import Plane

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Spot:
    """An address where names are to be served, to the clients of which network, and whose door it is."""

    place: str
    address: str
    network: str
    door: Door
    named: bool = False


class NameDoors:
    """Opens and closes what names are served at; used on the event loop only."""

    def __init__(
        self,
        listeners: Listeners,
        server: NameServer,
        names: NetworkNames,
        endpoints: PrivateEndpoints,
        facts: Callable[[], NetworkFacts],
        places: Places,
        *,
        port: int,
    ) -> None:
        """With port 0 nothing is served."""
        self._listeners = listeners
        self._server = server
        self._names = names
        self._endpoints = endpoints
        self._facts = facts
        self._places = places
        self._port = port
        self._opening: set[tuple[str, str]] = set()
        self._troubles: dict[tuple[str, str], ConfigurationError] = {}

    @property
    def missing(self) -> str:
        """Where names cannot be served, and why; empty when they are wherever they should be."""
        return " ".join(
            f"{address}: {reason}" for (_, address), reason in sorted(self._troubles.items(), key=itemgetter(0))
        )

    @property
    def well(self) -> bool:
        """True when nothing is amiss; a port that this user may not bind is a choice, as the second one of HTTPS is."""
        return all(isinstance(error, PortNotPermitted) for error in self._troubles.values())

    def close(self) -> None:
        """Serves nothing any more from the next `settle` on: the listeners are being closed."""
        self._port = 0

    async def settle(self) -> None:
        """Serves what is to be served, and nothing else; what cannot be had is `missing`."""
        wanted = {(spot.place, spot.address): spot for spot in self._wanted()} if self._port else {}
        for bound in self._listeners.bound:
            if bound.plane is Plane.NAMES and not bound.datagrams:
                spot = wanted.get((bound.place, bound.address))
                if spot is None or spot.door != bound.door:
                    self._listeners.close(bound.address, bound.port, bound.place)
        self._troubles = {key: reason for key, reason in self._troubles.items() if key in wanted}
        for key, spot in wanted.items():
            if key not in self._opening and not self._listeners.serves_names(spot.address, spot.place):
                await self._try(key, spot)

    async def _try(self, key: tuple[str, str], spot: _Spot) -> None:
        self._opening.add(key)
        try:
            await self._open(spot)
        except ConfigurationError as error:
            self._note(key, spot, error)
        else:
            self._troubles.pop(key, None)
        finally:
            self._opening.discard(key)

    def _note(self, key: tuple[str, str], spot: _Spot, error: ConfigurationError) -> None:
        if spot.named:
            # Somebody else's server, as a rule: it answers at an address of its own machine.
            return
        if str(self._troubles.get(key, "")) != str(error):
            logger.warning("names are not served", extra={"address": spot.address, "reason": str(error)})
        self._troubles[key] = error

    async def _open(self, spot: _Spot) -> None:
        opened = None
        if spot.place:
            datagrams = await self._places.listening_socket(spot.place, spot.address, self._port, SocketKind.DATAGRAM)
            try:
                stream = await self._places.listening_socket(spot.place, spot.address, self._port, SocketKind.STREAM)
            except BaseException:
                datagrams.close()
                raise
            opened = datagrams, stream
            if spot not in self._wanted():
                datagrams.close()
                stream.close()
                return
        self._listeners.open_names(
            spot.address,
            self._port,
            door=spot.door,
            serve=lambda udp, tcp: self._server.serve(udp, tcp, lambda: self._names.names(spot.network)),
            place=spot.place,
            opened=opened,
        )

    def _wanted(self) -> tuple[_Spot, ...]:
        """Where names are to be served from here; an endpoint's address counts before a named one."""
        spots = (*self._of_networks(), *self._of_endpoints())
        found = {(spot.place, spot.address): spot for spot in spots if is_inside(spot.address)}
        return tuple(found.values())

    def _of_endpoints(self) -> tuple[_Spot, ...]:
        return tuple(
            _Spot(each.place, each.address, each.door.network, each.door)
            for each in self._endpoints.all()
            if not each.place.startswith(f"{PresenceKind.CONNECTOR}:")
        )

    def _of_networks(self) -> tuple[_Spot, ...]:
        return tuple(
            _Spot("", address, network.name, Door(DoorKind.PRIVATE, network=network.name), named=True)
            for network in self._facts().networks
            for address in network.dns_servers
            if network.presence.kind is PresenceKind.BIND and holds(network.prefixes, address)
        )
