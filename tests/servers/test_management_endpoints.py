"""Health and dead letters of endpoints, as management tells them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isthmus.access.journal import Journal
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId, RandomIds
from isthmus.base.state import JournalFilter
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.routing.dead_letters import DeadLetters
from isthmus.routing.health import NOTHING_TRIED, EndpointHealth
from isthmus.routing.sink import FailureKind
from isthmus.servers.management.arm_endpoints import ArmEndpoints
from isthmus.servers.management.request import Call
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, encode_envelope, encode_stamped, enriched
from isthmus.telemetry.ports import Partition, Record
from isthmus.telemetry.reader import LogReader
from telemetry.fakes import START_MS, SetClock

QUEUE = {
    "name": "hot",
    "connectionString": "Endpoint=sb://ns.test/;SharedAccessKeyName=s;SharedAccessKey=c2VjcmV0;EntityPath=q",
}
LETTERS = "microsoft.devices/iothubs/*/deadletters"


@dataclass
class World:
    """A hub with an endpoint, both logs, and the calls about them."""

    folder: Path
    hubs: Hubs
    letters: DeadLetters
    journal: Journal
    health_now: EndpointHealth = NOTHING_TRIED
    given_up: tuple[int, int, str] | None = None

    def __post_init__(self) -> None:
        self.arm = ArmEndpoints(self.hubs, self, self.letters, self.journal)

    def health(self, hub: HubId, number: int) -> EndpointHealth:
        return self.health_now

    def bury_waiting(self, hub: HubId, number: int, reason: str) -> None:
        self.given_up = (hub, number, reason)

    def behind_bytes(self, hub: HubId, number: int) -> int:
        return 7

    @property
    def hub(self) -> Hub:
        return self.hubs.require("plant")

    async def set_queues(self, *queues: Mapping[str, object]) -> None:
        await self.hubs.update("plant", {"properties": {"routing": {"endpoints": {"serviceBusQueues": list(queues)}}}})

    async def bury(self, count: int, endpoint: int = 2) -> None:
        stored = enriched(encode_envelope(Envelope("pump", "m")), encode_stamped({endpoint: {"site": "Oslo"}}))
        records = [
            Record(Partition(1, 0), -1, place, START_MS, START_MS, (endpoint,), 0, stored, b"%d" % place)
            for place in range(count)
        ]
        name = next((each.name for each in self.hub.endpoints if each.number == endpoint), "")
        assert not await self.letters.bury(self.hub.number, endpoint, records, "too late", "Code", name=name)

    async def call(
        self, method: str, pattern: str, *names: str, body: bytes = b"", query: Mapping[str, str] | None = None
    ) -> Any:
        reply = await self.arm.routes[(method, pattern)](Call(method, (), query or {}, body), ("plant", *names))
        return reply.value

    def driven(self) -> list[tuple[tuple[int, ...], bytes]]:
        records, _ = LogReader(self.folder / "log").read_all(0, 100)
        return [(each.endpoints, each.payload) for each in records]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    state, clock = MemoryState(), SetClock()
    hubs = Hubs(state, clock, RandomIds())
    await hubs.create("plant", host_name="plant.isthmus.test", partitions=2)
    dead, log = SegmentLog.open(tmp_path / "dead", clock), SegmentLog.open(tmp_path / "log", clock)
    letters = DeadLetters(state, dead, log, clock)
    made = World(tmp_path, hubs, letters, Journal(state, clock))
    await made.set_queues(QUEUE)
    yield made
    await dead.close()
    await log.close()


async def test_health_tells_the_switch_the_words_and_the_remedy(world: World) -> None:
    assert world.arm.health_of(world.hub) == [
        {"endpointId": "hot", "healthStatus": "unknown", "behindBytes": 7, "deadLetters": 0}
    ]
    world.health_now = NOTHING_TRIED.succeeded(START_MS).failed(
        FailureKind.NETWORK, "Ip has been prevented", "amqp:unauthorized-access", START_MS + 1_000
    )
    [health] = world.arm.health_of(world.hub)
    assert health["healthStatus"] == "unhealthy"
    assert str(health["lastKnownError"]).endswith("only an identity does: Ip has been prevented")
    assert health["lastKnownErrorSwitch"] == "authenticationType"
    assert health["lastKnownErrorTime"] == "Sun, 15 Jun 2025 15:06:41 GMT"
    assert health["lastSuccessfulSendAttemptTime"] == "Sun, 15 Jun 2025 15:06:40 GMT"


async def test_letters_are_listed_shown_driven_and_purged(world: World) -> None:
    await world.bury(4)
    listed = (await world.call("GET", LETTERS))["value"]
    assert [(each["endpointName"], each["number"], each["deviceId"]) for each in listed] == [
        ("hot", place, "pump") for place in range(4)
    ]
    [second] = (await world.call("GET", f"{LETTERS}/*", "HOT", query={"first": "1", "top": "1"}))["value"]
    assert second == listed[1]
    shown = await world.call("POST", f"{LETTERS}/*/letters/*/show", "hot", "1")
    assert (shown["body"], shown["enrichments"], shown["reason"]) == ("MQ==", {"site": "Oslo"}, "too late")
    done = await world.call("POST", f"{LETTERS}/*/redrive", "hot", body=b'{"until": 1}')
    assert done == {"endpointName": "hot", "redriven": 2}
    assert await world.call("POST", f"{LETTERS}/*/purge", "hot") == {"endpointName": "hot", "purged": 2}
    assert world.driven() == [((2,), b"0"), ((2,), b"1")]


async def test_letters_of_a_deleted_endpoint_wait_for_one_of_its_name(world: World) -> None:
    await world.bury(2)
    await world.set_queues()
    listed = (await world.call("GET", LETTERS))["value"]
    assert [each["endpointName"] for each in listed] == ["hot", "hot"]
    with pytest.raises(HubError, match="was deleted"):
        await world.call("POST", f"{LETTERS}/*/redrive", "hot")
    await world.set_queues(QUEUE)
    await world.bury(1, endpoint=3)
    assert (await world.call("POST", f"{LETTERS}/*/redrive", "hot"))["redriven"] == 3
    assert world.driven() == [((3,), b"0"), ((3,), b"1"), ((3,), b"0")]


async def test_an_owner_gives_up_on_what_waits(world: World) -> None:
    assert await world.call("POST", f"{LETTERS}/*/bury", "Hot") == {"endpointName": "hot"}
    assert world.given_up == (world.hub.number, 2, "given up by its owner")
    noted = await world.journal.read(JournalFilter(limit=1))
    assert [each.detail for each in noted] == ["what waits for hot given up"]
    with pytest.raises(HubError, match="no endpoint cold"):
        await world.call("POST", f"{LETTERS}/*/bury", "cold")


async def test_what_is_not_there_is_said_so(world: World) -> None:
    for method, pattern, names in (
        ("GET", f"{LETTERS}/*", ("cold",)),
        ("POST", f"{LETTERS}/*/letters/*/show", ("hot", "0")),
    ):
        with pytest.raises(HubError) as refused:
            await world.call(method, pattern, *names)
        assert refused.value.code is Code.NOT_FOUND
    for query in ({"top": "0"}, {"top": "x"}, {"first": "-1"}):
        with pytest.raises(HubError) as refused:
            await world.call("GET", LETTERS, query=query)
        assert refused.value.code is Code.ARGUMENT_INVALID
