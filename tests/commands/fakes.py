"""A hub with devices around cloud-to-device messages and feedback; the clock is moved by hand."""

from dataclasses import dataclass, field, replace

import msgspec

from isthmus.backends.memory import MemoryState
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import Delete, Put, State
from isthmus.commands.cloud_to_device import C2DMessage, CloudToDevice, Locked
from isthmus.commands.feedback import Feedback, FeedbackRecord
from isthmus.devices.documents import identity_key
from isthmus.devices.identity import encode_identity, new_identity, parse_identity
from isthmus.devices.ports import ConnectedDevice, MethodAnswer
from queues.fakes import CountedIds, MovedClock

HUB = HubId(1)
DEVICE = DeviceRef(HUB, "dev1")
OTHER_DEVICE = DeviceRef(HUB, "dev2")


@dataclass(frozen=True)
class FeedbackRules:
    ttl_ms: int = 3_600_000
    lock_ms: int = 60_000
    max_delivery_count: int = 10


@dataclass(frozen=True)
class C2DRules:
    default_ttl_ms: int = 3_600_000
    max_delivery_count: int = 10
    feedback: FeedbackRules = FeedbackRules()


@dataclass(frozen=True)
class UploadRules:
    notifications: FeedbackRules = FeedbackRules()


@dataclass(frozen=True)
class HubRules:
    number: HubId = HUB
    name: str = "myhub"
    cloud_to_device: C2DRules = C2DRules()
    file_upload: UploadRules = UploadRules()


@dataclass
class WokenDevice:
    """A connected device that counts how often a message was announced."""

    woken: int = 0
    connected_ms: int = 0

    def accepts_methods(self) -> bool:
        return False

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        raise AssertionError("no method is invoked here")

    def desired_changed(self, patch: bytes, version: int) -> None:
        raise AssertionError("no twin is changed here")

    def c2d_available(self) -> None:
        self.woken += 1


@dataclass
class Connections:
    """Who is connected."""

    devices: dict[DeviceRef, ConnectedDevice] = field(default_factory=dict)

    def find(self, ref: DeviceRef) -> ConnectedDevice | None:
        return self.devices.get(ref)

    async def wait(self, ref: DeviceRef, timeout: float) -> ConnectedDevice | None:
        return self.find(ref)

    def count(self, hub: HubId) -> int:
        return len(self.devices)


@dataclass
class Bench:
    """Cloud-to-device messages and feedback over one state."""

    state: State = field(default_factory=MemoryState)
    clock: MovedClock = field(default_factory=MovedClock)
    ids: CountedIds = field(default_factory=CountedIds)
    connected: Connections = field(default_factory=Connections)
    hub: HubRules | None = field(default_factory=HubRules)

    def __post_init__(self) -> None:
        self.feedback = Feedback(self.state, self.clock, self.ids, lambda number: self.hub)
        self.c2d = CloudToDevice(
            self.state,
            self.clock,
            self.ids,
            hub_of=lambda number: self.hub,
            feedback=self.feedback,
            connected=self.connected,
        )

    async def restarted(self) -> "Bench":
        """The same after a crash: what is in memory is gone."""
        bench = replace(self)
        await bench.feedback.start([HUB])
        await bench.c2d.start([HUB])
        return bench

    async def register(self, ref: DeviceRef = DEVICE) -> str:
        """Creates an identity; returns its generation."""
        identity = new_identity(ref, parse_identity(ref, {}), self.ids, self.clock.utc_ms())
        await self.state.commit([Put(identity_key(ref), encode_identity(identity))])
        return identity.generation_id

    async def unregister(self, ref: DeviceRef = DEVICE) -> None:
        """Deletes an identity as the registry does."""
        await self.state.commit([Delete(identity_key(ref)), *await self.c2d.removal(ref)])
        self.c2d.identity_changed(ref, None, None)

    async def send(self, message: C2DMessage, ref: DeviceRef = DEVICE) -> None:
        assert self.hub is not None
        await self.c2d.send(self.hub, ref.device_id, message)

    async def receive(self, ref: DeviceRef = DEVICE) -> Locked:
        (locked,) = await self.c2d.receive(ref)
        return locked

    async def pass_time(self, *, seconds: float) -> None:
        self.clock.move(seconds=seconds)
        await self.c2d.tick()
        await self.feedback.tick()

    async def records(self) -> list[list[FeedbackRecord]]:
        """The batches that can be read now, settled."""
        batches = []
        for message in await self.feedback.batches.receive(HUB, 100):
            await self.feedback.batches.complete(HUB, message.lock_token)
            batches.append(msgspec.json.decode(message.body, type=list[FeedbackRecord]))
        return batches
