"""The management API over a domain in memory, with a hub `hub` at `hub.example.test`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from devices.fakes import CountedIds, StandingClock
from isthmus.access.arrivals import Arrival
from isthmus.access.journal import Decision
from isthmus.app.domain import Domain, management_api
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.state import JournalFilter
from isthmus.egress.office import EgressOffice
from isthmus.neighbours.blob.ports import BlobStore
from isthmus.resources.hub import GROUP_PATH
from isthmus.routing.dead_letters import DeadLetters
from isthmus.servers.management.api import ManagementApi, Part
from isthmus.servers.management.arm import Routes
from isthmus.servers.management.arm_endpoints import ArmEndpoints
from isthmus.servers.management.arm_storage import ArmStorage, StorageServer
from isthmus.servers.management.request import call_of
from neighbours.blob.blobs import ContainersInMemory
from resources.world import endpoint_body

HUBS = f"{GROUP_PATH}/providers/Microsoft.Devices/IotHubs"
HUB = f"{HUBS}/hub"
ENDPOINTS = f"{GROUP_PATH}/providers/Microsoft.Network/privateEndpoints"
ADDRESS = "10.1.0.7"
OWNER = "owner:uid:1000"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and the JSON as a client reads it; `code` is the refusal's."""

    status: int
    json: Any

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


@dataclass
class ManagementWorld:
    """`prepared` holds the host names that certificates were asked for; `elsewhere.test` gets none.

    `live` is who counts as connected.
    """

    state: MemoryState = field(default_factory=MemoryState)
    clock: StandingClock = field(default_factory=StandingClock)
    prepared: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=lambda: [Part("log", ok=True)])
    live: list[Arrival] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.domain = Domain(
            self.state, self.clock, CountedIds(), lambda _place, address: "" if address == ADDRESS else "no"
        )
        self.api: ManagementApi = management_api(
            self.domain,
            lambda: self.parts,
            lambda: 8443,
            self._prepare,
            live=lambda _: self.live,
            more=(self._storage(), self._endpoints()),
        )

    def _storage(self) -> Routes:
        """ARM of storage accounts, whose containers are in memory."""
        domain = self.domain
        server = StorageServer(self._prepare, domain.first_host, lambda: 8443)
        blobs = cast("BlobStore", ContainersInMemory(self.clock))
        return ArmStorage(domain.accounts, blobs, domain.endpoints, domain.journal, domain.ids, server).routes

    def _endpoints(self) -> Routes:
        """ARM of deliveries, which nothing here carries out: for the actions that it has."""
        nobody = cast("EgressOffice", None)
        return ArmEndpoints(self.domain.hubs, nobody, cast("DeadLetters", None), self.domain.journal).routes

    async def start(self) -> "ManagementWorld":
        await self.domain.hubs.create("hub", host_name="hub.example.test", partitions=4)
        return self

    async def ask(self, method: str, target: str, body: object | None = None, *, if_match: str | None = None) -> Answer:
        encoded = b"" if body is None else msgspec.json.encode(body)
        reply = await self.api.answer(call_of(method, target, body=encoded, if_match=if_match, who=OWNER))
        return Answer(reply.status, msgspec.json.decode(reply.body) if reply.body else None)

    async def put_endpoint(self, *, manual: bool = False) -> Answer:
        return await self.ask("PUT", f"{ENDPOINTS}/plant", endpoint_body(HUB, ADDRESS, manual=manual))

    async def noted(self) -> list[Decision]:
        """What the journal holds, oldest first."""
        return list(reversed(await self.domain.journal.read(JournalFilter(limit=1_000))))

    async def _prepare(self, host_name: str) -> None:
        if host_name.endswith("elsewhere.test"):
            raise HubError(Code.ARGUMENT_INVALID, f"The CA may not vouch for {host_name}")
        self.prepared.append(host_name)


def event_hub(**properties: object) -> Mapping[str, object]:
    """A body with these members of the built-in endpoint."""
    return {"properties": {"eventHubEndpoints": {"events": properties}}}
