"""The service API on a loopback socket, over a state in memory, behind the real gate."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import msgspec
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import RawTestServer
from yarl import URL

from devices.fakes import NOW_MS, World
from isthmus.access.journal import Decision, Journal
from isthmus.base import sas_token
from isthmus.base.ids import DeviceRef
from isthmus.base.state import JournalFilter
from isthmus.commands.methods import Methods
from isthmus.devices.fleet import Fleet
from isthmus.network.door import LOCAL_DOOR, PUBLIC_DOOR, Door
from isthmus.resources.daily_messages import DailyMessages
from isthmus.resources.directory import Directory
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.throttling import DEFAULT_POLICY, ThrottlePolicy
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.http_app import Front, GateDoorway, OwnerDoorway
from isthmus.servers.gateway.http_device import DeviceApi
from isthmus.servers.gateway.http_service import ServiceApi
from isthmus.servers.gateway.sessions import Session
from isthmus.servers.gateway.throttles import Throttles

HOST = "hub.isthmus.test"
OTHER_HOST = "other.isthmus.test"
VERSION = "2021-04-12"
EXPIRES_S = NOW_MS // 1000 + 3600


@dataclass
class FakePeer:
    """What the doorways see of a connection."""

    connection_id: str = "c1"
    door: Door = PUBLIC_DOOR
    peer_address: str = "127.0.0.1"
    server_name: str = ""
    host_names: tuple[str, ...] = ()
    carrier: str = ""
    peer_chain: tuple[bytes, ...] = ()
    peer_uid: int | None = None
    progress: int = 0

    def made_progress(self) -> None:
        self.progress += 1


@dataclass
class Counters:
    """Counts what the gate reports."""

    admissions: int = 0
    rules: list[str] = field(default_factory=list)

    def admitted(self, plane: str) -> None:
        self.admissions += 1

    def refused(self, plane: str, rule: str) -> None:
        self.rules.append(rule)


@dataclass
class Commands:
    """Cloud-to-device queues as numbers."""

    waiting: dict[DeviceRef, int] = field(default_factory=dict)

    async def count(self, ref: DeviceRef) -> int:
        return self.waiting.get(ref, 0)

    async def purge(self, ref: DeviceRef) -> int:
        return self.waiting.pop(ref, 0)


@dataclass
class Sessions:
    """The index of sessions."""

    live: list[Session] = field(default_factory=list)
    added: asyncio.Event = field(default_factory=asyncio.Event)
    removed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, session: Session) -> None:
        self.live.append(session)
        self.added.set()

    def remove(self, session: Session) -> None:
        self.live.remove(session)
        self.removed.set()


@dataclass(frozen=True)
class Answer:
    """A response, read."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> object:
        return msgspec.json.decode(self.text)

    @property
    def code(self) -> str:
        return self.headers.get("iothub-errorcode", "")


class HttpWorld(World):
    """A world with two hubs, of which the first is `hub`, and both doorways."""

    hub: Hub

    def __init__(self, policy: ThrottlePolicy = DEFAULT_POLICY) -> None:
        super().__init__()
        self.throttles = Throttles(self.clock, policy, days=DailyMessages(self.state, self.clock))
        self.hubs = Hubs(self.state, self.clock, self.ids)
        self.journal = Journal(self.state, self.clock)
        self.counters = Counters()
        self.commands = Commands()
        self.sessions = Sessions()
        self.peer = FakePeer()
        self.owner = FakePeer("c2", LOCAL_DOOR, "", peer_uid=1000)
        gate = self.gate = Gate(Directory(self.hubs), self.registry, self.journal, self.counters, self.clock, self.ids)
        methods = Methods(self.registry, self.connected)
        self.service = ServiceApi(self.registry, self.twins, Fleet(self.state), methods, self.connected, self.commands)
        self._front = Front(
            GateDoorway(gate, self.sessions, self.clock),
            self.service,
            self.clock,
            devices=self.make_devices(),
            throttles=self.throttles,
            find_connection=lambda _: self.peer,
        )
        self._owner_front = Front(
            OwnerDoorway(gate, self.hubs), self.service, self.clock, find_connection=lambda _: self.owner
        )
        self._server = RawTestServer(self._handle)

    def make_devices(self) -> DeviceApi | None:
        """The API of devices; a world that is about services has none."""
        return None

    async def __aenter__(self) -> Self:
        self.hub = await self.hubs.create("hub", host_name=HOST, partitions=1)
        await self.hubs.create("other", host_name=OTHER_HOST, partitions=1)
        await self._server.start_server()
        self._session = ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._server.close()

    @property
    def authority(self) -> str:
        """Address and port of the socket."""
        return f"{self._server.host}:{self._server.port}"

    def token(self, policy: str = "iothubowner", resource: str = HOST) -> str:
        """A token of one of the hub's policies."""
        found = self.hub.policy(policy)
        assert found is not None
        return self.sign(resource, found.primary_key, policy)

    def sign(self, resource: str, key: str, policy: str = "") -> str:
        """A token that is good for an hour."""
        return sas_token.sign(resource, key, EXPIRES_S, policy)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        version: str | None = VERSION,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends a request as a policy of the hub and reads the whole response; `body` is JSON unless it is bytes."""
        sent = {"Host": HOST, "Authorization": self.token() if token is None else token, **(headers or {})}
        data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json; charset=utf-8")
        mark = "&" if "?" in path else "?"
        target = path if version is None else f"{path}{mark}api-version={version}"
        async with self._session.request(method, self._url(target), data=data, headers=sent) as response:
            return await _read(response)

    async def refusals(self) -> list[Decision]:
        """What the journal has about refusals, newest first."""
        return await self.journal.read(JournalFilter(verdict="refused"))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        front = self._owner_front if request.path.startswith("/hubs/") else self._front
        return await front.handle(request)

    def _url(self, target: str) -> URL:
        return URL(f"http://{self.authority}{target}", encoded=True)


async def _read(response: ClientResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, await response.text())
