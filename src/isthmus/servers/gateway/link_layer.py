"""What lies below a connection that a connector brings: the connector's TLS, a header, the device's TLS.

Theory of operation. One layer that stacks others, so that a carried connection is an ordinary one to everybody above:
the same stages, deadlines, back-pressure and cuts, on one socket.

    socket ─▶ outer TLS ─▶ guard: who is it? ─┬─ CONTROL, ENROLLING, TURNED_AWAY: its plaintext is the stream
                                              └─ CARRYING ─▶ PROXY header ─▶ guard: for whom? ─▶ inner TLS

The connector proves who it is in the outer handshake, and only then its header is believed. Nobody looks for a header
anywhere else. While a CARRYING connection waits for its first byte, it is a spare one. Both handshakes are part of the
connection's own: it is established when the innermost is.

Who asks for the name of the enrolment may come without a certificate, and gets nothing but the enrolment: the first
bytes are kept until the name is known, because the handshake then begins again with the other context.
"""

from enum import Enum, auto
from typing import NoReturn, Protocol

from isthmus.wire.proxy_protocol import SIGNATURE, HeaderReader, ProxyHeader, ProxyHeaderError
from isthmus.wire.tls import Layer, LinkContexts
from isthmus.wire.tls_error import TlsError

HEADER_TOO_EARLY = "a PROXY header ahead of TLS"
"""What a peer has done that sends its header before it has proved who it is: anybody could."""

HELLO_BYTES_MAX = 65_536
"""Kept of a handshake's beginning until the peer's name is known: a ClientHello has some hundred bytes."""


class Role(Enum):
    """What a connection of the link door is for, from its TLS handshake on."""

    CONTROL = auto()
    CARRYING = auto()
    ENROLLING = auto()
    TURNED_AWAY = auto()


class LinkEnded(TlsError):  # noqa: N818 - says what happened; nobody has made a mistake
    """The guard does not go on with the connection, and has said why to whom it concerns."""


class LinkGuard(Protocol):
    """Who judges at the two stations; each call may raise `LinkEnded`."""

    def presented(self, chain: tuple[bytes, ...], protocol: str, *, enrolling: bool) -> Role:
        """The outer handshake is done: what the connection is for."""

    def begun(self) -> None:
        """The first byte of a header is here: the connection is not a spare one any more."""

    def malformed(self, error: ProxyHeaderError) -> NoReturn:
        """What should be a header is none."""

    def carries(self, header: ProxyHeader) -> Layer:
        """The header is whole: the layer of the device's own TLS."""


class LinkLayer:
    """Outer TLS, header, inner TLS; see the theory of operation above. `Layer` of `wire/tls.py`."""

    __slots__ = ("_contexts", "_enrolling", "_guard", "_header", "_hello", "_inner", "_outer", "_role")

    def __init__(self, contexts: LinkContexts, guard: LinkGuard) -> None:
        self._contexts = contexts
        self._guard = guard
        self._outer = contexts.layer()
        self._hello: bytearray | None = bytearray()
        self._enrolling = False
        self._role: Role | None = None
        self._header = HeaderReader()
        self._inner: Layer | None = None

    @property
    def established(self) -> bool:
        """True once bytes of the connection's protocol may be sent."""
        if self._inner is not None:
            return self._inner.established
        return self._role not in (None, Role.CARRYING)

    @property
    def ended(self) -> bool:
        """True once the peer, or the connector, has said that no more comes."""
        return self._outer.ended or (self._inner is not None and self._inner.ended)

    @property
    def server_name(self) -> str:
        """The name that the device asked for; of a connection that carries none, what the connector did."""
        return self._top.server_name

    @property
    def peer_chain(self) -> tuple[bytes, ...]:
        """The device's certificates; of a connection that carries none, the connector's."""
        return self._top.peer_chain

    @property
    def version(self) -> str:
        """Of the innermost TLS."""
        return self._top.version

    def receive(self, data: bytes | memoryview) -> bytes:
        """Takes bytes of the socket and returns those of the protocol; raises `TlsError`."""
        plain = self._receive_outer(data)
        if self._role is None:
            if not self._outer.established:
                return b""
            self._role = self._judge()
        if self._role is not Role.CARRYING:
            return plain
        if self._inner is None:
            return self._receive_header(plain) if plain else b""
        return self._receive_inner(self._inner, plain) if plain else b""

    def send(self, data: bytes | memoryview) -> None:
        """Takes bytes of the protocol; raises `TlsError`."""
        self._top.send(data)
        self._sink()

    def outgoing(self) -> bytes:
        """Hands over the bytes for the socket."""
        return self._outer.outgoing()

    def finish(self) -> None:
        """Adds the goodbyes, the device's first."""
        self._top.finish()
        self._sink()
        if self._inner is not None:
            self._outer.finish()

    @property
    def _top(self) -> Layer:
        return self._inner if self._inner is not None else self._outer

    def _receive_outer(self, data: bytes | memoryview) -> bytes:
        if self._hello is None:
            return self._outer.receive(data)
        self._hello += data
        try:
            plain = self._outer.receive(data)
        except TlsError as error:
            if self._hello.startswith(SIGNATURE):
                raise TlsError(HEADER_TOO_EARLY) from error
            if self._outer.server_name != self._contexts.open_name:
                raise
            self._enrolling = True
            self._outer = self._contexts.open_layer()
            plain = self._outer.receive(memoryview(self._hello))
            self._hello = None
            return plain
        if self._outer.server_name or self._outer.established:
            self._hello = None
        elif len(self._hello) > HELLO_BYTES_MAX:
            raise TlsError("a handshake that does not say whom it is for")
        return plain

    def _judge(self) -> Role:
        outer = self._outer
        try:
            return self._guard.presented(outer.peer_chain, outer.protocol, enrolling=self._enrolling)
        except LinkEnded:
            outer.finish()
            raise

    def _receive_header(self, plain: bytes) -> bytes:
        try:
            if not self._header.held:
                self._guard.begun()
            header = self._header.receive(plain)
            if header is None:
                return b""
            self._inner = inner = self._guard.carries(header)
        except ProxyHeaderError as error:
            self._outer.finish()
            self._guard.malformed(error)
        except LinkEnded:
            self._outer.finish()
            raise
        rest, self._header.rest = self._header.rest, b""
        return self._receive_inner(inner, rest) if rest else b""

    def _receive_inner(self, inner: Layer, plain: bytes) -> bytes:
        try:
            return inner.receive(plain)
        finally:
            # Flights of the handshake, and the alert that tells why it failed.
            self._sink()

    def _sink(self) -> None:
        """Seals what the inner layer has to say."""
        if self._inner is not None:
            sealed = self._inner.outgoing()
            if sealed:
                self._outer.send(sealed)
