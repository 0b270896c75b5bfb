"""Where a walker stands: how connections are made from there."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

from isthmus.base.sockets import SocketKind

_KINDS = {SocketKind.STREAM: socket.SOCK_STREAM, SocketKind.DATAGRAM: socket.SOCK_DGRAM}


class Ground(Protocol):
    """Makes connections from one place."""

    async def connect(self, address: str, port: int, kind: SocketKind) -> socket.socket:
        """A connected socket that does not block; raises OSError."""


class ThisMachine:
    """This machine as it is, `at` telling at which of its addresses something is to be found.

    With `inside` connections come from the address that they go to, which is this machine's own, and so from inside the
    network that it belongs to, whatever other addresses the machine has.
    """

    def __init__(self, at: Callable[[str], str] = str, *, inside: bool = False) -> None:
        self._at = at
        self._inside = inside

    async def connect(self, address: str, port: int, kind: SocketKind) -> socket.socket:
        """A connected socket; cancelling closes it."""
        found = self._at(address)
        opened = socket.socket(socket.AF_INET6 if ":" in found else socket.AF_INET, _KINDS[kind])
        try:
            opened.setblocking(False)
            if self._inside:
                with contextlib.suppress(OSError):
                    opened.bind((found, 0))
            await asyncio.get_running_loop().sock_connect(opened, (found, port))
        except BaseException:
            opened.close()
            raise
        return opened
