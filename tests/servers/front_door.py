"""A front door for tests: listeners on the running loop, a certificate, and pumps that remember what they were told."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.base.clock import SystemClock
from isthmus.base.errors import Refusal
from isthmus.base.ids import RandomIds
from isthmus.network.door import PUBLIC_DOOR, Door
from isthmus.servers.gateway.budget import SocketBudget
from isthmus.servers.gateway.connection import Connection, Handler
from isthmus.servers.gateway.listener import Bound, Listeners, Plane
from isthmus.wire.tls import ServerContexts, server_context
from support.certificates import issue, write_pem

WAIT_SECONDS = 20.0
"""Far above what any step takes; only a broken one gets there."""


class Pump:
    """A handler that remembers; `echo` answers with what it received, `proves` says that the peer authenticated."""

    def __init__(self, *, echo: bool = False, proves: bool = True, pauses: bool = False) -> None:
        self._echo, self._proves, self._pauses = echo, proves, pauses
        self._connection: Connection | None = None
        self.bytes_received = bytearray()
        self.reasons: list[str] = []
        self.writable_calls = 0
        self.is_open, self.is_closed = asyncio.Event(), asyncio.Event()
        self._grew = asyncio.Event()

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def opened(self, connection: Connection) -> None:
        self._connection = connection
        if self._proves:
            connection.made_progress()
        if self._pauses:
            connection.pause_reading()
        self.is_open.set()

    def received(self, data: bytes) -> None:
        self.bytes_received += data
        self._grew.set()
        if self._echo:
            self.connection.write(data)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)
        self.is_closed.set()

    def writable(self) -> None:
        self.writable_calls += 1
        self._grew.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until received bytes or `writable` made the condition true."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._grew.clear()
                await self._grew.wait()


@dataclass
class FrontDoor:
    listeners: Listeners
    contexts: ServerContexts
    trust: Path
    refusals: list[tuple[Door, Plane, str, Refusal]]
    pumps: asyncio.Queue[Pump] = field(default_factory=asyncio.Queue)

    def open(
        self,
        address: str,
        make: Callable[[], Pump] = Pump,
        *,
        port: int = 0,
        door: Door = PUBLIC_DOOR,
        place: str = "",
        opened: socket.socket | None = None,
    ) -> Bound:
        def make_handler() -> Handler:
            pump = make()
            self.pumps.put_nowait(pump)
            return pump

        return self.listeners.open(
            address,
            port,
            door=door,
            plane=Plane.MQTT,
            contexts=self.contexts,
            make_handler=make_handler,
            place=place,
            opened=opened,
        )

    async def pump(self) -> Pump:
        """The next pump, once its connection is open."""
        pump = await asyncio.wait_for(self.pumps.get(), WAIT_SECONDS)
        await asyncio.wait_for(pump.is_open.wait(), WAIT_SECONDS)
        return pump

    async def settle(self, bound: Bound) -> None:
        """Returns once everything that came before was handled: accepted in order, ended in order."""
        _, writer = await self.connect(bound)
        pump = await self.pump()
        pump.connection.close()
        await asyncio.wait_for(pump.is_closed.wait(), WAIT_SECONDS)
        writer.transport.abort()

    async def connect(
        self, bound: Bound, context: ssl.SSLContext | None = None, address: str = "", source: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            address or bound.address,
            bound.port,
            ssl=context or client_context(),
            server_hostname="hub.isthmus.test",
            local_addr=(source, 0) if source else None,
        )


@asynccontextmanager
async def front_door(
    folder: Path, *, sockets_max: int = 1_000, owners: dict[str, Door] | None = None
) -> AsyncIterator[FrontDoor]:
    """Yields a front door that is shut down afterwards; every descriptor must be back by then."""
    pem = write_pem(folder / "server.pem", issue("hub"))
    contexts = ServerContexts(server_context(str(pem), request_client_certificate=True))
    refusals: list[tuple[Door, Plane, str, Refusal]] = []
    listeners = Listeners(
        clock=SystemClock(),
        ids=RandomIds(),
        budget=SocketBudget(sockets_max),
        owner_of=lambda address, place: ({} if owners is None else owners).get(place + address),
        on_refused=lambda *what: refusals.append(what),
    )
    yield FrontDoor(listeners, contexts, pem, refusals)
    listeners.shut_down()
    await listeners.drain(0)
    assert listeners.connections == 0


def client_context(version: ssl.TLSVersion | None = None, certificate: Path | None = None) -> ssl.SSLContext:
    """A client that trusts everybody: what is tested here is the server's end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def open_descriptors() -> Iterator[Path]:
    """What this process has open."""
    return Path("/proc/self/fd").iterdir()
