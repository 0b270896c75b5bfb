"""A whole server: what is opened in which order, what runs as long as it, and how it ends."""

import asyncio
import json
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from isthmus import CORE, __version__
from isthmus.access.journal import Decision, Verdict
from isthmus.app.audit import head_export
from isthmus.app.backups import Backups
from isthmus.app.configurations import DeviceManagement
from isthmus.app.deliveries import HubDeliveries
from isthmus.app.domain import Domain, management_api, remember_https_port
from isthmus.app.egress import hub_egress
from isthmus.app.exposure import installation
from isthmus.app.gateway import Gateway
from isthmus.app.identities import metadata_doors, name_issuer
from isthmus.app.jobs import Jobs
from isthmus.app.links import link_door, link_face
from isthmus.app.log_watch import LogWatch
from isthmus.app.places import HelpedPlaces
from isthmus.app.store_watch import StoreWatch
from isthmus.app.stores import Stores, log_config
from isthmus.app.uploads import LoadedStorage
from isthmus.app.vantages import Vantages
from isthmus.base.hosts import normal_address
from isthmus.base.places import CA_CERTIFICATE, MANAGEMENT_SOCKET
from isthmus.base.state import StateClosed, WhenFull
from isthmus.config import Config
from isthmus.names.forward import Forwarder
from isthmus.names.serve import NameServer
from isthmus.queues.upkeep import keep_time
from isthmus.resources.throttling import Operation
from isthmus.routing.relay import OutboxRelay
from isthmus.seed import Seed
from isthmus.seeding import Seeding
from isthmus.servers.gateway.budget import SocketBudget, sockets_for
from isthmus.servers.gateway.certificates import Certificates
from isthmus.servers.gateway.doors import Doors
from isthmus.servers.gateway.http_app import Front, OwnerDoorway
from isthmus.servers.gateway.http_transport import HttpHandler
from isthmus.servers.gateway.link_door import LinkDoor
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.name_doors import NameDoors
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.proving import Outside, Prover, hop_seconds
from isthmus.servers.management.api import ManagementApi, Part
from isthmus.servers.management.arm import Routes
from isthmus.servers.management.arm_endpoints import ArmEndpoints
from isthmus.servers.management.arm_storage import ArmStorage, StorageServer
from isthmus.servers.management.endpoint_calls import EndpointCalls
from isthmus.servers.management.metrics import Reading
from isthmus.servers.management.remote import RemoteManagement
from isthmus.servers.management.server import ManagementServer, Monitoring
from isthmus.servers.management.trace_calls import TraceCalls

TLS_FOLDER = Path(CA_CERTIFICATE).parent

DRAIN_SECONDS = 6.0
"""For sessions to close after SIGTERM, so that the process is gone within 10 s."""

LAST_WORDS_SECONDS = 1.0
"""For work of devices that have gone, after their sessions were closed or aborted."""

UPKEEP_SECONDS = 5.0
"""Between two looks at retention, at the journal's counted minute, and at addresses that could not be had."""

RETRY_SECONDS = 1.0
"""Before background work that failed is taken up again."""


logger = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]


class Server:
    """A whole server: opened once, then served, then drained."""

    def __init__(self, config: Config, stores: Stores) -> None:
        self._config = config
        self._stores = stores
        self.domain = Domain(stores.state, stores.clock, stores.ids, self._objection)
        egress = self._egress = hub_egress(config, self.domain, lambda: self._doors.ports)
        storage = LoadedStorage(stores.clock, egress, config.egress.credentials)
        self.domain.uploads.storage = storage
        self.domain.hubs.on_change(storage.hub_changed)
        self.jobs = Jobs(stores, self.domain, egress, config.egress.credentials)
        self.configurations = DeviceManagement(stores, self.domain)
        self.gateway = Gateway(config, stores, self.domain, self.jobs, self.configurations)
        self.gateway.metrics.readings = self._readings
        self._relay = OutboxRelay(
            stores.state, stores.log, self.gateway.accept, self.domain.hubs.by_number, stores.clock
        )
        self._budget = SocketBudget(config.sockets.sockets_max or sockets_for(_descriptors()))
        self._listeners = Listeners(
            clock=stores.clock,
            ids=stores.ids,
            budget=self._budget,
            owner_of=self.domain.endpoints.door_of,
            on_refused=self.gateway.gate.turned_away,
        )
        self._places = HelpedPlaces(config)
        self._heads = head_export(config, stores, self.domain, socket.gethostname())
        self._names = NameServer(Forwarder(config.names.servers, stores.ids))
        self._name_doors = NameDoors(
            self._listeners,
            self._names,
            self.domain.names,
            self.domain.endpoints,
            self.domain.networks.facts,
            self._places.client,
            port=config.names.port,
        )
        self._metadata = metadata_doors(config, self.domain, self.gateway.gate, self._listeners, self._places.client)
        name_issuer(config, self.domain, lambda: self._doors.ports[Plane.HTTPS])
        self.deliveries = HubDeliveries(config, stores, self.domain, lambda: self._doors.ports)
        self._logs = LogWatch(config, stores, self.domain.journal)
        self._watch = StoreWatch(stores, self.domain.journal)
        self._tasks: list[asyncio.Task[None]] = []
        self._webs: list[web.Server] = []
        self._ready_file = Path(config.ready_file) if config.ready_file else None
        self._announced = False
        self._doors: Doors
        self._link: LinkDoor | None = None
        self._prover: Prover | None = None

    async def open(self, seed: Seed) -> None:
        """Reads, seeds, makes certificates, and only then listens; raises `ConfigurationError`."""
        config, domain = self._config, self.domain
        self._forget_ready()
        await domain.start(config)
        await self._stores.blobs.retain([account.number for account in domain.accounts.all()])
        seeding = Seeding(domain.hubs, domain.endpoints, domain.registry, domain.twins)
        await seeding.apply(seed)
        certificates = self._certificates()
        domain.directory.on_change(certificates.resource_changed)
        planes, fallback = self.gateway.planes, config.https_port is None
        self._doors = Doors(
            self._listeners,
            certificates.contexts,
            planes,
            fallback=fallback,
            places=self._places.client,
            add_addresses=config.network.add_addresses,
        )
        self._doors.open_public(config.bind)
        link = self._link = link_door(
            config,
            self._stores,
            domain,
            self.gateway,
            certificates=certificates,
            doors=self._doors,
            listeners=self._listeners,
        )
        link.open_if_needed()
        await self._places.start()
        await self._doors.private.open_known(domain.endpoints.all())
        domain.endpoints.on_change(self._doors.private.endpoint_changed)
        domain.endpoints.on_change(link.endpoint_changed)
        domain.hubs.on_change(lambda _old, _new: link.refresh())
        domain.networks.on_change(lambda _facts: link.refresh())
        domain.zones.on_change(link.refresh)
        await self._name_doors.settle()
        await self._metadata.settle()
        domain.endpoints.on_change(lambda _old, _new: self._name_doors.settle())
        domain.networks.on_change(lambda _facts: self._name_doors.settle())
        await seeding.apply_endpoints(seed)
        self._record_seed()
        if config.metrics.port:
            self._doors.open_metrics(config.metrics.address, config.metrics.port, self._monitoring())
        api = self._api(certificates, link)
        self._listeners.open_unix(config.data_folder / MANAGEMENT_SOCKET, self._management(api))
        if config.management.port:
            remote = self._remote_management(api)
            self._doors.open_management(config.management_addresses, config.management.port, remote)
        await remember_https_port(self._stores.state, self._doors.ports[Plane.HTTPS])
        await self.deliveries.start()
        for name, work in self._background():
            self._tasks.append(asyncio.create_task(_kept_up(name, work)))
        await self.jobs.start()
        await self.configurations.start()

    def _record_seed(self) -> None:
        """A seed changes what an administrator could change, and stands in the journal like his changes."""
        if self._config.seed:
            said = f"seed {self._config.seed} applied"
            self.domain.journal.write(Decision(Verdict.CHANGED, door="local", principal="isthmus", detail=said))

    def announce(self) -> None:
        """Writes the ready file, if one is wanted, and a line of the log; raises OSError."""
        ready = {
            "hostname": self.domain.hubs.all()[0].host_name,
            "bind": list(self._config.bind),
            "ports": self._ports(),
            "ca": str((self._config.data_folder / CA_CERTIFICATE).absolute()),
            "data": str(self._config.data_folder.absolute()),
            "pid": os.getpid(),
        }
        if self._ready_file is not None:
            draft = self._ready_file.with_name(f"{self._ready_file.name}.{os.getpid()}.tmp")
            draft.write_text(json.dumps(ready))
            draft.replace(self._ready_file)
        self._announced = True
        logger.info("ready", extra={**ready, "core": str(CORE)})

    async def drain(self) -> None:
        """Stops accepting, lets the commit in flight finish, closes sessions, and then everything else."""
        if self._link is not None:
            self._link.drain()
        self._name_doors.close()
        self._listeners.stop_accepting()
        self._names.close()
        await self._stores.log.close()
        aborted = await self._listeners.drain(DRAIN_SECONDS)
        self._listeners.shut_down()
        await self._end_work()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.jobs.close()
            await self.configurations.close()
            await self.deliveries.office.close()
            await self.domain.close()
            await self._last_head()
        except StateClosed as error:
            logger.error("the last changes could not be stored", extra={"reason": str(error)})
        await self._metadata.close()
        await self._places.close()
        if self._announced:
            self._forget_ready()
            logger.info("stopped", extra={"aborted": aborted})

    async def _last_head(self) -> None:
        """Seals what this run wrote, where somebody takes it in time."""
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._heads.finish()
        except TimeoutError:
            logger.warning("the last head was not exported", extra={"reason": self._heads.trouble})

    async def _end_work(self) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                links = [self._link.close()] if self._link is not None else []
                await asyncio.gather(self.gateway.close(), *links, *(each.shutdown(0) for each in self._webs))
        except TimeoutError:
            logger.warning("work of closed sessions did not end", extra={"seconds": LAST_WORDS_SECONDS})

    def _objection(self, place: str, address: str) -> str:
        if not place and address in map(normal_address, self._config.link.bind):
            return f"{address} is the link door's address; give the endpoint one of its own"
        return self._doors.objection(place, address)

    def _forget_ready(self) -> None:
        """Nobody may find a server ready that is not, or not yet."""
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)

    def _certificates(self) -> Certificates:
        config, names = self._config, [each.host_name for each in self.domain.directory.all()]
        folder = config.data_folder / TLS_FOLDER
        managed = config.management_addresses if config.management.port else ()
        addresses = tuple(dict.fromkeys((*config.bind, *managed)))
        stores = self._stores
        return Certificates(folder, names, addresses, socket.gethostname(), stores.clock, stores.sealed.sealer)

    def _api(self, certificates: Certificates, link: LinkDoor) -> ManagementApi:
        """The owner's calls over everything that was opened so far."""
        config, domain = self._config, self.domain
        prover = self._prover = self._make_prover(certificates, link)
        deliveries = self.deliveries
        endpoints = ArmEndpoints(domain.hubs, deliveries.office, deliveries.dead_letters, domain.journal)
        return management_api(
            domain,
            self._health,
            lambda: self._doors.ports[Plane.HTTPS],
            certificates.prepare,
            link_face(config, domain, link, certificates),
            self.gateway.live,
            lambda: installation(config, domain, self._listeners, self._doors.ports, link),
            prover,
            (
                self.jobs.arm_routes(),
                self._storage(certificates),
                endpoints.routes,
            ),
            endpoints.health_of,
            self._endpoint_calls(),
            TraceCalls(domain.hubs, domain.twins.snapshots, deliveries.ledger, deliveries.dead_letters),
            Backups(self._stores, config.data_folder),
            self.gateway.throttles.day_of,
        )

    def _endpoint_calls(self) -> EndpointCalls:
        """What proves where routes lead."""
        domain = self.domain
        return EndpointCalls(
            domain.hubs,
            domain.directory,
            domain.roles.of,
            domain.authority.token,
            self._egress,
            self.deliveries.office,
            own_tokens=self._config.egress.credentials == "hub",
        )

    def _storage(self, certificates: Certificates) -> Routes:
        """ARM of the storage accounts."""
        domain = self.domain
        server = StorageServer(certificates.prepare, domain.first_host, lambda: self._doors.ports[Plane.HTTPS])
        blobs = self._stores.blobs
        return ArmStorage(domain.accounts, blobs, domain.endpoints, domain.journal, domain.ids, server).routes

    def _make_prover(self, certificates: Certificates, link: LinkDoor) -> Prover:
        config, domain, stores = self._config, self.domain, self._stores
        outside = Outside(lambda: self._doors.ports, config.bind, config.names.port, certificates.ca_path.read_text())
        vantages = Vantages(self._places.client, link, stores.clock, stores.ids)
        return Prover(outside, domain.hubs, domain.endpoints, domain.names, domain.probes, vantages)

    def _ports(self) -> dict[str, int]:
        """The ports of all planes by their names, management's only where it is served."""
        ports = {plane.value: port for plane, port in self._doors.ports.items()}
        management = self._config.management.port
        return {**ports, Plane.MANAGEMENT.value: management} if management else ports

    def _management(self, api: ManagementApi) -> Callable[[], HttpHandler]:
        """Makes the handlers of the local owner's socket."""
        domain, gateway, log = self.domain, self.gateway, self._stores.log
        front = Front(OwnerDoorway(gateway.gate, domain.hubs), gateway.service, self._stores.clock)
        return self._served(ManagementServer(api, front, log, gateway.metrics).handle)

    def _remote_management(self, api: ManagementApi) -> Callable[[], HttpHandler]:
        """Makes the handlers of operators with a token."""
        domain, allow = self.domain, self._config.management.allow
        remote = RemoteManagement(api, domain.tokens, self.gateway.gate, domain.journal, self._stores.ids, allow)
        server = web.Server(remote.handle, access_log=None, handler_cancellation=True)
        self._webs.append(server)
        return lambda: remote.handler(server)

    def _monitoring(self) -> Callable[[], HttpHandler]:
        """Makes the handlers of metrics and health over TCP."""
        return self._served(Monitoring(self._health, self.gateway.metrics).handle)

    def _served(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> Callable[[], HttpHandler]:
        # Who watches events may leave at any time, and then nothing else would end his request.
        server = web.Server(handle, access_log=None, handler_cancellation=True)
        self._webs.append(server)
        return lambda: HttpHandler(server)

    def _health(self) -> list[Part]:
        missing, unattended = self._doors.private.missing, self._doors.private.unattended
        full = self.domain.journal.is_full
        return [
            *self._stores.health(),
            *self._watch.parts(),
            *self._logs.parts(),
            Part("listeners", bool(self._listeners.bound)),
            Part("private-endpoints", not missing, missing),
            Part("namespaces", not unattended, unattended),
            Part("audit-heads", not self._heads.trouble, self._heads.trouble),
            Part("journal", not full, "it is full: nothing can be changed until records are removed" if full else ""),
            Part("names", self._name_doors.well, self._name_doors.missing),
            Part("egress", not self.deliveries.office.trouble, self.deliveries.office.trouble),
            Part("metadata", not self._metadata.missing, self._metadata.missing),
        ]

    def _readings(self) -> Iterator[Reading]:
        """What a scrape reads from the house."""
        log, mqtt, settings = self._stores.log, self.gateway.mqtt.services.counts, log_config(self._config)
        build = {"version": __version__, "core": CORE.word}
        yield Reading("build_info", "Always 1: the version, and whether the core is compiled", 1, labels=build)
        yield Reading("connections", "Open connections of all planes", self._listeners.connections)
        yield Reading("sockets_max", "Connections that may be open", self._budget.sockets_max)
        yield Reading("sessions", "Authenticated sessions", len(self.gateway.sessions))
        messages = mqtt.messages + self.gateway.devices.messages
        yield Reading("telemetry_messages", "Telemetry messages taken", messages, total=True)
        yield Reading("takeovers", "Connections replaced by a newer one", mqtt.takeovers, total=True)
        yield Reading("method_answers_late", "Answers nobody waited for", mqtt.late_method_answers, total=True)
        yield Reading("log_records", "Records committed", log.counters.records, total=True)
        yield Reading("log_commits", "Group commits", log.counters.commits, total=True)
        yield Reading("log_commit_seconds", "Time in commits", log.counters.commit_seconds, total=True)
        yield Reading("log_records_failed", "Records refused by a failed disk", log.counters.failed_records, total=True)
        yield Reading("log_backlog_bytes", "Bytes taken and not yet durable", log.backlog_bytes)
        yield Reading("log_stored_bytes", "Bytes of all segments", log.stored_bytes)
        yield Reading("log_retention_bytes", "Bytes above which the oldest go", settings.retention_bytes)
        yield Reading("log_retention_seconds", "Age beyond which records go", settings.retention_ms / 1000)
        yield from self._logs.readings()
        yield from self._watch.readings()
        accept = self.gateway.accept
        yield Reading("routing_orphaned", "Telemetry messages no route took", accept.orphaned, total=True)
        yield Reading("routing_undefined", "Conditions undefined for a message", accept.undefined, total=True)
        yield Reading("outbox_relayed", "State events relayed to the log", self._relay.relayed, total=True)
        yield Reading("deleted_hubs_waiting", "Deleted hubs not yet swept up behind", self.domain.removal.waiting)
        yield from self._throttle_readings()
        yield from self._audit_readings()
        yield from self.jobs.readings()
        yield from self.configurations.readings()
        yield Reading("feedback_dropped", "Feedback that nobody read", self.domain.feedback.dropped, total=True)
        dropped = self.domain.uploads.dropped
        yield Reading("file_notifications_dropped", "File notifications that nobody read", dropped, total=True)
        yield Reading("names_queries", "DNS queries", self._names.queries, total=True)
        yield Reading("names_dropped", "DNS queries dropped", self._names.dropped, total=True)
        yield from self._link_readings()
        yield from self._path_readings()
        yield from self.deliveries.readings()

    def _throttle_readings(self) -> Iterator[Reading]:
        throttles = self.gateway.throttles
        slowed = "Time that devices were not read for a rate"
        yield Reading("throttle_slowed_seconds", slowed, throttles.slowed_seconds, total=True)
        for operation in Operation:
            labels = {"operation": operation.value}
            refused = throttles.refused[operation]
            yield Reading("throttle_refused", "Operations refused for a rate", refused, total=True, labels=labels)
        policy = throttles.policy
        labels = {"profile": policy.profile, "units": str(policy.units)}
        yield Reading("throttle_profile", "What hubs' rates are those of", 1, labels=labels)
        device = "Telemetry messages a second of one device, 0 for any"
        yield Reading("throttle_device_rate", device, policy.device_messages_per_second)
        over = "Messages refused for a day's number"
        yield Reading("daily_messages_refused", over, throttles.over_quota, total=True)
        for hub in self.domain.hubs.all():
            for operation, rate in policy.rates_of(hub.sku).items():
                labels = {"hub": hub.name, "operation": operation.value}
                yield Reading("throttle_rate", "Operations a second of a hub", rate.per_second, labels=labels)
            used, most = throttles.day_of(hub)
            yield Reading("daily_messages", "Messages of today", used, labels={"hub": hub.name})
            yield Reading("daily_messages_max", "Messages a day, 0 for any", most, labels={"hub": hub.name})

    def _audit_readings(self) -> Iterator[Reading]:
        settings, heads = self._config.audit, self._heads
        refuses = settings.when_full is WhenFull.REFUSE_CHANGES
        yield Reading("journal_entries_max", "Records that the journal keeps", settings.entries_max)
        yield Reading("journal_refuses", "1 where a full journal refuses changes", refuses)
        yield Reading("journal_full", "1 while nothing may be changed for want of room", self.domain.journal.is_full)
        yield Reading("audit_heads_exported", "Heads exported", heads.exported, total=True)
        yield Reading("audit_heads_failed", "Heads that an outlet did not take", heads.failed, total=True)
        yield Reading("audit_heads_interval_seconds", "Time after which a head goes out", heads.pace.interval_seconds)
        yield Reading("audit_heads_records_max", "Records after which a head goes out", heads.pace.records)

    def _link_readings(self) -> Iterator[Reading]:
        if self._link is not None:
            links, enrolments = self._link.links, self._link.certifying.enrolments
            yield Reading("link_connectors", "Connectors that are connected", links.connected)
            yield Reading("link_connections", "Connections that connectors carry", links.carried)
            yield Reading("link_spares", "Connections that connectors keep ready", links.spares)
            yield Reading("link_enrolments", "Connectors enrolled by a token", enrolments, total=True)

    def _path_readings(self) -> Iterator[Reading]:
        """What the last round over the private paths found."""
        latest = self._prover.latest if self._prover is not None else ()
        for each in latest:
            labels = {"endpoint": each.target.label, "plane": each.way.value}
            yield Reading("path_ok", "1 where a message came back by a private path", each.walk.works, labels=labels)
        for labels, seconds in hop_seconds(latest):
            yield Reading("path_seconds", "Time of a private path's hop in the last round", seconds, labels=labels)

    def _background(self) -> Iterator[tuple[str, Work]]:
        """What runs as long as the server, by name."""
        domain, clock = self.domain, self._stores.clock
        yield "presence", domain.presence.run
        yield "outbox relay", self._relay.run
        yield "queues", lambda: keep_time(clock, domain.timed, _upkeep_failed)
        yield "removal", domain.removal.run
        yield "upkeep", self._upkeep
        yield "ledger of deliveries", self.deliveries.office.write
        yield "private doors", self._look_after_doors
        yield "journal heads", self._heads.run
        if self._logs.scrub is not None:
            yield "scrub", self._logs.scrub.run
        if self._prover is not None and self._config.check.interval_seconds:
            yield "paths", partial(self._prover.run, self._config.check.interval_seconds)

    async def _upkeep(self) -> None:
        while True:
            now_ms = self._stores.clock.utc_ms()
            self.deliveries.tick(now_ms)
            self.domain.journal.close_minute(now_ms)
            await asyncio.sleep(UPKEEP_SECONDS)
            await self._watch.prove()
            await self.domain.daily.write()

    async def _look_after_doors(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            await self._doors.private.look_after()
            await self._name_doors.settle()
            await self._metadata.settle()


async def _kept_up(name: str, work: Work) -> None:
    """Runs work for ever: what fails is logged and taken up again, for a full disk is emptied some day."""
    while True:
        try:
            await work()
        except Exception as error:
            known = isinstance(error, StateClosed)
            logger.error("background work failed", extra={"work": name, "reason": str(error)}, exc_info=not known)
        await asyncio.sleep(RETRY_SECONDS)


def _descriptors() -> int:
    """Raises the process's limit of open files to what it may have, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _upkeep_failed(error: Exception) -> None:
    logger.error("upkeep failed", extra={"reason": str(error)})
