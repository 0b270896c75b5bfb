"""A WebSocket as the connection of a pump: frames below, a stream of bytes above.

Theory of operation. After the upgrade the socket is handed from the HTTP server to a `WebSocketConnection`, which is
its handler, and for the pump above it is the connection itself. It holds no bytes and runs no task: each read is turned
into payload and handed on at once, each write of the pump becomes a frame. So back-pressure is the socket's own in
both directions, and the pump meets the same deadlines, budget and cuts as on its own port: the upgrade has proved
nothing.

Middle boxes forget connections that are silent for some minutes, and a device's own keep-alive may be longer. When the
peer has been silent for `PING_SECONDS`, it is pinged; whether an answer comes does not matter, since the protocol
inside judges its silence. A ping of the peer is answered, unless it does not read: then the last one is, once it does.
"""

from collections.abc import Callable
from typing import Protocol

from isthmus.network.door import Door
from isthmus.servers.gateway.connection import Connection
from isthmus.servers.gateway.ports import DeviceConnection, Timer, Timers
from isthmus.wire.websocket.stream import (
    CloseCode,
    FrameError,
    Incoming,
    Opcode,
    ServerStream,
    close_frame,
    encode_frame,
)

PING_SECONDS = 100.0
"""Of silence, judged when they are over: a ping comes within 200 s, before load balancers forget after 240 s."""

FRAME_BYTES_SENT_MAX = 1024 * 1024
"""Of a frame's payload; a longer write becomes several. Client libraries bound what they take, aiohttp to 4 MiB."""

CARRIER = "websocket"
"""What the journal says about the pump's decisions."""

_PING = encode_frame(Opcode.PING)


class Pump(Protocol):
    """A protocol above a stream of bytes; see `connection.Handler`."""

    def opened(self, connection: DeviceConnection) -> None:
        """Called once, first."""

    def received(self, data: bytes) -> None:
        """Takes what came, never empty."""

    def closed(self, reason: str) -> None:
        """Called once, last."""

    def writable(self) -> None:
        """Called when the peer reads again."""


class WebSocketConnection:
    """One WebSocket after its upgrade; use it on its loop only."""

    __slots__ = (
        "_closing",
        "_connection",
        "_heard",
        "_on_fault",
        "_pong",
        "_pump",
        "_stream",
        "_timer",
        "_timers",
        "host_names",
    )

    carrier = CARRIER

    def __init__(
        self,
        pump: Pump,
        connection: Connection,
        host_names: tuple[str, ...],
        timers: Timers,
        on_fault: Callable[["WebSocketConnection", FrameError], None],
    ) -> None:
        """`host_names` are those the upgrade gave; `on_fault` hears of a peer that breaks RFC 6455, to journal it."""
        self.host_names = host_names
        self._pump = pump
        self._connection = connection
        self._timers = timers
        self._on_fault = on_fault
        self._stream = ServerStream()
        self._timer: Timer | None = None
        self._heard = False
        self._closing = False
        self._pong: bytes | None = None

    # ── the pump's side: a connection (see `ports.DeviceConnection`) ─────────────────────────────────────────────

    @property
    def connection_id(self) -> str:
        """The socket's."""
        return self._connection.connection_id

    @property
    def door(self) -> Door:
        """The door that the socket came by."""
        return self._connection.door

    @property
    def peer_address(self) -> str:
        """The socket's; behind a forward proxy the proxy's."""
        return self._connection.peer_address

    @property
    def server_name(self) -> str:
        """The name that TLS was asked for."""
        return self._connection.server_name

    @property
    def peer_chain(self) -> tuple[bytes, ...]:
        """The client's certificates, from TLS."""
        return self._connection.peer_chain

    @property
    def opened_monotonic(self) -> float:
        """When the socket was accepted."""
        return self._connection.opened_monotonic

    @property
    def congested(self) -> bool:
        """True while what was written does not leave; `writable` follows."""
        return self._connection.congested

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        return self._connection.buffered

    def made_progress(self) -> None:
        """Says that the peer has proved who it is."""
        self._connection.made_progress()

    def write(self, data: bytes) -> None:
        """Sends binary frames, or holds what cannot be sent yet; dropped when the connection is closing."""
        if self._closing:
            return
        for start in range(0, len(data), FRAME_BYTES_SENT_MAX):
            self._connection.write(encode_frame(Opcode.BINARY, data[start : start + FRAME_BYTES_SENT_MAX]))

    def close(self, reason: str = "closed") -> None:
        """Sends what was written and a close frame, then closes. Idempotent.

        The close frame says the same whatever the reason: a stranger learns nothing from it.
        """
        self._say_goodbye(CloseCode.NORMAL, reason)

    def abort(self, reason: str = "aborted") -> None:
        """Closes at once."""
        self._connection.abort(reason)

    def pause_reading(self) -> None:
        """Delivers nothing more for now; the peer feels it through its own socket."""
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        """Delivers again."""
        self._connection.resume_reading()

    # ── the socket's side (see `connection.Handler`) ─────────────────────────────────────────────────────────────

    def opened(self, connection: Connection) -> None:
        """Opens the pump; called when the socket was handed over."""
        self._timer = self._timers.call_later(PING_SECONDS, self._tick)
        self._pump.opened(self)

    def received(self, data: bytes) -> None:
        """Takes one read."""
        self._heard = True
        incoming = self._stream.receive(data)
        if incoming.ping is not None:
            self._pong = incoming.ping
            self._answer_ping()
        if incoming.data:
            self._pump.received(incoming.data)
        if incoming.closed or incoming.error is not None:
            self._ended_by(incoming)

    def closed(self, reason: str) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._pump.closed(reason)

    def writable(self) -> None:
        """The peer reads again."""
        self._answer_ping()
        self._pump.writable()

    def _answer_ping(self) -> None:
        if self._pong is not None and not self._connection.congested and not self._closing:
            self._connection.write(encode_frame(Opcode.PONG, self._pong))
            self._pong = None

    def _ended_by(self, incoming: Incoming) -> None:
        """The peer has closed, or broken a rule; the pump may have closed before."""
        if self._closing:
            return
        if incoming.error is None:
            self._say_goodbye(incoming.close_code, "closed by peer")
        else:
            self._on_fault(self, incoming.error)
            self._say_goodbye(incoming.error.code, "websocket protocol error")

    def _say_goodbye(self, code: int | None, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        self._connection.write(close_frame(code))
        self._connection.close(reason)

    def _tick(self) -> None:
        if not self._heard and not self._closing and not self._connection.congested:
            self._connection.write(_PING)
        self._heard = False
        self._timer = self._timers.call_later(PING_SECONDS, self._tick)
