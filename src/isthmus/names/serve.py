"""DNS over the sockets that it is given: a datagram socket and a listening socket for each address.

Theory of operation. A name server opens no server socket: whoever has one hands it over, and from then on it is the
server's. Datagrams are answered as they come, a bounded number for each wake-up; an answer that the kernel does not
take at once is dropped, as any datagram may be, and the client asks again. TCP connections (RFC 7766) carry queries one
after the other, and end when the peer is silent for a while, or has asked very often. When all connections are taken,
the one that has been silent longest makes room. Answers are pure; only what must be asked of others waits, within the
forwarder's own limits. Which names a client sees is decided by the address that it reached, and asked for with every
query, so that a change counts at once.

An answer that was made once is given again as long as the view is the same, so that what everybody asks for costs
little. Making answers has a limit per second, beyond which queries are dropped: who asks for ever other names takes a
part of the processor, and not the hub.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Coroutine

import dns.rcode

from isthmus.names.answer import QUERY_BYTES_MAX, Ask, answer, failed, relayed
from isthmus.names.forward import Forwarder, Unanswered
from isthmus.names.zone import Names

DATAGRAMS_PER_WAKE_MAX = 32
"""Queries answered before everybody else has a turn: ten milliseconds of work when none was answered before."""

ANSWERS_MADE_PER_SECOND_MAX = 1_000
"""Of all addresses together: at 300 µs each, a third of a processor. Beyond it a datagram is dropped, as any may be, or
a connection is closed.
"""

ANSWERS_KEPT_MAX = 1_024
"""Answers kept of one view; when there are as many, all are forgotten."""

KEPT_BYTES_MAX = 2_048
"""Of a query with its answer that are kept; larger ones are made anew each time."""

ACCEPTS_PER_WAKE_MAX = 16
"""Connections accepted before everybody else has a turn."""

CONNECTIONS_MAX = 256
"""TCP connections of all addresses together; a further one ends the one that has been silent longest."""

QUERIES_PER_CONNECTION_MAX = 1_000
"""Then the connection is closed, and a client that has more to ask opens another (RFC 7766 §6.2.1)."""

IDLE_SECONDS = 10.0
"""A connection without a whole query for so long is closed (RFC 7766 §6.2.3)."""

WRITE_SECONDS = 5.0
"""A peer that does not read its answer for so long is left."""

ACCEPT_PAUSE_SECONDS = 1.0
"""Pause of accepting when there is no descriptor left."""

NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
LENGTH_BYTES = 2
DATAGRAM_BYTES_MAX = 65_535

logger = logging.getLogger(__name__)

NamesOf = Callable[[], Names]
"""What the clients of an address see now."""


def is_inside(address: str) -> bool:
    """True for an address that is not of the public internet: names are served at such addresses only.

    Others are asked on behalf of such addresses only: who does that for everybody is used to flood strangers
    (RFC 5358).
    """
    try:
        return not ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False


class NameServer:
    """Serves names at any number of addresses; used on one event loop only. `close` ends all."""

    def __init__(self, forwarder: Forwarder) -> None:
        self.forwarder = forwarder
        self.queries = 0
        """Queries since the start, whatever the answer."""
        self.dropped = 0
        """Of these, those that were dropped because too many answers had to be made."""
        self._loop = asyncio.get_running_loop()
        self._since, self._made = self._loop.time(), 0
        self._served: set[Served] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[asyncio.Task[None], None] = {}
        """The connections' tasks, the one that has been silent longest first."""

    def serve(self, datagrams: socket.socket, listening: socket.socket, names_of: NamesOf) -> "Served":
        """Answers what comes in by the two sockets, which are the server's from now on; both must not block."""
        served = Served(self, datagrams, listening, names_of)
        self._served.add(served)
        return served

    def close(self) -> None:
        """Closes all sockets and connections."""
        for served in list(self._served):
            served.close()
        for task in (*self._tasks, *self._connections):
            task.cancel()

    def answer(self, data: bytes, names: Names, source: str, *, over_tcp: bool) -> bytes | Ask | None:
        """The answer to a query, or what is to be asked of others; None when there is to be none."""
        self.queries += 1
        forwards = self.forwarder.is_on and is_inside(source)
        key = (data[2:], over_tcp, forwards)
        kept = names.answers.get(key)
        if kept is not None:
            return data[:2] + kept
        if not self._may_make():
            self.dropped += 1
            return None
        made = answer(data, names, over_tcp=over_tcp, forwards=forwards)
        if isinstance(made, bytes) and len(data) + len(made) <= KEPT_BYTES_MAX:
            if len(names.answers) >= ANSWERS_KEPT_MAX:
                names.answers.clear()
            names.answers[key] = made[2:]
        return made

    def _may_make(self) -> bool:
        """Counts one more answer of this second; False when there were too many."""
        now = self._loop.time()
        if now - self._since >= 1:
            self._since, self._made = now, 0
        self._made += 1
        return self._made <= ANSWERS_MADE_PER_SECOND_MAX

    async def asked(self, ask: Ask) -> bytes:
        """The answer that others give; a failure when they do not."""
        try:
            return relayed(ask, await self.forwarder.ask(ask))
        except Unanswered:
            return failed(ask.query, dns.rcode.SERVFAIL)

    def keep(self, work: Coroutine[object, object, None]) -> None:
        """Runs work that ends by itself, at the latest with the server."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connected(self, conversation: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Runs a connection's conversation; the one that has been silent longest ends when there are too many."""
        while len(self._connections) >= CONNECTIONS_MAX:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(conversation)
        self._connections[task] = None
        task.add_done_callback(lambda ended: self._connections.pop(ended, None))
        return task

    def heard(self, task: asyncio.Task[None] | None) -> None:
        """A connection was not silent just now."""
        if task in self._connections:
            self._connections[task] = self._connections.pop(task)

    def forget(self, served: "Served") -> None:
        """An address is served no more."""
        self._served.discard(served)


class Served:
    """One address where names are served, until `close`."""

    def __init__(self, server: NameServer, datagrams: socket.socket, listening: socket.socket, names_of: NamesOf):
        self._server = server
        self._datagrams = datagrams
        self._listening = listening
        self._names_of = names_of
        self._loop = asyncio.get_running_loop()
        self._conversations: set[asyncio.Task[None]] = set()
        self._accepted: dict[asyncio.Task[None], socket.socket] = {}
        """Sockets whose conversation has not begun: one that is ended before that closes no socket itself."""
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(datagrams, self._take_datagrams)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Closes both sockets and ends the connections. Idempotent."""
        if self._pause is not None:
            self._pause.cancel()
        for opened in (self._datagrams, self._listening):
            if opened.fileno() >= 0:
                self._loop.remove_reader(opened)
                opened.close()
        for task in self._conversations:
            task.cancel()
        self._server.forget(self)

    def _take_datagrams(self) -> None:
        for _ in range(DATAGRAMS_PER_WAKE_MAX):
            try:
                data, source = self._datagrams.recvfrom(DATAGRAM_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An error that an earlier answer met (a port unreachable, udp(7)) is no concern of later ones.
                continue
            found = self._server.answer(data, self._names_of(), source[0], over_tcp=False)
            if isinstance(found, Ask):
                self._hand_on(found, source)
            elif found is not None:
                self._send(found, source)

    def _hand_on(self, ask: Ask, source: tuple[str, int]) -> None:
        async def asked() -> None:
            self._send(await self._server.asked(ask), source)

        if self._server.forwarder.is_full:
            self._send(failed(ask.query, dns.rcode.SERVFAIL), source)
        else:
            self._server.keep(asked())

    def _send(self, data: bytes, source: tuple[str, int]) -> None:
        try:
            self._datagrams.sendto(data, source)
        except OSError as error:
            # Full buffers, a route that is gone, a socket closed meanwhile: the client asks again.
            logger.debug("answer dropped", extra={"address": source[0], "reason": error.strerror})

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE_MAX):
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    self._rest()
                    return
                continue
            accepted.setblocking(False)
            task = self._server.connected(self._converse(accepted, peer[0]))
            self._conversations.add(task)
            self._accepted[task] = accepted
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._conversations.discard(task)
        accepted = self._accepted.pop(task, None)
        if accepted is not None:
            accepted.close()

    def _rest(self) -> None:
        logger.error("accepting queries pauses", extra={"reason": "no descriptor left"})
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(
            ACCEPT_PAUSE_SECONDS, lambda: self._loop.add_reader(self._listening, self._accept)
        )

    async def _converse(self, accepted: socket.socket, source: str) -> None:
        """One TCP connection, until its peer is silent, has gone, or has asked too often."""
        task = asyncio.current_task()
        try:
            reader, writer = await asyncio.open_connection(sock=accepted, limit=QUERY_BYTES_MAX)
        except OSError:
            return
        if task is not None:
            del self._accepted[task]
        try:
            await self._talk(reader, writer, source)
        except (TimeoutError, OSError, EOFError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        else:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str) -> None:
        for _ in range(QUERIES_PER_CONNECTION_MAX):
            async with asyncio.timeout(IDLE_SECONDS):
                data = await _query_of(reader)
            self._server.heard(asyncio.current_task())
            found = self._server.answer(data, self._names_of(), source, over_tcp=True)
            said = await self._server.asked(found) if isinstance(found, Ask) else found
            if said is None:
                return
            writer.write(len(said).to_bytes(LENGTH_BYTES, "big") + said)
            async with asyncio.timeout(WRITE_SECONDS):
                await writer.drain()
            if len(data) > QUERY_BYTES_MAX:
                return


async def _query_of(reader: asyncio.StreamReader) -> bytes:
    """The next query of a stream; of one that is too long, what makes it so, to be refused."""
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    return await reader.readexactly(min(length, QUERY_BYTES_MAX + 1))
