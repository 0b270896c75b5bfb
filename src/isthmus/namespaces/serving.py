"""The helper's process: who may ask, packets in, packets and sockets out.

Theory of operation. One thread serves all connections in turn; an order takes a few milliseconds. A Unix socket of
packets (SOCK_SEQPACKET) keeps orders apart, and the kernel vouches for who asks (SO_PEERCRED): others are shown out
before they have said anything. Whoever does not take an answer, or says what is no order, is shown out as well.

With a path it serves whoever is allowed, until it is told to end; addresses stay then, for the sockets that were
passed on live without it, and the next helper knows them by the record. With a descriptor it serves that one
connection and ends with it, taking back everything at once: so a hub that runs as root has it as its child.
"""

import logging
import pwd
import selectors
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import ConfigurationError
from isthmus.logs import configure_logging
from isthmus.namespaces.keeping import ORPHAN_SECONDS, Keeping
from isthmus.namespaces.orders import ORDER_BYTES_MAX, Permissions, decode_order
from isthmus.namespaces.record import Record

CONNECTIONS_MAX = 16
"""Hubs that are served at a time; one has one connection. More are shown out."""

CAPABILITIES = {"CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""What the work needs, and its bit (capabilities(7)): low ports, addresses, entering namespaces."""

_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the helper may do, and where it writes down what it has added."""

    permissions: Permissions
    record: Path


def serve_path(path: Path, user: int, settings: Settings) -> None:
    """Serves the user's hubs at a Unix socket until SIGTERM or SIGINT; raises `ConfigurationError` in a sentence."""
    configure_logging()
    _check_capabilities()
    with _settled(settings, SystemClock(), wait=False) as serving, _listening(path) as listening:
        serving.listen(listening, user)
        logger.info("ready", extra={"socket": str(path), "user": user})
        serving.run()


def serve_descriptor(descriptor: int, record: Path) -> None:
    """Serves one connection, which is open already, and ends with it; raises `ConfigurationError` in a sentence.

    Whoever gave it the connection is root as well, so there is nothing that may not be ordered.
    """
    configure_logging()
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    _check_capabilities()
    settings = Settings(Permissions(ports=(), this_machine=True), record)
    with _settled(settings, SystemClock(), wait=True) as serving:
        serving.serve_alone(connection)
        serving.run()


class Serving:
    """The loop over all connections."""

    def __init__(self, keeping: Keeping, clock: Clock) -> None:
        self._keeping = keeping
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, int] = {}
        self._served = 0
        self._alone = False
        self._ending = False

    def listen(self, listening: socket.socket, user: int) -> None:
        """Takes the connections of one user."""
        self._selector.register(listening, selectors.EVENT_READ, lambda: self._accept(listening, user))

    def serve_alone(self, connection: socket.socket) -> None:
        """Takes one connection, with which everything ends."""
        self._alone = True
        self._take(connection)

    def run(self) -> None:
        """Serves until it is told to end by a signal, or its only connection has ended."""
        with _wake_up() as woken:
            self._selector.register(woken, selectors.EVENT_READ, self._end)
            while not self._ending:
                due = self._keeping.tidy(self._clock.monotonic())
                timeout = None if due is None else max(due - self._clock.monotonic(), 0)
                for key, _ in self._selector.select(timeout):
                    key.data()
            self._selector.unregister(woken)
        for connection in list(self._connections):
            connection.close()
        self._selector.close()

    def _end(self) -> None:
        self._ending = True

    def _accept(self, listening: socket.socket, user: int) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        asking = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1]
        if asking not in (user, 0) or len(self._connections) >= CONNECTIONS_MAX:
            logger.warning("shown out", extra={"user": asking})
            connection.close()
            return
        self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._served += 1
        self._connections[connection] = self._served
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        try:
            packet = connection.recv(ORDER_BYTES_MAX)
            if packet:
                self._answer(connection, packet)
                return
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("shown out", extra={"reason": str(error)})
        self._leave(connection)

    def _answer(self, connection: socket.socket, packet: bytes) -> None:
        answer, opened = self._keeping.carry_out(self._connections[connection], decode_order(packet))
        try:
            socket.send_fds(connection, [msgspec.json.encode(answer)], [opened.fileno()] if opened is not None else [])
        finally:
            if opened is not None:
                opened.close()

    def _leave(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._keeping.leave(self._connections.pop(connection), self._clock.monotonic() + ORPHAN_SECONDS)
        connection.close()
        if self._alone:
            self._keeping.tidy(float("inf"))
            self._ending = True


@contextmanager
def _settled(settings: Settings, clock: Clock, *, wait: bool) -> Iterator[Serving]:
    try:
        record = Record(settings.record, wait=wait)
    except OSError as error:
        raise ConfigurationError(f"{settings.record} cannot be the helper's record: {error.strerror}.") from error
    try:
        yield Serving(Keeping(settings.permissions, record, clock.monotonic()), clock)
    finally:
        record.close()


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Anybody may connect, and the kernel says who: the socket needs no owner, and the helper no right to give it one.

    The record's lock keeps a second helper out, so a file that is there is a dead one's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as listening:
        try:
            if path.is_socket():
                path.unlink()
            listening.bind(str(path))
            path.chmod(0o666)
            listening.listen(CONNECTIONS_MAX)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be the helper's socket: {error.strerror}.") from error
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _wake_up() -> Iterator[socket.socket]:
    """A socket that becomes readable when the process is told to end."""
    waiting, waking = socket.socketpair()
    with waiting, waking:
        waking.setblocking(False)
        signal.set_wakeup_fd(waking.fileno())
        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield waiting
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)


def _check_capabilities() -> None:
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    missing = [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        raise ConfigurationError(f"The namespace helper needs {', '.join(missing)}: run it as root.")


def user_of(name: str) -> int:
    """The number of a user by name or number; raises `ConfigurationError`."""
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise ConfigurationError(f"There is no user {name}.") from error
