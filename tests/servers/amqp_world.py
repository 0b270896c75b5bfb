"""A world for the AMQP pump without sockets: the real gate, hubs, queues and log, and clients by the engine's half."""

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from commands.fakes import Connections
from commands.storage import notification_queue
from devices.fakes import HUB, StandingClock
from isthmus.base.ids import DeviceRef
from isthmus.base.state import Put
from isthmus.commands.cloud_to_device import CloudToDevice
from isthmus.commands.feedback import Feedback
from isthmus.devices.documents import identity_key
from isthmus.devices.identity import encode_identity
from isthmus.network.door import PUBLIC_DOOR, Door
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.throttling import DEFAULT_POLICY, ThrottlePolicy
from isthmus.servers.gateway.amqp import AmqpGateway, AmqpPump, AmqpServices
from isthmus.servers.gateway.amqp_event import EventEncoder
from isthmus.servers.gateway.amqp_nodes import Nodes
from isthmus.servers.gateway.amqp_reader import EPOCH, SELECTOR, Readers
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.cutting import Cutting
from isthmus.servers.gateway.sessions import Sessions
from isthmus.servers.gateway.throttles import Throttles
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.telemetry.ports import EVENTS, Partition
from isthmus.wire.amqp import message
from isthmus.wire.amqp.connection import EMPTY_FRAME
from isthmus.wire.amqp.connection import Connection as Engine
from isthmus.wire.amqp.events import ConnectionClosed, Disposition, Event, LinkDetached, SaslDone, Transfer
from isthmus.wire.amqp.link import Link, LinkRole
from isthmus.wire.amqp.message import Message, Properties, Section
from isthmus.wire.amqp.performatives import Attach, Flow, Open, SaslChoice, SaslCode
from isthmus.wire.amqp.session import Session
from isthmus.wire.amqp.states import DeliveryState, Error, Source, Target
from isthmus.wire.amqp.values import AmqpValue, Described, Long, Symbol, ULong
from servers.gate_world import HOST, GateWorld
from servers.mqtt_world import Call, FakeConnection, FakePresence, settled
from servers.probe_mail import FakeProbeMail
from telemetry.fakes import Waiter

ENTITY = "hub"
BUILT_IN = f"sb://{HOST}/{ENTITY}"
"""The audience of Event Hubs SDKs."""

EventKind = TypeVar("EventKind", bound=Event)


class WorldTimers:
    """Timers that come when the clock is moved, each at its own time."""

    def __init__(self, clock: StandingClock) -> None:
        self._clock = clock
        self.calls: list[Call] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> Call:
        call = Call(self._clock.monotonic() + delay, callback)
        self.calls.append(call)
        return call

    def move(self, seconds: float) -> None:
        """Moves the clock."""
        until = self._clock.monotonic() + seconds
        while due := [call for call in self.calls if call.when <= until and not call.cancelled]:
            first = min(due, key=lambda call: call.when)
            self.calls.remove(first)
            self._clock.now_ms = max(self._clock.now_ms, math.ceil(first.when * 1000))
            first.callback()
        self._clock.now_ms = max(self._clock.now_ms, round(until * 1000))

    @property
    def waiting(self) -> list[float]:
        """When the calls are to come that were not cancelled, in seconds from now."""
        now = self._clock.monotonic()
        return sorted(call.when - now for call in self.calls if not call.cancelled)


@dataclass
class AmqpWorld:
    """The hub `hub` with `dev1`, its log of four partitions, its queues, and AMQP at its public door."""

    doors: GateWorld
    log: SegmentLog
    policy: ThrottlePolicy = DEFAULT_POLICY

    def __post_init__(self) -> None:
        clock, state, ids = self.doors.clock, self.doors.state, self.doors.ids
        self.clock = clock
        self.timers = WorldTimers(clock)
        self.sessions = Sessions()
        self.feedback = Feedback(state, clock, ids, self.doors.hubs.by_number)
        self.commands = CloudToDevice(
            state, clock, ids, hub_of=self.doors.hubs.by_number, feedback=self.feedback, connected=Connections()
        )
        self.probe_mail = FakeProbeMail()
        self.readers = Readers(self.log, EventEncoder(), clock)
        self.file_notifications = notification_queue(state, clock, ids, self.doors.hubs.by_number)
        nodes = Nodes(
            log=self.log,
            commands=self.commands,
            feedback=self.feedback.batches,
            file_notifications=self.file_notifications,
            readers=self.readers,
            clock=clock,
            probe_mail=self.probe_mail,
            throttles=Throttles(clock, self.policy),
        )
        services = AmqpServices(self.doors.gate, self.sessions, {ResourceKind.HUB: nodes}, clock)
        self.gateway = AmqpGateway(services, lambda: self.timers)
        cutting = Cutting(self.sessions, Connected(FakePresence(), clock), readers=self.readers)
        self.doors.hubs.on_change(cutting.hub_changed)

    async def register(self, device_id: str = "dev1") -> None:
        """Makes a device known to the queues."""
        ref = DeviceRef(HUB, device_id)
        if ref not in self.doors.identities.known:
            self.doors.identities.add(device_id)
        identity = self.doors.identities.known[ref]
        await self.doors.state.commit([Put(identity_key(ref), encode_identity(identity))])

    async def tell(self, *payloads: bytes, partition: int = 0, **envelope: Any) -> None:
        """Appends events and waits until they are durable."""
        encoded = encode_envelope(Envelope(**{"device_id": "dev1"} | envelope))
        waiter = Waiter()
        for cookie, payload in enumerate(payloads):
            at_ms = self.clock.utc_ms() - 5
            self.log.append(Partition(HUB, partition), (EVENTS,), encoded, payload, at_ms, waiter, cookie)
        await waiter.heard(len(payloads))

    def client(self, **origin: Any) -> "AmqpClient":
        """A connection that has said nothing yet."""
        return AmqpClient(self, **origin)

    async def opened(self, **origin: Any) -> "AmqpClient":
        """A client that has opened its connection, anonymously."""
        return await self.client(**origin).open(SaslChoice("ANONYMOUS"))

    async def service(self, policy: str = "service", **origin: Any) -> "AmqpClient":
        """A client with a token for the whole hub."""
        client = await self.opened(**origin)
        assert await client.put_token(HOST, self.doors.policy_token(policy, seconds=3600)) == 200
        return client

    async def consumer(self, policy: str = "service", **origin: Any) -> "AmqpClient":
        """A client with a token for the built-in endpoint, as Event Hubs SDKs put it."""
        client = await self.opened(**origin)
        token = self.doors.policy_token(policy, BUILT_IN, seconds=3600)
        assert await client.put_token(BUILT_IN, token) == 200
        return client

    async def rules(self) -> list[str]:
        """The rules that refused something."""
        return [decision.rule for decision in await self.doors.decisions() if decision.verdict.value == "refused"]


@asynccontextmanager
async def amqp_world(folder: Path, policy: ThrottlePolicy = DEFAULT_POLICY) -> AsyncIterator[AmqpWorld]:
    """Yields a world whose log is closed afterwards and whose work must have ended by then."""
    doors = await GateWorld().start()
    log = SegmentLog.open(folder / "log", doors.clock)
    world = AmqpWorld(doors, log, policy)
    await world.register()
    yield world
    await world.gateway.drained()
    await world.commands.close()
    await world.feedback.close()
    await world.file_notifications.close()
    await log.close()


class AmqpClient:
    """A client on a connection in memory; `events` is all it was told, `writes` what came since it last looked."""

    def __init__(
        self, world: AmqpWorld, *, door: Door = PUBLIC_DOOR, address: str = "192.0.2.7", server_name: str = HOST
    ) -> None:
        self.world = world
        self.engine = Engine("client", world.clock.monotonic(), idle_timeout_ms=0)
        self.pump: AmqpPump = world.gateway.make_pump()
        self.connection = FakeConnection(lambda reason: self.pump.closed(reason))
        self.connection.door, self.connection.peer_address = door, address
        self.connection.server_name = server_name
        self.pump.opened(self.connection)
        self.events: list[Event] = []
        self.session: Session
        self._links = 0
        self._requests = 0
        self._cbs: RequestPair | None = None

    async def open(self, sasl: SaslChoice | None, hostname: str = HOST, *, idle_timeout_ms: int = 0) -> "AmqpClient":
        """Opens connection and session."""
        self.engine.open(Open("client", hostname, idle_timeout_ms=idle_timeout_ms), sasl)
        await self.run()
        if self.engine.opened:
            self.session = self.engine.begin()
            await self.run()
        return self

    async def run(self) -> None:
        """Passes bytes until both sides are silent."""
        while True:
            self.send()
            await settled()
            if not self.receive():
                return

    def send(self) -> None:
        """Gives the hub what is to be sent, in one read."""
        data = self.engine.data_to_send()
        if data and not self.connection.reason:
            assert not self.connection.paused, "the hub does not read"
            self.pump.received(data)

    def receive(self) -> bool:
        """Reads what the hub has written; False when that is nothing."""
        data = b"".join(self.connection.writes)
        self.connection.writes.clear()
        self.engine.receive(data, self.world.clock.monotonic())
        self.events.extend(self.engine.events())
        return bool(data)

    # Links.

    async def sender(self, address: str, **more: Any) -> Link:
        """Attaches a sender."""
        return await self._attach(LinkRole.SENDER, Source("here"), Target(address), **more)

    async def receiver(self, address: str, *, credit: int = 0, selector: str = "", **more: Any) -> Link:
        """Attaches a receiver and grants credit."""
        described: AmqpValue = Described(Symbol(SELECTOR), selector)
        chosen: AmqpValue = {Symbol(SELECTOR): described} if selector else None
        link = await self._attach(LinkRole.RECEIVER, Source(address, filter=chosen), Target("here"), **more)
        if credit:
            link.grant(credit)
            await self.run()
        return link

    async def reader(
        self,
        partition: str = "0",
        *,
        group: str = "$Default",
        epoch: int | None = None,
        credit: int = 100,
        selector: str = "",
        capabilities: tuple[str, ...] = (),
        early_credit: int = 0,
    ) -> Link:
        """Attaches a reader of a partition; `early_credit` is sent along with the attach."""
        address = f"amqps://{HOST}/{ENTITY}/ConsumerGroups/{group}/Partitions/{partition}"
        properties = {} if epoch is None else {EPOCH: Long(epoch)}
        return await self.receiver(
            address,
            credit=0 if early_credit else credit,
            selector=selector,
            properties=properties,
            capabilities=capabilities,
            early_credit=early_credit,
        )

    async def _attach(
        self,
        role: LinkRole,
        source: Source,
        target: Target,
        *,
        properties: Mapping[Symbol, AmqpValue] | None = None,
        capabilities: tuple[str, ...] = (),
        early_credit: int = 0,
    ) -> Link:
        self._links += 1
        count = 0 if role is LinkRole.SENDER else None
        attach = Attach(
            f"link{self._links}",
            0,
            False,
            source=source,
            target=target,
            initial_delivery_count=count,
            desired_capabilities=capabilities,
            properties=properties,
        )
        link = self.session.attach(attach, role)
        if early_credit:
            self.session.write(Flow(None, 2_048, 0, 2_048, link.handle, 0, early_credit).encode())
        await self.run()
        return link

    # What came.

    def of(self, kind: type[EventKind]) -> list[EventKind]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self, link: Link) -> list[Message]:
        """The messages that came on a link."""
        return [Message(event.payload) for event in self.of(Transfer) if event.link is link]

    def bodies(self, link: Link) -> list[bytes]:
        """Their data."""
        return [b"".join(each.data) for each in self.messages(link)]

    def refusal(self, link: Link) -> Error:
        """Why a link was detached."""
        (detached,) = [event for event in self.of(LinkDetached) if event.link is link]
        assert detached.error is not None
        return detached.error

    def condition(self, link: Link) -> str:
        """By what condition a link was detached."""
        return self.refusal(link).condition

    def outcomes(self, link: Link) -> list[DeliveryState]:
        """What became of messages sent on a link."""
        return [event.state for event in self.of(Disposition) if event.link is link]

    @property
    def sasl(self) -> SaslCode | None:
        """How SASL went."""
        return next((event.code for event in self.of(SaslDone)), None)

    @property
    def end(self) -> Error | None:
        """The error the hub closed the connection with."""
        (closed,) = self.of(ConnectionClosed)
        return closed.error

    def is_closed(self) -> bool:
        """True when the hub has closed the socket."""
        return bool(self.connection.reason)

    def is_read(self) -> bool:
        """True while the hub reads the connection."""
        return not self.connection.paused

    # Requests.

    async def put_token(self, audience: str, token: str) -> int:
        """Puts a token and returns the status."""
        return (await self.cbs_answer(audience, token)).status

    async def cbs_answer(self, audience: str, token: AmqpValue, operation: str = "put-token") -> "Reply":
        """Sends a request to `$cbs`."""
        if self._cbs is None:
            self._cbs = RequestPair(self, await self.sender("$cbs"), await self.receiver("$cbs", credit=100))
        properties: dict[str, AmqpValue] = {"operation": operation, "type": "jwt", "name": audience}
        return await self._cbs.ask(properties, message.value(token))

    async def manage(self, *, message_id: AmqpValue = "1", **properties: AmqpValue) -> "Reply":
        """Sends a request to `$management`, over new links."""
        pair = RequestPair(self, await self.sender("$management"), await self.receiver("$management", credit=1))
        return await pair.ask(properties, message.value(None), message_id=message_id)

    async def stay(self, seconds: float) -> None:
        """Lets time pass and says so often enough that it is there."""
        while seconds > 0:
            step = min(seconds, 200)
            self.world.timers.move(step)
            seconds -= step
            if not self.connection.reason:
                self.pump.received(EMPTY_FRAME)
            await self.run()

    async def drop(self) -> None:
        """The network is gone."""
        self.connection.reason = "reset by peer"
        self.pump.closed("reset by peer")
        await settled()


@dataclass
class Reply:
    """An answer of a node."""

    received: Message

    @property
    def status(self) -> int:
        status = self.received.application_properties["status-code"]
        assert isinstance(status, int)
        return status

    @property
    def properties(self) -> dict[str, AmqpValue]:
        return self.received.application_properties

    @property
    def body(self) -> dict[str, Any]:
        (value,) = self.received.values
        assert isinstance(value, dict)
        return {str(key): each for key, each in value.items()}


@dataclass
class RequestPair:
    """Two links to a node that answers."""

    client: AmqpClient
    requests: Link
    replies: Link
    asked: int = 0

    async def ask(self, properties: Mapping[str, AmqpValue], body: bytes, *, message_id: AmqpValue = None) -> Reply:
        """Sends a request and returns its answer."""
        self.asked += 1
        known: AmqpValue = ULong(self.asked) if message_id is None else message_id
        sections = (Properties(message_id=known).encode(), message.application_properties(properties), body)
        self.requests.send(*sections)
        await self.client.run()
        return Reply(self.client.messages(self.replies)[-1])


def section(values: Mapping[str, AmqpValue]) -> bytes:
    """Message annotations."""
    return message.annotations(Section.MESSAGE_ANNOTATIONS, {Symbol(key): value for key, value in values.items()})


def plain(user: str, password: str) -> SaslChoice:
    """SASL PLAIN as clients choose it."""
    return SaslChoice("PLAIN", f"\0{user}\0{password}".encode(), HOST)


def conditions(client: AmqpClient, links: Sequence[Link]) -> list[str]:
    """By what conditions links were detached."""
    return [client.condition(link) for link in links]


def command(payload: bytes = b"hello", device_id: str = "dev1", **more: Any) -> bytes:
    """A cloud-to-device message as service SDKs send it; `more` are fields of its properties."""
    properties = Properties(**{"message_id": "m1", "to": f"/devices/{device_id}/messages/devicebound"} | more)
    return properties.encode() + message.data(payload)
