"""Private endpoints that listen: each at its address, in its place, on all planes, from its making to its deletion.

Whatever the state of an endpoint's connection, a socket that reaches its address is judged by the endpoint and never as
public. When the endpoint is deleted, its listeners go, and every socket they accepted.

Theory of operation. An endpoint's address is on this machine, in a network namespace, or at a connector, which listens
there itself. Sockets in namespaces are made by somebody else (`Places`), who also adds addresses: in namespaces always,
on this machine when `add_addresses` is set. An endpoint whose address cannot be had at start (a network that comes up
late, an interface that is gone) keeps nobody else from being served: it is missing, and tried again with each
`look_after`. That also holds the addresses that were had, so that who adds them knows they are needed, and finds out
when a namespace was made anew under its name: sockets of the old one hear nobody any more, and are replaced.

Everything runs on the event loop and waits for `Places`. Meanwhile an endpoint may be deleted, and then what was opened
for it is given back. While nobody attends to the places, what listens goes on listening.
"""

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import SocketKind, Unattended
from isthmus.network.virtual_networks import PresenceKind
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.places import Places
from isthmus.servers.gateway.plane import Plane

logger = logging.getLogger(__name__)

OpenPlane = Callable[[PrivateEndpoint, Plane, int, socket.socket | None], None]
"""Listens for an endpoint on a plane and port, with a socket that was made elsewhere, if one is given."""

Ports = Callable[[], Iterable[tuple[Plane, int]]]
"""Tells the ports of the planes, which are settled when the public door is open."""


HOLDS_PER_ROUND_MAX = 250
"""Addresses that are held in one `look_after`: half a second of work for who adds them. The others have their turn."""


@dataclass(slots=True)
class _Kept:
    """An endpoint that is wanted; `network` is the number of the network that its sockets are in."""

    endpoint: PrivateEndpoint
    listening: bool = False
    network: int = 0
    trouble: str = ""


class PrivateDoors:
    """Opens and closes the listeners of private endpoints."""

    def __init__(
        self,
        listeners: Listeners,
        open_plane: OpenPlane,
        places: Places,
        *,
        ports: Ports,
        ports_elsewhere: Ports,
        add_addresses: bool,
    ) -> None:
        """`open_plane` raises `ConfigurationError`. `ports_elsewhere` counts where another one makes the sockets."""
        self._listeners = listeners
        self._ports = ports
        self._ports_elsewhere = ports_elsewhere
        self._open_plane = open_plane
        self._places = places
        self._add_addresses = add_addresses
        self._kept: dict[str, _Kept] = {}
        self._held_last = 0
        self.unattended = ""
        """Why nobody attends to the places of endpoints; empty when somebody does, or none needs it."""

    @property
    def missing(self) -> str:
        """Which endpoints nobody can reach, and why; empty when all are listened at."""
        return " ".join(f"{kept.endpoint.name}: {kept.trouble}" for kept in self._kept.values() if kept.trouble)

    async def open_known(self, endpoints: Iterable[PrivateEndpoint]) -> None:
        """Listens at the addresses of endpoints that were made before; those that cannot be had are `missing`."""
        for endpoint in endpoints:
            self._kept[endpoint.name] = _Kept(endpoint)
        await self.look_after()
        for kept in self._kept.values():
            if kept.trouble:
                logger.error("private endpoint is out", extra={"endpoint": kept.endpoint.name, "reason": kept.trouble})

    async def endpoint_changed(self, old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        """Listens at a new endpoint's address and releases a deleted one's; raises `ConfigurationError`."""
        if old is not None:
            self._kept.pop(old.name, None)
            self._release(old)
            await self._give_back(old)
        if new is not None:
            self._kept[new.name] = kept = _Kept(new)
            try:
                await self._open(kept)
            except ConfigurationError as error:
                kept.trouble = str(error)
                raise

    async def look_after(self) -> None:
        """Tries what could not be had so far, and keeps what was."""
        unattended = ""
        for kept in self._turn():
            if unattended and self._needs_places(kept.endpoint):
                kept.trouble = "" if kept.listening else unattended
                continue
            try:
                await self._look_at(kept)
                kept.trouble = ""
            except Unattended as error:
                unattended = str(error)
                kept.trouble = "" if kept.listening else unattended
            except ConfigurationError as error:
                kept.trouble = str(error)
        self.unattended = unattended

    def _turn(self) -> list[_Kept]:
        """Who is looked at in this round: all that do not listen, and of those that have to be held the next ones."""
        missing = [kept for kept in self._kept.values() if not kept.listening]
        held = [kept for kept in self._kept.values() if kept.listening and self._needs_places(kept.endpoint)]
        first = self._held_last % len(held) if held else 0
        self._held_last = first + HOLDS_PER_ROUND_MAX
        return missing + [*held[first:], *held[:first]][:HOLDS_PER_ROUND_MAX]

    async def _look_at(self, kept: _Kept) -> None:
        endpoint = kept.endpoint
        if not kept.listening:
            was_missing = bool(kept.trouble)
            await self._open(kept)
            if was_missing:
                logger.info("private endpoint is in", extra={"endpoint": endpoint.name})
        else:
            network = await self._places.hold(endpoint.place, endpoint.address)
            if endpoint.place and network != kept.network and self._wanted(kept):
                await self._open(kept)
                logger.info("private endpoint is in a new network", extra={"endpoint": endpoint.name})

    async def _open(self, kept: _Kept) -> None:
        """Listens on all planes, or on none; raises `ConfigurationError`."""
        if kept.endpoint.place.startswith(f"{PresenceKind.CONNECTOR}:"):
            kept.listening = True
        elif kept.endpoint.place:
            await self._open_elsewhere(kept)
        else:
            await self._open_here(kept)

    async def _open_here(self, kept: _Kept) -> None:
        not_added = ""
        if self._needs_places(kept.endpoint):
            try:
                await self._places.hold("", kept.endpoint.address)
            except ConfigurationError as error:
                not_added = f" {error}"
        if not await self._still_wanted(kept):
            return
        try:
            self._listen(kept, [(plane, port, None) for plane, port in self._ports()])
        except ConfigurationError as error:
            raise type(error)(f"{error}{not_added}") from error

    async def _open_elsewhere(self, kept: _Kept) -> None:
        endpoint = kept.endpoint
        made: list[tuple[Plane, int, socket.socket]] = []
        try:
            for plane, port in self._ports_elsewhere():
                one = await self._places.listening_socket(endpoint.place, endpoint.address, port, SocketKind.STREAM)
                made.append((plane, port, one))
            if not await self._still_wanted(kept):
                raise ConfigurationError(f"{endpoint.name} was deleted meanwhile.")
            # Where sockets of a network that is gone still listen, these take their place.
            self._release(endpoint)
            self._listen(kept, made)
        except BaseException:
            for _, _, one in made:
                one.close()
            raise
        kept.network = self._places.network_of(made[0][2]) if made else 0

    def _listen(self, kept: _Kept, sockets: Sequence[tuple[Plane, int, socket.socket | None]]) -> None:
        try:
            for plane, port, opened in sockets:
                self._open_plane(kept.endpoint, plane, port, opened)
        except ConfigurationError:
            self._release(kept.endpoint)
            raise
        kept.listening = True

    async def _still_wanted(self, kept: _Kept) -> bool:
        """False when the endpoint was deleted while somebody waited; its address is given back then."""
        if self._wanted(kept):
            return True
        await self._give_back(kept.endpoint)
        return False

    def _release(self, endpoint: PrivateEndpoint) -> None:
        self._listeners.release(endpoint.door, endpoint.address, endpoint.place)

    async def _give_back(self, endpoint: PrivateEndpoint) -> None:
        spot = (endpoint.place, endpoint.address)
        taken = any((each.endpoint.place, each.endpoint.address) == spot for each in self._kept.values())
        if taken or not self._needs_places(endpoint):
            return
        try:
            await self._places.release(endpoint.place, endpoint.address)
        except ConfigurationError as error:
            logger.warning("address is not given back", extra={"endpoint": endpoint.name, "reason": str(error)})

    def _wanted(self, kept: _Kept) -> bool:
        return self._kept.get(kept.endpoint.name) is kept

    def _needs_places(self, endpoint: PrivateEndpoint) -> bool:
        if endpoint.place:
            return not endpoint.place.startswith(f"{PresenceKind.CONNECTOR}:")
        return self._add_addresses and not ipaddress.ip_address(endpoint.address).is_loopback
