"""A whole server on the test's own loop, and every plane it has: who speaks there honestly, and what he is answered."""

import asyncio
import contextlib
import gc
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.message

from isthmus.access.journal import Decision
from isthmus.app.server import Server
from isthmus.app.stores import open_stores
from isthmus.base.places import CA_CERTIFICATE
from isthmus.base.sas_token import sign
from isthmus.base.state import JournalFilter
from isthmus.config import Config, ManagementSettings, MetricsSettings, NamesSettings, SocketSettings
from isthmus.resources.guarded import ResourceKind
from isthmus.seed import Seed, SeedDevice, SeedPrivateEndpoint
from isthmus.wire.link.framing import encode_message
from isthmus.wire.link.messages import ENROL_SERVER_NAME, Enrol
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.packets import Connect

DOMAIN = "isthmus.test"
HOST, BUS, EVENTS = f"hub.{DOMAIN}", f"busspace.servicebus.{DOMAIN}", f"hubspace.servicebus.{DOMAIN}"
ACCOUNT = f"plantstore.blob.{DOMAIN}"
KEY = "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleSE="
FAR_S = 4_000_000_000
HTTPS, MQTT, AMQP, MANAGEMENT, METRICS, LINK, NAMES = 8443, 8883, 5671, 9444, 9464, 9443, 5353
WAIT_SECONDS = 60.0
"""Far above what an honest peer waits for among those who are not."""

AMQP_HEADER = b"AMQP\x03\x01\x00\x00"
QUERY = dns.message.make_query(HOST, "A", id=4_711).to_wire()


def _connect(number: int) -> bytes:
    """Each peer is a device of his own: of two that are the same one goes."""
    name = f"d{number}"
    token = sign(f"{HOST}/devices/{name}", KEY, FAR_S)
    user = f"{HOST}/{name}/?api-version=2021-04-12"
    return ClientSession().connect(Connect(name, True, 60, user, token.encode(), None))


def _asked(path: str, host: str = HOST) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def _upgraded(protocol: str, payload: bytes) -> bytes:
    """A WebSocket's request, and one frame with a mask of zeros behind it."""
    head = (
        f"GET /$iothub/websocket HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return head.encode() + b"\x82" + length + bytes(4) + payload


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane: where it is, what an honest peer says first, and what his answer has in it.

    `server_name` is what TLS asks for, empty for a plane without TLS; `rule` is what the journal says of a peer that
    never ends what it began, empty where no rule is broken by that.
    """

    name: str
    port: int
    opening: bytes | Callable[[int], bytes]
    answered: bytes
    server_name: str = HOST
    rule: str = "auth.time"

    def __str__(self) -> str:
        return self.name

    def says(self, number: int) -> bytes:
        """What peer `number` says first."""
        return self.opening(number) if callable(self.opening) else self.opening


PLANES = (
    Plane("mqtt", MQTT, _connect, b"\x20\x02\x00\x00"),
    Plane(
        "mqtt-over-websocket", HTTPS, lambda number: _upgraded("mqtt", _connect(number)), b"\x82\x04\x20\x02\x00\x00"
    ),
    Plane("amqp", AMQP, AMQP_HEADER, AMQP_HEADER),
    Plane("amqp-over-websocket", HTTPS, _upgraded("AMQPWSB10", AMQP_HEADER), AMQP_HEADER),
    Plane("device-over-https", HTTPS, _asked("/devices/d0/messages/deviceBound?api-version=2021-04-12"), b" 401 "),
    Plane("service-over-https", HTTPS, _asked("/devices/d0?api-version=2021-04-12"), b" 401 "),
    Plane("relay", HTTPS, _asked("/isthmus-uploads/d0/a.bin?sv=1&si=x&sig=y"), b" 403 "),
    Plane("management", MANAGEMENT, _asked("/subscriptions"), b" 401 "),
    Plane("metrics", METRICS, _asked("/metrics"), b" 200 "),
    Plane("health", METRICS, _asked("/health"), b" 200 "),
    Plane("link", LINK, encode_message(Enrol(token_secret="x", csr="y")), b'"refused"', ENROL_SERVER_NAME),
    Plane("service-bus-amqp", AMQP, AMQP_HEADER, AMQP_HEADER, BUS),
    Plane("service-bus-https", HTTPS, _asked("/q/messages/head", BUS), b" 401 ", BUS),
    Plane("event-hubs-amqp", AMQP, AMQP_HEADER, AMQP_HEADER, EVENTS),
    Plane("event-hubs-https", HTTPS, _asked("/events/messages", EVENTS), b" 401 ", EVENTS),
    Plane("blob", HTTPS, _asked("/box/a.bin", ACCOUNT), b" 40", ACCOUNT),
    Plane("names-over-tcp", NAMES, len(QUERY).to_bytes(2, "big") + QUERY, QUERY[:2], "", ""),
)
"""All planes that are spoken over a stream; names over datagrams have no connection to hold."""


@dataclass
class Attacked:
    """The server, where its planes are, and what its honest peers trust."""

    server: Server
    address: str
    endpoint: str
    context: ssl.SSLContext

    async def connect(
        self, plane: Plane, source: str = "", *, silent: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of a peer, with TLS where the plane has it, unless he is a `silent` one."""
        address = self.endpoint if plane.port == NAMES else self.address
        local = (source, 0) if source else None
        if silent or not plane.server_name:
            return await asyncio.open_connection(address, plane.port, local_addr=local)
        context = ENROLLING if plane.port == LINK else self.context
        return await asyncio.open_connection(
            address, plane.port, ssl=context, server_hostname=plane.server_name, local_addr=local
        )

    async def honest(self, plane: Plane, number: int = 0) -> bool:
        """Whether an honest peer is answered; he goes without a goodbye."""
        reader, writer = await self.connect(plane)
        try:
            writer.write(plane.says(number))
            held = b""
            while plane.answered not in held:
                more = await reader.read(65_536)
                if not more:
                    return False
                held += more
            return True
        finally:
            writer.transport.abort()

    async def serves(self) -> None:
        """Honest peers of all planes are answered, and so is a datagram."""
        async with asyncio.timeout(WAIT_SECONDS):
            answered = await asyncio.gather(*map(self.honest, PLANES), self._datagram())
        names = [*map(str, PLANES), "names-over-udp"]
        lacking = [name for name, was in zip(names, answered, strict=True) if not was]
        assert not lacking, f"not answered: {lacking}"

    async def datagrams(self, count: int) -> None:
        """So many queries at once that nobody waits for the answers of."""
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(self.endpoint, NAMES)
        )
        for number in range(count):
            transport.sendto(dns.message.make_query(f"{number}.{DOMAIN}", "A").to_wire())
        transport.close()

    async def _datagram(self) -> bool:
        """A client of names asks again until it is answered, as clients do."""
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        class Hearing(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                if data[:2] == QUERY[:2]:
                    heard.set()

        transport, _ = await loop.create_datagram_endpoint(Hearing, remote_addr=(self.endpoint, NAMES))
        while not heard.is_set():
            transport.sendto(QUERY)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(heard.wait(), 0.5)
        transport.close()
        return True

    async def rules(self, address: str = "") -> list[str]:
        """The rules of all refusals, or of those of peers at an address; newest first."""
        return [each.rule for each in await self.refusals(address)]

    async def refusals(self, address: str = "") -> list[Decision]:
        """What the journal tells of all refusals, or of those of peers at an address; newest first."""
        wanted = JournalFilter(verdict="refused", address=address, limit=1_000)
        return await self.server.domain.journal.read(wanted)

    def _connections(self) -> int:
        return self.server._listeners.connections + len(self.server._names._connections)

    async def emptied(self, descriptors_max: int) -> None:
        """Waits until no connection is left on any plane, and no more descriptors are held."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self._connections():  # noqa: ASYNC110 - many things make it so
                await asyncio.sleep(0)
            while descriptors() > descriptors_max:  # noqa: ASYNC110 - the loop's own end of it is closed later
                await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds of what can run out."""

    descriptors: int
    threads: int
    objects: int


def held() -> Held:
    """What this process holds now."""
    gc.collect()
    return Held(descriptors(), threading.active_count(), len(gc.get_objects()))


def descriptors() -> int:
    """Open files, sockets and pipes of this process."""
    return len(os.listdir("/proc/self/fd"))


def _enrolling() -> ssl.SSLContext:
    """Who enrols checks the hub's certificate by a digest in his token, and not here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


ENROLLING = _enrolling()


@asynccontextmanager
async def attacked(
    folder: Path, address: str, endpoint: str, *, sockets_max: int = 8_000, devices: int = 1
) -> AsyncIterator[Attacked]:
    """A server with all its planes on this loop, drained afterwards."""
    config = Config(
        data=str(folder),
        hostname=HOST,
        bind=(address,),
        https_port=HTTPS,
        mqtt_port=MQTT,
        amqp_port=AMQP,
        link_port=LINK,
        ephemeral=True,
        names=NamesSettings(port=NAMES),
        sockets=SocketSettings(sockets_max),
        metrics=MetricsSettings(address=address, port=METRICS),
        management=ManagementSettings(port=MANAGEMENT),
    )
    seed = Seed(
        devices=tuple(SeedDevice(f"d{number}", KEY, KEY) for number in range(devices)),
        private_endpoints=(SeedPrivateEndpoint("plant", endpoint),),
    )
    async with open_stores(config) as stores:
        server = Server(config, stores)
        try:
            await server.open(seed)
            await _furnish(server)
            context = await asyncio.to_thread(ssl.create_default_context, cafile=str(folder / CA_CERTIFICATE))
            yield Attacked(server, address, endpoint, context)
        finally:
            await server.drain()


async def _furnish(server: Server) -> None:
    """The neighbours, and the link door, which opens when a connector may dial."""
    await server.domain.namespaces.create(ResourceKind.SERVICE_BUS, "busspace")
    await server.domain.namespaces.create(ResourceKind.EVENT_HUBS, "hubspace")
    await server.domain.accounts.create(ResourceKind.STORAGE, "plantstore")
    await server._name_doors.settle()
    assert server._link is not None
    server._link.open()
