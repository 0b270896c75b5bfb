"""A line to the hub: a connected socket with its TLS, and what is known of it. Dialled by `dialling.py`."""

import contextlib
import socket
import struct
from dataclasses import dataclass

from isthmus.wire.tls import Layer

KEEPALIVE_IDLE_SECONDS = 30
KEEPALIVE_INTERVAL_SECONDS = 10
KEEPALIVE_PROBES = 3
"""Middle boxes forget silent connections after four minutes or less: each line is heard of twice a minute."""

UNACKNOWLEDGED_MS = 60_000
"""A peer that takes no bytes for so long is gone: as long as a hub may be silent on the control connection."""


@dataclass(slots=True)
class Line:
    """An established line: bytes go through `layer`, its ciphertext through `socket`, which does not block.

    `early` is plaintext that came with the last flight of the handshake.
    """

    socket: socket.socket
    layer: Layer
    hub: str
    opened_monotonic: float
    early: bytes = b""

    def close(self) -> None:
        """Says goodbye where the kernel takes it, and closes."""
        self.layer.finish()
        with contextlib.suppress(OSError):
            self.socket.send(self.layer.outgoing())
        self.socket.close()

    def abort(self) -> None:
        """Closes with a reset."""
        reset(self.socket)


def reset(ending: socket.socket) -> None:
    """Closes a socket so that its peer sees a reset, not an end."""
    # Where it fails, the kernel has given the socket up already.
    with contextlib.suppress(OSError):
        ending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ending.close()


def keep_alive(carrying: socket.socket) -> None:
    """Sets what every socket of the connector has: no delay of small packets, keep-alive, an end when it hangs."""
    carrying.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    carrying.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    carrying.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    carrying.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    carrying.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    carrying.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
