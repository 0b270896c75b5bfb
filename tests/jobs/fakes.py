"""A world for jobs: registry and twins over a state in memory, and containers in memory that fail when told."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from devices.fakes import HUB, CountedIds, FakeConnected, Queues, StandingClock
from isthmus.backends.memory import MemoryState
from isthmus.base.ids import DeviceRef, HubId
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.jobs.import_export import ImportExportJobs
from isthmus.jobs.job import JobRequest, parse_request
from isthmus.jobs.ports import BlobFacts, ContainerAddress, ContainerFailure
from isthmus.network.rules import NetworkRules
from isthmus.resources.hub import Hub
from isthmus.telemetry.message import StateEvent, decode_state_event

OUTPUT = "https://acct.blob.example/out?sv=1&sig=secret"
INPUT = "https://acct.blob.example/in?sv=1&sig=secret"


@dataclass
class MemoryContainer:
    """A container: committed blobs, and blocks that are staged; `failures` are raised one by one, before anything."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    staged: dict[tuple[str, int], bytes] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)
    piece: int = 64
    calls: list[str] = field(default_factory=list)

    async def facts(self, name: str) -> BlobFacts:
        self._called(f"facts {name}")
        return BlobFacts(len(self._blob(name)), f"etag-{hash(self._blob(name))}")

    async def read(self, name: str, *, offset: int, etag: str) -> AsyncIterator[bytes]:
        self._called(f"read {name} from {offset}")
        blob = self._blob(name)
        if etag != f"etag-{hash(blob)}":
            raise ContainerFailure("ConditionNotMet", "the blob was written meanwhile", lasting=True)
        for start in range(offset, len(blob), self.piece):
            yield blob[start : start + self.piece]

    async def stage(self, name: str, index: int, data: bytes) -> None:
        self._called(f"stage {name} {index}")
        self.staged[name, index] = data

    async def commit(self, name: str, blocks: int) -> None:
        self._called(f"commit {name} of {blocks}")
        self.blobs[name] = b"".join(self.staged.pop((name, index)) for index in range(blocks))

    async def close(self) -> None:
        """Holds nothing."""

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.failures:
            raise self.failures.pop(0)

    def _blob(self, name: str) -> bytes:
        if name not in self.blobs:
            raise ContainerFailure("BlobNotFound", "there is no such blob", lasting=True)
        return self.blobs[name]


@dataclass
class MemoryContainers:
    """Containers by their addresses, made when they are asked for."""

    known: dict[str, MemoryContainer] = field(default_factory=dict)
    asked: list[ContainerAddress] = field(default_factory=list)

    async def open(self, hub: HubId, address: ContainerAddress) -> MemoryContainer:
        self.asked.append(address)
        return self.at(address.uri)

    def at(self, uri: str) -> MemoryContainer:
        return self.known.setdefault(uri.partition("?")[0], MemoryContainer())


class World:
    """Jobs over a state in memory; pauses are noted and take no time."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state or MemoryState()
        self.clock = StandingClock()
        self.ids = CountedIds()
        self.connected = FakeConnected()
        self.registry = Registry(self.state, self.clock, self.ids, Queues())
        self.twins = Twins(self.state, self.clock, self.registry, self.connected)
        self.containers = MemoryContainers()
        self.pauses: list[float] = []
        self.jobs = self.make_jobs()
        self.hub = Hub(HUB, "hub", "hub.isthmus.test", 1, 0, rules=NetworkRules())

    def make_jobs(self) -> ImportExportJobs:
        """The jobs as another process finds them."""
        return ImportExportJobs(
            self.state, self.clock, self.ids, self.registry, self.twins, self.containers, pause=self._pause
        )

    @property
    def output(self) -> MemoryContainer:
        return self.containers.at(OUTPUT)

    @property
    def input(self) -> MemoryContainer:
        return self.containers.at(INPUT)

    async def add(self, name: str, body: object = None) -> DeviceRef:
        """Creates a device or `device/module`."""
        device_id, _, module_id = name.partition("/")
        ref = DeviceRef(HUB, device_id, module_id)
        await self.registry.put(ref, body or {}, None)
        return ref

    async def events(self) -> list[StateEvent]:
        """What waits for the relay."""
        return [decode_state_event(row.body) for row in await self.state.outbox(after=0, limit=10_000)]

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.now_ms += int(seconds * 1000)


def export_request(**more: object) -> JobRequest:
    return parse_request({"type": "export", "outputBlobContainerUri": OUTPUT, **more})


def import_request(**more: object) -> JobRequest:
    wanted = {"type": "import", "inputBlobContainerUri": INPUT, "outputBlobContainerUri": OUTPUT}
    return parse_request({**wanted, **more})


def text_of(*lines: object) -> bytes:
    """Lines of a blob, each a JSON object or bytes as they are."""
    return b"".join(line + b"\n" if isinstance(line, bytes) else msgspec.json.encode(line) + b"\n" for line in lines)


def lines_in(blob: bytes) -> list[dict[str, object]]:
    """What lines say."""
    return [msgspec.json.decode(line) for line in blob.splitlines()]
