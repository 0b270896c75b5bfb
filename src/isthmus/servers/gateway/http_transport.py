"""aiohttp's server on our own connections: a handler below, the face of an `asyncio.Transport` above.

aiohttp's server is a plain factory of asyncio protocols, so it needs no socket of its own: it comes after the budget,
the door and TLS like every other pump.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from isthmus.servers.gateway.connection import WRITE_HIGH_BYTES, WRITE_LOW_BYTES, Connection

CONNECTION = "connection"
"""`request.transport.get_extra_info(CONNECTION)` is the `Connection` a request came by."""


class HttpHandler:
    """The pump of the HTTPS plane and of the local owner's socket: hands everything to one aiohttp protocol."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """`make_protocol` is the `server` of a set-up `aiohttp.web.AppRunner`."""
        self._make_protocol = make_protocol
        self._protocol: asyncio.Protocol | None = None
        self._transport: ConnectionTransport | None = None

    def opened(self, connection: Connection) -> None:
        """Gives the protocol its transport."""
        protocol = self._make_protocol()
        self._protocol = protocol
        self._transport = ConnectionTransport(connection, protocol)
        protocol.connection_made(self._transport)

    def received(self, data: bytes) -> None:
        """Hands on to whatever protocol the transport has now."""
        if self._transport is not None:
            self._transport.protocol.data_received(data)

    def closed(self, reason: str) -> None:
        """Tells the protocol; an end that nobody asked for is a `ConnectionResetError`."""
        if self._transport is not None:
            expected = self._transport.is_closing() or reason == "closed by peer"
            self._transport.protocol.connection_lost(None if expected else ConnectionResetError(reason))

    def writable(self) -> None:
        """Lets the protocol write again."""
        if self._transport is not None:
            self._transport.resume_writing()


class ConnectionTransport(asyncio.Transport):
    """The face of `asyncio.Transport` that aiohttp uses, on a `Connection`."""

    def __init__(self, connection: Connection, protocol: asyncio.Protocol) -> None:
        raw = connection.raw_socket
        # A sslcontext is what aiohttp takes for "https"; which one it is, it does not ask.
        super().__init__(extra={CONNECTION: connection, "socket": raw, "sslcontext": connection.tls_version or None})
        self._connection = connection
        self.protocol = protocol
        self._closing = False
        self._writing_paused = False
        self._reading = True
