"""The HTTP faces: which request goes to whom on the owner's socket, and how little the monitoring listener answers."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, UnixConnector, web

from devices.fakes import CountedIds
from isthmus.base.clock import SystemClock
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.http_app import Front, OwnerDoorway
from isthmus.servers.gateway.http_transport import HttpHandler
from isthmus.servers.management.api import Part
from isthmus.servers.management.metrics import Metrics
from isthmus.servers.management.server import BODY_BYTES_MAX, ManagementServer, Monitoring
from isthmus.telemetry.log import SegmentLog
from servers.front_door import FrontDoor, client_context, front_door
from servers.management_world import HUB, ManagementWorld
from servers.test_management_events import append

VERSION = "api-version=2021-04-12"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(tmp_path) as opened:
        yield opened


@pytest.fixture
async def world() -> ManagementWorld:
    return await ManagementWorld().start()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SegmentLog]:
    opened = SegmentLog.open(tmp_path / "log", SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
async def owner(
    front: FrontDoor, world: ManagementWorld, log: SegmentLog, tmp_path: Path
) -> AsyncIterator[ClientSession]:
    """A client at the owner's socket."""
    metrics = Metrics()
    domain = world.domain
    gate = Gate(domain.directory, domain.registry, domain.journal, metrics, SystemClock(), CountedIds())
    service = Front(OwnerDoorway(gate, domain.hubs), domain.service(), SystemClock())
    server = web.Server(
        ManagementServer(world.api, service, log, metrics).handle, access_log=None, handler_cancellation=True
    )
    front.listeners.open_unix(tmp_path / "m.sock", lambda: HttpHandler(server))
    async with ClientSession("http://local", connector=UnixConnector(str(tmp_path / "m.sock"))) as client:
        yield client
    await server.shutdown(0)


async def test_service_calls_go_to_the_service_api(owner: ClientSession, world: ManagementWorld) -> None:
    async with owner.put(f"/hubs/hub/devices/press?{VERSION}", json={"deviceId": "press"}) as made:
        assert made.status == 200
    async with owner.get(f"/hubs/hub/statistics/devices?{VERSION}") as answer:
        assert (await answer.json())["totalDeviceCount"] == 1
    async with owner.get(f"/hubs/none/devices/press?{VERSION}") as answer:
        assert answer.status == 404


async def test_management_calls_carry_the_users_number(owner: ClientSession, world: ManagementWorld) -> None:
    async with owner.post(f"{HUB}/listkeys") as answer:
        assert len((await answer.json())["value"]) == 5

    (noted,) = await world.noted()
    assert noted.principal.startswith("owner:uid:")


async def test_if_match_arrives(owner: ClientSession) -> None:
    async with owner.patch(HUB, json={"tags": {"a": "b"}}, headers={"If-Match": '"stale"'}) as answer:
        assert answer.status == 412


async def test_metrics_and_health_are_answered(owner: ClientSession) -> None:
    async with owner.get("/metrics") as answer:
        assert "isthmus_admitted_total" in await answer.text()
    async with owner.get("/health") as answer:
        assert (await answer.json())["ok"] is True


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused(owner: ClientSession, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 65_536 + 1):
            yield bytes(65_536)

    body = pieces() if chunked else io.BytesIO(bytes(BODY_BYTES_MAX + 1))
    async with owner.put(HUB, data=body) as answer:
        assert answer.status == 413


async def test_events_are_streamed_until_the_watcher_leaves(owner: ClientSession, log: SegmentLog) -> None:
    await append(log, b"first")
    async with owner.get("/hubs/hub/events?start=earliest") as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert json.loads(await answer.content.readline())["event"]["payload"] == "first"
        await append(log, b"second")
        assert json.loads(await answer.content.readline())["event"]["payload"] == "second"
        assert watchers(log) > 0
        answer.close()

    for _ in range(1_000):
        if not watchers(log):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the watcher is still served")


def watchers(log: SegmentLog) -> int:
    return sum(map(len, log._growth.values()))


@pytest.mark.parametrize(("target", "status"), [("/hubs/none/events", 404), ("/hubs/hub/events?start=soon", 400)])
async def test_events_that_cannot_be_watched(owner: ClientSession, target: str, status: int) -> None:
    async with owner.get(target) as answer:
        assert answer.status == status


@pytest.fixture
async def monitoring(
    front: FrontDoor, parts: list[Part], loopback_address: str
) -> AsyncIterator[Callable[[], ClientSession]]:
    """A client at the listener for monitoring."""
    server = web.Server(Monitoring(lambda: parts, Metrics()).handle, access_log=None)
    bound = front.open(loopback_address, lambda: HttpHandler(server))  # type: ignore[arg-type, return-value]
    async with ClientSession(
        f"https://{bound.address}:{bound.port}", connector=TCPConnector(ssl=client_context())
    ) as client:
        yield lambda: client
    await server.shutdown(0)


@pytest.fixture
def parts() -> list[Part]:
    return [Part("log", ok=True)]


async def test_monitoring_answers_metrics_and_health(
    monitoring: Callable[[], ClientSession], parts: list[Part]
) -> None:
    client = monitoring()
    async with client.get("/metrics") as answer:
        assert answer.headers["Connection"] == "close"
        assert "isthmus_refusals_total" in await answer.text()
    async with client.head("/health") as answer:
        assert answer.status == 200

    parts.append(Part("state", ok=False, reason="disk full"))

    async with client.get("/health") as answer:
        assert (answer.status, (await answer.json())["ok"]) == (503, False)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/hubs"),
        ("GET", "/explain"),
        ("POST", "/metrics"),
        ("GET", "/metrics/.."),
        ("POST", f"{HUB}/listkeys"),
        ("GET", f"/hubs/hub/devices/press?{VERSION}"),
        ("GET", "/hubs/hub/events"),
    ],
)
async def test_monitoring_answers_nothing_else(
    monitoring: Callable[[], ClientSession], method: str, target: str
) -> None:
    async with monitoring().request(method, target) as answer:
        assert answer.status == 404
        assert answer.headers["Connection"] == "close"
