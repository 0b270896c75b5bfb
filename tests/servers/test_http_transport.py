"""aiohttp's server on our own connections, asked by three clients over TLS, and by one over the local socket."""

import asyncio
import hashlib
import io
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from aiohttp import web

from isthmus.access.certificates import Authority
from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.network.door import PUBLIC_DOOR
from isthmus.servers.gateway.budget import SocketBudget
from isthmus.servers.gateway.connection import WRITE_HIGH_BYTES, Connection
from isthmus.servers.gateway.http_transport import CONNECTION, HttpHandler
from isthmus.servers.gateway.listener import Bound, Listeners, Plane
from isthmus.wire.tls import ServerContexts, server_context
from servers.front_door import WAIT_SECONDS, client_context

LARGE = bytes(range(256)) * 40_000
TIMEOUT = aiohttp.ClientTimeout(total=WAIT_SECONDS)


class Site:
    """An aiohttp application behind our front door."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.written = 0
        self.connections: list[Connection] = []
        self.stalled = asyncio.Event()

    async def start(self) -> None:
        application = web.Application(client_max_size=2 * len(LARGE))
        application.add_routes(
            [
                web.get("/who", self.who),
                web.get("/large", self.large),
                web.post("/digest", self.digest),
                web.get("/endless", self.endless),
                web.get("/echo", self.echo),
            ]
        )
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        server = self.runner.server
        assert server is not None
        self.listeners = Listeners(
            clock=SystemClock(),
            ids=RandomIds(),
            budget=SocketBudget(100),
            owner_of=lambda _address, _place: None,
            on_refused=lambda *_: None,
        )
        self.authority = Authority.load_or_create(self.folder, [self.address], [], "", SystemClock())
        pem = str(self.authority.server_certificate(self.address).path)
        contexts = ServerContexts(server_context(pem, request_client_certificate=True))
        self.bound: Bound = self.listeners.open(
            self.address,
            0,
            door=PUBLIC_DOOR,
            plane=Plane.HTTPS,
            contexts=contexts,
            make_handler=lambda: HttpHandler(server),
        )
        self.local = self.folder / "isthmus.sock"
        self.listeners.open_unix(self.local, lambda: HttpHandler(server))

    async def stop(self) -> None:
        self.listeners.stop_accepting()
        await self.listeners.drain(0.1)
        await self.runner.cleanup()
        self.listeners.shut_down()

    @property
    def url(self) -> str:
        return f"https://{self.bound.address}:{self.bound.port}"

    async def who(self, request: web.Request) -> web.Response:
        connection = request.get_extra_info(CONNECTION)
        assert isinstance(connection, Connection)
        connection.made_progress()
        self.connections.append(connection)
        return web.json_response({"scheme": request.scheme, "remote": request.remote, "tls": connection.tls_version})

    async def large(self, request: web.Request) -> web.Response:
        return web.Response(body=LARGE)

    async def digest(self, request: web.Request) -> web.Response:
        return web.Response(text=hashlib.sha256(await request.read()).hexdigest())

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.connections.append(request.get_extra_info(CONNECTION))
        while True:
            writing = asyncio.ensure_future(response.write(bytes(16_384)))
            done, _ = await asyncio.wait([writing], timeout=0.2)
            if not done:
                self.stalled.set()
            await writing
            self.written += 16_384

    async def echo(self, request: web.Request) -> web.WebSocketResponse:
        answering = web.WebSocketResponse(protocols=("mqtt",))
        await answering.prepare(request)
        async for message in answering:
            await answering.send_bytes(message.data)
        return answering


@pytest.fixture
async def site(tmp_path: Path, loopback_address: str) -> AsyncIterator[Site]:
    site = Site(tmp_path, loopback_address)
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=client_context())
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
        yield session


async def test_request_knows_its_connection(site: Site, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{site.url}/who") as response:
        assert await response.json() == {"scheme": "https", "remote": "127.0.0.1", "tls": "TLSv1.3"}


async def test_connection_is_kept_for_the_next_request(site: Site, client: aiohttp.ClientSession) -> None:
    for _ in range(3):
        async with client.get(f"{site.url}/who") as response:
            assert response.status == 200

    assert len(set(site.connections)) == 1


async def test_large_answer_arrives_whole(site: Site, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{site.url}/large") as response:
        assert await response.read() == LARGE


async def test_large_body_arrives_whole(site: Site, client: aiohttp.ClientSession) -> None:
    async with client.post(f"{site.url}/digest", data=io.BytesIO(LARGE)) as response:
        assert await response.text() == hashlib.sha256(LARGE).hexdigest()


async def test_requests_over_tls_1_2(site: Site) -> None:
    def ask() -> tuple[str, bytes]:
        with requests.Session() as session:
            session.mount("https://", OldTls())
            # The environment may name another bundle.
            session.trust_env = False
            session.verify = str(site.authority.ca_path)
            posted = session.post(f"{site.url}/digest", data=LARGE, timeout=WAIT_SECONDS)
            return posted.text, session.get(f"{site.url}/large", timeout=WAIT_SECONDS).content

    assert await asyncio.to_thread(ask) == (hashlib.sha256(LARGE).hexdigest(), LARGE)


async def test_websocket_echoes_frames_of_all_sizes(site: Site, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(f"{site.url}/echo", protocols=("mqtt",), max_msg_size=0) as websocket:
        for size in (0, 1, 125, 70_000, 2_000_000):
            await websocket.send_bytes(bytes(size))
            assert await websocket.receive_bytes(timeout=WAIT_SECONDS) == bytes(size)
        assert websocket.protocol == "mqtt"


async def test_reader_that_stalls_is_held_back(site: Site) -> None:
    tls = await asyncio.to_thread(stalled_reader, site.bound.address, site.bound.port)
    await asyncio.wait_for(site.stalled.wait(), WAIT_SECONDS)

    connection = site.connections[0]
    assert WRITE_HIGH_BYTES < connection.buffered < 3 * WRITE_HIGH_BYTES

    before = site.written
    await asyncio.to_thread(read_some, tls, before + 1_000_000)
    assert site.written > before
    tls.close()


async def test_local_socket_speaks_plain_http(site: Site) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(site.local)), timeout=TIMEOUT) as session:
        async with session.get("http://localhost/who") as response:
            assert await response.json() == {"scheme": "http", "remote": "unix", "tls": ""}
        async with session.get("http://localhost/large") as response:
            assert await response.read() == LARGE


class OldTls(requests.adapters.HTTPAdapter):
    """TLS 1.2, which the stock Python device SDK pins."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        context = ssl.create_default_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        super().init_poolmanager(connections, maxsize, block, ssl_context=context, **options)


def stalled_reader(address: str, port: int) -> ssl.SSLSocket:
    raw = socket.create_connection((address, port), WAIT_SECONDS)
    tls = client_context().wrap_socket(raw, server_hostname="hub.isthmus.test")
    tls.sendall(b"GET /endless HTTP/1.1\r\nHost: hub.isthmus.test\r\n\r\n")
    return tls


def read_some(tls: ssl.SSLSocket, count: int) -> None:
    while count > 0:
        count -= len(tls.recv(65_536))
