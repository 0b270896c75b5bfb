"""A hub behind the real front door whose HTTPS port opens WebSockets: the real MQTT pump, and an AMQP that echoes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from isthmus.access.journal import Decision
from isthmus.backends.memory.state import MemoryState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Refusal
from isthmus.base.ids import DeviceRef, RandomIds
from isthmus.base.state import JournalFilter
from isthmus.network.door import PUBLIC_DOOR, Door
from isthmus.resources.directory import Directory
from isthmus.resources.hub import Hub
from isthmus.servers.gateway import websocket_upgrade
from isthmus.servers.gateway.budget import SocketBudget
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.cutting import Cutting
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.http_app import Front, GateDoorway
from isthmus.servers.gateway.http_transport import HttpHandler
from isthmus.servers.gateway.kept_sessions import StoredSessions
from isthmus.servers.gateway.listener import Listeners, Plane
from isthmus.servers.gateway.mqtt import MqttGateway, MqttServices
from isthmus.servers.gateway.ports import DeviceConnection
from isthmus.servers.gateway.sessions import Sessions
from isthmus.servers.gateway.throttles import Throttles
from isthmus.servers.gateway.websocket_upgrade import SubProtocol, WebSockets
from isthmus.telemetry.message import Envelope
from isthmus.telemetry.ports import CommitWaiter
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.events import ClientEvent
from isthmus.wire.mqtt.packets import Connect
from isthmus.wire.tls import ServerContexts, server_context
from servers.front_door import WAIT_SECONDS, client_context
from servers.http_world import HOST, OTHER_HOST, HttpWorld
from servers.mqtt_world import FakePresence, FakeQueue, FakeTwins
from servers.probe_mail import FakeProbeMail
from support.certificates import issue, write_pem

PATH = "/$iothub/websocket"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
DEVICE = "dev1"


class Inlet:
    """Takes telemetry, which is durable at once."""

    backlog_bytes = 0

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    async def attend(self, hub: Hub, ref: DeviceRef) -> None:
        """Everything is taken, whoever sends it."""

    def leave(self, ref: DeviceRef) -> None:
        """Nothing was made ready."""

    def telemetry(
        self,
        hub: Hub,
        envelope: Envelope,
        encoded: bytes,
        payload: bytes,
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
    ) -> None:
        self.payloads.append(payload)
        asyncio.get_running_loop().call_soon(waiter.committed, [cookie])


class Echo:
    """A pump that says what it hears unless it is `mute`, and remembers."""

    connection: DeviceConnection

    def __init__(self) -> None:
        self.bytes_received = 0
        self.mute = False
        self.reason = ""
        self.is_open, self.is_closed, self.is_writable = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def opened(self, connection: DeviceConnection) -> None:
        self.connection = connection
        self.is_open.set()

    def received(self, data: bytes) -> None:
        self.bytes_received += len(data)
        if not self.mute:
            self.connection.write(data)

    def closed(self, reason: str) -> None:
        self.reason = reason
        self.is_closed.set()

    def writable(self) -> None:
        self.is_writable.set()


class WebSocketWorld(HttpWorld):
    """The hubs `hub`, with `dev1`, and `other`, on a loopback address."""

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__()
        self.folder = folder
        self.address = address
        self.inlet = Inlet()
        self.index = Sessions()
        self.echoes: asyncio.Queue[Echo] = asyncio.Queue()
        self.turned_away: asyncio.Queue[tuple[Door, Plane, str, Refusal]] = asyncio.Queue()

    async def start(self) -> None:
        """Opens the door."""
        self.hub = await self.hubs.create("hub", host_name=HOST, partitions=1)
        await self.hubs.create("other", host_name=OTHER_HOST, partitions=1)
        self.key = (await self.registry.require(await self.add(DEVICE))).primary_key or ""
        self.gate = Gate(Directory(self.hubs), self.registry, self.journal, self.counters, self.clock, self.ids)
        self.devices = Connected(FakePresence(), self.clock)
        self.hubs.on_change(Cutting(self.index, self.devices).hub_changed)
        self.mqtt = self._mqtt()
        spoken = {
            websocket_upgrade.MQTT: SubProtocol(Plane.MQTT, self.mqtt.make_pump),
            websocket_upgrade.AMQP: SubProtocol(Plane.AMQP, self._echo),
        }
        websockets = WebSockets(self.gate, spoken)
        doorway = GateDoorway(self.gate, self.index, self.clock)
        front = Front(doorway, self.service, self.clock, websockets=websockets)
        self.server = web.Server(front.handle, access_log=None)
        self.listeners = Listeners(
            clock=SystemClock(),
            ids=RandomIds(),
            budget=SocketBudget(100),
            owner_of=lambda _address, _place: None,
            on_refused=lambda *what: self.turned_away.put_nowait(what),
        )
        pem = str(write_pem(self.folder / "server.pem", issue("hub")))
        self.bound = self.listeners.open(
            self.address,
            0,
            door=PUBLIC_DOOR,
            plane=Plane.HTTPS,
            contexts=ServerContexts(server_context(pem, request_client_certificate=True)),
            make_handler=lambda: HttpHandler(self.server),
        )
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=client_context()), timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS)
        )

    async def stop(self) -> None:
        """Closes it; every descriptor must be back by then."""
        await self.client.close()
        self.listeners.stop_accepting()
        await self.listeners.drain(1)
        await self.server.shutdown()
        await self.mqtt.drained()
        assert self.listeners.connections == 0
        assert len(self.index) == 0

    def url(self, path: str = PATH) -> URL:
        """Of a path at the hub."""
        return URL(f"https://{self.bound.address}:{self.bound.port}{path}", encoded=True)

    async def decisions(self) -> list[Decision]:
        """What the journal has, newest first."""
        return await self.journal.read(JournalFilter())

    async def echo(self) -> Echo:
        """The next AMQP pump."""
        return await asyncio.wait_for(self.echoes.get(), WAIT_SECONDS)

    async def raw(self, protocol: str = "AMQPWSB10", early: bytes = b"", *, host: str = HOST, sni: str = HOST) -> "Raw":
        """A WebSocket of which each byte is in our hands."""
        raw = await self.tls(sni)
        raw.send(request(PATH, host, {"Sec-WebSocket-Protocol": protocol}) + early)
        raw.head = await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
        return raw

    async def tls(self, sni: str = HOST) -> "Raw":
        """A connection to the HTTPS port."""
        reader, writer = await asyncio.open_connection(
            self.bound.address, self.bound.port, ssl=client_context(), server_hostname=sni
        )
        return Raw(reader, writer)

    def _echo(self) -> Echo:
        echo = Echo()
        self.echoes.put_nowait(echo)
        return echo

    def _mqtt(self) -> MqttGateway:
        return MqttGateway(
            MqttServices(
                gate=self.gate,
                hubs=self.hubs,
                inlet=self.inlet,
                backlog=self.inlet,
                twins=FakeTwins(),
                devicebound=FakeQueue(),
                kept=StoredSessions(MemoryState()),
                connected=self.devices,
                sessions=self.index,
                throttles=Throttles(self.clock),
                clock=self.clock,
                probe_mail=FakeProbeMail(),
            )
        )


class Raw:
    """A client's end below HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = b""
        self.mqtt = ClientSession()

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.writer.write(data)

    async def read(self, count: int) -> bytes:
        """Reads so many bytes."""
        return await asyncio.wait_for(self.reader.readexactly(count), WAIT_SECONDS)

    async def rest(self) -> bytes:
        """Reads to the end, and ends."""
        try:
            return await asyncio.wait_for(self.reader.read(), WAIT_SECONDS)
        finally:
            self.writer.close()

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: its first byte and its payload."""
        first, length = await self.read(2)
        if length == 126:
            length = int.from_bytes(await self.read(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.read(8), "big")
        return first, await self.read(length)

    async def packets(self) -> list[ClientEvent]:
        """What MQTT the next binary frame holds."""
        first, payload = await self.frame()
        assert first == 0x82, payload
        return self.mqtt.receive(payload)


def request(path: str, host: str, changed: dict[str, str]) -> bytes:
    """The bytes of an upgrade request; an empty text leaves a header out."""
    headers = {
        "Host": host,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Protocol": "mqtt",
    } | changed
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value), "", ""]
    return "\r\n".join(lines).encode()


def connect_of(world: WebSocketWorld, *, host: str = HOST, password: str = "") -> Connect:
    """The device's CONNECT."""
    password = password or world.sign(f"{HOST}/devices/{DEVICE}", world.key)
    return Connect(DEVICE, True, 60, f"{host}/{DEVICE}/?api-version=2021-04-12", password.encode(), None)


@asynccontextmanager
async def websocket_world(folder: Path, address: str) -> AsyncIterator[WebSocketWorld]:
    """Yields a world that is open."""
    world = WebSocketWorld(folder, address)
    await world.start()
    yield world
    await world.stop()
