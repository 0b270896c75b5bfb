"""A hosted Event Hubs namespace without sockets: the real domain over a state in memory, gate, log and nodes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from devices.fakes import CountedIds, StandingClock
from isthmus.access.journal import Decision
from isthmus.access.principal import Right
from isthmus.app.domain import Domain
from isthmus.backends.memory import MemoryState
from isthmus.base.ids import RandomIds
from isthmus.base.sas_token import sign
from isthmus.base.state import JournalFilter
from isthmus.neighbours.authorization_rules import put_rule, require_rule
from isthmus.neighbours.event_hub import EventHub
from isthmus.neighbours.event_hub_arm import event_hub_id
from isthmus.neighbours.neighbour import Neighbour
from isthmus.resources.bearer_tokens import BearerTokens
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.token_authority import Subject
from isthmus.servers.gateway.amqp import AmqpGateway, AmqpServices
from isthmus.servers.gateway.amqp_event import EventEncoder
from isthmus.servers.gateway.amqp_reader import Readers
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.cutting import Cutting
from isthmus.servers.gateway.event_hub_nodes import EventHubNodes
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.sessions import Sessions
from isthmus.telemetry.log import SegmentLog
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.performatives import SaslChoice
from isthmus.wire.amqp.states import DeliveryState
from servers.amqp_world import AmqpClient, WorldTimers
from servers.gate_world import FakeCounters, FakeIdentities
from servers.mqtt_world import FakePresence

NAMESPACE, ENTITY = "plant-events", "telemetry"
HOST = f"{NAMESPACE}.servicebus.example.test"
AUDIENCE = f"sb://{HOST}/{ENTITY}"
SCOPE = "https://eventhubs.azure.net//.default"
SECONDS_MAX = 10.0
ROOT = "RootManageSharedAccessKey"


class HostedWorld:
    """The namespace `plant-events` with the event hub `telemetry` of two partitions, beside the hub `hub`."""

    def __init__(self, folder: Path) -> None:
        self.clock = StandingClock()
        self.timers = WorldTimers(self.clock)
        self.domain = Domain(MemoryState(), self.clock, CountedIds(), lambda _place, _address: "")
        self.log = SegmentLog.open(folder / "log", self.clock)
        self.sessions = Sessions()
        self.readers = Readers(self.log, EventEncoder(), self.clock)
        domain = self.domain
        bearers = BearerTokens(domain.authority, domain.roles, self.clock)
        self.gate = Gate(
            domain.directory,
            FakeIdentities(),
            domain.journal,
            FakeCounters(),
            self.clock,
            CountedIds(),
            bearers=bearers,
        )
        nodes = EventHubNodes(domain.event_hubs, self.log, self.readers, self.clock)
        domain.event_hubs.on_change(nodes.event_hub_changed)
        self.gateway = AmqpGateway(
            AmqpServices(self.gate, self.sessions, {ResourceKind.EVENT_HUBS: nodes}, self.clock), lambda: self.timers
        )
        self.cutting = Cutting(
            self.sessions, Connected(FakePresence(), self.clock), bearers=bearers, parts=domain.policies_in
        )
        domain.namespaces.on_change(self.cutting.neighbour_changed)
        domain.event_hubs.on_change(self._event_hub_changed)

    async def start(self) -> "HostedWorld":
        domain = self.domain
        await domain.hubs.create("hub", host_name="hub.example.test", partitions=4)
        await domain.namespaces.create(ResourceKind.EVENT_HUBS, NAMESPACE)
        await self.make(ENTITY)
        return self

    @property
    def namespace(self) -> Neighbour:
        return self.domain.namespaces.find(ResourceKind.EVENT_HUBS, NAMESPACE)

    @property
    def event_hub(self) -> EventHub:
        return self.domain.event_hubs.require(self.namespace.number, ENTITY)

    async def make(self, name: str) -> EventHub:
        """Another event hub."""
        number = self.namespace.number
        return await self.domain.event_hubs.create(number, name, lambda draft: replace(draft, partitions=2))

    async def change(self, name: str = ENTITY, **members: object) -> EventHub:
        """Sets members of an event hub."""
        number = self.namespace.number
        return await self.domain.event_hubs.change(number, name, lambda now: replace(now, **members))  # type: ignore[arg-type]

    async def rule(self, name: str, *rights: Right, entity: str = ENTITY) -> str:
        """Makes a rule of an event hub, or of the namespace without one; returns its key."""
        ids = RandomIds()
        if not entity:
            spaces = self.domain.namespaces
            changed = await spaces.change(
                NAMESPACE, lambda now: replace(now, policies=put_rule(now.policies, name, frozenset(rights), ids))
            )
            return require_rule(changed.policies, name, "").primary_key
        made = await self.domain.event_hubs.change(
            self.namespace.number,
            entity,
            lambda now: replace(now, policies=put_rule(now.policies, name, frozenset(rights), ids)),
        )
        return require_rule(made.policies, name, "").primary_key

    async def bearer(self, principal: str = "", scope: str = SCOPE) -> str:
        """A token of the hub's own identity, or of another principal."""
        hub = self.domain.hubs.require("hub")
        subject = Subject(principal or hub.identity.principal_id, "", hub.resource_id)
        return (await self.domain.authority.issue(subject, scope)).text

    async def hub_identity(self) -> str:
        """Gives the hub an identity of its own; returns its principal."""
        hub = await self.domain.hubs.update("hub", {"identity": {"type": "SystemAssigned"}})
        return hub.identity.principal_id

    async def assign(self, principal: str, role: str, entity: str = ENTITY) -> None:
        """Assigns a role at an event hub, or at the namespace without one."""
        scope = event_hub_id(self.namespace.resource_id, entity) if entity else self.namespace.resource_id
        body: dict[str, object] = {
            "properties": {
                "roleDefinitionId": role,
                "principalId": principal,
                "principalType": "ServicePrincipal",
            }
        }
        await self.domain.roles.create(RandomIds().uuid(), scope, body, who="test", knows=lambda _: True)

    async def decisions(self) -> list[Decision]:
        """What the journal holds, the newest first."""
        return list(await self.domain.journal.read(JournalFilter()))

    async def rules(self) -> list[str]:
        """The rules of refusals, the newest first."""
        return [each.rule for each in await self.decisions() if each.verdict.value == "refused"]

    async def opened(self, **origin: object) -> AmqpClient:
        """A client that has proved nothing."""
        client = AmqpClient(self, **{"server_name": HOST, **origin})  # type: ignore[arg-type]
        return await client.open(SaslChoice("ANONYMOUS"), HOST)

    async def client(self, key: str = "", policy: str = ROOT, audience: str = AUDIENCE) -> AmqpClient:
        """A client with a token of a rule, the root rule where none is named."""
        client = await self.opened()
        assert await client.put_token(audience, self.token(audience, key, policy)) == 200
        return client

    def token(self, resource: str = AUDIENCE, key: str = "", policy: str = ROOT) -> str:
        """A token as Event Hubs SDKs make it: the key's text signs."""
        signing = key or self.namespace.policies[0].primary_key
        return sign(resource, signing, self.clock.utc_ms() // 1000 + 600, policy)

    async def _event_hub_changed(self, old: EventHub | None, new: EventHub | None) -> None:
        if old is not None:
            await self.cutting.neighbour_changed(self.namespace, self.namespace)


async def until(client: AmqpClient, done: Callable[[], bool]) -> None:
    """Passes bytes until something is so; the log's writer is a thread."""
    deadline = asyncio.get_running_loop().time() + SECONDS_MAX
    while not done():
        assert asyncio.get_running_loop().time() < deadline, client.events[-3:]
        await client.run()


async def send(client: AmqpClient, link: Link, *parts: bytes, message_format: int = 0) -> DeliveryState:
    """Sends a message and returns what became of it."""
    count = len(client.outcomes(link))
    link.send(*parts, message_format=message_format)
    await until(client, lambda: len(client.outcomes(link)) > count)
    return client.outcomes(link)[-1]


async def read_all(client: AmqpClient, partition: str = "0", **more: object) -> Link:
    """A receiver of everything in a partition."""
    group = more.pop("group", "$Default")
    address = f"amqps://{HOST}/{ENTITY}/ConsumerGroups/{group}/Partitions/{partition}"
    return await client.receiver(address, credit=100, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def hosted_world(folder: Path) -> AsyncIterator[HostedWorld]:
    """Yields a world whose log is closed afterwards."""
    world = await HostedWorld(folder).start()
    yield world
    await world.gateway.drained()
    await world.log.close()
