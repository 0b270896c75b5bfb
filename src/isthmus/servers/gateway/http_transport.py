"""aiohttp's server on our own connections: a handler below, the face of an `asyncio.Transport` above.

aiohttp's server is a plain factory of asyncio protocols, so it needs no socket of its own: it comes after the budget,
the door and TLS like every other pump.
"""

import asyncio
from collections.abc import Callable, Iterable

from isthmus.servers.gateway.connection import Connection, Handler

CONNECTION = "connection"
"""`request.get_extra_info(CONNECTION)` is the `Connection` that a request came by."""

Buffer = bytes | bytearray | memoryview


class HttpHandler:
    """The pump of the HTTPS plane and of the local owner's socket: hands everything to one aiohttp protocol."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """`make_protocol` is the `server` of an `aiohttp.web.AppRunner` that is set up."""
        self._make_protocol = make_protocol
        self._transport: ConnectionTransport | None = None

    def opened(self, connection: Connection) -> None:
        """Gives a new protocol its transport."""
        protocol = self._make_protocol()
        self._transport = ConnectionTransport(connection, protocol)
        protocol.connection_made(self._transport)

    def received(self, data: bytes) -> None:
        """Hands on what arrived."""
        self._opened.get_protocol().data_received(data)

    def closed(self, reason: str) -> None:
        """Tells the protocol; an end that neither side asked for is a `ConnectionResetError`."""
        transport = self._opened
        expected = transport.is_closing() or reason == "closed by peer"
        transport.get_protocol().connection_lost(None if expected else ConnectionResetError(reason))

    def writable(self) -> None:
        """Lets the protocol write again."""
        self._opened.resume_writing()

    @property
    def _opened(self) -> "ConnectionTransport":
        assert self._transport is not None, "a connection calls opened first"
        return self._transport


class ConnectionTransport(asyncio.Transport):
    """The face of `asyncio.Transport` on a `Connection`, as far as a server's protocol uses it."""

    def __init__(self, connection: Connection, protocol: asyncio.Protocol) -> None:
        super().__init__(
            extra={
                CONNECTION: connection,
                "socket": connection.raw_socket,
                # aiohttp asks only whether there is one, to tell https from http.
                "sslcontext": connection.tls_version or None,
                "peername": (connection.peer_address, connection.peer_port),
                "sockname": (connection.local_address, 0),
            }
        )
        self._connection = connection
        self._protocol = protocol
        self._closing = False
        self._given_away = False
        self._reading = True
        self._writing_paused = False

    @property
    def connection(self) -> Connection:
        """The connection below."""
        return self._connection

    def hand_over(self, handler: Handler, data: bytes) -> None:
        """Gives the connection to another handler, which hears `data` first; for the protocol it is lost."""
        self._given_away = True
        self._protocol.connection_lost(None)
        self._connection.hand_over(handler, data)

    def write(self, data: Buffer) -> None:
        """Sends, or holds what the kernel does not take; pauses the protocol above the connection's high-water mark."""
        if self._given_away:
            return
        # What is not bytes may change after this call, and may have to wait here.
        self._connection.write(data if isinstance(data, bytes) else bytes(data))
        if self._connection.congested and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Sends joined, in one record where they fit."""
        self.write(b"".join(list_of_data))

    def resume_writing(self) -> None:
        """The connection fell to its low-water mark."""
        if self._writing_paused:
            self._writing_paused = False
            self._protocol.resume_writing()

    def close(self) -> None:
        """Sends what was written, then closes."""
        if not self._given_away:
            self._closing = True
            self._connection.close()

    def abort(self) -> None:
        """Closes at once."""
        if not self._given_away:
            self._closing = True
            self._connection.abort()

    def is_closing(self) -> bool:
        """True once nothing more can be written."""
        return self._closing or self._given_away or self._connection.closing

    def pause_reading(self) -> None:
        """The protocol hears nothing until `resume_reading`."""
        if not self._given_away:
            self._reading = False
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        """The protocol hears again, from the loop, first what is decrypted already."""
        if not self._given_away:
            self._reading = True
            self._connection.resume_reading()

    def is_reading(self) -> bool:
        """True while the protocol hears what arrives."""
        return self._reading and not self.is_closing()

    def can_write_eof(self) -> bool:
        """TLS has no half-closed state that all peers understand."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes the kernel has not taken."""
        return self._connection.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Without effect: the connection's own marks hold for every protocol."""

    def get_protocol(self) -> asyncio.Protocol:
        """The protocol that hears."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Lets another protocol hear from now on."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
