"""The hub's side: orders to the helper, from an event loop.

Theory of operation. Orders go one after another through one thread, which keeps the connection: opened when it is
first needed, and anew after it broke. What the helper says no to is an error of that order alone; a helper that cannot
be reached is told apart from it, since the sockets it passed on live without it. Whoever comes back finds the helper's
word in its record and has to hold his addresses again, which the hub does every few seconds.
"""

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import SocketKind, Unattended
from isthmus.namespaces.orders import ORDER_BYTES_MAX, Answer, Order, Task, decode_answer
from isthmus.namespaces.sockets import cookie_of

ANSWER_SECONDS_MAX = 10.0
"""For an answer: milliseconds, and the start of a child."""

END_SECONDS_MAX = 2.0
"""For the child to take its addresses back and end, of the 10 s that the hub has."""

START_REMEDY = "start it: isthmus namespace-helper --socket {path} --allow-user USER"

_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""


class Way(Protocol):
    """How the helper is reached. Called from one thread."""

    def connect(self) -> socket.socket:
        """A new connection; raises `Unattended` in a sentence with the remedy."""

    def close(self) -> None:
        """Ends what `connect` has started; the connection is closed by then."""


class NamespaceClient:
    """Asks the helper."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._lane = ThreadPoolExecutor(max_workers=1, thread_name_prefix="namespaces")
        self._connection: socket.socket | None = None

    async def begin(self) -> None:
        """Reaches the helper before it is needed; raises `Unattended`."""
        await asyncio.get_running_loop().run_in_executor(self._lane, self._connected)

    async def listening_socket(self, place: str, address: str, port: int, kind: SocketKind) -> socket.socket:
        """A bound socket in a place, which has the address from then on until `release`.

        Raises `Unattended`, and `ConfigurationError` for what the helper says no to.
        """
        order = Order(Task.LISTEN, _namespace(place), address, port, kind)
        _, opened = await self._ask(order)
        if opened is None:
            raise Unattended("The namespace helper passed no socket on.")
        return opened

    async def connecting_socket(self, place: str, address: str, port: int, kind: SocketKind) -> socket.socket:
        """A socket that is being connected from inside a place (connect(2)); raises as `listening_socket`."""
        _, opened = await self._ask(Order(Task.CONNECT, _namespace(place), address, port, kind))
        if opened is None:
            raise Unattended("The namespace helper passed no socket on.")
        return opened

    async def hold(self, place: str, address: str) -> int:
        """Has the address in a place, and returns the cookie of its network; raises as `listening_socket`."""
        answer, _ = await self._ask(Order(Task.HOLD, _namespace(place), address))
        return answer.cookie

    async def release(self, place: str, address: str) -> None:
        """Takes the address back where it was added; raises as `listening_socket`."""
        await self._ask(Order(Task.RELEASE, _namespace(place), address))

    def network_of(self, opened: socket.socket) -> int:
        """The cookie of a socket's network namespace, to compare with `hold`'s."""
        return cookie_of(opened)

    async def close(self) -> None:
        """Says goodbye; a helper that is our child has ended by then."""
        await asyncio.get_running_loop().run_in_executor(self._lane, self._end)
        self._lane.shutdown(wait=False)

    async def _ask(self, order: Order) -> tuple[Answer, socket.socket | None]:
        passed = self._lane.submit(self._exchange, order)
        try:
            answer, opened = await asyncio.shield(asyncio.wrap_future(passed))
        except asyncio.CancelledError:
            if not passed.cancel():
                # In the thread, and so ahead of whatever is ordered next, which may want the same address.
                self._lane.submit(_close_passed, passed)
            raise
        if answer.reason:
            _close(opened)
            raise ConfigurationError(answer.reason)
        return answer, opened

    def _exchange(self, order: Order) -> tuple[Answer, socket.socket | None]:
        """In the thread: one order and its answer; a connection that proves dead is made anew once."""
        if self._connection is not None:
            with contextlib.suppress(Unattended):
                return self._once(self._connection, order)
        return self._once(self._connected(), order)

    def _connected(self) -> socket.socket:
        if self._connection is None:
            self._connection = self._way.connect()
            self._connection.settimeout(ANSWER_SECONDS_MAX)
        return self._connection

    def _once(self, connection: socket.socket, order: Order) -> tuple[Answer, socket.socket | None]:
        descriptors: list[int] = []
        try:
            connection.send(msgspec.json.encode(order))
            packet, descriptors, _, _ = socket.recv_fds(connection, ORDER_BYTES_MAX, 1)
            for descriptor in descriptors:
                # What came over a socket is inherited unless told otherwise, and a child would listen on for ever.
                os.set_inheritable(descriptor, False)
            if not packet:
                raise ConnectionResetError("it has ended; its log says why")
            return decode_answer(packet), socket.socket(fileno=descriptors[0]) if descriptors else None
        except (OSError, msgspec.MsgspecError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._hang_up()
            raise Unattended(f"The namespace helper does not answer ({error}).") from error

    def _hang_up(self) -> None:
        _close(self._connection)
        self._connection = None

    def _end(self) -> None:
        self._hang_up()
        self._way.close()


class Child:
    """A helper of the hub's own: its child, started when it is needed, and again when it has died."""

    def __init__(self, record: Path) -> None:
        """`record` is where the child writes down what it has added."""
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self) -> socket.socket:
        """Starts the child."""
        self.close()
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                self._process = subprocess.Popen(
                    self._command(its.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(its.fileno(),),
                    # What a terminal sends its foreground is for the hub, which then says goodbye itself.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise Unattended(f"The namespace helper cannot be started: {error.strerror}.") from error
        return ours

    def close(self) -> None:
        """Waits for the child to end, which it does with the connection; kills it when it does not."""
        if self._process is None:
            return
        try:
            self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def pid(self) -> int | None:
        """The child's, None while there is none."""
        return self._process.pid if self._process is not None else None

    def _command(self, descriptor: int) -> list[str]:
        said = ["--descriptor", str(descriptor), "--record", str(self._record.absolute())]
        return [sys.executable, "-m", "isthmus", "namespace-helper", *said]


class AtSocket:
    """A helper that somebody else has started."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def connect(self) -> socket.socket:
        """Connects; only root may be there, for who passes sockets on sees what comes to them."""
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            opened.settimeout(ANSWER_SECONDS_MAX)
            opened.connect(str(self._path))
            credentials = opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError as error:
            opened.close()
            remedy = START_REMEDY.format(path=self._path)
            raise Unattended(f"The namespace helper is not at {self._path} ({error.strerror}); {remedy}.") from error
        if _CREDENTIALS.unpack(credentials)[1] != 0:
            opened.close()
            raise Unattended(f"Who answers at {self._path} is not root, and is trusted with no socket.")
        return opened

    def close(self) -> None:
        """The helper lives on."""


class Nobody:
    """There is no helper."""

    def __init__(self, reason: str) -> None:
        """`reason` is a sentence with the remedy."""
        self._reason = reason

    def connect(self) -> socket.socket:
        """Raises `Unattended`."""
        raise Unattended(self._reason)

    def close(self) -> None:
        """There is nothing to end."""


def _namespace(place: str) -> str:
    kind, _, name = place.partition(":")
    if place and (kind != "netns" or not name):
        raise ConfigurationError(f"{place} is no network namespace.")
    return name


def _close_passed(passed: Future[tuple[Answer, socket.socket | None]]) -> None:
    if passed.exception() is None:
        _close(passed.result()[1])


def _close(opened: socket.socket | None) -> None:
    if opened is not None:
        opened.close()
