"""The socket between a hub and a worker process, as messages."""

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from isthmus.egress.messages import FRAME_BYTES_MAX, LENGTH, Order, Report, frame

Heard = TypeVar("Heard")


class Channel(Generic[Heard]):
    """One end; what is said is never waited for, what is heard comes one at a time.

    What the other end does not read piles up in memory: each end says only what is answered or bounded by itself (a
    burial for each lane, a report for each endpoint and moment).
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decode: Callable[[bytes], Heard]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decode = decode

    @classmethod
    async def over(cls, end: socket.socket, decode: Callable[[bytes], Heard]) -> "Channel[Heard]":
        """The channel over one end of a pair of sockets, which it owns from then on."""
        reader, writer = await asyncio.open_connection(sock=end)
        return cls(reader, writer, decode)

    def say(self, message: Order | Report) -> None:
        """Sends a message; without effect when the other end has gone."""
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    async def hear(self) -> Heard | None:
        """The next message; None when the other end has gone. Raises `ValueError` for what is no frame."""
        try:
            length = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
            if length > FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {length} bytes")
            return self._decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def finish(self) -> None:
        """Says nothing more: the other end hears None, and may still say what it has to."""
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    def close(self) -> None:
        """Ends it; the other end hears None."""
        self._writer.close()
