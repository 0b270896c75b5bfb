"""A hub's side of egress with its workers in the same process, over real logs, with targets that a test commands."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from isthmus.backends.memory import MemoryState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.egress.channel import Channel
from isthmus.egress.messages import Settings, decode_order
from isthmus.egress.office import EgressOffice
from isthmus.egress.process import Spawned
from isthmus.egress.worker import Worker
from isthmus.resources.hub import Hub
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.dead_letters import DeadLetters
from isthmus.routing.egress_policy import Hosted
from isthmus.routing.ledger import Ledger
from isthmus.routing.sink import Delivery, Egress, HubName, Sink
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.message import Envelope, Stamped, encode_envelope, encode_stamped, enriched
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.reader import LogReader
from routing.fakes import HUB
from telemetry.fakes import Waiter

WAIT_SECONDS = 20.0
SEGMENT_BYTES = 8_192
SCOPE = "https://target.example/.default"


def endpoint(number: int, name: str) -> RoutingEndpoint:
    return RoutingEndpoint(
        number, f"g{number}", name, EndpointKind.QUEUE, EndpointAuthentication.IDENTITY, endpoint_uri=f"sb://{name}"
    )


HOT, COLD = endpoint(2, "hot"), endpoint(3, "cold")
HOSTED = {name: Hosted("127.0.0.1", {}) for name in ("hot", "cold")}
"""The targets' names lead somewhere, to nobody who would have to answer."""

PLANT = replace(HUB, endpoints=(HOT, COLD), last_endpoint=3, partitions=2)


@dataclass
class Target:
    """What stands for a target: it takes what comes, fails while `failure` is set, or hangs while it is held."""

    taken: list[tuple[int, bytes]] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    failure: Exception | None = None
    held: asyncio.Event | None = None
    tokens: list[str] = field(default_factory=list)
    made: int = 0
    closed: int = 0
    attempts: int = 0

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.taken]

    def of(self, partition: int) -> list[bytes]:
        return [payload for number, payload in self.taken if number == partition]


class FakeSink:
    """Delivers to a `Target`, with a token of the hub's own."""

    def __init__(self, target: Target, hub: HubName, made_for: RoutingEndpoint, egress: Egress) -> None:
        self._target = target
        self._hub = hub
        self._endpoint = made_for
        self._egress = egress
        target.made += 1

    async def deliver(self, partition: int, batch: Sequence[Delivery]) -> None:
        await self._reach()
        self._target.taken += [(partition, each.record.payload) for each in batch]
        self._target.envelopes += [each.envelope for each in batch]

    async def probe(self) -> None:
        await self._reach()

    async def close(self) -> None:
        self._target.closed += 1

    async def _reach(self) -> None:
        target = self._target
        target.attempts += 1
        await self._egress.resolve(self._hub.number, self._endpoint.host, 5671)
        token, _ = await self._egress.token(self._hub.number, self._endpoint.identity, SCOPE)
        target.tokens.append(token)
        if target.held is not None:
            await target.held.wait()
        if target.failure is not None:
            raise target.failure


class InProcess:
    """Stands for a process: a worker as a task."""

    def __init__(self, work: "asyncio.Task[None]", number: int) -> None:
        self._work = work
        self.pid = number

    async def wait(self) -> int:
        await asyncio.gather(self._work, return_exceptions=True)
        return 0

    def kill(self) -> None:
        self._work.cancel()


class World:
    """Logs, ledger, office, and targets by name."""

    def __init__(self, folder: Path, *, pinned_bytes: int = 2**40, bury_dead: bool = False) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.state = MemoryState()
        config = LogConfig(retention_ms=3_600_000, retention_bytes=SEGMENT_BYTES, segment_bytes=SEGMENT_BYTES)
        self.log = SegmentLog.open(folder / "log", self.clock, config=config)
        self.dead_log = SegmentLog.open(folder / "dead", self.clock)
        self.targets: dict[str, Target] = {"hot": Target(), "cold": Target()}
        self.has_identity = True
        self.settings = Settings(
            ca_file="ca.pem", hosted=HOSTED, dead_after_ms=1 if bury_dead else 3_600_000, bury_dead=bury_dead
        )
        self._pinned_bytes = pinned_bytes
        self.workers: list[asyncio.Task[None]] = []
        self.begin()

    def begin(self) -> None:
        """As a start of the hub does it."""
        self.ledger = Ledger(self.state)
        self.dead_letters = DeadLetters(self.state, self.dead_log, self.log, self.clock)
        self.office = EgressOffice(
            self.log,
            self.folder / "log",
            self.ledger,
            self.dead_letters,
            self._token,
            self.clock,
            lambda: self.settings,
            workers=1,
            pinned_bytes=self._pinned_bytes,
            spawn=self._spawn,
        )

    async def write(self, *payloads: bytes, partition: int = 0, to: tuple[int, ...] = (2, 3)) -> None:
        """Appends records, each its own commit's worth of waiting shared."""
        waiter = Waiter()
        for place, payload in enumerate(payloads):
            envelope = encode_envelope(Envelope("pump"))
            self.log.append(Partition(1, partition), to, envelope, payload, self.clock.utc_ms(), waiter, place)
        await waiter.heard(len(payloads))

    async def write_stamped(self, payload: bytes, stamped: Stamped) -> None:
        """Appends a record for the endpoints that it is stamped for."""
        waiter = Waiter()
        envelope = enriched(encode_envelope(Envelope("pump")), encode_stamped(stamped))
        self.log.append(Partition(1, 0), tuple(stamped), envelope, payload, self.clock.utc_ms(), waiter, 0)
        await waiter.heard(1)

    async def close(self) -> None:
        await self.office.close()
        await self.log.close()
        await self.dead_log.close()

    async def _token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        if not self.has_identity:
            raise HubError(Code.INVALID_OPERATION, "The hub has no identity of its own")
        return f"token of {hub} for {scope}", self.clock.utc_ms() // 1000 + 3_600

    async def _spawn(self, end: socket.socket, log_folder: Path) -> Spawned:
        work = asyncio.create_task(self._work(end.dup(), log_folder))
        self.workers.append(work)
        return InProcess(work, len(self.workers))

    async def _work(self, end: socket.socket, log_folder: Path) -> None:
        channel = await Channel.over(end, decode_order)
        first = await channel.hear()
        assert isinstance(first, Settings)
        reader = LogReader(log_folder, indexed=False)
        try:
            await Worker(channel, reader, first, self._make, self.clock).run()
        finally:
            channel.close()
            reader.close()

    def _make(self, hub: HubName, made_for: RoutingEndpoint, egress: Egress) -> Sink:
        return FakeSink(self.targets[made_for.name], hub, made_for, egress)


async def until(condition: Callable[[], object]) -> None:
    """Returns when the condition holds; fails after a while."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.01)


def hub(*endpoints: RoutingEndpoint, **changes: object) -> Hub:
    return replace(PLANT, endpoints=endpoints, **changes)  # type: ignore[arg-type]
