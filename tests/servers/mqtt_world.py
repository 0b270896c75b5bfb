"""A world for the MQTT pump without sockets: a hub, fakes, and devices that speak by the engine's client half."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.access.journal import Decision
from isthmus.access.principal import Principal, PrincipalKind, Right
from isthmus.access.refusals import unauthorized
from isthmus.backends.memory.state import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId, TrackingId
from isthmus.devices.identity import (
    Authentication,
    Capabilities,
    Identity,
    Status,
)
from isthmus.network.door import PUBLIC_DOOR, Door
from isthmus.resources.hub import Hub
from isthmus.resources.throttling import DEFAULT_POLICY, ThrottlePolicy
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.gate import Admitted, Peer
from isthmus.servers.gateway.kept_sessions import StoredSessions
from isthmus.servers.gateway.mqtt import MqttGateway, MqttServices
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Session
from isthmus.servers.gateway.throttles import Throttles
from isthmus.telemetry.message import Envelope, PropertyValue, decode_envelope
from isthmus.telemetry.ports import CommitWaiter
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.events import ClientEvent
from isthmus.wire.mqtt.packets import ConnAck, Connect, PubAck, Publish, SubAck, Will
from servers.probe_mail import FakeProbeMail

HOST = "hub.example.test"
HUB = Hub(HubId(1), "hub", HOST, 4, 0)
NOW_S = 1_767_225_600
GOOD = b"good"
"""The password every device of the world has."""


class MovedClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def utc_ms(self) -> int:
        return int((NOW_S + self.elapsed) * 1000)

    def monotonic(self) -> float:
        return self.elapsed


@dataclass(slots=True)
class Call:
    """A call that is to come."""

    when: float
    callback: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class MovedTimers:
    """Timers that come when the clock is moved."""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        self.calls: list[Call] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> Call:
        call = Call(self._clock.elapsed + delay, callback)
        self.calls.append(call)
        return call

    def move(self, seconds: float) -> None:
        """Moves the clock; each call comes at its own time."""
        until = self._clock.elapsed + seconds
        while due := [call for call in self.calls if call.when <= until and not call.cancelled]:
            first = min(due, key=lambda call: call.when)
            self.calls.remove(first)
            self._clock.elapsed = max(self._clock.elapsed, first.when)
            first.callback()
        self._clock.elapsed = until

    @property
    def waiting(self) -> int:
        """Calls that are to come."""
        return sum(not call.cancelled for call in self.calls)


@dataclass(slots=True)
class Refused:
    """A refusal the gate was told of."""

    hub: str
    device: str
    rule: str
    principal: str


class FakeGate:
    """Knows one hub; lets everybody in whose password is `GOOD`, with what `principal` and `generation_id` say."""

    def __init__(self) -> None:
        self.refusals: list[Refused] = []
        self.admissions: list[Admitted] = []
        self.hold: asyncio.Event | None = None
        self.error: Exception | None = None
        self.expires_s = 0
        self.generation_id = "gen1"

    def resolve(self, connection: Peer, plane: Plane, *names: str) -> Hub:
        assert plane is Plane.MQTT
        if names != (HOST,):
            raise HubError(Code.HUB_NOT_FOUND, "IoT hub not found")
        return HUB

    async def device(self, connection: Peer, plane: Plane, hub: Hub, ref: DeviceRef, password: str | None) -> Admitted:
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        if password != GOOD.decode():
            raise unauthorized("auth.signature", "the signature", "use the device's key")
        return admitted(ref, self.generation_id, self.expires_s)

    def refused(
        self, connection: Peer, plane: Plane, hub_name: str, device: str, error: HubError, *, principal: str = ""
    ) -> TrackingId:
        rule = error.refusal.rule if error.refusal is not None else error.code.wire_name
        self.refusals.append(Refused(hub_name, device, rule, principal))
        return TrackingId(f"tracking-{len(self.refusals)}")

    def admitted(self, connection: Peer, plane: Plane, admitted: Admitted) -> None:
        self.admissions.append(admitted)

    @property
    def rules(self) -> list[str]:
        """The rules that refused."""
        return [refused.rule for refused in self.refusals]


@dataclass(slots=True)
class Appended:
    """A message the inlet has taken."""

    envelope: Envelope
    encoded: bytes
    payload: bytes
    ingress_ms: int
    waiter: CommitWaiter
    cookie: int


class FakeInlet:
    """Takes messages and commits them when told."""

    def __init__(self) -> None:
        self.appended: list[Appended] = []
        self.pending: list[Appended] = []
        self.attended: list[DeviceRef] = []
        self.backlog_bytes = 0

    async def attend(self, hub: Hub, ref: DeviceRef) -> None:
        self.attended.append(ref)

    def leave(self, ref: DeviceRef) -> None:
        self.attended.remove(ref)

    def telemetry(
        self,
        hub: Hub,
        envelope: Envelope,
        encoded: bytes,
        payload: bytes,
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
    ) -> None:
        assert hub is HUB
        assert decode_envelope(encoded) == envelope
        message = Appended(envelope, encoded, payload, ingress_ms, waiter, cookie)
        self.appended.append(message)
        self.pending.append(message)

    def commit(self) -> None:
        """Makes all durable: one call for each waiter."""
        for waiter, cookies in self._take().items():
            waiter.committed(cookies)

    def fail(self) -> None:
        """Loses all."""
        for waiter, cookies in self._take().items():
            waiter.failed(cookies, "disk")

    def _take(self) -> dict[CommitWaiter, list[int]]:
        cookies: dict[CommitWaiter, list[int]] = {}
        for message in self.pending:
            cookies.setdefault(message.waiter, []).append(message.cookie)
        self.pending.clear()
        return cookies

    @property
    def payloads(self) -> list[bytes]:
        """What was taken, in order."""
        return [message.payload for message in self.appended]


class FakeTwins:
    """One twin for everybody."""

    def __init__(self) -> None:
        self.reported: list[tuple[object, int | None]] = []
        self.error: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.models: dict[DeviceRef, str] = {}

    async def set_model(self, ref: DeviceRef, model_id: str) -> None:
        self.models[ref] = model_id

    async def device_view(self, ref: DeviceRef) -> dict[str, object]:
        return {"desired": {"$version": 3}, "reported": {"$version": len(self.reported) + 1}}

    async def patch_reported(self, ref: DeviceRef, patch: object, if_version: int | None = None) -> int:
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.reported.append((patch, if_version))
        return len(self.reported) + 1


@dataclass(slots=True)
class Command:
    """A cloud-to-device message under a lock."""

    lock_token: str
    payload: bytes
    system: dict[str, PropertyValue] = field(default_factory=dict)
    properties: dict[str, PropertyValue] = field(default_factory=dict)
    expiry_ms: int | None = None
    ack: str | None = None


class FakeQueue:
    """One queue for everybody, in the order of what was put in."""

    def __init__(self) -> None:
        self.waiting: list[Command] = []
        self.locked: dict[str, Command] = {}
        self.completed: list[str] = []
        self.rejected: list[str] = []
        self.releasing: asyncio.Event | None = None
        self._tokens = 0

    def put(self, *payloads: bytes, **more: Any) -> None:
        """Puts messages at the end."""
        for payload in payloads:
            self._tokens += 1
            self.waiting.append(Command(f"t{self._tokens}", payload, **more))

    async def receive(self, ref: DeviceRef, limit: int) -> list[Command]:
        await asyncio.sleep(0)
        messages, self.waiting = self.waiting[:limit], self.waiting[limit:]
        self.locked |= {message.lock_token: message for message in messages}
        return messages

    async def complete(self, ref: DeviceRef, lock_token: str) -> None:
        await asyncio.sleep(0)
        self._settle(lock_token)
        self.completed.append(lock_token)

    async def reject(self, ref: DeviceRef, lock_token: str) -> None:
        self._settle(lock_token)
        self.rejected.append(lock_token)

    async def release_all(self, ref: DeviceRef, lock_tokens: Sequence[str]) -> None:
        if self.releasing is not None:
            await self.releasing.wait()
        self.waiting = [self.locked.pop(token) for token in lock_tokens] + self.waiting

    def lose_locks(self) -> None:
        """All locks run out."""
        messages = [replace(message, lock_token=f"{message.lock_token}'") for message in self.locked.values()]
        self.waiting = messages + self.waiting
        self.locked.clear()

    def _settle(self, lock_token: str) -> None:
        if self.locked.pop(lock_token, None) is None:
            raise HubError(Code.MESSAGE_LOCK_LOST, "lost")


class FakePresence:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def connected(self, ref: DeviceRef, at_ms: int) -> None:
        self.told.append((ref.name, "connected"))

    def disconnected(self, ref: DeviceRef, at_ms: int) -> None:
        self.told.append((ref.name, "disconnected"))


class FakeSessions:
    """The index of live sessions."""

    def __init__(self) -> None:
        self.live: list[Session] = []

    def add(self, session: Session) -> None:
        self.live.append(session)

    def remove(self, session: Session) -> None:
        self.live.remove(session)


class FakeHubs:
    """Has one hub, until it has none."""

    def __init__(self) -> None:
        self.hub: Hub | None = HUB

    def by_number(self, number: HubId) -> Hub | None:
        assert number == HUB.number
        return self.hub


class FakeConnection:
    """A connection in memory. Each write is kept as one piece."""

    def __init__(self, closed: Callable[[str], None]) -> None:
        self._closed = closed
        self.connection_id = "c1"
        self.door: Door = PUBLIC_DOOR
        self.peer_address = "192.0.2.7"
        self.server_name = HOST
        self.host_names: tuple[str, ...] = ()
        self.carrier = ""
        self.peer_chain: tuple[bytes, ...] = ()
        self.congested = False
        self.paused = False
        self.reason = ""
        self.writes: list[bytes] = []

    def made_progress(self) -> None: ...

    def write(self, data: bytes) -> None:
        if not self.reason:
            self.writes.append(data)

    def close(self, reason: str = "closed") -> None:
        if not self.reason:
            self.reason = reason
            asyncio.get_running_loop().call_soon(self._closed, reason)

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Device:
    """A device with its own connection to the pump."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.client = ClientSession()
        self.pump = world.gateway.make_pump()
        self.connection = FakeConnection(lambda reason: self.pump.closed(reason))
        self.pump.opened(self.connection)

    def give(self, data: bytes) -> None:
        """Sends bytes to the hub."""
        if not self.connection.reason:
            self.pump.received(data)

    async def connect(
        self,
        *,
        clean: bool = True,
        password: bytes = GOOD,
        host: str = HOST,
        client_id: str = "",
        query: str = "?api-version=2021-04-12",
        keep_alive: int = 60,
        will: Will | None = None,
    ) -> ConnAck:
        """Introduces itself and returns the answer."""
        user_name = f"{host}/{self.name}/{query}"
        connect = Connect(client_id or self.name, clean, keep_alive, user_name, password, will)
        self.give(self.client.connect(connect))
        events = await self.heard()
        assert isinstance(events[0], ConnAck)
        self.early = events[1:]
        return events[0]

    async def subscribe(self, *filters: str, qos: int = 1) -> list[ClientEvent]:
        """Subscribes and returns what came behind the SUBACK."""
        self.give(self.client.subscribe(*[(topic_filter, qos) for topic_filter in filters]))
        events = await self.heard()
        assert isinstance(events[0], SubAck)
        return events[1:]

    def publish(self, topic: str, payload: bytes = b"", qos: int = 1, *, retain: bool = False) -> None:
        """Publishes."""
        self.give(self.client.publish(topic.encode(), payload, qos=qos, retain=retain))

    def telemetry(self, payload: bytes, bag: str = "", qos: int = 1) -> None:
        """Publishes telemetry of a device."""
        self.publish(f"devices/{self.name}/messages/events/{bag}", payload, qos)

    async def heard(self) -> list[ClientEvent]:
        """What the hub has sent since the last call, when everything has settled."""
        await settled()
        data = b"".join(self.connection.writes)
        self.connection.writes.clear()
        return self.client.receive(data)

    async def commands(self) -> list[bytes]:
        """Payloads of the commands heard, which are acknowledged."""
        messages = [event for event in await self.heard() if isinstance(event, Publish)]
        self.give(self.client.puback([message.packet_id for message in messages if message.qos]))
        await settled()
        return [message.payload for message in messages]

    async def acknowledged(self) -> int:
        """How many PUBACKs came."""
        return sum(isinstance(event, PubAck) for event in await self.heard())

    def reason(self) -> str:
        """Why the connection has ended, empty while it has not."""
        return self.connection.reason

    def is_read(self) -> bool:
        """True while the hub reads the connection."""
        return not self.connection.paused

    async def drop(self) -> None:
        """The network is gone."""
        self.connection.reason = "reset by peer"
        self.pump.closed("reset by peer")
        await settled()


class FakeNotes:
    """Collects delays."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def write(self, decision: Decision) -> bool:
        self.decisions.append(decision)
        return True


class World:
    """A hub with its gateway; `policy` has its rates."""

    def __init__(self, policy: ThrottlePolicy = DEFAULT_POLICY) -> None:
        self.clock = MovedClock()
        self.timers = MovedTimers(self.clock)
        self.gate = FakeGate()
        self.inlet = FakeInlet()
        self.twins = FakeTwins()
        self.queue = FakeQueue()
        self.state = MemoryState()
        self.presence = FakePresence()
        self.connected = Connected(self.presence, self.clock)
        self.sessions = FakeSessions()
        self.hubs = FakeHubs()
        self.notes = FakeNotes()
        self.throttles = Throttles(self.clock, policy, notes=self.notes)
        self.probe_mail = FakeProbeMail()
        self.services = MqttServices(
            gate=self.gate,
            hubs=self.hubs,
            inlet=self.inlet,
            backlog=self.inlet,
            twins=self.twins,
            devicebound=self.queue,
            kept=StoredSessions(self.state),
            connected=self.connected,
            sessions=self.sessions,
            throttles=self.throttles,
            clock=self.clock,
            probe_mail=self.probe_mail,
        )
        self.gateway = MqttGateway(self.services, lambda: self.timers)

    def device(self, name: str = "dev1") -> Device:
        """A device that has a connection and has said nothing yet."""
        return Device(self, name)

    async def connected_device(self, name: str = "dev1", **more: Any) -> Device:
        """A device that was let in."""
        device = self.device(name)
        assert (await device.connect(**more)).code is ConnectCode.ACCEPTED
        return device

    async def background(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Starts work and lets it get as far as it can."""
        task = asyncio.get_running_loop().create_task(work)
        await settled()
        return task


async def settled() -> None:
    """Lets everything that is ready run."""
    for _ in range(30):
        await asyncio.sleep(0)


def admitted(ref: DeviceRef, generation_id: str, expires_s: int) -> Admitted:
    """What the gate says of a device with a good key."""
    kind = PrincipalKind.MODULE if ref.module_id else PrincipalKind.DEVICE
    principal = Principal(kind, ref.name, frozenset({Right.DEVICE_CONNECT}), kind.value, "sas", "f" * 16, expires_s)
    identity = Identity(
        device_id=ref.device_id,
        module_id=ref.module_id,
        generation_id=generation_id,
        etag="MA==",
        status=Status.ENABLED,
        status_reason=None,
        status_updated_time="",
        authentication=Authentication(),
        capabilities=Capabilities(),
        device_scope="",
        parent_scopes=(),
        managed_by=None,
    )
    return Admitted(HUB, principal, identity, PUBLIC_DOOR, "192.0.2.7")
