"""A server that ends and starts again under devices that wait for it: they come back by themselves and go on.

The stock client subscribes once, however often it connects again, so that what it receives afterwards shows that its
session was kept. Nothing is on its way when the server ends: the thread that sends for the stock client dies of a write
to a TLS connection that was just reset, and never tells the client (`test_kill` cuts publishers that bear it).
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, MethodRequest, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient as AioDeviceClient
from azure.iot.device.exceptions import ClientError, CredentialError, OperationCancelled

from clients.devices import connected, make_device, until
from clients.reading import WAIT_SECONDS, EventCollector, sender
from support.server import RunningHub

PATIENT: dict[str, Any] = {"connection_retry": True, "connection_retry_interval": 1}
MEANWHILE = [f"meanwhile {number}" for number in range(10)]

ends = pytest.mark.parametrize("end", [RunningHub.stop, RunningHub.kill], ids=["stopped", "killed"])


@ends
def test_device_goes_on_where_it_was(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], end: Callable[[RunningHub], None]
) -> None:
    heard = Heard()
    with ThreadPoolExecutor(len(MEANWHILE)) as senders, connected(hub, device_id, **PATIENT) as device:
        device.on_message_received = heard.message
        device.on_twin_desired_properties_patch_received = heard.patches.append
        device.on_method_request_received = lambda request: device.send_method_response(heard.method(request))
        device.send_message("before")
        end(hub)
        until(lambda: not device.connected)
        sending = [senders.submit(send, device, text) for text in MEANWHILE]
        hub.start()
        for future in sending:
            future.result(WAIT_SECONDS)
        assert device.connected
        reach(hub, device_id, heard)
    assert_read(collect(), device_id, ["before", *MEANWHILE])


@ends
async def test_asynchronous_device_goes_on_where_it_was(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], end: Callable[[RunningHub], None]
) -> None:
    heard = Heard()
    device = await asyncio.to_thread(aio_client, hub, device_id)

    async def answer(request: MethodRequest) -> None:
        await device.send_method_response(heard.method(request))

    online = online_event(device)
    try:
        await device.connect()
        device.on_message_received = heard.message
        device.on_twin_desired_properties_patch_received = heard.patches.append
        device.on_method_request_received = answer
        await device.send_message("before")
        await asyncio.to_thread(end, hub)
        await asyncio.to_thread(until, lambda: not device.connected)
        sending = [asyncio.create_task(send_aio(device, text, online)) for text in MEANWHILE]
        await asyncio.to_thread(hub.start)
        await asyncio.wait_for(asyncio.gather(*sending), WAIT_SECONDS)
        assert device.connected
        await asyncio.to_thread(reach, hub, device_id, heard)
    finally:
        await device.shutdown()
    await asyncio.to_thread(assert_read, collect(), device_id, ["before", *MEANWHILE])


class Heard:
    """What a device heard, whatever its client calls the handlers from."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.patches: list[dict[str, Any]] = []

    def message(self, message: Message) -> None:
        self.messages.append(message.data)

    def method(self, request: MethodRequest) -> MethodResponse:
        return MethodResponse.create_from_method_request(request, 200, {"heard": request.payload})


def reach(hub: RunningHub, device_id: str, heard: Heard) -> None:
    """Reaches the device by every way it subscribed to before the server ended."""
    hub.isthmus("c2d-message", "send", "-d", device_id, "--data", "are you there?")
    hub.isthmus("device-twin", "update", "-d", device_id, "--desired", json.dumps({"interval": 5}))
    result = hub.json("invoke-device-method", "-d", device_id, "--method-name", "hear", "--method-payload", "[1]")
    assert result == {"status": 200, "payload": {"heard": [1]}}
    until(lambda: heard.messages and heard.patches)
    assert heard.messages == [b"are you there?"]
    assert heard.patches == [{"interval": 5, "$version": 2}]


def send(device: IoTHubDeviceClient, text: str) -> None:
    """Sends until the hub has acknowledged, as an application has to: a client that cannot connect gives up."""
    while True:
        try:
            device.send_message(text)
            return
        except CredentialError:
            raise
        except (ClientError, OperationCancelled):
            until(lambda: device.connected)


async def send_aio(device: AioDeviceClient, text: str, online: asyncio.Event) -> None:
    """As `send`; waits on the loop, because the client itself needs the loop's threads."""
    while True:
        try:
            await device.send_message(text)
            return
        except CredentialError:
            raise
        except (ClientError, OperationCancelled):
            await asyncio.wait_for(online.wait(), WAIT_SECONDS)


def aio_client(hub: RunningHub, device_id: str) -> AioDeviceClient:
    make_device(hub, device_id)
    return AioDeviceClient.create_from_connection_string(
        hub.device_connection_string(device_id), server_verification_cert=hub.ca.read_text(), **PATIENT
    )


def online_event(device: AioDeviceClient) -> asyncio.Event:
    """Set while the device is connected; for the running loop."""
    online, loop = asyncio.Event(), asyncio.get_running_loop()

    def changed() -> None:
        loop.call_soon_threadsafe(online.set if device.connected else online.clear)

    device.on_connection_state_change = changed
    return online


def assert_read(reader: EventCollector, device_id: str, texts: list[str]) -> None:
    """Every one of the device's messages is there; one that was sent again may be there twice."""
    until(lambda: {event.body_as_str() for event in reader.events if sender(event) == device_id} >= {*texts})
