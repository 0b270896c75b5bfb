"""Direct methods: bounds, the two time-outs, and what goes wrong on the way."""

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager

import pytest

from devices.fakes import HUB, FakeDevice, World
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import METHOD_BYTES_MAX, METHODS_IN_FLIGHT_MAX
from isthmus.commands.methods import (
    ANSWER_MARGIN_SECONDS,
    DeviceNotOnlineError,
    MethodRequest,
    Methods,
    parse_method,
)
from isthmus.devices.ports import MethodAnswer

DEVICE = DeviceRef(HUB, "dev1")
MODULE = DeviceRef(HUB, "dev1", "mod1")
REBOOT = MethodRequest("reboot", b'{"in":1}', 30, 0)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def methods(world: World) -> Methods:
    return Methods(world.registry, world.connected)


async def test_the_answer_comes_back(world: World, methods: Methods) -> None:
    device = await online(world, MethodAnswer(201, b'{"ok":true}'))
    assert await methods.invoke(DEVICE, REBOOT) == MethodAnswer(201, b'{"ok":true}')
    assert device.invoked == [("reboot", b'{"in":1}')]


async def test_an_answer_without_payload_is_null(world: World, methods: Methods) -> None:
    await online(world, MethodAnswer(200, b""))
    assert (await methods.invoke(DEVICE, REBOOT)).payload == b"null"


async def test_unknown_and_disabled_are_not_found(world: World, methods: Methods) -> None:
    await refused(methods.invoke(DEVICE, REBOOT), Code.DEVICE_NOT_FOUND)
    await online(world, MethodAnswer(200, b""))
    await refused(methods.invoke(MODULE, REBOOT), Code.MODULE_NOT_FOUND)
    await world.add("dev1/mod1")
    await world.registry.put(DEVICE, {"status": "disabled"}, "*")
    for ref in (DEVICE, MODULE):
        await refused(methods.invoke(ref, REBOOT), Code.DEVICE_NOT_FOUND)


async def test_a_device_that_does_not_come_is_not_online(world: World, methods: Methods) -> None:
    await world.add("dev1")
    with pytest.raises(DeviceNotOnlineError) as caught:
        await methods.invoke(DEVICE, MethodRequest("reboot", b"null", 5, 7))
    assert caught.value.waited_seconds == 7
    assert world.connected.waits == [7]


async def test_a_device_without_subscription_is_waited_for_like_an_absent_one(world: World, methods: Methods) -> None:
    (await online(world, MethodAnswer(200, b""))).subscribed = False
    await refused(methods.invoke(DEVICE, REBOOT), Code.DEVICE_NOT_ONLINE)
    assert world.connected.waits == [0]


async def test_no_answer_is_told_a_little_before_the_caller_gives_up(world: World) -> None:
    allowed: list[float] = []

    def at_once(seconds: float) -> AbstractAsyncContextManager[object]:
        allowed.append(seconds)
        return asyncio.timeout(0)

    await world.add("dev1")
    world.connected.devices[DEVICE] = Silent()
    with pytest.raises(HubError) as caught:
        await Methods(world.registry, world.connected, deadline=at_once).invoke(DEVICE, REBOOT)
    assert caught.value.code is Code.GATEWAY_TIMEOUT
    assert allowed == [30 - ANSWER_MARGIN_SECONDS]


async def test_a_connection_that_ends_is_told(world: World, methods: Methods) -> None:
    await online(world, HubError(Code.DEVICE_CONNECTION_CLOSED, "Device unavailable"))
    await refused(methods.invoke(DEVICE, REBOOT), Code.DEVICE_CONNECTION_CLOSED)


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"[" * 100_000, b'"' + b"x" * METHOD_BYTES_MAX + b'"'])
async def test_an_answer_that_is_no_json_is_a_bad_answer(world: World, methods: Methods, payload: bytes) -> None:
    await online(world, MethodAnswer(200, payload))
    await refused(methods.invoke(DEVICE, REBOOT), Code.BAD_DEVICE_RESPONSE)


async def test_so_many_wait_for_a_device_and_no_more(world: World, methods: Methods) -> None:
    await world.add("dev1")
    await world.add("dev2")
    silent = world.connected.devices[DEVICE] = Silent()
    waiting = [asyncio.create_task(methods.invoke(DEVICE, REBOOT)) for _ in range(METHODS_IN_FLIGHT_MAX)]
    await silent.called(METHODS_IN_FLIGHT_MAX)
    await refused(methods.invoke(DEVICE, REBOOT), Code.IN_FLIGHT_METHODS_EXCEEDED)
    await refused(methods.invoke(DeviceRef(HUB, "dev2"), REBOOT), Code.DEVICE_NOT_ONLINE)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    world.connected.devices[DEVICE] = FakeDevice(MethodAnswer(200, b""))
    await methods.invoke(DEVICE, REBOOT)


def test_a_request_has_defaults() -> None:
    assert parse_method(b'{"methodName":"m"}') == MethodRequest("m", b"null", 30, 0)
    assert parse_method(b'{"methodName":"m","payload":null,"timeoutInSeconds":9}') == MethodRequest("m", b"null", 9, 0)


def test_a_payload_is_kept_as_it_was_written() -> None:
    body = b'{"methodName":"c*m","payload":{"a": 1.50},"responseTimeoutInSeconds":5,"connectTimeoutInSeconds":300}'
    assert parse_method(body) == MethodRequest("c*m", b'{"a": 1.50}', 5, 300)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.FORMAT_ERROR),
        (b"{", Code.FORMAT_ERROR),
        (b'{"methodName":"m","payload":' + b"[" * 100_000, Code.FORMAT_ERROR),
        (b"[]", Code.ARGUMENT_INVALID),
        (b"{}", Code.ARGUMENT_NULL),
        (b'{"methodName":""}', Code.ARGUMENT_NULL),
        (b'{"methodName":7}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"a/b"}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"a+"}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"' + b"m" * 129 + b'"}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"m","responseTimeoutInSeconds":4}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"m","responseTimeoutInSeconds":301}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"m","connectTimeoutInSeconds":-1}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"m","connectTimeoutInSeconds":301}', Code.ARGUMENT_INVALID),
        (b'{"methodName":"m","payload":"' + b"x" * METHOD_BYTES_MAX + b'"}', Code.MESSAGE_TOO_LARGE),
    ],
)
def test_bad_requests_are_refused(body: bytes, code: Code) -> None:
    with pytest.raises(HubError) as caught:
        parse_method(body)
    assert caught.value.code is code


async def online(world: World, answer: MethodAnswer | HubError) -> FakeDevice:
    await world.add("dev1")
    device = world.connected.devices[DEVICE] = FakeDevice(answer)
    return device


async def refused(work: Awaitable[object], code: Code) -> None:
    with pytest.raises(HubError) as caught:
        await work
    assert caught.value.code is code


class Silent(FakeDevice):
    """A device that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self._called = asyncio.Condition()

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        async with self._called:
            self.invoked.append((name, payload))
            self._called.notify_all()
        never: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        return await never

    async def called(self, times: int) -> None:
        """Returns when it has been called so often."""
        async with asyncio.timeout(10), self._called:
            await self._called.wait_for(lambda: len(self.invoked) >= times)
