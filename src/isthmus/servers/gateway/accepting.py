"""The accept loop of one listening socket: bounded work per wake-up, and a pause when descriptors run out."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

ACCEPTS_PER_WAKE_MAX = 64
"""Sockets accepted before everybody else has a turn: some 3 ms of work; a storm must not starve the connected."""

ACCEPT_PAUSE_SECONDS = 1.0
"""Pause of accepting when there is no descriptor left; peers wait in the kernel's backlog meanwhile."""

NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

logger = logging.getLogger(__name__)


class AcceptLoop:
    """Accepts from a listening socket, which it owns, and hands each accepted non-blocking socket on."""

    def __init__(
        self,
        listening: socket.socket,
        take: Callable[[socket.socket, tuple[str, int]], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`take` is given the socket and the peer's address and port, which mean nothing for a Unix socket."""
        self._listening = listening
        self._descriptor = listening.fileno()
        self._take = take
        self._loop = loop
        self._pause: asyncio.TimerHandle | None = None
        loop.add_reader(self._descriptor, self._accept)

    def close(self) -> None:
        """Stops accepting and closes the listening socket; the kernel resets who waits in its backlog. Idempotent."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._descriptor)
            self._listening.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE_MAX):
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    self._rest(error)
                    return
                # The peer has gone before it was accepted (accept(2) reports its pending network errors).
                continue
            accepted.setblocking(False)
            self._take(accepted, peer)

    def _rest(self, error: OSError) -> None:
        logger.error(
            "accepting pauses", extra={"reason": error.strerror, "duration_ms": int(ACCEPT_PAUSE_SECONDS * 1000)}
        )
        self._loop.remove_reader(self._descriptor)
        self._pause = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._descriptor, self._accept)
