"""Where a walker stands: how connections are made from there."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

from isthmus.base.sockets import SocketKind

ELSEWHERE = {"0.0.0.0": ("192.0.2.1", "127.0.0.1"), "::": ("2001:db8::1", "::1")}
"""Addresses that stand for all of a machine's, with one that is nowhere (RFC 5737, RFC 3849) and the loopback one."""

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
        if found in ELSEWHERE:
            found = _own_address(found)
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


def _own_address(wildcard: str) -> str:
    """The address that the machine would send from; nothing is sent (connect(2))."""
    nowhere, loopback = ELSEWHERE[wildcard]
    with socket.socket(socket.AF_INET6 if ":" in wildcard else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((nowhere, 9))
            return str(asking.getsockname()[0])
        except OSError:
            return loopback
