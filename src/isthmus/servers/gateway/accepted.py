"""Accepted sockets: each gets a ticket of the budget, its door and real addresses, and becomes a connection."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.base.errors import Refusal
from isthmus.base.hosts import normal_address
from isthmus.base.ids import Ids
from isthmus.network.door import LOCAL_DOOR, Door
from isthmus.servers.gateway.budget import SocketBudget, Ticket, source_of
from isthmus.servers.gateway.connection import Connection, Failure, Handler, Origin, Owner, PlainLayer, Scratch
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.socket_refusals import BUDGET_FULL, EVICTED, refusal_of
from isthmus.wire.tls import Layer, ServerContexts

LOCAL_SOCKETS_MAX = 64
"""Connections of the local owner at a time, outside the budget, so that he gets in when it is full; more are closed."""

_PEER_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""


class Reception(Protocol):
    """How a listener's sockets become connections."""

    def objection(self, peer_address: str) -> Refusal | None:
        """Why a peer's socket is closed before anything is read of it; None when it is not."""

    def receive(self, accepted: "Accepted") -> tuple[Owner, Layer]:
        """Who accounts for a new socket, and what lies below its connection."""


@dataclass(frozen=True, slots=True)
class TlsReception:
    """The reception of devices, services and monitoring: TLS, and then whoever speaks the listener's protocol."""

    contexts: ServerContexts
    make_handler: Callable[[], Handler]

    def objection(self, peer_address: str) -> Refusal | None:
        """None: who may come is judged when he has said what he wants."""
        return None

    def receive(self, accepted: "Accepted") -> tuple[Owner, Layer]:
        """TLS over the socket."""
        return _Served(accepted, self.make_handler), self.contexts.layer()


@dataclass(frozen=True, slots=True)
class PlainReception:
    """The reception inside a network namespace where clients know no TLS: the metadata address, and nowhere else."""

    make_handler: Callable[[], Handler]

    def objection(self, peer_address: str) -> Refusal | None:
        """None: who is inside may ask."""
        return None

    def receive(self, accepted: "Accepted") -> tuple[Owner, Layer]:
        """The socket's own bytes."""
        return _Served(accepted, self.make_handler), PlainLayer()


@dataclass(frozen=True, slots=True)
class Entrance:
    """What all sockets of one listener have in common; `local_address` is empty where it differs (a wildcard).

    `place` is where the listener is (`Presence.place`): a local address means something in its place only.
    """

    plane: Plane
    door: Door
    local_address: str
    reception: Reception
    place: str = ""


class AcceptedSockets:
    """The ledger of all accepted sockets of the process. Use it on its loop only."""

    def __init__(
        self,
        *,
        clock: Clock,
        ids: Ids,
        budget: SocketBudget,
        owner_of: Callable[[str, str], Door | None],
        on_refused: Callable[[Door, Plane, str, Refusal], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._budget = budget
        self._owner_of = owner_of
        self._on_refused = on_refused
        self._loop = loop
        self._scratch = Scratch()
        self._accepted: dict[Ticket, Accepted] = {}
        self._local: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def count(self) -> int:
        """Accepted sockets that are not closed yet, without the local owner's."""
        return len(self._accepted)

    def take(self, entrance: Entrance, peer_socket: socket.socket, peer: tuple[str, int]) -> None:
        """Makes a connection of a TCP socket, or closes it when the budget turns it away."""
        local_address = entrance.local_address or str(peer_socket.getsockname()[0])
        door = entrance.door
        if entrance.plane is not Plane.LINK:
            door = self._owner_of(local_address, entrance.place) or door
        objection = entrance.reception.objection(peer[0])
        if objection is not None:
            peer_socket.close()
            self._on_refused(door, entrance.plane, peer[0], objection)
            return
        now = self._clock.monotonic()
        taken = self._budget.take(source_of(peer[0], entrance.place), now)
        for ticket in taken.evicted:
            self._accepted[ticket].evict()
        if taken.ticket is None:
            peer_socket.close()
            self._on_refused(door, entrance.plane, peer[0], BUDGET_FULL)
            return
        origin = Origin(self._ids.uuid(), door, peer[0], peer[1], local_address, now)
        accepted = Accepted(self, entrance, taken.ticket, local_address)
        owner, layer = entrance.reception.receive(accepted)
        connection = Connection(peer_socket, origin, layer, owner, loop=self._loop, scratch=self._scratch)
        accepted.connection = connection
        self._accepted[taken.ticket] = accepted
        self._empty.clear()
        connection.start()

    def take_local(self, make_handler: Callable[[], Handler], peer_socket: socket.socket) -> None:
        """Makes a connection of a Unix socket, whose peer's user the kernel vouches for (SO_PEERCRED)."""
        if len(self._local) >= LOCAL_SOCKETS_MAX:
            peer_socket.close()
            return
        credentials = peer_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        uid = _PEER_CREDENTIALS.unpack(credentials)[1]
        origin = Origin(self._ids.uuid(), LOCAL_DOOR, "unix", 0, "unix", self._clock.monotonic(), peer_uid=uid)
        owner = _Local(self._local, make_handler)
        connection = Connection(peer_socket, origin, PlainLayer(), owner, loop=self._loop, scratch=self._scratch)
        self._local.add(connection)
        connection.made_progress()
        connection.start()

    def close_at(self, address: str, place: str) -> None:
        """Closes what came to an address (normal form) in a place, in whatever stage."""
        for accepted in list(self._accepted.values()):
            if accepted.came_to(address, place):
                accepted.connection.close("private endpoint deleted")

    async def drain(self, seconds: float) -> int:
        """Closes every TCP connection, aborts those left after `seconds`, and returns how many these were."""
        for accepted in list(self._accepted.values()):
            accepted.connection.close("server stopped")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        left = list(self._accepted.values())
        for accepted in left:
            accepted.connection.abort("server stopped")
        return len(left)

    def abort_local(self) -> None:
        """Aborts the local owner's connections."""
        for connection in list(self._local):
            connection.abort("server stopped")

    def advanced(self, ticket: Ticket, *, proven: bool) -> None:
        """The peer took a step of the handshake, or has proved who it is."""
        if proven:
            self._budget.prove(ticket)
        else:
            self._budget.advance(ticket, self._clock.monotonic())

    def carries(self, ticket: Ticket, source: str) -> None:
        """A socket that has proved who it is brings somebody who has not."""
        for evicted in self._budget.reopen(ticket, source, self._clock.monotonic()):
            self._accepted[evicted].evict()

    def refused(self, door: Door, plane: Plane, address: str, refusal: Refusal) -> None:
        """A socket ends before its peer has proved who it is."""
        self._on_refused(door, plane, address, refusal)

    def released(self, ticket: Ticket) -> None:
        """The descriptor is closed."""
        self._budget.release(ticket)
        del self._accepted[ticket]
        if not self._accepted:
            self._empty.set()


class Accepted:
    """The account of one TCP connection: what it takes of the budget, and where it came to."""

    __slots__ = ("_ledger", "_local_address", "_place", "_ticket", "connection", "plane")

    connection: Connection

    def __init__(self, ledger: AcceptedSockets, entrance: Entrance, ticket: Ticket, local_address: str) -> None:
        self.plane = entrance.plane
        self._ledger = ledger
        self._ticket = ticket
        self._place = entrance.place
        self._local_address = normal_address(local_address)

    def came_to(self, address: str, place: str) -> bool:
        """True when it came to this address (normal form) in this place."""
        return self._local_address == address and self._place == place

    def evict(self) -> None:
        """Ends it: another one needs its socket."""
        self.refuse(EVICTED)
        self.connection.abort("evicted")

    def advanced(self, *, proven: bool) -> None:
        """The peer took a step of the handshake, or has proved who it is."""
        self._ledger.advanced(self._ticket, proven=proven)

    def carries(self, plane: Plane, *, address: str, place: str) -> None:
        """The connection came to another address than its socket, and its peer has proved nothing yet."""
        self.plane, self._place = plane, place
        self._local_address = normal_address(address)
        self._ledger.carries(self._ticket, source_of(self.connection.peer_address, place))

    def refuse(self, refusal: Refusal, *, door: Door | None = None, address: str = "") -> None:
        """Tells the owner why it ends before its peer has proved who it is; door and address are the connection's."""
        connection = self.connection
        self._ledger.refused(door or connection.door, self.plane, address or connection.peer_address, refusal)

    def released(self) -> None:
        """The descriptor is closed."""
        self._ledger.released(self._ticket)


class _Served:
    """Owns one connection of devices, services or monitoring."""

    __slots__ = ("_accepted", "_make_handler")

    def __init__(self, accepted: Accepted, make_handler: Callable[[], Handler]) -> None:
        self._accepted = accepted
        self._make_handler = make_handler

    def make_handler(self) -> Handler:
        return self._make_handler()

    def advanced(self, _connection: Connection, *, proven: bool) -> None:
        self._accepted.advanced(proven=proven)

    def failed(self, _connection: Connection, failure: Failure, detail: str) -> None:
        self._accepted.refuse(refusal_of(failure, detail))

    def released(self, _connection: Connection) -> None:
        self._accepted.released()


class _Local:
    """Accounts for one connection of the local owner."""

    def __init__(self, open_connections: set[Connection], make_handler: Callable[[], Handler]) -> None:
        self._open = open_connections
        self._make_handler = make_handler

    def make_handler(self) -> Handler:
        return self._make_handler()

    def advanced(self, _connection: Connection, *, proven: bool) -> None:
        """The kernel has proved who it is."""

    def failed(self, _connection: Connection, _failure: Failure, _detail: str) -> None:
        """A plain stream without a deadline does not fail."""

    def released(self, connection: Connection) -> None:
        self._open.discard(connection)
