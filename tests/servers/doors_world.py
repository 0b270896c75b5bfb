"""Doors over a front door, and places that are in truth other addresses of this machine."""

import asyncio
import socket
from dataclasses import dataclass, field

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import SocketKind, Unattended
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.doors import Doors, PlaneSetting
from isthmus.servers.gateway.places import Places
from isthmus.servers.gateway.plane import Plane
from servers.front_door import FrontDoor, Pump

PORTS = {Plane.MQTT: 18_883, Plane.AMQP: 15_671, Plane.HTTPS: 18_443}


@dataclass
class FakePlaces:
    """Makes sockets at the address that stands for a place, with a number for its network that tests may change.

    `away` is why nobody attends; `trouble` what cannot be done. An order waits while `gate` is clear.
    """

    addresses: dict[str, str]
    away: str = ""
    trouble: str = ""
    networks: dict[str, int] = field(default_factory=dict)
    held: set[tuple[str, str]] = field(default_factory=set)
    orders: list[tuple[str, str, str]] = field(default_factory=list)
    port_offset: int = 0
    numbers: dict[int, int] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def listening_socket(self, place: str, address: str, port: int, kind: SocketKind) -> socket.socket:
        await self._order("listen", place, address)
        assert kind is SocketKind.STREAM
        made = socket.create_server((self.addresses[place], port + self.port_offset))
        self.numbers[made.fileno()] = self.networks.get(place, 1)
        return made

    async def hold(self, place: str, address: str) -> int:
        await self._order("hold", place, address)
        return self.networks.get(place, 1)

    async def release(self, place: str, address: str) -> None:
        self.orders.append(("release", place, address))
        self._check()
        self.held.discard((place, address))

    def network_of(self, opened: socket.socket) -> int:
        return self.numbers[opened.fileno()]

    async def _order(self, task: str, place: str, address: str) -> None:
        self.orders.append((task, place, address))
        self.asked.set()
        await self.gate.wait()
        self._check()
        self.held.add((place, address))

    def _check(self) -> None:
        if self.away:
            raise Unattended(self.away)
        if self.trouble:
            raise ConfigurationError(self.trouble)


def make_doors(
    front: FrontDoor,
    *,
    https: int = 18_443,
    fallback: bool = True,
    elsewhere: Places | None = None,
    add_addresses: bool = False,
) -> Doors:
    """Doors over all planes."""
    planes = {plane: PlaneSetting(port, Pump) for plane, port in (PORTS | {Plane.HTTPS: https}).items()}
    return Doors(
        front.listeners, front.contexts, planes, fallback=fallback, places=elsewhere, add_addresses=add_addresses
    )


def places(front: FrontDoor) -> set[tuple[str, int, Plane, str]]:
    return {(bound.address, bound.port, bound.plane, bound.door.label) for bound in front.listeners.bound}


def all_planes(address: str, door: str = "public", https: int = 18_443) -> set[tuple[str, int, Plane, str]]:
    ports = PORTS | {Plane.HTTPS: https}
    return {(address, port, plane, door) for plane, port in ports.items()}


def endpoint(address: str, name: str = "plant", place: str = "") -> PrivateEndpoint:
    return PrivateEndpoint(name, "/hubs/one", "link", address, connection=f"{name}.1", place=place)
