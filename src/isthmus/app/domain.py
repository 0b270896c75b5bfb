"""The middle floor over a state, connected, and the local owner's calls over it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from isthmus.access.journal import Journal
from isthmus.access.principal import SharedAccessPolicy
from isthmus.app.service_bus import ServiceBus
from isthmus.app.stores import AnyState
from isthmus.backends.rehearsal import RehearsalState
from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigurationError, HubError
from isthmus.base.ids import Ids
from isthmus.base.state import NO_HUB, Key, Put, State
from isthmus.commands.cloud_to_device import CloudToDevice
from isthmus.commands.feedback import Feedback
from isthmus.commands.file_uploads import FILE_NOTIFICATIONS, FileUploads
from isthmus.commands.methods import Methods
from isthmus.commands.servicebound import ServiceboundQueue
from isthmus.config import Config
from isthmus.devices.fleet import Fleet
from isthmus.devices.presence import Presence
from isthmus.devices.probes import Probes
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.neighbours.event_hubs import EventHubs
from isthmus.neighbours.neighbour import Neighbour
from isthmus.neighbours.neighbours import namespaces, storage_accounts
from isthmus.queues import Timed
from isthmus.resources.connectors import Connectors
from isthmus.resources.daily_messages import DailyMessages
from isthmus.resources.directory import Directory
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.hub import Hub, hub_name_of
from isthmus.resources.hubs import Hubs
from isthmus.resources.network_names import NetworkNames
from isthmus.resources.private_endpoints import AddressCheck, PrivateEndpoints
from isthmus.resources.private_zones import PrivateZones
from isthmus.resources.removal import Removal
from isthmus.resources.role_assignments import RoleAssignments
from isthmus.resources.token_authority import TokenAuthority
from isthmus.resources.tokens import Tokens
from isthmus.resources.user_identities import UserIdentities
from isthmus.resources.virtual_networks import VirtualNetworks
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.doors import HTTPS_PORT
from isthmus.servers.gateway.http_digital_twins import DigitalTwinsApi
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler, JobRows, ServiceApi
from isthmus.servers.gateway.http_servicebound import servicebound_handlers
from isthmus.servers.gateway.proving import Prover
from isthmus.servers.management.api import ManagementApi, Part
from isthmus.servers.management.arm import Arm, Routes
from isthmus.servers.management.arm_certificates import ArmCertificates
from isthmus.servers.management.arm_door_policies import ArmDoorPolicies
from isthmus.servers.management.arm_event_hubs import ArmEventHubs
from isthmus.servers.management.arm_hub_views import ArmHubViews
from isthmus.servers.management.arm_identities import ArmIdentities
from isthmus.servers.management.arm_namespaces import ArmNamespaces
from isthmus.servers.management.arm_networks import ArmNetworks
from isthmus.servers.management.arm_private_dns import ArmPrivateDns
from isthmus.servers.management.arm_routing import ArmRouting
from isthmus.servers.management.arm_service_bus import ArmServiceBus
from isthmus.servers.management.audit import Audit
from isthmus.servers.management.authority_calls import AuthorityCalls
from isthmus.servers.management.backup_calls import BackupCalls, BackupMaker
from isthmus.servers.management.connectors import ConnectorCalls, LinkFace
from isthmus.servers.management.dry_runs import DryRuns, Live, Rehearsal
from isthmus.servers.management.endpoint_calls import EndpointCalls
from isthmus.servers.management.exposure import ExposureCalls, Installation
from isthmus.servers.management.path_calls import PathCalls
from isthmus.servers.management.token_calls import TokenCalls
from isthmus.servers.management.trace_calls import TraceCalls

HTTPS_PORT_USED = Key("meta", NO_HUB, "https-port")
"""Where the service API was served last, for connection strings when the server is stopped."""

Prepare = Callable[[str], Awaitable[None]]
"""Makes ready for a hub of a host name; see `Arm`."""


class Domain:
    """The middle floor over a state, connected."""

    def __init__(self, state: AnyState, clock: Clock, ids: Ids, objection: AddressCheck) -> None:
        self.clock = clock
        self._state = state
        self.ids = ids
        self._objection = objection
        self.identities = UserIdentities(state, clock, ids)
        self.roles = RoleAssignments(state, clock)
        self.hubs = Hubs(state, clock, ids, self.identities.attached)
        self.namespaces = namespaces(state, clock, ids, self.first_host)
        self.event_hubs = EventHubs(state, clock)
        self.accounts = storage_accounts(state, clock, ids, self.first_host)
        self.directory = Directory(self.hubs, self.namespaces, self.accounts)
        for resources in (self.hubs, self.namespaces, self.accounts):
            resources.host_owner(self.directory.by_host)
        self.authority = TokenAuthority(state, clock, ids, self.hubs, self.identities)
        self.removal = Removal(state)
        self.service_bus = ServiceBus(state, clock, ids, self.namespaces, self.removal)
        self.networks = VirtualNetworks(state, ids)
        self.endpoints = PrivateEndpoints(state, self.directory, ids, objection, self.networks)
        self.tokens = Tokens(state, clock, ids)
        self.connectors = Connectors(state, clock, ids, self.networks.facts)
        self.zones = PrivateZones(state, ids, self.directory, self.endpoints, self.networks)
        self.names = NetworkNames(self.directory, self.endpoints, self.networks, self.zones)
        self.journal = Journal(state, clock)
        self.daily = DailyMessages(state, clock)
        self.presence = Presence(state, clock)
        self.connected = Connected(self.presence, clock)
        hub_of = self.hubs.by_number
        self.feedback = Feedback(state, clock, ids, hub_of)
        self.commands = CloudToDevice(
            state, clock, ids, hub_of=hub_of, feedback=self.feedback, connected=self.connected
        )
        self.file_notifications = ServiceboundQueue(
            state,
            clock,
            ids,
            name=FILE_NOTIFICATIONS,
            hub_of=hub_of,
            settings=lambda hub: hub.file_upload.notifications,
        )
        self.uploads = FileUploads(state, clock, ids, notifications=self.file_notifications, hubs=self.hubs.all)
        self.registry = Registry(state, clock, ids, self.commands, self.uploads)
        self.probes = Probes(self.registry, clock, ids)
        self.twins = Twins(state, clock, self.registry, self.connected)
        self.methods = Methods(self.registry, self.connected)
        self.fleet = Fleet(state)
        self.registry.on_change(self.commands.identity_changed)
        self.registry.on_change(self.twins.snapshots.identity_changed)

    @property
    def timed(self) -> tuple[Timed, ...]:
        """What has something to do at certain times."""
        return (self.commands, self.feedback, self.file_notifications, self.uploads, self.service_bus.bus)

    async def start(self, config: Config) -> None:
        """Reads what was there, and makes the first hub where there is none; raises `ConfigurationError`."""
        await self.identities.load()
        await self.roles.load()
        await self.hubs.load()
        if not self.hubs.all():
            await self._make_first(config)
        await self.namespaces.load()
        await self.event_hubs.load(each.number for each in self.namespaces.of(ResourceKind.EVENT_HUBS))
        await self.accounts.load()
        await self.authority.load()
        await self.networks.load()
        await self.endpoints.load()
        await self.tokens.load()
        await self.connectors.load()
        await self.zones.load()
        await self.removal.finish()
        numbers = tuple(hub.number for hub in self.hubs.all())
        await self.presence.open(numbers)
        await self.daily.start(numbers)
        await self.feedback.start(numbers)
        await self.file_notifications.start(numbers)
        await self.commands.start(numbers)
        await self.service_bus.start()
        self.directory.on_change(self.removal.resource_changed)
        self.hubs.on_change(self.daily.resource_changed)
        self.namespaces.on_change(self._namespace_changed)

    async def _make_first(self, config: Config) -> None:
        name = hub_name_of(config.hostname)
        try:
            await self.hubs.create(name, host_name=config.hostname, partitions=config.partitions)
        except HubError as error:
            said = f"--hostname {config.hostname!r} makes no hub: {error.message.rstrip('.')}"
            raise ConfigurationError(f"{said}; give {{hub}}.{{domain}}, such as hub.isthmus.test.") from error

    async def _namespace_changed(self, old: Neighbour | None, new: Neighbour | None) -> None:
        """What was in a namespace goes with it."""
        if old is not None and new is None:
            await self.event_hubs.forget(old.number)

    def policies_in(self, resource: Guarded) -> Iterator[tuple[SharedAccessPolicy, ...]]:
        """The policies of each entity in a namespace."""
        if resource.kind is ResourceKind.EVENT_HUBS:
            yield from (each.policies for each in self.event_hubs.of(resource.number))
        if resource.kind is ResourceKind.SERVICE_BUS:
            yield from (each.policies for each in self.service_bus.entities.in_namespace(resource.number))

    def first_host(self) -> str:
        """The host name in whose domain neighbours are."""
        return self.hubs.all()[0].host_name

    async def rehearse(self) -> Rehearsal:
        """The resources once more, over a state that keeps what is written to itself."""
        state = RehearsalState(self._state)
        hubs, networks = self._rehearsed_hubs(state), VirtualNetworks(state, self.ids)
        spaces = namespaces(state, self.clock, self.ids, self.first_host)
        accounts = storage_accounts(state, self.clock, self.ids, self.first_host)
        directory = Directory(hubs, spaces, accounts)
        endpoints = PrivateEndpoints(state, directory, self.ids, self._objection, networks)
        await hubs.load()
        await spaces.load()
        await accounts.load()
        await networks.load()
        await endpoints.load()
        journal = Journal(state, self.clock)
        certificates = ArmCertificates(hubs, journal, self.clock, self.ids).routes
        return Rehearsal(hubs, networks, endpoints, _arm(hubs, networks, endpoints, journal, _prepared, certificates))

    def _rehearsed_hubs(self, state: State) -> Hubs:
        return Hubs(state, self.clock, self.ids, self.identities.attached)

    def service(
        self, more: Mapping[Action, Handler] = MappingProxyType({}), job_rows: JobRows | None = None
    ) -> ServiceApi:
        """The service API over it; `more` answers what has a room of its own, `job_rows` queries over jobs."""
        devices = (self.registry, self.twins, self.fleet, self.methods, self.connected, self.commands)
        return ServiceApi(
            *devices,
            {
                **servicebound_handlers(self.feedback.batches, self.file_notifications),
                **DigitalTwinsApi(self.twins, self.methods, self.ids).handlers,
                **more,
            },
            job_rows,
        )

    async def close(self) -> None:
        """Lets changes under way end, and writes what waits: presences, counts, queues' operations."""
        await self.registry.settled()
        await self.twins.settled()
        await self.event_hubs.settled()
        await self.presence.flush()
        await self.daily.write()
        await self.commands.close()
        await self.service_bus.close()
        await self.feedback.close()
        await self.uploads.close()
        await self.file_notifications.close()
        self.journal.close_minute()


def management_api(
    domain: Domain,
    health: Callable[[], list[Part]],
    https_port: Callable[[], int],
    prepare: Prepare,
    link: LinkFace | None = None,
    live: Live = lambda hub: (),
    installation: Callable[[], Installation] | None = None,
    prover: Prover | None = None,
    more: Sequence[Routes] = (),
    endpoints_health: Callable[[Hub], list[dict[str, object]]] = lambda hub: [],
    routing_endpoints: EndpointCalls | None = None,
    traces: TraceCalls | None = None,
    backups: BackupMaker | None = None,
    messages_today: Callable[[Hub], tuple[int, int]] = lambda hub: (0, 0),
) -> ManagementApi:
    """The local owner's calls over a domain; without a `link` no connector can be enrolled.

    `live` tells who is connected to a hub, `installation` what is listened at, `prover` walks paths, `more` are routes
    of resources that the domain does not have, `endpoints_health` tells how routing endpoints do, and
    `routing_endpoints` proves where they lead, `traces` tells what became of messages there, and `backups` makes
    backups. `messages_today` are a hub's messages of the day and their limit.
    """
    private_dns = ArmPrivateDns(domain.zones, domain.names, domain.networks, domain.journal).routes
    views = ArmHubViews(
        domain.hubs, domain.registry.statistics, lambda: _log_trouble(health()), endpoints_health, messages_today
    ).routes
    certificates = ArmCertificates(domain.hubs, domain.journal, domain.clock, domain.ids).routes
    identities = ArmIdentities(domain.hubs, domain.identities, domain.roles, domain.journal).routes
    further = (private_dns, views, certificates, identities, *_neighbour_routes(domain, prepare), *more)
    return ManagementApi(
        hubs=domain.hubs,
        arm=_arm(domain.hubs, domain.networks, domain.endpoints, domain.journal, prepare, *further),
        dry_runs=DryRuns(domain.rehearse, domain.journal, live, domain.registry, domain.twins, domain.clock),
        journal=domain.journal,
        audit=Audit(domain.journal),
        connectors=ConnectorCalls(domain.connectors, domain.journal, domain.clock, link),
        exposure=ExposureCalls(domain.hubs, domain.networks.facts, installation),
        commands=domain.commands,
        health=health,
        https_port=https_port,
        tokens=TokenCalls(domain.tokens, domain.journal),
        paths=PathCalls(domain.hubs, prover),
        authority=AuthorityCalls(domain.authority, domain.journal),
        routing_endpoints=routing_endpoints,
        traces=traces,
        backups=BackupCalls(backups, domain.journal) if backups is not None else None,
    )


def _neighbour_routes(domain: Domain, prepare: Prepare) -> Iterator[Routes]:
    """ARM of the neighbours."""
    for kind in (ResourceKind.EVENT_HUBS, ResourceKind.SERVICE_BUS):
        yield ArmNamespaces(
            kind,
            domain.namespaces,
            domain.endpoints,
            domain.journal,
            domain.ids,
            prepare=prepare,
            hub_host=domain.first_host,
        ).routes
    yield ArmEventHubs(domain.namespaces, domain.event_hubs, domain.journal, domain.clock, domain.ids).routes
    bus = domain.service_bus
    yield ArmServiceBus(domain.namespaces, bus.entities, bus.bus, domain.journal, domain.clock, domain.ids).routes


def _arm(
    hubs: Hubs,
    networks: VirtualNetworks,
    endpoints: PrivateEndpoints,
    journal: Journal,
    prepare: Prepare,
    *further: Routes,
) -> Arm:
    """ARM over these resources; `further` are routes of what decides about nobody's way in."""
    more = (
        *further,
        ArmNetworks(networks, journal).routes,
        ArmRouting(hubs).routes,
        ArmDoorPolicies(hubs, networks, journal).routes,
    )
    routes = {pattern: handler for each in more for pattern, handler in each.items()}
    return Arm(hubs, endpoints, journal, prepare, routes)


async def _prepared(host_name: str) -> None:
    """In a rehearsal nothing is served, and nothing has to be ready."""


def _log_trouble(parts: list[Part]) -> str:
    """Why the log is not well; empty when it is."""
    return next((part.reason or "the log is not well" for part in parts if part.name == "log" and not part.ok), "")


async def remember_https_port(state: State, port: int) -> None:
    """Notes where the service API is served now."""
    if await https_port_used(state) != port:
        await state.commit([Put(HTTPS_PORT_USED, str(port).encode())])


async def https_port_used(state: State) -> int:
    """The port that the last start served the service API at; HTTPS's own before any."""
    stored = await state.get(HTTPS_PORT_USED)
    return int(stored.body) if stored is not None else HTTPS_PORT
