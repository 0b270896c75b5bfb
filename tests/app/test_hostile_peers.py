"""A whole server, and strangers who take their time: each is ended by a limit that has a name, and others are served.

Slow peers send a byte now and then, never a whole one of what they began: a client hello, a first packet, a request's
head or body, a frame in a WebSocket. The limits are those of a server that runs, made shorter; `make test-long` waits
for the real ones. Floods are of sockets that say nothing, and of devices that all come back at once.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import pytest

from isthmus.app.server import Server
from isthmus.app.stores import open_stores
from isthmus.base.places import CA_CERTIFICATE
from isthmus.base.sas_token import sign
from isthmus.base.state import JournalFilter
from isthmus.config import AuthoritySettings, Config, ManagementSettings, MetricsSettings, SocketSettings
from isthmus.seed import Seed, SeedDevice
from isthmus.servers.gateway import connection, http_body
from isthmus.wire.amqp import connection as amqp_connection
from isthmus.wire.mqtt import session as mqtt_session
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.packets import Connect

HOST = "hub.isthmus.test"
KEY = "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleSE="
FAR_S = 4_000_000_000
HTTPS, MQTT, AMQP, MANAGEMENT, METRICS = 8443, 8883, 5671, 9444, 9464
PACE_SECONDS = 0.02
"""Between two bytes of a slow peer."""
WAIT_SECONDS = 30.0
"""Far above the shortened limits; only a connection that nobody ends gets there."""
LONG_SECONDS = 120.0
"""Above all limits as they are."""
CONNECT = b"\x10\xff\xff\x03\x00\x04MQTT\x04\x02\x00\x3c"
"""The beginning of a CONNECT of 65,535 bytes."""
FRAME = b"\x82\xfe\xff\xff\0\0\0\0"
"""A WebSocket's binary frame of 65,535 bytes with a mask of zeros."""
UPGRADE = (
    f"GET /$iothub/websocket HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {}\r\n\r\n"
)
TOKEN_REQUEST = (
    f"POST /00000000-0000-0000-0000-000000000000/oauth2/v2.0/token HTTP/1.1\r\nHost: {HOST}\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5000\r\n\r\n"
)


@dataclass(frozen=True)
class Slow:
    """A peer at a port that sends `first` at once, and then a byte at a time: of `then`, or the same for ever.

    Without a `first` it is one that never ends its client hello.
    """

    name: str
    port: int
    first: bytes | None
    rule: str
    then: bytes = b""

    def __str__(self) -> str:
        return self.name


SLOW = (
    *(Slow(f"hello-{port}", port, None, "tls.time") for port in (HTTPS, MQTT, AMQP, MANAGEMENT, METRICS)),
    Slow("connect", MQTT, CONNECT, "auth.time"),
    Slow("amqp-header", AMQP, b"AM", "auth.time", b"QP\x03\x01\x00"),
    Slow("sasl", AMQP, b"AMQP\x03\x01\x00\x00\x00\x00\x01\xff\x02\x01\x00\x00", "auth.time"),
    Slow("request-head", HTTPS, f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-A: ".encode(), "auth.time"),
    Slow("request-body", HTTPS, TOKEN_REQUEST.encode(), "limit.body-time"),
    Slow("upgrade", HTTPS, UPGRADE.format("mqtt")[:-4].encode(), "auth.time"),
    Slow("frame-of-mqtt", HTTPS, UPGRADE.format("mqtt").encode() + FRAME + CONNECT, "auth.time"),
    Slow("frame-of-amqp", HTTPS, UPGRADE.format("AMQPWSB10").encode() + FRAME + b"AM", "auth.time", b"QP\x03\x01\x00"),
    Slow("management-request", MANAGEMENT, b"GET /subscriptions HTTP/1.1\r\nX-A: ", "auth.time"),
    Slow("metrics-request", METRICS, b"GET /metrics HTTP/1.1\r\nX-A: ", "auth.time"),
)


@dataclass
class Site:
    """The server, where it listens, and what its clients trust."""

    server: Server
    address: str
    context: ssl.SSLContext

    async def connect(self, port: int, source: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            self.address, port, ssl=self.context, server_hostname=HOST, local_addr=(source, 0) if source else None
        )

    async def device(self, number: int) -> bytes:
        """A device connects, and goes; what the hub answered."""
        reader, writer = await self.connect(MQTT)
        name = f"d{number}"
        user = f"{HOST}/{name}/?api-version=2021-04-12"
        token = sign(f"{HOST}/devices/{name}", KEY, FAR_S)
        writer.write(ClientSession().connect(Connect(name, True, 60, user, token.encode(), None)))
        answer = await reader.readexactly(4)
        writer.transport.abort()
        return answer

    async def asked(self, port: int, path: str) -> bytes:
        """The status line that an honest client gets."""
        reader, writer = await self.connect(port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        line = await reader.readline()
        writer.transport.abort()
        return line

    async def amqp(self) -> bytes:
        """The header that an honest client of AMQP gets back."""
        reader, writer = await self.connect(AMQP)
        writer.write(b"AMQP\x03\x01\x00\x00")
        header = await reader.readexactly(8)
        writer.transport.abort()
        return header

    async def serves(self) -> None:
        """Honest clients of all planes are answered."""
        async with asyncio.timeout(WAIT_SECONDS):
            device, service, amqp, operator, metrics = await asyncio.gather(
                self.device(0),
                self.asked(HTTPS, "/devices/d0?api-version=2021-04-12"),
                self.amqp(),
                self.asked(MANAGEMENT, "/subscriptions"),
                self.asked(METRICS, "/metrics"),
            )
        assert device == b"\x20\x02\x00\x00"
        assert service.startswith(b"HTTP/1.1 401 ")
        assert amqp == b"AMQP\x03\x01\x00\x00"
        assert operator.startswith(b"HTTP/1.1 401 ")
        assert metrics.startswith(b"HTTP/1.1 200 ")

    async def rules(self, address: str = "") -> list[str]:
        """The rules of all refusals, or of those of peers at an address; newest first."""
        wanted = JournalFilter(verdict="refused", address=address, limit=1_000)
        return [each.rule for each in await self.server.domain.journal.read(wanted)]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 2.0)
    monkeypatch.setattr(connection, "PROOF_SECONDS", 3.0)
    monkeypatch.setattr(mqtt_session, "CONNECT_SECONDS_MAX", 2.0)
    monkeypatch.setattr(amqp_connection, "HANDSHAKE_SECONDS_MAX", 2.0)
    monkeypatch.setattr(http_body, "BODY_SECONDS_MAX", 1.0)


@pytest.mark.usefixtures("short")
async def test_whoever_takes_his_time_is_ended_and_others_are_served(tmp_path: Path, loopback_address: str) -> None:
    async with site(tmp_path, loopback_address) as opened:
        await _end_all(opened, WAIT_SECONDS)


@pytest.mark.long
async def test_whoever_takes_his_time_is_ended_by_the_limits_as_they_are(tmp_path: Path, loopback_address: str) -> None:
    async with site(tmp_path, loopback_address) as opened:
        await _end_all(opened, LONG_SECONDS)


async def _end_all(opened: Site, seconds_max: float) -> None:
    sources = {slow: f"127.99.0.{number}" for number, slow in enumerate(SLOW, 1)}
    async with asyncio.timeout(seconds_max), asyncio.TaskGroup() as group:
        for slow, source in sources.items():
            group.create_task(_dripped(opened, slow, source))
        await opened.serves()
    told = {slow.name: await opened.rules(source) for slow, source in sources.items()}
    assert {name: rules[-1:] for name, rules in told.items()} == {slow.name: [slow.rule] for slow in SLOW}


async def _dripped(opened: Site, slow: Slow, source: str) -> None:
    """Sends as a slow peer does until the server ends it."""
    drops: Iterator[int] = iter(slow.then) if slow.then else repeat(ord("a"))
    if slow.first is None:
        reader, writer = await asyncio.open_connection(opened.address, slow.port, local_addr=(source, 0))
        drops = iter(_hello(opened.context)[:-1])
    else:
        reader, writer = await opened.connect(slow.port, source)
        writer.write(slow.first)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        ended = asyncio.ensure_future(_end_of(reader))
        while not (await asyncio.wait({ended}, timeout=PACE_SECONDS))[0]:
            drop = next(drops, None)
            if drop is not None:
                writer.write(bytes((drop,)))
        await ended
    writer.transport.abort()


async def _end_of(reader: asyncio.StreamReader) -> None:
    while await reader.read(4_096):
        pass


def _hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=HOST).do_handshake()
    return outgoing.read()


async def test_a_flood_of_sockets_that_say_nothing_costs_nobody_else_his_place(
    tmp_path: Path, loopback_address: str
) -> None:
    async with site(tmp_path, loopback_address, sockets_max=24) as opened:
        silent = []
        for port in (HTTPS, MQTT, AMQP, MANAGEMENT, METRICS):
            silent += [await asyncio.open_connection(opened.address, port) for _ in range(40)]
            await opened.serves()
        assert set(await opened.rules()) >= {"socket.evicted"}
        assert opened.server._listeners.connections <= 24
        for _, writer in silent:
            writer.transport.abort()


@pytest.mark.parametrize("devices", [100, pytest.param(2_000, marks=pytest.mark.long)])
async def test_when_all_devices_come_back_at_once_none_is_refused(
    tmp_path: Path, loopback_address: str, devices: int
) -> None:
    async with site(tmp_path, loopback_address, devices=devices) as opened, asyncio.timeout(LONG_SECONDS):
        answers = await asyncio.gather(*map(opened.device, range(devices)))
        assert set(answers) == {b"\x20\x02\x00\x00"}
        assert await opened.rules() == []


@asynccontextmanager
async def site(folder: Path, address: str, *, sockets_max: int = 4_000, devices: int = 1) -> AsyncIterator[Site]:
    """A server on this loop with its devices, drained afterwards."""
    config = Config(
        data=str(folder),
        hostname=HOST,
        bind=(address,),
        https_port=HTTPS,
        mqtt_port=MQTT,
        amqp_port=AMQP,
        ephemeral=True,
        sockets=SocketSettings(sockets_max),
        metrics=MetricsSettings(address=address, port=METRICS),
        management=ManagementSettings(port=MANAGEMENT),
        authority=AuthoritySettings(enabled=True),
    )
    async with open_stores(config) as stores:
        server = Server(config, stores)
        try:
            await server.open(Seed(devices=tuple(SeedDevice(f"d{number}", KEY, KEY) for number in range(devices))))
            context = await asyncio.to_thread(ssl.create_default_context, cafile=str(folder / CA_CERTIFICATE))
            yield Site(server, address, context)
        finally:
            await server.drain()
