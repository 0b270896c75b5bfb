"""An accepted socket after TLS: what the protocol pumps read from and write to, on the event loop, without a task.

Theory of operation. A connection is driven by readiness callbacks of the loop and lives through these stages:

    SECURING ──handshake done──▶ OPEN ──close(), peer's end──▶ FLUSHING ──all sent──▶ LINGERING ──peer's end──▶ GONE
        └──────────────────────────┴───abort(), error, deadline──────┴───────────────────┴───────────────────────▶ GONE

- SECURING: bytes go to the layer; the handler does not exist yet. Ends at `HANDSHAKE_SECONDS`.
- OPEN: one readiness is one recv, one `layer.receive`, one `handler.received`. What the handler writes meanwhile is
  gathered and leaves in one send afterwards; a write from outside a callback is sent at once. The peer must have proved
  who it is (`made_progress`) `PROOF_SECONDS` after the handshake.
- FLUSHING: nothing is delivered any more; what was written still goes out, then the layer's goodbye.
- LINGERING: our side of the socket is shut down and the handler has been told. Arriving bytes are dropped until the
  peer ends too: closing a socket that has unread bytes sends a reset, which would overtake our last words.
  FLUSHING and LINGERING together end at `CLOSE_SECONDS`.

`handler.closed` is called exactly once for a handler that was `opened`, from the loop and never from inside a call the
handler made. After `close` or `abort` it may still come to that `writable` and `received` are not called again.

Memory: reads go through one scratch buffer that all connections of a loop share. Ciphertext the kernel does not take is
held here and bounded by `WRITE_BYTES_MAX`; plaintext is held only when a handler pauses reading inside `opened`.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Protocol

from isthmus.network.door import Door
from isthmus.wire.tls import Layer
from isthmus.wire.tls_error import TlsError

READ_BYTES = 262_144
"""Read at a time: a burst of small packets, or the largest telemetry message, in one recv."""

HANDSHAKE_SECONDS = 20.0
"""From accept to the end of the TLS handshake: several round trips of a slow radio link; then the socket is closed."""

PROOF_SECONDS = 60.0
"""From the handshake to `made_progress`: longer than any pump waits for its first packet; then the socket is closed."""

CLOSE_SECONDS = 5.0
"""From `close` until the socket is gone, whether or not the peer takes our last bytes."""

WRITE_HIGH_BYTES = 65_536
"""Held bytes above which a handler should stop writing; it hears of it by `congested`."""

WRITE_LOW_BYTES = 16_384
"""Held bytes at which `writable` is called after the high-water mark was passed."""

WRITE_BYTES_MAX = 8 * 1024 * 1024
"""Held bytes at which one more write aborts the connection: a handler that ignores the high-water mark."""

SEND_CHUNKS_MAX = 64
"""Held chunks given to one sendmsg; far below the kernel's limit of 1,024."""

logger = logging.getLogger(__name__)


class Handler(Protocol):
    """A protocol pump above a connection; an exception it raises aborts the connection."""

    def opened(self, connection: "Connection") -> None:
        """Called once, after the TLS handshake."""

    def received(self, data: bytes) -> None:
        """Takes the plaintext of a whole read, never empty."""

    def closed(self, reason: str) -> None:
        """Called exactly once, after the last byte was sent or given up, also after `close` and `abort`."""

    def writable(self) -> None:
        """Called when the held bytes fell to the low-water mark after they had passed the high one."""


class Owner(Protocol):
    """Who accepted the socket and accounts for it."""

    def make_handler(self) -> Handler:
        """The pump of a connection whose handshake is done."""

    def advanced(self, connection: "Connection", *, proven: bool) -> None:
        """The peer took a step of the handshake, or, when `proven`, has proved who it is."""

    def failed(self, connection: "Connection", failure: "Failure", detail: str) -> None:
        """The socket ends because of the peer, before it proved who it is."""

    def released(self, connection: "Connection") -> None:
        """The descriptor is closed; called exactly once."""


class Failure(Enum):
    """Why a socket ended before its peer had proved who it is."""

    TLS = auto()
    HANDSHAKE_TIME = auto()
    PROOF_TIME = auto()
    IDLE_TIME = auto()


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a socket when it is accepted; `peer_uid` is the user of a Unix socket's peer, else None."""

    connection_id: str
    door: Door
    peer_address: str
    peer_port: int
    local_address: str
    opened_monotonic: float
    peer_uid: int | None = None


class Scratch:
    """The buffer that every recv of one loop goes through; its bytes are copied on before the next recv."""

    __slots__ = ("view",)

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))


class PlainLayer:
    """No protection at all: for the local owner's Unix socket, and inside a namespace for the metadata address."""

    established = True
    server_name = ""
    peer_chain: tuple[bytes, ...] = ()
    version = ""
    ended = False

    def __init__(self) -> None:
        self._outgoing: list[bytes] = []

    def receive(self, data: bytes | memoryview) -> bytes:
        """The same bytes."""
        return bytes(data)

    def send(self, data: bytes | memoryview) -> None:
        """Adds the same bytes to `outgoing`."""
        self._outgoing.append(bytes(data))

    def outgoing(self) -> bytes:
        """Hands over the bytes that were sent."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def finish(self) -> None:
        """A plain stream has no goodbye of its own."""


class Connection:
    """One accepted socket after TLS; writes never block. Use it on its loop only."""

    __slots__ = (
        "_congested",
        "_deadline",
        "_descriptor",
        "_ended",
        "_gathered",
        "_gathered_bytes",
        "_gathering",
        "_handler",
        "_held",
        "_held_bytes",
        "_layer",
        "_loop",
        "_owner",
        "_paused",
        "_proven",
        "_reason",
        "_recv_into",
        "_scratch",
        "_send_some",
        "_socket",
        "_spoken",
        "_stage",
        "_told",
        "_unread",
        "connection_id",
        "door",
        "local_address",
        "opened_monotonic",
        "peer_address",
        "peer_chain",
        "peer_port",
        "peer_uid",
        "server_name",
        "tls_version",
    )

    def __init__(
        self,
        accepted: socket.socket,
        origin: Origin,
        layer: Layer,
        owner: Owner,
        *,
        loop: asyncio.AbstractEventLoop,
        scratch: Scratch,
    ) -> None:
        self.connection_id = origin.connection_id
        self.door = origin.door
        self.peer_address = origin.peer_address
        self.peer_port = origin.peer_port
        self.local_address = origin.local_address
        self.opened_monotonic = origin.opened_monotonic
        self.peer_uid = origin.peer_uid
        self.server_name = ""
        self.peer_chain: tuple[bytes, ...] = ()
        self.tls_version = ""
        self._socket = accepted
        self._recv_into = accepted.recv_into
        self._send_some = accepted.send
        self._descriptor = accepted.fileno()
        self._layer = layer
        self._owner = owner
        self._loop = loop
        self._scratch = scratch.view
        self._handler: Handler | None = None
        self._stage = _Stage.SECURING
        self._reason = "closed"
        self._told = False
        self._proven = False
        self._paused = False
        self._ended = False
        self._spoken = False
        self._unread = b""
        self._gathering = False
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._held: deque[bytes | memoryview] = deque()
        self._held_bytes = 0
        self._congested = False
        self._deadline: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to read; called once by the listener."""
        if self._layer.established:
            self._loop.call_soon(self._open, b"")
            return
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._too_slow, Failure.HANDSHAKE_TIME)
        self._loop.add_reader(self._descriptor, self._secure)

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        return self._held_bytes + self._gathered_bytes

    @property
    def congested(self) -> bool:
        """True from passing the high-water mark until `writable`."""
        return self._congested

    @property
    def closing(self) -> bool:
        """True once nothing more can be written."""
        return self._stage is not _Stage.OPEN

    @property
    def host_names(self) -> tuple[str, ...]:
        """TLS gives no name of the hub but `server_name`."""
        return ()

    @property
    def carrier(self) -> str:
        """Nothing carries the protocol but TLS itself."""
        return ""

    @property
    def raw_socket(self) -> socket.socket:
        """The socket, to ask it for names and options; reading, writing and closing it is ours."""
        return self._socket

    def write(self, data: bytes) -> None:
        """Sends plaintext, or holds what the kernel does not take; dropped when the connection is closing.

        Inside a callback of the handler the bytes leave after it returns, joined with all others of that callback.
        With `WRITE_BYTES_MAX` held already, the connection is aborted; a single write may be of any size.
        """
        if self._stage is not _Stage.OPEN:
            return
        if not self._gathering:
            self._send(data)
            return
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes > WRITE_HIGH_BYTES:
            self._send_gathered()

    def close(self, reason: str = "closed") -> None:
        """Sends what was written and the layer's goodbye, then closes; `CLOSE_SECONDS` at most. Idempotent."""
        if self._stage is _Stage.SECURING:
            self.abort(reason)
        elif self._stage is _Stage.OPEN:
            self._send_gathered()
            self._flush(reason)

    def abort(self, reason: str = "aborted") -> None:
        """Closes at once with a reset; what is held is dropped. Idempotent."""
        if self._stage is _Stage.GONE:
            return
        # Where it fails, the kernel has given the socket up already.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(reason)

    def pause_reading(self) -> None:
        """Delivers nothing more until `resume_reading`; the peer feels it through its own socket. Idempotent."""
        if self._paused or self._stage is not _Stage.OPEN:
            return
        self._paused = True
        self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Delivers again, first what was decrypted before the pause; from the loop, never from inside this call."""
        if not self._paused or self._stage is not _Stage.OPEN:
            return
        self._paused = False
        if self._unread:
            self._loop.call_soon(self._deliver_unread)
        else:
            self._loop.add_reader(self._descriptor, self._read)

    def hand_over(self, handler: Handler, data: bytes) -> None:
        """Gives the connection to another handler, which is opened and hears `data` first.

        The one before calls this, from outside its callbacks, and hears no more. When the connection is closing
        already, nothing changes.
        """
        if self._stage is not _Stage.OPEN:
            return
        if self._paused:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._read)
        self._begin(handler, data + self._unread)

    def stand_for(self, door: Door, *, peer_address: str, peer_port: int, local_address: str) -> None:
        """Says who is at the far end, and where it came in: what carries the connection has told, before it is open."""
        assert self._stage is _Stage.SECURING, "the handler knows somebody else"
        self.door, self.local_address = door, local_address
        self.peer_address, self.peer_port = peer_address, peer_port

    def wait_at_most(self, seconds: float, failure: Failure) -> None:
        """Gives the handshake so long from now on; then it has failed."""
        if self._stage is _Stage.SECURING:
            self._set_deadline(seconds, failure)

    def made_progress(self) -> None:
        """Says that the peer has proved who it is: it is never evicted and has no deadline from now on. Idempotent."""
        if self._proven or self._stage is _Stage.GONE:
            return
        self._proven = True
        if self._stage is _Stage.OPEN:
            self._set_deadline(None)
        self._owner.advanced(self, proven=True)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self) -> None:
        count = self._receive()
        if count <= 0:
            return
        try:
            data = self._layer.receive(self._scratch[:count])
        except TlsError as error:
            self._broken(error)
            return
        if data:
            self._deliver(data)
        if self._layer.ended:
            self._peer_ended()

    def _deliver(self, data: bytes) -> None:
        handler = self._handler
        assert handler is not None
        self._gathering = True
        try:
            handler.received(data)
        except Exception:
            self._handler_failed()
        self._gathering = False
        if self._gathered:
            self._send_gathered()

    def _deliver_unread(self) -> None:
        """Delivers what was decrypted while the handler did not want it, then reads on."""
        if self._paused or self._stage is not _Stage.OPEN:
            return
        data, self._unread = self._unread, b""
        if data:
            self._deliver(data)
        if self._stage is _Stage.OPEN and not self._paused:
            self._loop.add_reader(self._descriptor, self._read)
        if self._layer.ended:
            self._peer_ended()

    def _receive(self) -> int:
        """Reads into the scratch buffer; 0 when there is nothing to deliver, whatever the cause."""
        try:
            count = self._recv_into(self._scratch)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._report_broken_handshake(_words(error))
            self._end(_words(error))
            return 0
        if not count:
            self._peer_ended()
        return count

    def _drop(self) -> None:
        self._receive()

    def _peer_ended(self) -> None:
        self._ended = True
        if self._stage is _Stage.SECURING:
            self._report_broken_handshake("closed by peer")
            self._end("closed by peer")
        elif self._stage is _Stage.OPEN:
            self._flush("closed by peer")
        elif self._stage is _Stage.FLUSHING:
            # It may still read what we hold; its end would be reported again on every wake-up.
            self._loop.remove_reader(self._descriptor)
        else:
            self._end(self._reason)

    # ── the handshake ────────────────────────────────────────────────────────────────────────────────────────────

    def _secure(self) -> None:
        count = self._receive()
        if count <= 0:
            return
        self._spoken = True
        try:
            data = self._layer.receive(self._scratch[:count])
        except TlsError as error:
            self._broken(error)
            return
        flight = self._layer.outgoing()
        if flight:
            self._owner.advanced(self, proven=False)
            self._transmit(flight)
        if self._layer.established and self._stage is _Stage.SECURING:
            self._open(data)

    def _open(self, data: bytes) -> None:
        if self._stage is not _Stage.SECURING:
            return
        layer = self._layer
        self.server_name, self.peer_chain, self.tls_version = layer.server_name, layer.peer_chain, layer.version
        self._stage = _Stage.OPEN
        self._set_deadline(None if self._proven else PROOF_SECONDS, Failure.PROOF_TIME)
        self._owner.advanced(self, proven=self._proven)
        self._loop.add_reader(self._descriptor, self._read)
        self._begin(self._owner.make_handler(), data)

    def _begin(self, handler: Handler, data: bytes) -> None:
        """Opens the handler, which hears `data` once it reads."""
        self._handler = handler
        self._unread = data
        self._call(lambda handler: handler.opened(self))
        if (data or self._layer.ended) and not self._paused:
            self._deliver_unread()

    def _report_broken_handshake(self, detail: str) -> None:
        # Probes that connect and leave without a byte are no failure of anybody's.
        if self._stage is _Stage.SECURING and self._spoken:
            self._owner.failed(self, Failure.TLS, detail)

    def _broken(self, error: TlsError) -> None:
        if not self._proven:
            self._owner.failed(self, Failure.TLS, error.reason)
        alert = self._layer.outgoing()
        if alert:
            self._transmit(alert)
        if self._stage is not _Stage.GONE:
            self._end(f"tls: {error.reason}")

    def _too_slow(self, failure: Failure) -> None:
        self._owner.failed(self, failure, "")
        self._end(_TOO_SLOW[failure])

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _send_gathered(self) -> None:
        gathered = self._gathered
        if not gathered:
            return
        data = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        gathered.clear()
        self._gathered_bytes = 0
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._stage is not _Stage.OPEN:
            return
        if self._held_bytes > WRITE_BYTES_MAX:
            self.abort("write buffer full")
            return
        try:
            self._layer.send(data)
        except TlsError as error:
            self._end(f"tls: {error.reason}")
            return
        self._transmit(self._layer.outgoing())

    def _transmit(self, data: bytes) -> None:
        """Gives bytes to the kernel, or holds what it does not take."""
        sent = 0
        if not self._held:
            try:
                sent = self._send_some(data)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._end(_words(error))
                return
            if sent == len(data):
                return
            self._loop.add_writer(self._descriptor, self._send_held)
        self._held.append(memoryview(data)[sent:] if sent else data)
        self._held_bytes += len(data) - sent
        if self._held_bytes > WRITE_HIGH_BYTES:
            self._congested = True

    def _send_held(self) -> None:
        try:
            sent = self._socket.sendmsg(islice(self._held, SEND_CHUNKS_MAX))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(_words(error))
            return
        self._held_bytes -= sent
        _advance(self._held, sent)
        if not self._held:
            self._loop.remove_writer(self._descriptor)
            if self._stage is _Stage.FLUSHING:
                self._linger()
                return
        if self._congested and self._held_bytes <= WRITE_LOW_BYTES:
            self._congested = False
            if self._stage is _Stage.OPEN:
                self._call(lambda handler: handler.writable())

    # ── calling the handler ──────────────────────────────────────────────────────────────────────────────────────

    def _call(self, action: Callable[[Handler], None]) -> None:
        assert self._handler is not None
        self._gathering = True
        try:
            action(self._handler)
        except Exception:
            self._handler_failed()
        self._gathering = False
        self._send_gathered()

    def _handler_failed(self) -> None:
        logger.exception("connection handler failed", extra={"connection_id": self.connection_id})
        self.abort("internal error")

    def _tell(self) -> None:
        if self._handler is None or self._told:
            return
        self._told = True
        self._loop.call_soon(self._handler.closed, self._reason)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _flush(self, reason: str) -> None:
        if self._stage is not _Stage.OPEN:
            return
        self._stage = _Stage.FLUSHING
        self._reason = reason
        self._unread = b""
        self._set_deadline(CLOSE_SECONDS)
        if self._ended:
            self._loop.remove_reader(self._descriptor)
        else:
            self._loop.add_reader(self._descriptor, self._drop)
        self._layer.finish()
        goodbye = self._layer.outgoing()
        if goodbye:
            self._transmit(goodbye)
        if not self._held:
            self._linger()

    def _linger(self) -> None:
        if self._stage is not _Stage.FLUSHING:
            return
        self._stage = _Stage.LINGERING
        if self._ended:
            self._end(self._reason)
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(self._reason)
            return
        self._tell()

    def _end(self, reason: str) -> None:
        if self._stage is _Stage.GONE:
            return
        if self._stage in (_Stage.SECURING, _Stage.OPEN):
            self._reason = reason
        self._stage = _Stage.GONE
        self._set_deadline(None)
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._socket.close()
        self._held.clear()
        self._gathered.clear()
        self._held_bytes = self._gathered_bytes = 0
        self._unread = b""
        # Connection, handler and their methods refer to each other and wait for a look for garbage, which is rare; the
        # buffers of TLS, most of what a connection holds, go now.
        self._layer = PlainLayer()
        self._tell()
        self._owner.released(self)

    def _set_deadline(self, seconds: float | None, failure: Failure | None = None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is None:
            return
        if failure is None:
            self._deadline = self._loop.call_later(seconds, self.abort)
        else:
            self._deadline = self._loop.call_later(seconds, self._too_slow, failure)


class _Stage(Enum):
    SECURING = auto()
    OPEN = auto()
    FLUSHING = auto()
    LINGERING = auto()
    GONE = auto()


_TOO_SLOW = {
    Failure.HANDSHAKE_TIME: "handshake took too long",
    Failure.PROOF_TIME: "not authenticated in time",
    Failure.IDLE_TIME: "not used in time",
}


def _advance(held: deque[bytes | memoryview], sent: int) -> None:
    """Drops `sent` bytes from the front."""
    while sent:
        first = held[0]
        if sent < len(first):
            held[0] = memoryview(first)[sent:]
            return
        sent -= len(first)
        held.popleft()


def _words(error: OSError) -> str:
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "reset by peer"
    return os.strerror(error.errno).lower() if error.errno else "socket error"
