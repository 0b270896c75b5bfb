"""Calls that wait for the answer of one connection."""

import asyncio

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.limits import METHODS_IN_FLIGHT_MAX
from isthmus.devices.ports import MethodAnswer
from isthmus.servers.gateway.method_calls import MethodCalls
from servers.mqtt_world import settled


async def test_answers_find_their_calls_in_any_order() -> None:
    calls, sent = MethodCalls(), list[str]()
    waiting = [asyncio.create_task(calls.call(sent.append)) for _ in range(20)]
    await settled()
    for request_id in reversed(sent):
        assert calls.answered(request_id, MethodAnswer(int(request_id, 16), b""))

    assert [answer.status for answer in await asyncio.gather(*waiting)] == list(range(1, 21))
    assert len(set(sent)) == 20


async def test_calls_in_flight_are_bounded_and_forgotten_when_cancelled() -> None:
    calls, sent = MethodCalls(), list[str]()
    waiting = [asyncio.create_task(calls.call(sent.append)) for _ in range(METHODS_IN_FLIGHT_MAX)]
    await settled()
    with pytest.raises(HubError) as caught:
        await calls.call(sent.append)
    assert caught.value.code is Code.IN_FLIGHT_METHODS_EXCEEDED
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert not calls.answered(sent[0], MethodAnswer(200, b""))
    again = asyncio.create_task(calls.call(sent.append))
    await settled()
    assert calls.answered(sent[-1], MethodAnswer(200, b""))
    assert not calls.answered(sent[-1], MethodAnswer(200, b""))
    assert (await again).status == 200


async def test_a_call_that_cannot_be_sent_waits_for_nothing() -> None:
    calls = MethodCalls()

    def broken(request_id: str) -> None:
        raise ValueError(request_id)

    with pytest.raises(ValueError, match="1"):
        await calls.call(broken)
    calls.connection_closed()
