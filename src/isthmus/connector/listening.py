"""Where the connector listens in its network, and everything that is carried from there.

Theory of operation. The hub's setup says which addresses and ports belong to which private endpoint; `apply` brings
the listeners there and nothing else: a place that stays keeps its listener and what it carries, one that goes loses
both. A place that cannot be listened at yet (the address is not on this machine, somebody else has the port) is tried
again every `RETRY_SECONDS`, and `statuses` says why.

An accepted connection waits for a line (`spares.py`), `LINE_SECONDS` at most, unread: what its device sends meanwhile
waits in the kernel. With its line it is carried until one side ends it. When the connector holds `most` connections,
the oldest one that the hub has not answered yet makes room, so that sockets which say nothing keep nobody out; when all
have been answered, further ones are reset at once. When the machine has no descriptors left, accepting pauses and peers
wait in the backlog.

Usually an endpoint's address is this machine's own. Where it is not (a pod behind a Kubernetes service, whose address
belongs to the service), `Places` says at which address of the machine to listen instead; the hub is told of the
endpoint's address either way.

This is the only file of the connector that opens server sockets.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.connector.carrying import Carried, make_scratch
from isthmus.connector.line import Line, keep_alive, reset
from isthmus.connector.spares import SpareLines
from isthmus.wire.link.messages import EndpointSetup, EndpointStatus
from isthmus.wire.proxy_protocol import ProxyHeader, encode_header, link_tlv

LISTEN_BACKLOG = 4_096
"""Connections the kernel completes before we accept them; it caps this at net.core.somaxconn."""

ACCEPTS_PER_WAKE_MAX = 64
"""Sockets accepted before everybody else has a turn."""

ACCEPT_PAUSE_SECONDS = 1.0
"""Pause of accepting when there is no descriptor left."""

RETRY_SECONDS = 5.0
"""Between two tries to listen at a place: an address that is added to the machine is noticed within that time."""

LINE_SECONDS = 10.0
"""How long a device's connection waits for a line: a hub's restart is over by then; after it the device is reset."""

NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

logger = logging.getLogger(__name__)

Place = tuple[str, int]
"""An endpoint's address and a port."""


@dataclass(frozen=True, slots=True)
class Places:
    """At which address of this machine an endpoint is listened for; `anywhere` counts for those not in `listed`."""

    listed: Mapping[str, str]
    anywhere: str = ""

    def of(self, address: str) -> str:
        """The machine's address for an endpoint's."""
        return self.listed.get(address, self.anywhere or address)


class ListeningPlaces:
    """All listeners and carried connections of the connector. Use it on its loop only."""

    def __init__(self, spares: SpareLines, *, places: Places, most: int, changed: Callable[[], None]) -> None:
        """`most` connections are held at once; `changed` is called when `statuses` has changed by itself."""
        self._spares = spares
        self._places = places
        self._most = most
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._scratch = make_scratch()
        self._listeners: dict[Place, _Listener] = {}
        self._endpoints: tuple[EndpointSetup, ...] = ()
        self._link_id = 0
        self._retry: asyncio.TimerHandle | None = None
        self._held = 0
        self._unanswered: dict[Carried, None] = {}
        """What is carried, the oldest first; those that were answered leave it when somebody looks for room."""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def connections(self) -> int:
        """Connections accepted and not over."""
        return self._held

    @property
    def statuses(self) -> tuple[EndpointStatus, ...]:
        """How listening for each endpoint goes."""
        return tuple(self._status(endpoint) for endpoint in self._endpoints)

    def apply(self, endpoints: Sequence[EndpointSetup], link_id: int) -> None:
        """Listens for these endpoints and no others; `link_id` is what new connections say of the connector."""
        self._endpoints = tuple(endpoints)
        self._link_id = link_id
        wanted = {(endpoint.address, port) for endpoint in endpoints for port in endpoint.ports}
        for place in [place for place in self._listeners if place not in wanted]:
            self._listeners.pop(place).end("the private endpoint is gone")
        for place in wanted - self._listeners.keys():
            self._listeners[place] = _Listener(self, place)
        self._listen()

    def stop_accepting(self) -> None:
        """Closes every listener; what is carried lives on."""
        self._cancel_retry()
        for listener in self._listeners.values():
            listener.stop_accepting()

    async def drain(self, seconds: float) -> int:
        """Waits until nothing is carried, `seconds` at most; cuts the rest off and returns how many these were."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        rest = self.connections
        for listener in self._listeners.values():
            listener.end("the connector ends")
        self._listeners.clear()
        return rest

    def _listen(self) -> None:
        """Tries every place that is not listened at, and comes back when one is left."""
        self._cancel_retry()
        for listener in self._listeners.values():
            listener.listen(self._places.of(listener.place[0]))
        if any(not listener.listening for listener in self._listeners.values()):
            self._retry = self._loop.call_later(RETRY_SECONDS, self._listen_again)

    def _listen_again(self) -> None:
        before = self.statuses
        self._listen()
        if self.statuses != before:
            self._changed()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _status(self, endpoint: EndpointSetup) -> EndpointStatus:
        listeners = [self._listeners[endpoint.address, port] for port in endpoint.ports]
        ports = tuple(listener.place[1] for listener in listeners if listener.listening)
        reasons = _distinct(listener.reason for listener in listeners if listener.reason)
        return EndpointStatus(
            address=endpoint.address, listening=not reasons, ports=ports, reason="; ".join(reasons)[:1_024]
        )

    # ── for the listeners ────────────────────────────────────────────────────────────────────────────────────────

    def took(self) -> bool:
        """Counts one more connection; False when no more may be held."""
        if self._held >= self._most and not self._evict():
            return False
        self._held += 1
        self._idle.clear()
        return True

    def _evict(self) -> bool:
        """Ends the oldest connection that the hub has not answered; False when there is none."""
        while self._unanswered:
            oldest = next(iter(self._unanswered))
            del self._unanswered[oldest]
            if not oldest.bytes_down:
                oldest.abort("made room for another")
                return True
        return False

    def released(self, carried: Carried | None = None) -> None:
        """One that was counted is over."""
        if carried is not None:
            self._unanswered.pop(carried, None)
        self._held -= 1
        if not self._held:
            self._idle.set()

    def header(self, place: Place, peer: Sequence[str | int]) -> bytes:
        """What the hub is told of a connection first."""
        source = str(peer[0]).partition("%")[0]
        tlvs = (link_tlv(self._link_id),)
        return encode_header(ProxyHeader(source, int(peer[1]), place[0], place[1], tlvs))

    def carry(self, client: socket.socket, line: Line, over: Callable[[Carried, str], None]) -> Carried:
        """A carried connection that has not begun."""
        carried = Carried(client, line, loop=self._loop, scratch=self._scratch, over=over)
        self._unanswered[carried] = None
        return carried

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that all of it runs on."""
        return self._loop

    @property
    def spares(self) -> SpareLines:
        """Where lines come from."""
        return self._spares


class _Listener:
    """One place: its listening socket, once there is one, and what came in there."""

    def __init__(self, owner: ListeningPlaces, place: Place) -> None:
        self.place = place
        self.reason = "not tried yet"
        self._owner = owner
        self._socket: socket.socket | None = None
        self._arrivals: set[_Arrival] = set()
        self._carried: set[Carried] = set()
        self._pause: asyncio.TimerHandle | None = None

    @property
    def listening(self) -> bool:
        return self._socket is not None

    def listen(self, address: str) -> None:
        if self._socket is not None:
            return
        try:
            self._socket = _listening_socket(address, self.place[1])
        except (OSError, ValueError) as error:
            reason = _words(error, address, self.place[1])
            if reason != self.reason:
                logger.warning("not listening", extra={"address": self.place[0], "port": self.place[1], "why": reason})
            self.reason = reason
            return
        self.reason = ""
        logger.info("listening", extra={"address": self.place[0], "port": self.place[1], "at": address})
        self._owner.loop.add_reader(self._socket.fileno(), self._accept)

    def stop_accepting(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._socket is not None:
            self._owner.loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def end(self, reason: str) -> None:
        self.stop_accepting()
        for arrival in list(self._arrivals):
            arrival.give_up()
        for carried in list(self._carried):
            carried.abort(reason)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE_MAX):
            if self._socket is None:
                return
            try:
                client, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    self._rest(error)
                    return
                # The peer has gone before it was accepted (accept(2) reports its pending network errors).
                continue
            client.setblocking(False)
            self._take(client, peer)

    def _take(self, client: socket.socket, peer: Sequence[str | int]) -> None:
        if not self._owner.took():
            reset(client)
            return
        arrival = _Arrival(self, client, self._owner.header(self.place, peer))
        self._arrivals.add(arrival)
        arrival.wait(self._owner)

    def gave_up(self, arrival: "_Arrival") -> None:
        self._arrivals.discard(arrival)
        self._owner.released()

    def begin(self, arrival: "_Arrival", client: socket.socket, line: Line, header: bytes) -> None:
        self._arrivals.discard(arrival)
        carried = self._owner.carry(client, line, self._ended)
        self._carried.add(carried)
        carried.begin(header)

    def _ended(self, carried: Carried, reason: str) -> None:
        self._carried.discard(carried)
        self._owner.released(carried)
        fields = {"address": self.place[0], "port": self.place[1], "reason": reason}
        logger.debug("connection over", extra=fields | {"up": carried.bytes_up, "down": carried.bytes_down})

    def _rest(self, error: OSError) -> None:
        assert self._socket is not None
        logger.error("accepting pauses", extra={"reason": error.strerror})
        self._owner.loop.remove_reader(self._socket.fileno())
        self._pause = self._owner.loop.call_later(ACCEPT_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._socket is not None:
            self._owner.loop.add_reader(self._socket.fileno(), self._accept)


class _Arrival:
    """An accepted connection that waits for its line."""

    __slots__ = ("_client", "_deadline", "_header", "_listener", "_spares")

    def __init__(self, listener: _Listener, client: socket.socket, header: bytes) -> None:
        self._listener = listener
        self._client = client
        self._header = header
        self._deadline: asyncio.TimerHandle | None = None
        self._spares: SpareLines | None = None

    def wait(self, owner: ListeningPlaces) -> None:
        self._spares = owner.spares
        self._deadline = owner.loop.call_later(LINE_SECONDS, self.give_up)
        if not owner.spares.take(self, self._begin):
            self.give_up()

    def give_up(self) -> None:
        self._leave()
        reset(self._client)
        self._listener.gave_up(self)

    def _begin(self, line: Line) -> None:
        self._leave()
        self._listener.begin(self, self._client, line, self._header)

    def _leave(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._spares is not None:
            self._spares.forget(self)


def name_sockets(address: str, port: int) -> tuple[socket.socket, socket.socket] | str:
    """A datagram and a listening socket for a name service, or why there are none."""
    datagrams: socket.socket | None = None
    try:
        datagrams = _bound(address, port, socket.SOCK_DGRAM)
        return datagrams, _listening_socket(address, port)
    except (OSError, ValueError) as error:
        if datagrams is not None:
            datagrams.close()
        return _words(error, address, port)


def _listening_socket(address: str, port: int) -> socket.socket:
    opened = _bound(address, port, socket.SOCK_STREAM)
    try:
        # Accepted sockets inherit these (Linux copies the listener's options).
        keep_alive(opened)
        opened.listen(LISTEN_BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    parsed = ipaddress.ip_address(address)
    opened = socket.socket(socket.AF_INET if parsed.version == 4 else socket.AF_INET6, kind)
    try:
        opened.setblocking(False)
        if kind is socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if parsed.version == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((str(parsed), port))
    except BaseException:
        opened.close()
        raise
    return opened


def _words(error: OSError | ValueError, address: str, port: int) -> str:
    if isinstance(error, ValueError):
        return f"{address} is not an IP address"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is not an address of this machine"
    if error.errno == errno.EACCES:
        return f"port {port} may not be bound by this user"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use"
    return f"port {port}: {os.strerror(error.errno or 0).lower()}"


def _distinct(reasons: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(reasons))
