"""A gate with a hub, devices and a journal in memory, and peers that are nothing but what they claim."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from devices.fakes import HUB, KEY, NOW_MS, OTHER_KEY, CountedIds, StandingClock
from isthmus.access.journal import Decision, Journal
from isthmus.backends.memory import MemoryState
from isthmus.base.ids import DeviceRef
from isthmus.base.sas_token import hmac_sha256, sign
from isthmus.base.state import JournalFilter
from isthmus.devices.identity import Identity, new_identity, parse_identity
from isthmus.network.door import PUBLIC_DOOR, Door
from isthmus.network.door_policies import DoorPolicy
from isthmus.resources.directory import Directory
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.resources.virtual_networks import VirtualNetworks
from isthmus.servers.gateway.gate import Gate
from resources.world import endpoint_body

HOST = "hub.example.test"
NOW_S = NOW_MS // 1000
WRONG_KEY = "MjEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PRIVATE_ADDRESS = "10.1.0.7"


@dataclass
class FakePeer:
    """A connection as the gate sees it."""

    door: Door = PUBLIC_DOOR
    peer_address: str = "203.0.113.7"
    server_name: str = HOST
    host_names: tuple[str, ...] = ()
    carrier: str = ""
    peer_chain: tuple[bytes, ...] = ()
    connection_id: str = "c1"
    proven: bool = False

    def made_progress(self) -> None:
        self.proven = True


@dataclass
class FakeIdentities:
    """Identities by reference; `asked` holds every look-up."""

    known: dict[DeviceRef, Identity] = field(default_factory=dict)
    asked: list[DeviceRef] = field(default_factory=list)

    async def get(self, ref: DeviceRef) -> Identity | None:
        self.asked.append(ref)
        return self.known.get(ref)

    def add(self, device_id: str, module_id: str = "", **body: object) -> None:
        ref = DeviceRef(HUB, device_id, module_id)
        keys = {"symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}}
        parsed = parse_identity(ref, {"authentication": keys} | body)
        self.known[ref] = new_identity(ref, parsed, CountedIds(), NOW_MS)


@dataclass
class FakeTags:
    """Tags by device; `asked` holds every look-up."""

    known: dict[str, Mapping[str, object]] = field(default_factory=dict)
    asked: list[DeviceRef] = field(default_factory=list)

    async def tags(self, ref: DeviceRef) -> Mapping[str, object]:
        self.asked.append(ref)
        return self.known.get(ref.device_id, {})


@dataclass
class FakeCounters:
    """Counts as the metrics do."""

    refusals: list[tuple[str, str]] = field(default_factory=list)
    admissions: list[str] = field(default_factory=list)

    def admitted(self, plane: str) -> None:
        self.admissions.append(plane)

    def refused(self, plane: str, rule: str) -> None:
        self.refusals.append((plane, rule))


class GateWorld:
    """`start` makes the hub `hub` with `dev1`, its module `mod1`, and `off`, which is disabled."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.clock = StandingClock()
        self.ids = CountedIds()
        self.hubs = Hubs(self.state, self.clock, self.ids)
        self.networks = VirtualNetworks(self.state, self.ids)
        self.endpoints = PrivateEndpoints(self.state, Directory(self.hubs), self.ids, lambda *_: "", self.networks)
        self.identities = FakeIdentities()
        self.tags = FakeTags()
        self.journal = Journal(self.state, self.clock)
        self.counters = FakeCounters()
        self.digests = 0
        self.gate = Gate(
            Directory(self.hubs),
            self.identities,
            self.journal,
            self.counters,
            self.clock,
            self.ids,
            facts=self.networks.facts,
            tags=self.tags,
            advice=lambda address, hub: f"{address} is inside" if address.startswith("10.77.") else "",
            digest=self._digest,
        )

    async def start(self) -> "GateWorld":
        await self.hubs.create("hub", host_name=HOST, partitions=4, aliases=["plant.example.test"])
        self.identities.add("dev1")
        self.identities.add("dev1", "mod1")
        self.identities.add("off", status="disabled")
        self.identities.add("off", "mod1")
        return self

    @property
    def hub(self) -> Hub:
        return self.hubs.require("hub")

    def policy_token(self, policy: str, resource: str = HOST, *, key: str = "", seconds: int = 60) -> str:
        known = self.hub.policy(policy)
        signing = key or (known.primary_key if known else WRONG_KEY)
        return sign(resource, signing, NOW_S + seconds, policy)

    async def private_door(self, *, manual: bool = False) -> Door:
        body = endpoint_body(self.hub.resource_id, PRIVATE_ADDRESS, manual=manual)
        return (await self.endpoints.create("plant", body)).door

    async def bind(self, *policies: DoorPolicy) -> None:
        await self.hubs.change("hub", lambda hub: replace(hub, door_policies=policies))

    async def close_public(self) -> None:
        await self.hubs.update("hub", {"properties": {"publicNetworkAccess": "Disabled"}})

    async def decisions(self) -> list[Decision]:
        return await self.journal.read(JournalFilter())

    def _digest(self, key: bytes, message: bytes) -> bytes:
        self.digests += 1
        return hmac_sha256(key, message)


def device_token(name: str = "dev1", *, key: str = KEY, seconds: int = 60, host: str = HOST) -> str:
    """A token of a device's or module's own key; `name` as `device` or `device/modules/module`."""
    return sign(f"{host}/devices/{name}", key, NOW_S + seconds)
