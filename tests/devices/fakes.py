"""A world around the registry and the twins: a clock that stands, countable identifiers, devices that remember."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId, TrackingId
from isthmus.base.state import Change, Delete, Key
from isthmus.devices.ports import MethodAnswer
from isthmus.devices.presence import Presence
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.telemetry.message import StateEvent, decode_state_event

HUB = HubId(1)
OTHER_HUB = HubId(2)
NOW_MS = 1_767_225_600_123
NOW = "2026-01-01T00:00:00.1230000Z"
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()


@dataclass
class StandingClock:
    """A clock that moves when told."""

    now_ms: int = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000


@dataclass
class CountedIds:
    """Identifiers 1, 2, 3, …"""

    made: int = 0

    def uuid(self) -> str:
        self.made += 1
        return f"{self.made:08x}-0000-4000-8000-000000000000"

    def key(self) -> str:
        self.made += 1
        return base64.b64encode(self.made.to_bytes(32, "big")).decode()

    def tracking_id(self, utc_ms: int) -> TrackingId:
        self.made += 1
        return TrackingId(f"{self.made:032x}-G:0-TimeStamp:01/01/2026 00:00:00")


@dataclass
class Queues:
    """A queue of one document per device."""

    async def removal(self, ref: DeviceRef) -> Sequence[Change]:
        return [Delete(Key("queue", ref.hub, ref.device_id))]


@dataclass
class FakeDevice:
    """A connected device that remembers what it was told and answers methods as set."""

    answer: MethodAnswer | HubError | None = None
    subscribed: bool = True
    connected_ms: int = NOW_MS
    invoked: list[tuple[str, bytes]] = field(default_factory=list)
    desired: list[tuple[object, int]] = field(default_factory=list)

    def accepts_methods(self) -> bool:
        return self.subscribed

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        self.invoked.append((name, payload))
        if isinstance(self.answer, MethodAnswer):
            return self.answer
        raise self.answer or HubError(Code.DEVICE_CONNECTION_CLOSED, "Device unavailable")

    def desired_changed(self, patch: bytes, version: int) -> None:
        self.desired.append((msgspec.json.decode(patch), version))

    def c2d_available(self) -> None:
        return


@dataclass
class FakeConnected:
    """The table of connected devices."""

    devices: dict[DeviceRef, FakeDevice] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    listeners: list[Callable[[DeviceRef], None]] = field(default_factory=list)

    def find(self, ref: DeviceRef) -> FakeDevice | None:
        return self.devices.get(ref)

    async def wait(self, ref: DeviceRef, timeout: float) -> FakeDevice | None:
        self.waits.append(timeout)
        device = self.devices.get(ref)
        return device if device is not None and device.accepts_methods() else None

    def count(self, hub: HubId) -> int:
        return sum(ref.hub == hub for ref in self.devices)

    def on_methods(self, listener: Callable[[DeviceRef], None]) -> None:
        self.listeners.append(listener)

    def come(self, ref: DeviceRef, device: FakeDevice) -> None:
        """Connects a device that takes methods."""
        self.devices[ref] = device
        for listener in self.listeners:
            listener(ref)


class World:
    """Everything wired together over a state in memory."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state or MemoryState()
        self.clock = StandingClock()
        self.ids = CountedIds()
        self.connected = FakeConnected()
        self.registry = Registry(self.state, self.clock, self.ids, Queues())
        self.twins = Twins(self.state, self.clock, self.registry, self.connected)
        self.presence = Presence(self.state, self.clock)

    async def add(self, name: str, hub: HubId = HUB) -> DeviceRef:
        """Creates a device or `device/module` and returns its name."""
        device_id, _, module_id = name.partition("/")
        ref = DeviceRef(hub, device_id, module_id)
        await self.registry.put(ref, {}, None)
        return ref

    async def events(self) -> list[StateEvent]:
        """What waits for the relay."""
        return [decode_state_event(row.body) for row in await self.state.outbox(after=0, limit=1000)]

    async def names(self) -> list[str]:
        """Every document of the hub as `kind:name`."""
        kinds = ("identity", "twin", "presence", "online", "disabled", "session", "queue")
        return [f"{kind}:{stored.key.name}" for kind in kinds for stored in await self.state.scan(kind, HUB)]
