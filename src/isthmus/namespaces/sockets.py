"""Sockets bound in the network namespace that the calling thread is in.

Beside the front door this is the only place that opens server sockets; they are served there all the same.
"""

import errno
import os
import socket
import struct

from isthmus.base.sockets import SocketKind
from isthmus.namespaces.orders import Address

LISTEN_BACKLOG = 4_096
"""Connections the kernel completes before the hub accepts them; it caps this at net.core.somaxconn."""

SO_NETNS_COOKIE = 71
"""A number that no other network namespace of this boot has (socket(7), Linux 5.14); Python has no name for it."""

_COOKIE = struct.Struct("=Q")


class NotBound(OSError):  # noqa: N818 - a case of OSError, named by what happened
    """The address and port cannot be had; the text is a sentence with the remedy."""


def bound_socket(address: Address, port: int, kind: SocketKind) -> socket.socket:
    """A socket that listens at an address, or is bound to it for datagrams; raises `NotBound`."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    stream = kind is SocketKind.STREAM
    made = socket.socket(family, (socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK)
    try:
        if stream:
            # For datagrams it would let two sockets have one place.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((str(address), port))
        if stream:
            made.listen(LISTEN_BACKLOG)
    except OSError as error:
        made.close()
        raise NotBound(_why(error, address, port)) from error
    return made


def connecting_socket(address: Address, port: int, kind: SocketKind) -> socket.socket:
    """A socket that is being connected: it becomes writable when it is, or when SO_ERROR says why not (connect(2)).

    Raises OSError for what fails at once.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    type_ = socket.SOCK_STREAM if kind is SocketKind.STREAM else socket.SOCK_DGRAM
    made = socket.socket(family, type_ | socket.SOCK_NONBLOCK)
    code = made.connect_ex((str(address), port))
    if code not in (0, errno.EINPROGRESS):
        made.close()
        raise OSError(code, os.strerror(code))
    return made


def cookie_of(opened: socket.socket) -> int:
    """The cookie of a socket's network namespace; 0 where the kernel does not tell."""
    try:
        return int(_COOKIE.unpack(opened.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, _COOKIE.size))[0])
    except OSError:
        return 0


def cookie_here() -> int:
    """The cookie of the network namespace that the calling thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return cookie_of(probe)


def _why(error: OSError, address: Address, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} at {address} is in use there: stop what listens, or choose another address."
    return f"{address} port {port} cannot be listened at: {error.strerror}."
