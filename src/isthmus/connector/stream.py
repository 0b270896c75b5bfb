"""A line as a stream for a conversation: what came in waits until it is taken, what goes out leaves at once.

Carried connections do not use it (`carrying.py` does): this is for the control connection and for enrolments, whose
owner is a task that sleeps until something came, somebody wants something, or time has passed.
"""

import asyncio
import contextlib

from isthmus.connector.dialling import READ_BYTES
from isthmus.connector.line import Line
from isthmus.wire.tls_error import TlsError

HELD_BYTES_MAX = 1_048_576
"""Held in either direction. A hub that does not read so many counts as gone. One that has sent so many, and nobody
took them, is not read until somebody did, and feels that through its own socket.
"""


class LineStream:
    """A line with its buffers; `close` it. Use it on its loop only."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._socket = line.socket
        self._descriptor = line.socket.fileno()
        self._received = bytearray(line.early)
        self._held = bytearray()
        self._woken = asyncio.Event()
        self._paused = False
        self.hub = line.hub
        """Where it leads."""
        self.ended = ""
        """Why nothing more comes; empty while something may."""
        self._loop.add_reader(self._descriptor, self._read)
        if self._received:
            self._woken.set()

    def take(self) -> bytes:
        """What has come since the last call."""
        data = bytes(self._received)
        self._received.clear()
        if self._paused and not self.ended and self._socket.fileno() >= 0:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._read)
        return data

    @property
    def held(self) -> int:
        """Bytes that have come and were not taken."""
        return len(self._received)

    def write(self, data: bytes) -> None:
        """Sends; dropped when the line has ended."""
        if self.ended or not data:
            return
        try:
            self._line.layer.send(data)
        except TlsError as error:
            self._end(error.reason)
            return
        self._transmit()

    def wake(self) -> None:
        """Ends the current `wait`, or the next."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Sleeps until something came, the line ended, or somebody called `wake`; `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._woken.wait()
        self._woken.clear()

    def close(self) -> None:
        """Says goodbye and closes. Idempotent."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._line.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
            if not data:
                self._end("cut off")
                return
            self._received += self._line.layer.receive(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end((error.strerror or "socket error").lower())
            return
        except TlsError as error:
            self._end(error.reason)
            return
        if len(self._received) > HELD_BYTES_MAX:
            self._loop.remove_reader(self._descriptor)
            self._paused = True
        if self._line.layer.ended:
            self._end("closed")
        self._woken.set()

    def _transmit(self) -> None:
        self._held += self._line.layer.outgoing()
        try:
            del self._held[: self._socket.send(self._held)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._held.clear()
            self._end((error.strerror or "socket error").lower())
        if len(self._held) > HELD_BYTES_MAX:
            self._end("the hub does not read")
        if self._held:
            self._loop.add_writer(self._descriptor, self._transmit)
        else:
            self._loop.remove_writer(self._descriptor)

    def _end(self, reason: str) -> None:
        self.ended = self.ended or reason
        self._loop.remove_reader(self._descriptor)
        self._woken.set()
