"""One carried connection: a device's socket on one side, a line to the hub on the other, bytes both ways unopened.

Theory of operation. Two directions that know nothing of each other, each in one of these stages:

    FLOWING ──source ends──▶ ENDING ──all written, and the end passed on──▶ ENDED

- FLOWING: one readiness of the source is one recv, one step of TLS, one send. What the kernel does not take is held,
  and the source is not read again until it is gone: at most one read is held in each direction, and whoever sends too
  fast feels it through his own socket (back-pressure).
- ENDING: the source has said that it sends no more; what is held still goes out. Then the end is passed on: to the hub
  as close_notify (RFC 8446 §6.1, one direction only), to the device as the end of the stream.
- ENDED: the other direction may go on, `HALF_CLOSED_SECONDS` at most. When both are ENDED the connection is over.

Anything else (a reset, an error, a line that ends without close_notify, which may have been cut by anybody) ends both
directions at once, by a reset on both sides: a stream that was cut must not look complete.

Reads of all connections go through one scratch buffer. The first write to the hub carries the PROXY header together
with what the device has sent by then.
"""

import asyncio
import socket
from collections.abc import Callable
from enum import Enum, auto

from isthmus.connector.line import Line, reset
from isthmus.wire.tls_error import TlsError

READ_BYTES = 32_768
"""Read at a time, and thus held at most in each direction; larger reads measured no faster."""

HALF_CLOSED_SECONDS = 300.0
"""How long one direction may go on after the other has ended; the hub ends its own within seconds."""

Scratch = memoryview


def make_scratch() -> Scratch:
    """The buffer for all connections of one loop."""
    return memoryview(bytearray(READ_BYTES))


class Carried:
    """A device's connection on its way to the hub. Make it with an accepted, non-blocking socket, then `begin`."""

    __slots__ = (
        "_client",
        "_client_fd",
        "_deadline",
        "_down",
        "_early",
        "_held_down",
        "_held_up",
        "_layer",
        "_line",
        "_line_fd",
        "_loop",
        "_over",
        "_scratch",
        "_up",
        "bytes_down",
        "bytes_up",
    )

    def __init__(
        self,
        client: socket.socket,
        line: Line,
        *,
        loop: asyncio.AbstractEventLoop,
        scratch: Scratch,
        over: Callable[["Carried", str], None],
    ) -> None:
        """`over` is called once, with the reason, when both sockets are closed, whoever closed them."""
        self._client = client
        self._client_fd = client.fileno()
        self._line = line.socket
        self._line_fd = line.socket.fileno()
        self._layer = line.layer
        self._loop = loop
        self._scratch = scratch
        self._over: Callable[[Carried, str], None] | None = over
        self._up = self._down = _Stage.FLOWING
        self._held_up: memoryview | None = None
        self._held_down: memoryview | None = None
        self._early = line.early
        self._deadline: asyncio.TimerHandle | None = None
        self.bytes_up = 0
        self.bytes_down = 0

    def begin(self, header: bytes) -> None:
        """Sends the header, with what the device has sent by now, and carries from then on."""
        try:
            first = self._client.recv(READ_BYTES - len(header))
        except (BlockingIOError, InterruptedError):
            first = b""
        except OSError:
            self._end("reset by device")
            return
        self.bytes_up = len(first)
        # An empty read is the end, which the reader below finds again.
        self._loop.add_reader(self._client_fd, self._from_client)
        self._loop.add_reader(self._line_fd, self._from_line)
        self._send_up(header + first)
        if self._early and self._over is not None:
            self._write_down(self._early)

    def abort(self, reason: str) -> None:
        """Ends both sides by a reset."""
        self._end(reason)

    # ── from the device to the hub ───────────────────────────────────────────────────────────────────────────────

    def _from_client(self) -> None:
        try:
            count = self._client.recv_into(self._scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end("reset by device")
            return
        if count:
            self.bytes_up += count
            self._send_up(self._scratch[:count])
        else:
            self._loop.remove_reader(self._client_fd)
            self._up = _Stage.ENDING
            self._finish_up()

    def _send_up(self, data: bytes | memoryview) -> None:
        try:
            self._layer.send(data)
        except TlsError as error:
            self._end(f"tls: {error.reason}")
            return
        self._write_up(self._layer.outgoing())

    def _write_up(self, data: bytes) -> None:
        try:
            sent = self._line.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._end("reset by hub")
            return
        if sent < len(data):
            self._held_up = memoryview(data)[sent:]
            self._loop.remove_reader(self._client_fd)
            self._loop.add_writer(self._line_fd, self._flush_up)

    def _flush_up(self) -> None:
        assert self._held_up is not None
        try:
            self._held_up = self._held_up[self._line.send(self._held_up) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end("reset by hub")
            return
        if self._held_up:
            return
        self._held_up = None
        self._loop.remove_writer(self._line_fd)
        if self._up is _Stage.FLOWING:
            self._loop.add_reader(self._client_fd, self._from_client)
        elif self._up is _Stage.ENDING:
            self._finish_up()
        else:
            self._ended_one("closed by device")

    def _finish_up(self) -> None:
        """Passes the device's end on, once nothing is held."""
        if self._up is not _Stage.ENDING or self._held_up is not None:
            return
        self._up = _Stage.ENDED
        self._layer.finish()
        self._write_up(self._layer.outgoing())
        self._ended_one("closed by device")

    # ── from the hub to the device ───────────────────────────────────────────────────────────────────────────────

    def _from_line(self) -> None:
        try:
            count = self._line.recv_into(self._scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end("reset by hub")
            return
        if not count:
            self._end("cut off by hub")
            return
        try:
            data = self._layer.receive(self._scratch[:count])
        except TlsError as error:
            self._end(f"tls: {error.reason}")
            return
        if data:
            self._write_down(data)
        if self._layer.ended and self._over is not None and self._down is _Stage.FLOWING:
            self._loop.remove_reader(self._line_fd)
            self._down = _Stage.ENDING
            self._finish_down()

    def _write_down(self, data: bytes) -> None:
        self.bytes_down += len(data)
        try:
            sent = self._client.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._end("reset by device")
            return
        if sent < len(data):
            self._held_down = memoryview(data)[sent:]
            self._loop.remove_reader(self._line_fd)
            self._loop.add_writer(self._client_fd, self._flush_down)

    def _flush_down(self) -> None:
        assert self._held_down is not None
        try:
            self._held_down = self._held_down[self._client.send(self._held_down) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end("reset by device")
            return
        if self._held_down:
            return
        self._held_down = None
        self._loop.remove_writer(self._client_fd)
        if self._down is _Stage.FLOWING:
            self._loop.add_reader(self._line_fd, self._from_line)
        else:
            self._finish_down()

    def _finish_down(self) -> None:
        """Passes the hub's end on, once nothing is held."""
        if self._down is not _Stage.ENDING or self._held_down is not None:
            return
        self._down = _Stage.ENDED
        try:
            self._client.shutdown(socket.SHUT_WR)
        except OSError:
            self._end("reset by device")
            return
        self._ended_one("closed by hub")

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _ended_one(self, reason: str) -> None:
        if self._over is None:
            return
        if self._up is _Stage.ENDED and self._down is _Stage.ENDED and self._held_up is None:
            self._release()
            self._client.close()
            self._line.close()
            self._tell(reason)
        elif self._deadline is None:
            self._deadline = self._loop.call_later(HALF_CLOSED_SECONDS, self._end, "half closed for too long")

    def _end(self, reason: str) -> None:
        if self._over is None:
            return
        self._release()
        reset(self._client)
        reset(self._line)
        self._tell(reason)

    def _release(self) -> None:
        for descriptor in (self._client_fd, self._line_fd):
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._held_up = self._held_down = None

    def _tell(self, reason: str) -> None:
        over, self._over = self._over, None
        if over is not None:
            over(self, reason)


class _Stage(Enum):
    FLOWING = auto()
    ENDING = auto()
    ENDED = auto()
