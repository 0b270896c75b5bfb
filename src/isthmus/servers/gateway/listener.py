"""The front door: the only file that opens a server socket, the local owner's Unix socket included.

The door of a connection is looked up by the local address that its peer reached, not by the listener: an address that a
private endpoint owns, in whatever state, is judged by that endpoint, also where one wildcard listener serves every
address. For that reason an address needs no listener of its own where a wildcard one has its port: `Listeners.open`
notices, and a second socket there would be refused by the kernel. `SO_REUSEPORT` is never set: it would let both exist,
and closing the specific one would drop its clients onto the wildcard one. IPv6 wildcards serve IPv6 only, so that an
address has one spelling.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigurationError, Refusal
from isthmus.base.hosts import normal_address
from isthmus.base.ids import Ids
from isthmus.base.sockets import METADATA_ADDRESS, METADATA_PORT
from isthmus.network.door import LINK_DOOR, Door
from isthmus.servers.gateway.accepted import AcceptedSockets, Entrance, PlainReception, Reception, TlsReception
from isthmus.servers.gateway.accepting import AcceptLoop
from isthmus.servers.gateway.budget import SocketBudget
from isthmus.servers.gateway.connection import Handler
from isthmus.servers.gateway.plane import Plane as Plane
from isthmus.wire.tls import ServerContexts

LISTEN_BACKLOG = 4_096
"""Connections the kernel completes before we accept them; it caps this at net.core.somaxconn."""

KEEPALIVE_IDLE_SECONDS = 120
KEEPALIVE_INTERVAL_SECONDS = 30
LINK_KEEPALIVE_IDLE_SECONDS = 30
KEEPALIVE_PROBES = 4
"""A peer that vanished without a word is noticed within four minutes, whatever its protocol does."""

UNACKNOWLEDGED_MS = 240_000
"""A peer that takes no bytes for so long is cut: the idle time-out of IoT Hub's AMQP side, the longest of any plane."""

UNIX_PATH_BYTES_MAX = 107
"""The longest path of a Unix socket on Linux (unix(7))."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PortNotPermitted(ConfigurationError):  # noqa: N818 - a case of ConfigurationError, named by what happened
    """The user who runs the server may not bind this port."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is listened at; `port` is the real one where 0 was asked for, `place` is empty for this machine.

    With `datagrams` it is a UDP socket.
    """

    address: str
    port: int
    plane: Plane
    door: Door
    place: str = ""
    datagrams: bool = False


class Served(Protocol):
    """What answers at sockets that it was given, until it is closed."""

    def close(self) -> None:
        """Closes the sockets, and what was accepted there."""


class Listeners:
    """All listening sockets of the process and what they accepted. Make it on a running loop and use it there only."""

    def __init__(
        self,
        *,
        clock: Clock,
        ids: Ids,
        budget: SocketBudget,
        owner_of: Callable[[str, str], Door | None],
        on_refused: Callable[[Door, Plane, str, Refusal], None],
    ) -> None:
        """`owner_of` gives the door of the private endpoint that owns an address in a place, None when nobody does.

        `on_refused` hears of door, plane, peer address and reason of each socket that ends before its peer has proved
        who it is: turned away, evicted, a broken or slow handshake, silence after it. Both must not block.
        """
        self._loop = asyncio.get_running_loop()
        self._accepted = AcceptedSockets(
            clock=clock, ids=ids, budget=budget, owner_of=owner_of, on_refused=on_refused, loop=self._loop
        )
        self._listening: dict[tuple[str, str, int], tuple[Bound, AcceptLoop]] = {}
        self._names: dict[tuple[str, str, int], tuple[tuple[Bound, Bound], Served]] = {}
        self._unix: dict[Path, tuple[str, AcceptLoop]] = {}

    @property
    def bound(self) -> tuple[Bound, ...]:
        """Every place that is listened at with a socket of its own."""
        names = (bound for both, _ in self._names.values() for bound in both)
        return (*(bound for bound, _ in self._listening.values()), *names)

    @property
    def local(self) -> tuple[tuple[Path, str], ...]:
        """Every Unix socket that is listened at, and its name as the kernel has it."""
        return tuple((path, name) for path, (name, _) in self._unix.items())

    @property
    def connections(self) -> int:
        """Accepted TCP sockets that are not closed yet."""
        return self._accepted.count

    def open(
        self,
        address: str,
        port: int,
        *,
        door: Door,
        plane: Plane,
        contexts: ServerContexts,
        make_handler: Callable[[], Handler],
        place: str = "",
        opened: socket.socket | None = None,
    ) -> Bound:
        """Listens at an address; returns where, with the real port when `port` is 0.

        In another place than this machine, somebody else has `opened` the listening socket, which is ours from then
        on. Where a wildcard listener of the same plane has this port, that one serves the address and is returned.
        Raises `PortNotPermitted`, and `ConfigurationError` for any other cause, each one sentence with the remedy.
        """
        parsed = _parsed(address)
        if opened is None:
            if place:
                raise ValueError(f"a socket at {address} of this machine is none of {place}")
            covering = self._listening.get(("", _wildcard(parsed), port))
            if covering is not None and covering[0].plane is plane:
                return covering[0]
            opened = _tcp_socket(parsed, port)
        else:
            opened.setblocking(False)
            _set_inherited(opened)
        return self._accept(opened, parsed, door, plane, TlsReception(contexts, make_handler), place)

    def open_link(self, address: str, port: int, reception: Reception) -> Bound:
        """Listens for connectors at an address; raises as `open`."""
        parsed = _parsed(address)
        opened = _tcp_socket(parsed, port)
        # Between a connector and its hub stand the middle boxes of two companies.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, LINK_KEEPALIVE_IDLE_SECONDS)
        return self._accept(opened, parsed, LINK_DOOR, Plane.LINK, reception, "")

    def open_metadata(
        self, opened: socket.socket, *, door: Door, place: str, make_handler: Callable[[], Handler]
    ) -> Bound:
        """Takes a socket that listens at the metadata address of another place, the only one that is without TLS.

        Raises ValueError for any other socket.
        """
        address, port = opened.getsockname()[:2]
        if not place or (address, port) != (METADATA_ADDRESS, METADATA_PORT):
            opened.close()
            raise ValueError(f"nothing is served without TLS at {address} port {port}")
        opened.setblocking(False)
        _set_inherited(opened)
        return self._accept(opened, _parsed(address), door, Plane.METADATA, PlainReception(make_handler), place)

    def open_names(
        self,
        address: str,
        port: int,
        *,
        door: Door,
        serve: Callable[[socket.socket, socket.socket], Served],
        place: str = "",
        opened: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        """Has DNS served at an address, over a UDP socket and a listening one, which `serve` is given in this order.

        In another place than this machine, somebody else has `opened` the two. Raises as `open`.
        """
        parsed = _parsed(address)
        if opened is None:
            listening = _tcp_socket(parsed, port)
            try:
                opened = _udp_socket(parsed, listening.getsockname()[1]), listening
            except ConfigurationError:
                listening.close()
                raise
        for each in opened:
            each.setblocking(False)
        stream = Bound(str(parsed), opened[1].getsockname()[1], Plane.NAMES, door, place)
        self._names[place, stream.address, stream.port] = ((stream, replace(stream, datagrams=True)), serve(*opened))

    def serves_names(self, address: str, place: str = "") -> bool:
        """True when DNS is served at an address (normal form) in a place."""
        return any(key[:2] == (place, address) for key in self._names)

    def _accept(
        self, opened: socket.socket, address: Address, door: Door, plane: Plane, reception: Reception, place: str
    ) -> Bound:
        bound = Bound(str(address), opened.getsockname()[1], plane, door, place)
        local_address = "" if address.is_unspecified else bound.address
        entrance = Entrance(plane, door, local_address, reception, place)
        accepting = AcceptLoop(opened, lambda taken, peer: self._accepted.take(entrance, taken, peer), self._loop)
        self._listening[place, bound.address, bound.port] = (bound, accepting)
        return bound

    def close(self, address: str, port: int, place: str = "") -> None:
        """Stops listening there; accepted connections live on, those for names excepted. Without effect elsewhere."""
        key = (place, str(_parsed(address)), port)
        found = self._listening.pop(key, None) or self._names.pop(key, None)
        if found is not None:
            found[1].close()

    def release(self, door: Door, address: str, place: str = "") -> None:
        """Stops listening for a private door, and closes what came to its address, through whichever listener."""
        for bound in self.bound:
            if bound.door == door:
                self.close(bound.address, bound.port, bound.place)
        self._accepted.close_at(normal_address(address), place)

    def open_unix(self, path: Path, make_handler: Callable[[], Handler]) -> None:
        """Listens at a Unix socket that only its user may use (0600); connections know the peer's user by `peer_uid`.

        A socket file that a dead server left behind is replaced. Raises `ConfigurationError` when a live one has it.
        """
        opened = _unix_socket(path)
        accepting = AcceptLoop(opened, lambda taken, _peer: self._accepted.take_local(make_handler, taken), self._loop)
        self._unix[path] = (opened.getsockname(), accepting)

    def close_unix(self, path: Path) -> None:
        """Stops listening there and removes the file; connections live on. Without effect where nothing listens."""
        found = self._unix.pop(path, None)
        if found is not None:
            found[1].close()
            path.unlink(missing_ok=True)

    def stop_accepting(self) -> None:
        """Closes every TCP listener; connections and the local owner's socket live on."""
        for bound in self.bound:
            self.close(bound.address, bound.port, bound.place)

    async def drain(self, seconds: float) -> int:
        """Closes every TCP connection, aborts those left after `seconds`, and returns how many these were."""
        return await self._accepted.drain(seconds)

    def shut_down(self) -> None:
        """Closes all listeners, aborts the local owner's connections, and removes the Unix sockets' files."""
        self.stop_accepting()
        for path in list(self._unix):
            self.close_unix(path)
        self._accepted.abort_local()


def _parsed(address: str) -> Address:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        message = f"{address!r} is not an IP address: give the address of one of this machine's interfaces, or 0.0.0.0."
        raise ConfigurationError(message) from None


def _wildcard(address: Address) -> str:
    return "0.0.0.0" if address.version == 4 else "::"


def _tcp_socket(address: Address, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if opened.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _set_inherited(opened)
        opened.bind(socket.getaddrinfo(str(address), port, opened.family, opened.type)[0][4])
        opened.listen(LISTEN_BACKLOG)
    except OSError as error:
        opened.close()
        raise _not_bound(error, address, port) from error
    return opened


def _udp_socket(address: Address, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        if opened.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(socket.getaddrinfo(str(address), port, opened.family, opened.type)[0][4])
    except OSError as error:
        opened.close()
        raise _not_bound(error, address, port) from error
    return opened


def _set_inherited(listening: socket.socket) -> None:
    """Sets what accepted sockets inherit (Linux copies the listener's options), once instead of for each of them."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


def _not_bound(error: OSError, address: Address, port: int) -> ConfigurationError:
    if error.errno == errno.EACCES:
        remedy = f"choose one from 1024 up, or run `sysctl net.ipv4.ip_unprivileged_port_start={port}` as root"
        return PortNotPermitted(f"Port {port} may not be bound by this user: {remedy}.")
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"Port {port} at {address} is in use: stop what listens there, or choose another.")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(f"{address} is not an address of this machine: add it to an interface first.")
    return ConfigurationError(f"Cannot listen at {address} port {port} ({os.strerror(error.errno or 0)}).")


def _unix_socket(path: Path) -> socket.socket:
    with _short_path(path) as short:
        _remove_stale(path, short)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            opened.bind(short)
            # Nobody can connect between bind and listen, so nobody gets in with the wider mode of the umask.
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            opened.listen(LISTEN_BACKLOG)
        except OSError as error:
            opened.close()
            raise ConfigurationError(f"Cannot listen at {path}: {error.strerror or error}.") from error
    return opened


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """The path as the kernel takes it: one that is too long is reached through its folder's descriptor."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _remove_stale(path: Path, short: str) -> None:
    """Removes the socket file of a server that is gone; raises `ConfigurationError` when one answers."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ConfigurationError(f"{path} is in the way of the server's socket: move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(short)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            # A full backlog answers "try again": somebody listens.
            pass
    raise ConfigurationError(f"A server runs on this folder already ({path} answers): stop it first.")
