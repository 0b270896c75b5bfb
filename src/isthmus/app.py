"""Builds everything and connects it; the only file that knows all, and contains no logic of its own."""

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from isthmus.access.certificates import Authority, self_signed
from isthmus.access.journal import Journal
from isthmus.backends.memory import MemoryState
from isthmus.backends.sqlite import SqliteState
from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef, HubId, Ids, RandomIds
from isthmus.base.places import CA_CERTIFICATE, MANAGEMENT_SOCKET
from isthmus.commands.cloud_to_device import CloudToDevice
from isthmus.commands.feedback import Feedback
from isthmus.commands.methods import Methods
from isthmus.config import Config
from isthmus.devices.fleet import Fleet
from isthmus.devices.presence import Presence
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.devices.views import identity_to_wire
from isthmus.logs import configure_logging
from isthmus.queues.upkeep import keep_time
from isthmus.resources.hub import Hub, hub_name_of
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.routing.accept import Accept
from isthmus.routing.relay import OutboxRelay
from isthmus.seed import Seed, load_seed
from isthmus.seeding import Seeding
from isthmus.servers.gateway.amqp import AmqpPump
from isthmus.servers.gateway.amqp_event import EventEncoder
from isthmus.servers.gateway.amqp_nodes import Nodes
from isthmus.servers.gateway.amqp_reader import Readers
from isthmus.servers.gateway.budget import SocketBudget, sockets_for
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.cutting import Cutting
from isthmus.servers.gateway.doors import HTTPS_PORT, Doors, PlaneSetting
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.http_app import Front, GateDoorway, OwnerDoorway
from isthmus.servers.gateway.http_service import ServiceApi
from isthmus.servers.gateway.http_transport import HttpHandler
from isthmus.servers.gateway.kept_sessions import StoredSessions
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.mqtt import MqttGateway, MqttServices
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Sessions
from isthmus.servers.management.api import ManagementApi, Part
from isthmus.servers.management.arm import Arm
from isthmus.servers.management.metrics import Metrics, Reading
from isthmus.servers.management.request import Reply, call_of, refused
from isthmus.servers.management.server import ManagementServer
from isthmus.telemetry.damage import Damage
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.wire.tls import ServerContexts, client_certificate_trouble, server_context

STATE_FILE = "state.db"
LOG_FOLDER = "log"
TLS_FOLDER = Path(CA_CERTIFICATE).parent

DRAIN_SECONDS = 6.0
"""For sessions to close after SIGTERM, so that the process is gone within 10 s."""

UPKEEP_SECONDS = 5.0
"""Between two looks at retention and at the journal's counted minute."""

logger = logging.getLogger(__name__)


def serve(config: Config) -> int:
    """Serves until SIGTERM or SIGINT and returns the exit code; raises `ConfigurationError` when it cannot start."""
    configure_logging()
    seed = load_seed(config.seed) if config.seed else Seed()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, seed))


def offline(data: Path, method: str, target: str) -> tuple[int, bytes] | None:
    """Answers a reading call from the folder of a server that does not run; None when that cannot be done.

    Raises `ConfigurationError` when a server has the folder open after all.
    """
    if not (data / STATE_FILE).is_file() or method not in ("GET", "POST"):
        return None
    return asyncio.run(_offline(data, method, target))


AnyState = MemoryState | SqliteState


@dataclass(frozen=True, slots=True)
class Stores:
    """The hands: state and log, and what they are told apart by."""

    state: AnyState
    log: SegmentLog
    clock: Clock
    ids: Ids

    def health(self) -> list[Part]:
        """How the two are doing."""
        log = self.log.health
        parts = [Part("log", log.ok, log.reason)]
        if isinstance(self.state, SqliteState):
            failure = self.state.health.failure
            parts.append(Part("state", not failure, failure))
        return parts


class Domain:
    """The middle floor over a state, connected."""

    def __init__(self, state: AnyState, clock: Clock, ids: Ids, objection: Callable[[str], str]) -> None:
        self.hubs = Hubs(state, clock, ids)
        self.endpoints = PrivateEndpoints(state, self.hubs, ids, objection)
        self.journal = Journal(state, clock)
        self.presence = Presence(state, clock)
        self.connected = Connected(self.presence, clock)
        hub_of = self.hubs.by_number
        self.feedback = Feedback(state, clock, ids, hub_of)
        self.commands = CloudToDevice(
            state, clock, ids, hub_of=hub_of, feedback=self.feedback, connected=self.connected
        )
        self.registry = Registry(state, clock, ids, self.commands)
        self.twins = Twins(state, clock, self.registry, self.connected)
        self.methods = Methods(self.registry, self.connected)
        self.fleet = Fleet(state)
        self.registry.on_change(self.commands.identity_changed)

    async def start(self, config: Config) -> None:
        """Reads what was there, and makes the first hub where there is none."""
        await self.hubs.load()
        if not self.hubs.all():
            name = hub_name_of(config.hostname)
            await self.hubs.create(name, host_name=config.hostname, partitions=config.partitions)
        await self.endpoints.load()
        numbers = self.numbers()
        await self.presence.open(numbers)
        await self.feedback.start(numbers)
        await self.commands.start(numbers)

    def numbers(self) -> tuple[HubId, ...]:
        """The numbers of all hubs."""
        return tuple(hub.number for hub in self.hubs.all())

    def service(self) -> ServiceApi:
        """The service API over it."""
        return ServiceApi(self.registry, self.twins, self.fleet, self.methods, self.connected, self.commands)

    async def close(self) -> None:
        """Writes what waits: presences, queues' operations, the journal's counts."""
        await self.presence.flush()
        await self.commands.close()
        await self.feedback.close()
        self.journal.close_minute()


class Gateway:
    """The doors of devices and services, connected to the domain."""

    def __init__(self, config: Config, stores: Stores, domain: Domain) -> None:
        clock = stores.clock
        self.metrics = Metrics()
        self.sessions = Sessions()
        self.gate = Gate(domain.hubs, domain.registry, domain.journal, self.metrics, clock, stores.ids)
        self.service = domain.service()
        self.accept = Accept(stores.log)
        self.mqtt = _mqtt(stores, domain, self)
        self._nodes = Nodes(stores.log, domain.commands, domain.feedback, Readers(), EventEncoder(), clock)
        self._clock = clock
        self._web = web.Server(
            Front(GateDoorway(self.gate, self.sessions), self.service, clock).handle, access_log=None
        )
        cutting = Cutting(self.sessions, domain.connected)
        domain.hubs.on_change(cutting.hub_changed)
        domain.registry.on_change(cutting.identity_changed)
        self.planes = {
            Plane.MQTT: PlaneSetting(config.mqtt_port, self.mqtt.make_pump),
            Plane.AMQP: PlaneSetting(config.amqp_port, self._amqp),
            Plane.HTTPS: PlaneSetting(config.https_port or HTTPS_PORT, lambda: HttpHandler(self._web)),
        }

    async def close(self) -> None:
        """Ends HTTP connections that idle, and waits for work of devices that have gone."""
        await self._web.shutdown()
        await self.mqtt.drained()

    def _amqp(self) -> AmqpPump:
        return AmqpPump(self.gate, self.sessions, self._nodes, self._clock)


class Server:
    """A whole server: opened once, then served, then drained."""

    def __init__(self, config: Config, stores: Stores) -> None:
        self._config = config
        self._stores = stores
        self.domain = Domain(stores.state, stores.clock, stores.ids, lambda address: self._doors.objection(address))
        self.gateway = Gateway(config, stores, self.domain)
        self._relay = OutboxRelay(
            stores.state, stores.log, self.gateway.accept, self.domain.hubs.by_number, stores.clock
        )
        self._listeners = Listeners(
            clock=stores.clock,
            ids=stores.ids,
            budget=SocketBudget(config.sockets.sockets_max or sockets_for(_descriptors())),
            owner_of=self.domain.endpoints.door_of,
            on_refused=self.gateway.gate.turned_away,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._doors: Doors

    async def open(self, seed: Seed) -> None:
        """Reads, seeds, makes certificates, and listens; raises `ConfigurationError`."""
        domain = self.domain
        await domain.start(self._config)
        contexts = Certificates(self._config, self._stores.clock)
        contexts.follow(domain.hubs)
        self._doors = Doors(
            self._listeners, contexts.contexts, self.gateway.planes, fallback=self._config.https_port is None
        )
        self._doors.open_public(self._config.bind)
        for endpoint in domain.endpoints.all():
            self._doors.open_private(endpoint)
        domain.endpoints.on_change(self._doors.endpoint_changed)
        await Seeding(domain.hubs, domain.endpoints, domain.registry, domain.twins).apply(seed)
        self._listeners.open_unix(self._config.data_folder / MANAGEMENT_SOCKET, self._management())
        for work in self._background():
            self._tasks.append(asyncio.create_task(work))

    def announce(self) -> None:
        """Writes the ready file, if one is wanted, and a line of the log."""
        ready = {
            "hostname": self._config.hostname,
            "bind": list(self._config.bind),
            "ports": {plane.value: port for plane, port in self._doors.ports.items()},
            "ca": str((self._config.data_folder / CA_CERTIFICATE).absolute()),
            "data": str(self._config.data_folder.absolute()),
            "pid": os.getpid(),
        }
        if self._config.ready_file:
            path = Path(self._config.ready_file)
            draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
            draft.write_text(json.dumps(ready))
            draft.replace(path)
        logger.info("ready", extra=ready)

    async def drain(self) -> None:
        """Stops accepting, lets the commit in flight finish, closes sessions, and then everything else."""
        self._listeners.stop_accepting()
        await self._stores.log.close()
        aborted = await self._listeners.drain(DRAIN_SECONDS)
        await self.gateway.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.domain.close()
        self._listeners.shut_down()
        logger.info("stopped", extra={"aborted": aborted})

    def _management(self) -> Callable[[], HttpHandler]:
        """Makes the handlers of the local owner's socket."""
        domain, gateway, log = self.domain, self.gateway, self._stores.log
        gateway.metrics.readings = self._readings
        api = management_api(domain, self._health, lambda: self._doors.ports[Plane.HTTPS])
        front = Front(OwnerDoorway(gateway.gate, domain.hubs), gateway.service, self._stores.clock)
        server = web.Server(ManagementServer(api, front, log, gateway.metrics).handle, access_log=None)
        return lambda: HttpHandler(server)

    def _health(self) -> list[Part]:
        return [*self._stores.health(), Part("listeners", bool(self._listeners.bound))]

    def _readings(self) -> Iterator[Reading]:
        """What a scrape reads from the house."""
        log, mqtt = self._stores.log, self.gateway.mqtt.services.counts
        yield Reading("connections", "Open connections of all planes", self._listeners.connections)
        yield Reading("sessions", "Authenticated sessions", len(self.gateway.sessions))
        yield Reading("telemetry_messages", "Telemetry messages taken", mqtt.messages, total=True)
        yield Reading("takeovers", "Connections replaced by a newer one", mqtt.takeovers, total=True)
        yield Reading("method_answers_late", "Answers nobody waited for", mqtt.late_method_answers, total=True)
        yield Reading("log_records", "Records committed", log.counters.records, total=True)
        yield Reading("log_commits", "Group commits", log.counters.commits, total=True)
        yield Reading("log_commit_seconds", "Time in commits", log.counters.commit_seconds, total=True)
        yield Reading("log_records_failed", "Records refused by a failed disk", log.counters.failed_records, total=True)
        yield Reading("log_backlog_bytes", "Bytes taken and not yet durable", log.backlog_bytes)
        yield Reading("log_stored_bytes", "Bytes of all segments", log.stored_bytes)
        yield Reading("outbox_relayed", "State events relayed to the log", self._relay.relayed, total=True)
        yield Reading("feedback_dropped", "Feedback that nobody read", self.domain.feedback.dropped, total=True)

    def _background(self) -> Iterator[Coroutine[Any, Any, None]]:
        """The tasks that run as long as the server."""
        domain, clock = self.domain, self._stores.clock
        yield domain.presence.run()
        yield self._relay.run()
        yield keep_time(clock, (domain.commands, domain.feedback), _upkeep_failed)
        yield self._upkeep()

    async def _upkeep(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            now_ms = self._stores.clock.utc_ms()
            self._stores.log.tick(now_ms)
            self.domain.journal.close_minute(now_ms)


class Certificates:
    """The TLS contexts of all hubs, issued by the folder's own authority."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._folder = config.data_folder / TLS_FOLDER
        self._config = config
        self._clock = clock
        self.contexts: ServerContexts
        self._authority: Authority
        self._asks = False

    def follow(self, hubs: Hubs) -> None:
        """Makes what is missing, now and for each hub that comes; raises `ConfigurationError`."""
        names = [hub.host_name for hub in hubs.all()]
        self._authority = Authority.load_or_create(
            self._folder, names, self._config.bind, socket.gethostname(), self._clock
        )
        first = str(self._authority.server_certificate(names[0]).path)
        with self_signed(self._folder, self._clock) as trial:
            trouble = client_certificate_trouble(first, str(trial))
        if trouble:
            logger.warning("X.509 identities are off on this interpreter", extra={"reason": trouble})
        self._asks = not trouble
        self.contexts = ServerContexts(self._context(names[0]))
        for name in names:
            self.contexts.put(name, self._context(name))
        hubs.on_change(self._hub_changed)

    async def _hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        if new is None and old is not None:
            self.contexts.remove(old.host_name)
        if old is None and new is not None:
            self.contexts.put(new.host_name, self._context(new.host_name))

    def _context(self, host_name: str) -> ssl.SSLContext:
        certificate = self._authority.server_certificate(host_name)
        return server_context(str(certificate.path), request_client_certificate=self._asks)


def management_api(domain: Domain, health: Callable[[], list[Part]], https_port: Callable[[], int]) -> ManagementApi:
    """The local owner's calls over a domain."""
    arm = Arm(domain.hubs, domain.endpoints, domain.journal)
    return ManagementApi(domain.hubs, arm, domain.journal, domain.commands, health, https_port)


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
            clock=stores.clock,
        )
    )


async def _serve(config: Config, seed: Seed) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _stores(config) as stores:
        server = Server(config, stores)
        try:
            await server.open(seed)
            server.announce()
            await stop.wait()
        finally:
            await server.drain()
    return 0


@asynccontextmanager
async def _stores(config: Config) -> AsyncIterator[Stores]:
    """Opens state and log; an ephemeral server keeps its log in a folder that goes with it."""
    data = config.data_folder
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    clock = SystemClock()
    settings = LogConfig(
        retention_ms=int(config.log.retention_days * 86_400_000), retention_bytes=int(config.log.retention_gib * 2**30)
    )
    async with AsyncExitStack() as stack:
        folder = data
        if config.ephemeral:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-")))
        state = MemoryState() if config.ephemeral else await SqliteState.open(folder / STATE_FILE)
        stack.push_async_callback(state.close)
        log = SegmentLog.open(folder / LOG_FOLDER, clock, config=settings, on_damage=_log_damage)
        stack.push_async_callback(log.close)
        _report_recovery(log)
        yield Stores(state, log, clock, RandomIds())


async def _offline(data: Path, method: str, target: str) -> tuple[int, bytes] | None:
    """Answers from the state alone; the log is not opened."""
    state = await SqliteState.open(data / STATE_FILE)
    try:
        domain = Domain(state, SystemClock(), RandomIds(), lambda _address: "")
        await domain.hubs.load()
        await domain.endpoints.load()
        call = call_of(method, target, who=f"owner:uid:{os.getuid()}")
        match call.path:
            case ("hubs", name, "devices", device_id) if method == "GET":
                return await _offline_identity(domain, name, device_id, "")
            case ("hubs", name, "devices", device_id, "modules", module_id) if method == "GET":
                return await _offline_identity(domain, name, device_id, module_id)
            case ("hubs",) | ("explain",) | ("subscriptions", *_):
                reply = await management_api(domain, list, lambda: HTTPS_PORT).answer(call)
                return reply.status, reply.body
            case _:
                return None
    finally:
        await state.close()


async def _offline_identity(domain: Domain, hub_name: str, device_id: str, module_id: str) -> tuple[int, bytes]:
    try:
        ref = DeviceRef(domain.hubs.require(hub_name).number, device_id, module_id)
        found = await domain.registry.view(ref)
    except HubError as error:
        reply = refused(error)
    else:
        reply = Reply(value=identity_to_wire(found, 0))
    return reply.status, reply.body


def _descriptors() -> int:
    """Raises the process's limit of open files to what it may have, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _report_recovery(log: SegmentLog) -> None:
    report = log.recovery
    if not report.is_clean:
        logger.warning("log repaired", extra={"torn_bytes": report.torn_bytes, "rebuilt": list(report.rebuilt)})
    for damage in report.damages:
        _log_damage(damage)


def _log_damage(damage: Damage) -> None:
    logger.error(
        "log damaged",
        extra={
            "start": damage.start,
            "end": damage.end,
            "acknowledged": damage.acknowledged,
            "lost": [
                {
                    "stream": lost.partition.stream,
                    "partition": lost.partition.number,
                    "first": lost.first_sequence,
                    "last": lost.last_sequence,
                }
                for lost in damage.lost
            ],
        },
    )


def _upkeep_failed(error: Exception) -> None:
    logger.error("upkeep failed", extra={"reason": str(error)})
