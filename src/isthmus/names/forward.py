"""Asking other servers what no zone here answers.

Theory of operation. Each question has a socket of its own, connected, so that the kernel takes answers from the server
asked alone and gives a random port, and a random id (RFC 5452 §9); what does not match is waited past. An answer that
was cut short is asked for again over TCP (RFC 7766 §5). A server that is silent, or says that it failed or refuses, is
followed by the next; all are asked in turn until the deadline, which is shorter than the usual client's patience.
Questions under way are bounded: beyond that they are unanswered at once, and the client hears SERVFAIL. Nothing is
cached: the servers asked do that. Cancelling a question closes its socket.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.rcode

from isthmus.base.ids import Ids
from isthmus.names.answer import Ask, is_answer_to, question_for

FORWARDS_IN_FLIGHT_MAX = 256
"""Questions under way, each with a socket."""

FORWARD_SERVERS_MAX = 3
"""Servers asked; stub resolvers have as many (resolv.conf(5), MAXNS)."""

ATTEMPT_SECONDS = 1.5
"""For one server's answer to one datagram, or to one question over TCP."""

ROUNDS = 2
"""How often each server is asked: a datagram may be lost."""

DEADLINE_SECONDS = 4.5
"""For a question altogether: below the five seconds after which a stub resolver asks again (resolv.conf(5))."""

DNS_PORT = 53
LENGTH_BYTES = 2
DATAGRAM_BYTES_MAX = 65_535

FAILURES = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR})
"""Answers that another server may have a better one for."""


class Unanswered(Exception):  # noqa: N818 - what happened, not whose error it was
    """Nobody answered in time, or too many questions are under way."""


class Forwarder:
    """Asks `servers`, addresses with their ports, in their order; used on one event loop."""

    def __init__(self, servers: Sequence[tuple[str, int]], ids: Ids) -> None:
        self.servers = tuple(servers)[:FORWARD_SERVERS_MAX]
        self._ids = ids
        self._in_flight = 0

    @property
    def is_on(self) -> bool:
        """True when there is a server to ask."""
        return bool(self.servers)

    @property
    def is_full(self) -> bool:
        """True when a further question would not be asked."""
        return self._in_flight >= FORWARDS_IN_FLIGHT_MAX

    async def ask(self, ask: Ask) -> dns.message.Message:
        """What the servers say, a failure only when all of them do; raises `Unanswered`."""
        if self.is_full:
            raise Unanswered("too many questions are under way")
        self._in_flight += 1
        try:
            return await self._in_turn(ask)
        finally:
            self._in_flight -= 1

    async def _in_turn(self, ask: Ask) -> dns.message.Message:
        failure: dns.message.Message | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                for server in self.servers * ROUNDS:
                    said = await self._of_one(server, ask)
                    if said is not None and said.rcode() not in FAILURES:
                        return said
                    failure = said or failure
        if failure is None:
            raise Unanswered("no server answered")
        return failure

    async def _of_one(self, server: tuple[str, int], ask: Ask) -> dns.message.Message | None:
        """One server's answer, None when it has none in time."""
        # The first digits of a random UUID are random; an id has sixteen bits.
        query = question_for(ask, int(self._ids.uuid()[:4], 16))
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                said = await _by_datagram(server, query)
            if not said.flags & dns.flags.TC:
                return said
            async with asyncio.timeout(ATTEMPT_SECONDS):
                return await _by_stream(server, query)
        except (TimeoutError, OSError, EOFError):
            return None


async def _by_datagram(server: tuple[str, int], query: dns.message.Message) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    with socket.socket(_family(server), socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect(server)
        await loop.sock_sendall(asking, query.to_wire())
        while True:
            said = is_answer_to(query, await loop.sock_recv(asking, DATAGRAM_BYTES_MAX))
            if said is not None:
                return said


async def _by_stream(server: tuple[str, int], query: dns.message.Message) -> dns.message.Message | None:
    reader, writer = await asyncio.open_connection(*server)
    try:
        data = query.to_wire()
        writer.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        return is_answer_to(query, await reader.readexactly(length))
    finally:
        writer.transport.abort()


def _family(server: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET
