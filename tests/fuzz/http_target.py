"""The fuzz targets of HTTPS: a whole house without sockets, which is sent requests as aiohttp's parser reads them.

Invariant: each request is answered once with a status of the real service, never with an internal error, and nothing is
logged as failed; the answer can be written, whatever of the request it repeats.

A request of the corpus is bytes as they come from a socket. `@policy@`, `@device@`, `@bus@`, `@hosted@` and `@account@`
stand for good credentials; a request that does not say how long its body is gets that said.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import cast

from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from azure.storage.blob import generate_account_sas

from fuzz.failures import failures_of
from fuzz.target import Check, Target
from isthmus.app.server import Server
from isthmus.app.stores import open_stores
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.sas_token import sign
from isthmus.config import AuthoritySettings, Config
from isthmus.jobs.ports import Container, ContainerAddress, ContainerFailure
from isthmus.neighbours.bus_entity import EntityKind
from isthmus.resources.guarded import ResourceKind
from isthmus.servers.gateway.doors import Doors
from isthmus.servers.gateway.plane import Plane
from servers.http_world import FakePeer

HOST = "hub.isthmus.test"
FAR_S = 4_000_000_000
BLANK = b"\r\n\r\n"
RAM = "/dev/shm"
"""Where files are written without a disk."""

SERVER_ERROR = 500
PATIENCE_SECONDS = 1.0


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__({"connection": FakePeer(), "peername": ("127.0.0.1", 1), "sslcontext": True})
        self.written = bytearray()
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def writelines(self, list_of_data: "list[bytes]") -> None:  # type: ignore[override]
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    close = abort


class NoDoors:
    """Ports of nobody."""

    ports: Mapping[Plane, int] = MappingProxyType(dict.fromkeys(Plane, 1))


class Nowhere:
    """Containers of nobody."""

    async def open(self, hub: HubId, address: ContainerAddress) -> Container:
        raise ContainerFailure("Nowhere", "there is no storage", lasting=True, remedy="")


@dataclass
class House:
    """A server that listens nowhere: its hub with a device, an account with a blob, and a namespace of each kind."""

    server: Server
    words: dict[bytes, bytes] = field(default_factory=dict)

    async def furnish(self, config: Config) -> None:
        """Makes what requests are about, and credentials for it."""
        domain = self.server.domain
        await domain.start(config)
        hub = domain.hubs.all()[0]
        device = await domain.registry.put(DeviceRef(hub.number, "dev1"), {"deviceId": "dev1"}, None)
        owner = hub.policies[0]
        keys = device.authentication.symmetric_key
        self._say("policy", sign(HOST, owner.primary_key, FAR_S, owner.name))
        self._say("device", sign(f"{HOST}/devices/dev1", keys.primary_key or "", FAR_S))
        for word, kind in (("bus", ResourceKind.SERVICE_BUS), ("hosted", ResourceKind.EVENT_HUBS)):
            namespace = await domain.namespaces.create(kind, f"{word}space")
            policy = namespace.policies[0]
            token = sign(f"https://{namespace.host_name}/", policy.primary_key, FAR_S, policy.name)
            self._say(word, token)
            if kind is ResourceKind.EVENT_HUBS:
                await domain.event_hubs.create(namespace.number, "events", lambda draft: draft)
                continue
            entities = domain.service_bus.entities
            for made, name, topic in (("queue", "q", ""), ("topic", "t", ""), ("subscription", "s", "t")):
                await entities.create(namespace.number, EntityKind(made), name, lambda draft: draft, topic=topic)
        account = await domain.accounts.create(ResourceKind.STORAGE, "plantstore")
        signature = generate_account_sas(
            "plantstore", account.account_keys[0], "sco", "rwdlac", datetime.fromtimestamp(FAR_S, UTC)
        )
        self._say("account", signature)
        # The server listens nowhere, and jobs find no storage, for there is none that they could reach.
        self.server._doors = cast(Doors, NoDoors())
        self.server.jobs.transfers._containers = Nowhere()

    def _say(self, word: str, text: str) -> None:
        self.words[f"@{word}@".encode()] = text.encode()

    def completed(self, data: bytes) -> bytes:
        """The request with its credentials and, where it says nothing of that, the length of its body."""
        for word, text in self.words.items():
            data = data.replace(word, text)
        head, blank, body = data.partition(BLANK)
        said = head.lower()
        if not blank or b"content-length" in said or b"transfer-encoding" in said:
            return data
        return head + b"\r\nContent-Length: %d" % len(body) + blank + body


@asynccontextmanager
async def housed() -> AsyncIterator[House]:
    """A house in a folder that goes with it."""
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        config = Config(data=folder, hostname=HOST, authority=AuthoritySettings(enabled=True, app_service=True))
        async with open_stores(config) as stores:
            house = House(Server(config, stores))
            await house.furnish(config)
            try:
                yield house
            finally:
                await house.server.gateway.close()
                await house.server.domain.close()


@contextmanager
def answering() -> Iterator[Check]:
    """A house, and a check that sends it what it is given."""
    with failures_of() as failures, asyncio.Runner() as runner:
        opened = housed()
        house = runner.run(opened.__aenter__())

        def check(data: bytes) -> None:
            failures.found.clear()
            statuses = runner.run(_sent(house, house.completed(data)))
            assert not failures.found, failures.found[0]
            assert SERVER_ERROR not in statuses

        yield check
        runner.run(opened.__aexit__(None, None, None))


async def _sent(house: House, data: bytes) -> list[int]:
    """The statuses of the answers to what was sent."""
    web_server = house.server.gateway._web
    protocol = web_server()
    wire = protocol.transport = Wire()
    try:
        messages, _, _ = protocol._parser.feed_data(data)  # type: ignore[union-attr]
    except HttpProcessingError:
        return []
    statuses: list[int] = []
    for message, payload in messages:
        _end(payload)
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        task = asyncio.current_task()
        request = web_server.request_factory(message, payload, protocol, writer, task)  # type: ignore[arg-type]
        # Who calls a method may ask that its device be waited for, for minutes; this one leaves.
        with suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                response = await web_server.request_handler(request)
            statuses.append(response.status)
            await response.prepare(request)
            await response.write_eof()
        if wire.aborted:
            break
    return statuses


def _end(payload: StreamReader) -> None:
    """A body that was promised and does not come: its sender is gone."""
    if payload is not EMPTY_PAYLOAD and not payload.is_eof():
        payload.set_exception(ConnectionResetError("gone"))


TARGETS = tuple(Target(name, answering) for name in ("http-hub", "http-blob", "http-namespaces"))
