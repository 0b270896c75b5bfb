"""Other places than this machine, as the front door needs them: who makes sockets there, and keeps addresses."""

import socket
from typing import Protocol

from isthmus.base.sockets import SocketKind, Unattended


class Places(Protocol):
    """Who makes sockets in other places, and has addresses there; a place is `Presence.place`, this machine's is empty.

    The coroutines raise `Unattended` while nobody does the work, and `ConfigurationError`, a sentence with the remedy,
    for what cannot be done.
    """

    async def listening_socket(self, place: str, address: str, port: int, kind: SocketKind) -> socket.socket:
        """A socket that listens there, or is bound for datagrams; the address is had until `release`."""

    async def hold(self, place: str, address: str) -> int:
        """Has the address there, from now until `release`; returns the network's number, 0 where nobody can tell."""

    async def release(self, place: str, address: str) -> None:
        """Takes the address back where it was added for us."""

    def network_of(self, opened: socket.socket) -> int:
        """The number of a socket's network, which no other one has, a later one of the same name neither."""


class Nowhere:
    """Nobody makes sockets in other places."""

    async def listening_socket(self, place: str, address: str, port: int, kind: SocketKind) -> socket.socket:
        """Raises `Unattended`."""
        raise Unattended(f"{place} has nobody who makes sockets there.")

    async def hold(self, place: str, address: str) -> int:
        """Raises `Unattended`."""
        raise Unattended(f"{address} has nobody who adds it.")

    async def release(self, place: str, address: str) -> None:
        """There is nothing to release."""

    def network_of(self, opened: socket.socket) -> int:
        """No network has a number."""
        return 0
