"""How the connector reaches its hub: TCP, through a forward proxy where one leads there, then TLS.

Every connection of the connector is dialled here, so that none of them forgets the proxy. A proxy that is reached over
TLS itself gives a line whose layers are stacked.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigurationError
from isthmus.connector.line import Line, keep_alive
from isthmus.connector.proxies import Proxies, Proxy, ProxyRefused, TunnelAnswer, tunnel_request
from isthmus.wire.tls import Layer, StackedLayer, TlsLayer, default_client_context
from isthmus.wire.tls_error import TlsError

DIAL_SECONDS = 15.0
"""From the first packet to the end of the TLS handshake, over a slow border with a proxy."""

READ_BYTES = 65_536
"""Read at a time while shaking hands."""

PIECE_BYTES = 8_192
"""What a line's TLS works on at once: it keeps a third more in each direction for its life. With 12 KiB a line that has
carried much took some 10 KiB more, and a tenth less CPU for a megabyte."""


class DialFailed(Exception):  # noqa: N818 - what happened to a call
    """The hub was not reached; the text says where and why. `judged` is true when what answered is not our hub."""

    def __init__(self, text: str, *, judged: bool = False) -> None:
        super().__init__(text)
        self.judged = judged


@dataclass(frozen=True, slots=True)
class Target:
    """Where to dial, and whom to expect there: `server_name` is the name that the certificate must be for."""

    host: str
    port: int
    server_name: str

    @property
    def text(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Dialler:
    """Dials; any number of calls at once."""

    def __init__(self, proxies: Proxies, clock: Clock) -> None:
        self._proxies = proxies
        self._clock = clock

    async def dial(self, target: Target, context: ssl.SSLContext) -> Line:
        """An established line; raises `DialFailed` after `DIAL_SECONDS` at the latest. Cancelled, it leaves nothing."""
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                return await self._dial(target, context)
        except TimeoutError:
            raise DialFailed(f"{target.text} did not answer within {DIAL_SECONDS:.0f} s") from None

    async def _dial(self, target: Target, context: ssl.SSLContext) -> Line:
        proxy = self._proxies.to(target.host)
        if proxy is None:
            async with _connected(target.host, target.port) as direct:
                return await self._secure(direct, target, context, None, b"")
        async with _connected(proxy.host, proxy.port) as through:
            outer, rest = await _tunnel(through, proxy, target)
            return await self._secure(through, target, context, outer, rest)

    async def _secure(
        self, connected: socket.socket, target: Target, context: ssl.SSLContext, outer: Layer | None, rest: bytes
    ) -> Line:
        inner = TlsLayer(context, server_side=False, server_name=target.server_name, piece_bytes=PIECE_BYTES)
        layer = inner if outer is None else StackedLayer(outer, inner)
        try:
            early = inner.receive(rest) if rest else b""
            early += await _shake_hands(connected, layer)
        except TlsError as error:
            judged = "verify failed" in error.reason
            raise DialFailed(f"{target.text} is not trusted as the hub: {error.reason}", judged=judged) from error
        except OSError as error:
            raise DialFailed(f"{target.text} ended during the handshake: {_words(error)}") from error
        return Line(connected, layer, target.text, self._clock.monotonic(), early)


async def _tunnel(connected: socket.socket, proxy: Proxy, target: Target) -> tuple[Layer | None, bytes]:
    """Opens a tunnel; returns the layer of a proxy that speaks TLS, and what came through the tunnel already."""
    loop = asyncio.get_running_loop()
    answer = TunnelAnswer()
    outer: Layer | None = None
    request = tunnel_request(proxy, target.host, target.port)
    try:
        if proxy.secure:
            outer = TlsLayer(_default_trust(), server_side=False, server_name=proxy.host, piece_bytes=PIECE_BYTES)
            await _shake_hands(connected, outer)
            outer.send(request)
            request = outer.outgoing()
        await loop.sock_sendall(connected, request)
        while not answer.receive(await _read(connected, outer)):
            pass
    except (ProxyRefused, TlsError, OSError) as error:
        why = _words(error) if isinstance(error, OSError) else str(error)
        raise DialFailed(f"the proxy {proxy.host}:{proxy.port} opens no tunnel to {target.text}: {why}") from error
    return outer, answer.rest


async def _read(connected: socket.socket, outer: Layer | None) -> bytes:
    """Bytes from a proxy; raises ConnectionResetError when it ended."""
    while True:
        data = await asyncio.get_running_loop().sock_recv(connected, READ_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "ended")
        plaintext = data if outer is None else outer.receive(data)
        if plaintext:
            return plaintext


async def _shake_hands(connected: socket.socket, layer: Layer) -> bytes:
    """Drives a handshake to its end; returns plaintext that came with it. Raises `TlsError` and OSError."""
    loop = asyncio.get_running_loop()
    early = b""
    while True:
        flight = layer.outgoing()
        if flight:
            await loop.sock_sendall(connected, flight)
        if layer.established:
            return early
        data = await loop.sock_recv(connected, READ_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "ended")
        try:
            early = layer.receive(data)
        except TlsError:
            alert = layer.outgoing()
            if alert:
                await loop.sock_sendall(connected, alert)
            raise


@asynccontextmanager
async def _connected(host: str, port: int) -> AsyncIterator[socket.socket]:
    """A connected socket, which is closed when the block raises."""
    opened = await _connect(host, port)
    try:
        yield opened
    except BaseException:
        opened.close()
        raise


async def _connect(host: str, port: int) -> socket.socket:
    """Tries each address of a host in turn; raises `DialFailed` with the last one's reason."""
    loop = asyncio.get_running_loop()
    try:
        places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DialFailed(f"the name {host} is not known: {error.strerror or error}") from error
    why = "it has no address"
    for family, kind, protocol, _, address in places:
        try:
            return await _connect_one(loop, socket.socket(family, kind, protocol), address)
        except OSError as error:
            why = _words(error)
    raise DialFailed(f"{host} port {port} was not reached: {why}")


async def _connect_one(
    loop: asyncio.AbstractEventLoop,
    opened: socket.socket,
    address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
) -> socket.socket:
    try:
        opened.setblocking(False)
        keep_alive(opened)
        await loop.sock_connect(opened, address)
    except BaseException:
        opened.close()
        raise
    return opened


def _default_trust() -> ssl.SSLContext:
    try:
        return default_client_context()
    except OSError as error:
        raise ConfigurationError(f"This machine's trusted certificates cannot be read: {error}.") from error


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
