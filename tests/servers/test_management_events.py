"""Events as lines: what is shown of an event, from where on, and that a watcher leaves nothing behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devices.fakes import NOW_MS
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.resources.hub import Hub
from isthmus.servers.management.events import Watch, shown, watch_of, watched
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.telemetry.ports import EVENTS, Partition, Record
from telemetry.fakes import SetClock

HUB = Hub(HubId(1), "hub", "hub.example.test", 2, NOW_MS)
WAIT_SECONDS = 10.0


class Durable:
    """Waits for one append."""

    def __init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()

    def committed(self, cookies: list[int]) -> None:
        self.done.set_result(None)

    def failed(self, cookies: list[int], reason: str) -> None:
        self.done.set_exception(AssertionError(reason))


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SegmentLog]:
    opened = SegmentLog.open(tmp_path / "log", SetClock())
    yield opened
    await opened.close()


def envelope(device_id: str = "press", **more: object) -> Envelope:
    return Envelope(device_id=device_id, **more)  # type: ignore[arg-type]


async def append(log: SegmentLog, payload: bytes, *, device_id: str = "press", partition: int = 0) -> None:
    waiter = Durable()
    log.append(
        Partition(HUB.number, partition), (EVENTS,), encode_envelope(envelope(device_id)), payload, NOW_MS, waiter, 0
    )
    await waiter.done


async def take(lines: AsyncIterator[bytes], count: int) -> list[str]:
    async with asyncio.timeout(WAIT_SECONDS):
        return [json.loads(await anext(lines))["event"]["payload"] for _ in range(count)]


async def test_from_the_beginning_each_partition_in_order(log: SegmentLog) -> None:
    for number in range(3):
        await append(log, b"%d" % number)
        await append(log, b"x%d" % number, partition=1)

    payloads = await take(watched(log, HUB, Watch(start="earliest")), 6)

    assert payloads == ["0", "1", "2", "x0", "x1", "x2"]


async def test_only_what_comes_from_now_on(log: SegmentLog) -> None:
    await append(log, b"before")
    lines = watched(log, HUB, Watch())
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)

    await append(log, b"after")

    assert json.loads(await asyncio.wait_for(first, WAIT_SECONDS))["event"]["payload"] == "after"


@pytest.mark.parametrize(("wanted", "seen"), [("press", ["a"]), ("pr*", ["a", "b"]), ("", ["a", "b", "c"])])
async def test_only_of_devices_that_match(log: SegmentLog, wanted: str, seen: list[str]) -> None:
    for device_id, payload in (("press", b"a"), ("press2", b"b"), ("lathe", b"c")):
        await append(log, payload, device_id=device_id)

    assert await take(watched(log, HUB, Watch(start="earliest", device_id=wanted)), len(seen)) == seen


async def test_a_watcher_that_leaves_is_told_nothing_more(log: SegmentLog) -> None:
    lines = watched(log, HUB, Watch())
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert not any(log._growth.values())


@pytest.mark.parametrize("query", [{"start": "tomorrow"}, {"consumerGroup": "none"}])
def test_a_watch_that_cannot_be_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(HubError) as raised:
        watch_of(HUB, query)

    assert raised.value.code in (Code.ARGUMENT_INVALID, Code.NOT_FOUND)


def test_a_watch_as_it_was_asked_for() -> None:
    asked = {"start": "2026-01-01T00:00:00Z", "deviceId": "p*", "moduleId": "m", "properties": "sys,app"}

    assert watch_of(HUB, asked) == Watch("2026-01-01T00:00:00Z", "p*", "m", "", frozenset({"sys", "app"}))
    assert watch_of(HUB, {}) == Watch()


def record(payload: bytes) -> Record:
    return Record(
        partition=Partition(HUB.number, 0),
        sequence=7,
        offset=4096,
        enqueued_ms=NOW_MS + 1,
        ingress_ms=NOW_MS,
        endpoints=(EVENTS,),
        outbox_id=0,
        envelope=b"",
        payload=payload,
    )


@pytest.mark.parametrize(
    ("payload", "declared", "asked", "seen"),
    [
        (b'{"a": 1}', "application/json", "", {"a": 1}),
        (b'{"a": 1}', "", "", '{"a": 1}'),
        (b'{"a": 1}', "", "application/json", {"a": 1}),
        (b"not json", "application/json", "", "not json"),
        (b"\xff\xfe", "", "", "\ufffd\ufffd"),
    ],
)
def test_a_payload_is_json_where_it_says_so(payload: bytes, declared: str, asked: str, seen: object) -> None:
    event = envelope(system={"content-type": declared} if declared else {})

    line = json.loads(shown(record(payload), event, Watch(content_type=asked)))

    assert line["event"]["payload"] == seen


def test_properties_are_shown_when_asked_for() -> None:
    event = envelope(
        module_id="vision",
        generation_id="g1",
        auth_method="{}",
        system={"message-id": "m1", "dt-subject": "thermostat"},
        properties={"line": "7"},
    )

    bare = json.loads(shown(record(b"x"), event, Watch()))["event"]
    every = json.loads(shown(record(b"x"), event, Watch(properties=frozenset({"all"}))))["event"]

    assert bare == {"origin": "press", "module": "vision", "interface": "", "component": "thermostat", "payload": "x"}
    assert every["properties"]["system"] == {"message_id": "m1", "dt_subject": "thermostat"}
    assert every["properties"]["application"] == {"line": "7"}
    assert every["properties"]["annotations"] == {
        "iothub-connection-device-id": "press",
        "iothub-connection-auth-method": "{}",
        "iothub-connection-auth-generation-id": "g1",
        "iothub-enqueuedtime": NOW_MS,
        "iothub-message-source": "Telemetry",
        "x-opt-sequence-number": 7,
        "x-opt-offset": "4096",
        "x-opt-enqueued-time": 1_767_225_600_124,
    }
