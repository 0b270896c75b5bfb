"""The doors of devices and services, connected to the domain."""

from collections.abc import Iterator
from functools import partial

from aiohttp import web

from isthmus.access.arrivals import Arrival
from isthmus.access.journal import BUILT_IN, asked_of_group
from isthmus.app.configurations import DeviceManagement
from isthmus.app.domain import Domain
from isthmus.app.identities import TrustedIssuers, bearer_tokens, token_door
from isthmus.app.jobs import Jobs
from isthmus.app.stores import Stores
from isthmus.base.ids import is_probe
from isthmus.config import Config
from isthmus.neighbours.bus_entity import Entity
from isthmus.neighbours.event_hub import EventHub
from isthmus.resources.bearer_tokens import BearerTokens
from isthmus.resources.consumer_groups import find_group
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.hub import Hub
from isthmus.resources.throttling import Operation, ThrottlePolicy
from isthmus.resources.token_authority import authorization_at
from isthmus.routing.accept import Accept
from isthmus.servers.gateway import websocket_upgrade
from isthmus.servers.gateway.amqp import AmqpGateway, AmqpServices
from isthmus.servers.gateway.amqp_event import EventEncoder
from isthmus.servers.gateway.amqp_node_set import NodeSet
from isthmus.servers.gateway.amqp_nodes import Nodes
from isthmus.servers.gateway.amqp_reader import Readers
from isthmus.servers.gateway.blob_access import BlobAccess
from isthmus.servers.gateway.blob_front import BlobFront
from isthmus.servers.gateway.bus_front import BusFront
from isthmus.servers.gateway.cutting import Cutting
from isthmus.servers.gateway.doors import HTTPS_PORT, PlaneSetting
from isthmus.servers.gateway.event_hub_front import EventHubFront
from isthmus.servers.gateway.event_hub_nodes import EventHubNodes
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.http_app import Front, GateDoorway
from isthmus.servers.gateway.http_body import HEADERS_MAX
from isthmus.servers.gateway.http_device import DeviceApi, DeviceHttpServices
from isthmus.servers.gateway.http_dispatch import HttpDispatch, NeighbourFront
from isthmus.servers.gateway.http_transport import HttpHandler
from isthmus.servers.gateway.kept_sessions import StoredSessions
from isthmus.servers.gateway.mqtt import MqttGateway, MqttServices
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.probe_mail import ProbeMail
from isthmus.servers.gateway.relay import RelayFront
from isthmus.servers.gateway.sessions import Sessions
from isthmus.servers.gateway.throttles import Throttles
from isthmus.servers.gateway.websocket_upgrade import SubProtocol, WebSockets
from isthmus.servers.management.metrics import Metrics


class Gateway:
    """The doors of devices and services, connected to the domain."""

    def __init__(
        self, config: Config, stores: Stores, domain: Domain, jobs: Jobs, management: DeviceManagement
    ) -> None:
        clock = stores.clock
        self.metrics = Metrics()
        self.sessions = Sessions()
        self.probe_mail = ProbeMail(stores.log, clock)
        facts = domain.networks.facts
        self._trusted = TrustedIssuers(config.authority.trusted, clock)
        bearers = bearer_tokens(domain, self._trusted)
        self.gate = Gate(
            domain.directory,
            domain.probes,
            domain.journal,
            self.metrics,
            clock,
            stores.ids,
            facts=facts,
            tags=domain.twins,
            bearers=bearers,
            advice=domain.names.advice,
            probe_refused=domain.probes.refused,
        )
        self.service = jobs.service(management.handlers())
        self.throttles = Throttles(clock, _policy(config), notes=domain.journal, days=domain.daily)
        domain.hubs.on_change(self.throttles.resource_changed)
        self.accept = Accept(stores.log, domain.twins.snapshots)
        self.readers = Readers(stores.log, EventEncoder(), clock)
        self.event_hubs = EventHubNodes(domain.event_hubs, stores.log, self.readers, clock)
        self.mqtt = _mqtt(stores, domain, self)
        self.amqp = _amqp(stores, domain, self)
        websockets = WebSockets(
            self.gate,
            {
                websocket_upgrade.MQTT: SubProtocol(Plane.MQTT, self.mqtt.make_pump),
                websocket_upgrade.AMQP: SubProtocol(Plane.AMQP, self.amqp.make_pump),
            },
        )
        self.devices = _devices(stores, domain, self)
        front = Front(
            GateDoorway(self.gate, self.sessions, clock),
            self.service,
            clock,
            devices=self.devices,
            websockets=websockets,
            tokens=token_door(config, domain, self.gate),
            throttles=self.throttles,
        )
        relay = RelayFront(self.gate, self.sessions, domain.uploads, clock, stores.ids)
        neighbours = _fronts(stores, domain, self, bearers)
        dispatch = HttpDispatch(self.gate, front, relay, neighbours)
        # A body is what its sender sent, whatever encoding it says it has: messages and blobs are kept as they are.
        self._web = web.Server(dispatch.handle, access_log=None, max_headers=HEADERS_MAX, auto_decompress=False)
        _let_changes_cut(domain, self, bearers)
        self.planes = {
            Plane.MQTT: PlaneSetting(config.mqtt_port, self.mqtt.make_pump),
            Plane.AMQP: PlaneSetting(config.amqp_port, self.amqp.make_pump),
            Plane.HTTPS: PlaneSetting(config.https_port or HTTPS_PORT, lambda: HttpHandler(self._web)),
        }

    def live(self, hub: Hub) -> Iterator[Arrival]:
        """Who is connected to a hub now: sessions but probes', and readers by their consumer groups."""
        for session in self.sessions.all(hub.number):
            if is_probe(session.device):
                continue
            yield Arrival(
                session.device,
                session.principal.label,
                session.address,
                session.door.label,
                session.plane.value,
                BUILT_IN if session.built_in else "",
                session.principal.key_fingerprint,
            )
        for reader in self.readers.of_hub(hub.number):
            peer = reader.peer
            asked = asked_of_group(find_group(hub, reader.place.group) or reader.place.group)
            yield Arrival("", reader.principal, peer.peer_address, peer.door.label, Plane.AMQP.value, asked)

    async def close(self) -> None:
        """Ends HTTP connections that idle, and waits for work of devices and services that have gone."""
        await self._trusted.close()
        await self._web.shutdown()
        await self.mqtt.drained()
        await self.amqp.drained()


def _policy(config: Config) -> ThrottlePolicy:
    """What the configuration chose of rates."""
    chosen = config.throttles
    rates = {each: rate for each in Operation if (rate := getattr(chosen.rates, each)) is not None}
    daily = None if isinstance(chosen.daily_messages, str) else chosen.daily_messages
    return ThrottlePolicy(chosen.profile, chosen.units, rates, chosen.device_messages_per_second, daily)


def _let_changes_cut(domain: Domain, gateway: Gateway, bearers: BearerTokens) -> None:
    """Connects what is changed to the sessions that it may cut."""
    cutting = Cutting(
        gateway.sessions,
        domain.connected,
        domain.networks.facts,
        tags=domain.twins,
        hub_of=domain.hubs.by_number,
        readers=gateway.readers,
        bearers=bearers,
        parts=domain.policies_in,
    )

    async def entity_changed(old: EventHub | Entity | None, new: EventHub | Entity | None) -> None:
        """Keys of an entity's own rules may be gone, whose sessions are of the namespace."""
        namespace = domain.namespaces.by_number(old.namespace) if old is not None else None
        await cutting.neighbour_changed(namespace, namespace)

    domain.event_hubs.on_change(gateway.event_hubs.event_hub_changed)
    domain.event_hubs.on_change(entity_changed)
    domain.service_bus.entities.on_change(entity_changed)
    domain.roles.on_loss(cutting.identities_changed)
    domain.identities.on_end(cutting.identities_changed)
    domain.twins.on_tags(cutting.tags_changed)
    domain.hubs.on_change(gateway.accept.hub_changed)
    domain.hubs.on_change(cutting.hub_changed)
    for neighbours in (domain.namespaces, domain.accounts):
        neighbours.on_change(cutting.neighbour_changed)
    domain.networks.on_change(lambda _: cutting.networks_changed(domain.directory.all()))
    domain.registry.on_change(cutting.identity_changed)


def _fronts(
    stores: Stores, domain: Domain, gateway: Gateway, bearers: BearerTokens
) -> dict[ResourceKind, NeighbourFront]:
    """What answers HTTPS for each kind of neighbour that speaks it."""
    return {
        ResourceKind.STORAGE: _blobs(stores, domain, gateway, bearers),
        ResourceKind.EVENT_HUBS: EventHubFront(gateway.gate, gateway.event_hubs, stores.log, stores.clock),
        ResourceKind.SERVICE_BUS: BusFront(gateway.gate, domain.service_bus.nodes, stores.clock),
    }


def _blobs(stores: Stores, domain: Domain, gateway: Gateway, bearers: BearerTokens) -> BlobFront:
    access = BlobAccess(gateway.gate, stores.blobs, bearers, stores.clock)
    domain.accounts.on_change(partial(_account_changed, stores))
    return BlobFront(
        gateway.gate,
        access,
        stores.blobs,
        gateway.sessions,
        stores.clock,
        stores.ids,
        authorization_uri=lambda: authorization_at(domain.authority.issuer_name()),
    )


async def _account_changed(stores: Stores, old: Guarded | None, new: Guarded | None) -> None:
    """What is in an account goes with it; where that fails, the next start does it."""
    if old is not None and new is None:
        await stores.blobs.drop_account(old.number)


def _devices(stores: Stores, domain: Domain, gateway: Gateway) -> DeviceApi:
    return DeviceApi(
        DeviceHttpServices(
            hubs=domain.hubs,
            inlet=gateway.accept,
            backlog=stores.log,
            devicebound=domain.commands,
            uploads=domain.uploads,
            probe_mail=gateway.probe_mail,
            throttles=gateway.throttles,
            clock=stores.clock,
        )
    )


def _mqtt(stores: Stores, domain: Domain, gateway: Gateway) -> MqttGateway:
    return MqttGateway(
        MqttServices(
            gate=gateway.gate,
            hubs=domain.hubs,
            inlet=gateway.accept,
            backlog=stores.log,
            twins=domain.twins,
            devicebound=domain.commands,
            kept=StoredSessions(stores.state),
            connected=domain.connected,
            sessions=gateway.sessions,
            throttles=gateway.throttles,
            clock=stores.clock,
            probe_mail=gateway.probe_mail,
        )
    )


def _amqp(stores: Stores, domain: Domain, gateway: Gateway) -> AmqpGateway:
    nodes = Nodes(
        log=stores.log,
        commands=domain.commands,
        feedback=domain.feedback.batches,
        file_notifications=domain.file_notifications,
        readers=gateway.readers,
        clock=stores.clock,
        probe_mail=gateway.probe_mail,
        throttles=gateway.throttles,
    )
    of_kinds: dict[ResourceKind, NodeSet] = {
        ResourceKind.HUB: nodes,
        ResourceKind.EVENT_HUBS: gateway.event_hubs,
        ResourceKind.SERVICE_BUS: domain.service_bus.nodes,
    }
    return AmqpGateway(AmqpServices(gateway.gate, gateway.sessions, of_kinds, stores.clock))
