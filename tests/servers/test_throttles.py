"""Rates of hubs and days, as clients of each protocol meet them, and as the owner hears of them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.access.journal import Verdict
from isthmus.base import sas_token
from isthmus.base.errors import Code, HubError, ThrottledError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.resources.hub import Hub, Sku, SkuName
from isthmus.resources.throttling import DAY_MS, Operation, ThrottlePolicy
from isthmus.servers.gateway.amqp_links import error_of
from isthmus.servers.gateway.throttles import SHAPED_SECONDS_MAX, TOLD_SECONDS, Throttles
from isthmus.wire.amqp.states import Accepted, Rejected
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import Publish
from servers.amqp_world import AmqpWorld, amqp_world, command
from servers.device_http_world import DeviceHttpWorld
from servers.http_world import HOST, HttpWorld
from servers.mqtt_world import HUB, MovedClock, World

TWIN = "$iothub/twin/res/#"
BATCH = {"Content-Type": "application/vnd.microsoft.iothub.json"}


class Days:
    """A day whose messages are numbers."""

    def __init__(self, used: int = 0) -> None:
        self.messages = used

    def used(self, hub: int) -> int:
        return self.messages

    def take(self, hub: int, messages: int) -> None:
        self.messages += messages

    def seconds_left(self) -> float:
        return 7_200.0


def per_second(**rates: float) -> ThrottlePolicy:
    """A policy with these rates only."""
    return ThrottlePolicy(rates={Operation(name): rate for name, rate in rates.items()})


# MQTT


async def test_one_connection_too_many_is_told_to_come_again() -> None:
    world = World(per_second(connections=2))
    await world.connected_device("dev1")
    await world.connected_device("dev2")
    third = world.device("dev3")
    assert (await third.connect()).code is ConnectCode.SERVER_UNAVAILABLE
    assert world.gate.rules == ["limit.hub-rate"]
    world.timers.move(0.5)
    await world.connected_device("dev3")


async def test_telemetry_of_all_devices_together_is_held_back_and_all_of_it_taken() -> None:
    world = World(per_second(telemetry=10))
    first, second = await world.connected_device("dev1"), await world.connected_device("dev2")
    for _ in range(10):
        first.telemetry(b"x")
    assert first.is_read()
    for _ in range(5):
        second.telemetry(b"x")
    assert (first.is_read(), second.is_read()) == (True, False)
    world.timers.move(0.6)
    assert second.is_read()
    assert len(world.inlet.appended) == 15
    (told,) = world.notes.decisions
    assert (told.verdict, told.rule, told.device, told.hub) == (Verdict.DELAYED, "limit.hub-rate", "dev2", HUB.name)
    assert "throttles.rates.telemetry" in told.remedy


async def test_telemetry_that_would_wait_too_long_is_not_taken_and_not_acknowledged() -> None:
    world = World(per_second(telemetry=10))
    first, second = await world.connected_device("dev1"), await world.connected_device("dev2")
    for _ in range(10 + math.ceil(10 * SHAPED_SECONDS_MAX) + 1):
        first.publish("devices/dev1/messages/events/", b"x")
    taken = len(world.inlet.appended)
    second.telemetry(b"y")
    assert second.reason() == "limit.hub-rate"
    assert len(world.inlet.appended) == taken
    assert world.throttles.refused[Operation.TELEMETRY] == 1
    world.timers.move(1)
    third = await world.connected_device("dev2")
    third.telemetry(b"y")
    assert third.reason() == ""


async def test_a_slow_device_is_told_of_once_a_minute() -> None:
    world = World(ThrottlePolicy(device_messages_per_second=10))
    device = await world.connected_device()
    for _ in range(3):
        for _ in range(20):
            device.telemetry(b"x")
        world.inlet.commit()
        world.timers.move(2)
    assert [told.rule for told in world.notes.decisions] == ["limit.device-rate"]
    world.timers.move(TOLD_SECONDS)
    for _ in range(20):
        device.telemetry(b"x")
    assert [told.rule for told in world.notes.decisions] == ["limit.device-rate"] * 2


async def test_without_a_rate_a_device_sends_as_it_likes() -> None:
    world = World(ThrottlePolicy(device_messages_per_second=0))
    device = await world.connected_device()
    for _ in range(3):
        device.give(device.client.publish(b"devices/dev1/messages/events/", b"x") * 10_000)
        world.inlet.commit()
    assert device.is_read()
    assert world.notes.decisions == []


@pytest.mark.parametrize(
    ("rates", "topic", "body"),
    [
        ({"twin_reads": 1.0}, "$iothub/twin/GET/?$rid=", b""),
        ({"twin_updates": 1.0}, "$iothub/twin/PATCH/properties/reported/?$rid=", b"{}"),
    ],
)
async def test_a_twin_asked_too_often_is_answered_429_with_a_body(
    rates: dict[str, float], topic: str, body: bytes
) -> None:
    world = World(per_second(**rates))
    device = await world.connected_device()
    await device.subscribe(TWIN)
    device.publish(f"{topic}1", body, 0)
    device.publish(f"{topic}2", body, 0)
    good, throttled = (event for event in await device.heard() if isinstance(event, Publish))
    assert good.topic.startswith(b"$iothub/twin/res/20")
    assert throttled.topic == b"$iothub/twin/res/429/?$rid=2"
    assert json.loads(throttled.payload)["errorCode"] == Code.THROTTLED.number
    assert device.reason() == ""
    world.timers.move(1)
    device.publish(f"{topic}3", body, 0)
    (again,) = (event for event in await device.heard() if isinstance(event, Publish))
    assert again.topic.startswith(b"$iothub/twin/res/20")


# HTTPS


async def test_an_operation_too_many_is_answered_429_with_the_seconds_to_wait() -> None:
    async with HttpWorld(per_second(queries=1 / 30)) as world:
        query = {"query": "SELECT * FROM devices"}
        for _ in range(2):
            assert (await world.ask("POST", "/devices/query", query)).status == 200
        answer = await world.ask("POST", "/devices/query", query)
        assert (answer.status, answer.code) == (429, "ThrottlingException")
        assert answer.headers["retry-after"] == "30"
        assert "Wait 30 seconds and try again. Operation type: Queries" in answer.text
        (refusal,) = await world.refusals()
        assert (refusal.rule, refusal.principal) == ("limit.hub-rate", "policy:iothubowner")
        world.clock.now_ms += 30_000
        assert (await world.ask("POST", "/devices/query", query)).status == 200


@pytest.mark.parametrize(
    ("operation", "method", "path", "body"),
    [
        ("identities", "GET", "/devices/dev1", None),
        ("identities", "PUT", "/devices/dev9", {}),
        ("twin_reads", "GET", "/twins/dev1", None),
        ("twin_updates", "PATCH", "/twins/dev1", {"tags": {}}),
        ("methods", "POST", "/twins/dev1/methods", {"methodName": "m"}),
    ],
)
async def test_each_operation_has_its_own_rate(operation: str, method: str, path: str, body: object) -> None:
    async with HttpWorld(per_second(**{operation: 1e-9})) as world:
        await world.add("dev1")
        await world.ask(method, path, body)
        answer = await world.ask(method, path, body)
        assert (answer.status, answer.code) == (429, "ThrottlingException")
        assert (await world.ask("GET", "/statistics/devices")).status == 200


async def test_the_owner_at_the_management_socket_is_not_throttled() -> None:
    async with HttpWorld(per_second(identities=1e-9)) as world:
        for _ in range(3):
            assert (await world.ask("GET", "/hubs/hub/devices", token="")).status == 200


async def test_a_batch_counts_by_its_messages(tmp_path: Path) -> None:
    async with DeviceHttpWorld(tmp_path / "log", per_second(telemetry=4)) as world:
        token = await world.device_token("dev1")
        batch = b"[%b]" % b",".join([b'{"body":""}'] * 8)
        assert (await world.send(token, batch, BATCH)).status == 204
        answer = await world.send(token, b"x")
        assert (answer.status, answer.code) == (429, "ThrottlingException")
        assert answer.headers["retry-after"] == "2"
        world.clock.now_ms += 1_500
        assert (await world.send(token, b"x")).status == 204


async def test_a_device_that_asks_for_commands_too_often(tmp_path: Path) -> None:
    async with DeviceHttpWorld(tmp_path / "log", per_second(command_receives=1 / 60)) as world:
        token, path = await world.device_token("dev1"), "/devices/dev1/messages/devicebound"
        assert (await world.ask("GET", path, token=token)).status == 204
        assert (await world.ask("GET", path, token=token)).status == 429


async def test_a_day_s_messages_by_https(tmp_path: Path) -> None:
    async with DeviceHttpWorld(tmp_path / "log", ThrottlePolicy(daily_messages=3)) as world:
        token = await world.device_token("dev1")
        assert (await world.send(token, bytes(8_000))).status == 204
        assert (await world.send(token, b"x")).status == 204
        answer = await world.send(token, b"x")
        assert (answer.status, answer.code) == (403, "IotHubQuotaExceeded")
        (refusal,) = await world.refusals()
        assert refusal.rule == "limit.daily-messages"
        world.clock.now_ms += DAY_MS
        key = (await world.registry.require(DeviceRef(HUB.number, "dev1"))).primary_key or ""
        tomorrow = sas_token.sign(f"{HOST}/devices/dev1", key, world.clock.now_ms // 1000 + 60)
        assert (await world.send(tomorrow, b"x")).status == 204


# AMQP


async def test_a_service_that_sends_too_many_commands_is_refused_in_amqp_s_words(tmp_path: Path) -> None:
    async with amqp_world(tmp_path, per_second(commands=1 / 60)) as world:
        outcomes = await _sent(world, 2)
        (rejected,) = (outcome for outcome in outcomes if isinstance(outcome, Rejected))
        assert len([outcome for outcome in outcomes if isinstance(outcome, Accepted)]) == 1
        assert rejected.error is not None
        assert rejected.error.condition == "com.microsoft:device-container-throttled"
        assert await world.rules() == ["limit.hub-rate"]


def test_other_throttled_requests_are_told_to_come_again() -> None:
    error = HubError(Code.THROTTLED, "throttled")
    assert error_of(error, "t").condition == "com.microsoft:server-busy"


# What is the same for all


def test_a_hub_that_grows_has_its_new_rate_at_once() -> None:
    throttles = Throttles(MovedClock(), ThrottlePolicy("sku"))
    small, large = _hub(SkuName.S1), _hub(SkuName.S3)
    for _ in range(20):
        throttles.require(small, Operation.QUERIES)
    with pytest.raises(ThrottledError):
        throttles.require(small, Operation.QUERIES)
    throttles.require(large, Operation.QUERIES, 1_000)


def test_hubs_do_not_share_a_rate() -> None:
    throttles = Throttles(MovedClock(), per_second(jobs=1 / 60))
    throttles.require(_hub(SkuName.S1), Operation.JOBS)
    throttles.require(_hub(SkuName.S1, number=2), Operation.JOBS)
    with pytest.raises(ThrottledError):
        throttles.require(_hub(SkuName.S1, number=2), Operation.JOBS)


async def test_a_day_that_is_used_up_takes_no_message_more() -> None:
    days = Days(2)
    throttles = Throttles(MovedClock(), ThrottlePolicy(daily_messages=3), days=days)
    throttles.admit(HUB, 10)
    with pytest.raises(HubError) as refused:
        throttles.admit(HUB, 10)
    assert refused.value.code is Code.QUOTA_EXCEEDED
    assert refused.value.refusal is not None
    assert "2.0 h" in refused.value.refusal.remedy
    assert throttles.day_of(HUB) == (3, 3)


def _hub(size: SkuName, number: int = 1) -> Hub:
    return replace(HUB, number=HubId(number), sku=Sku(size, 1))


async def _sent(world: AmqpWorld, count: int) -> list[object]:
    client = await world.service()
    link = await client.sender("/messages/devicebound")
    for number in range(count):
        link.send(command(str(number).encode()))
    await client.run()
    return list(client.outcomes(link))
