"""The asynchronous azure-iot-device client, against a running hub.

Handlers run on a loop of the client's own, so that what they saw is awaited by asking for it. Everything of the hub's
that waits is called in a thread: the tests' loop is the client's caller and has to stay free.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from clients.devices import OTHER_KEY, key_of, make_device, twin_of, until
from clients.reading import EventCollector
from support.server import RunningHub

MESSAGES_AT_ONCE = 200


async def test_telemetry_is_read_exactly_as_sent(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    message = Message(json.dumps({"temperature": 21.5}), message_id="m 1/ä")
    message.correlation_id = "c/1&2=3"
    message.content_type = "application/json"
    message.content_encoding = "utf-8"
    message.custom_properties = {"alert": "true", "empty": "", "a b&=/#+%": "x=1&y/ü"}
    async with connected(hub, device_id) as device:
        await device.send_message(message)
        await device.send_message("plain text")
    first, second = await asyncio.to_thread(reader.of_device, device_id, 2)
    assert first.body_as_json() == {"temperature": 21.5}
    assert first.properties == {b"alert": b"true", b"empty": b"", b"a b&=/#+%": b"x=1&y/\xc3\xbc"}
    assert first.system_properties[b"message-id"] == "m 1/ä".encode()
    assert first.system_properties[b"correlation-id"] == b"c/1&2=3"
    assert first.system_properties[b"content-type"] == b"application/json"
    assert first.system_properties[b"iothub-connection-device-id"] == device_id.encode()
    assert second.body_as_str() == "plain text"


async def test_many_messages_at_once_are_all_acknowledged_and_read(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    async with connected(hub, device_id) as device:
        await asyncio.gather(*(device.send_message(str(number)) for number in range(MESSAGES_AT_ONCE)))
    events = await asyncio.to_thread(reader.of_device, device_id, MESSAGES_AT_ONCE)
    assert sorted(int(event.body_as_str()) for event in events) == list(range(MESSAGES_AT_ONCE))


async def test_c2d_is_received_and_completed(hub: RunningHub, device_id: str, service: IoTHubRegistryManager) -> None:
    received: list[Message] = []

    async def take(message: Message) -> None:
        received.append(message)

    async with connected(hub, device_id) as device:
        device.on_message_received = take
        properties = {"messageId": "c2d-1", "contentType": "text/plain", "a": "b c"}
        await asyncio.to_thread(service.send_c2d_message, device_id, "stop the press", properties)
        await eventually(lambda: received)
        await eventually(lambda: twin_of(hub, device_id)["cloudToDeviceMessageCount"] == 0)
    (message,) = received
    assert message.data == b"stop the press"
    assert message.message_id == "c2d-1"
    assert message.content_type == "text/plain"
    assert message.custom_properties["a"] == "b c"


async def test_methods_are_answered_side_by_side(
    hub: RunningHub, device_id: str, service: IoTHubRegistryManager
) -> None:
    async with connected(hub, device_id) as device:

        async def answer(request: Any) -> None:
            payload = {"echo": request.payload, "name": request.name}
            await device.send_method_response(MethodResponse.create_from_method_request(request, 207, payload))

        device.on_method_request_received = answer
        results = await asyncio.gather(*(invoke(service, device_id, f"m{number}", number) for number in range(5)))
    assert [result.status for result in results] == [207] * 5
    assert [result.payload for result in results] == [{"echo": number, "name": f"m{number}"} for number in range(5)]


async def test_twin_get_patch_and_desired(hub: RunningHub, device_id: str, service: IoTHubRegistryManager) -> None:
    patches: list[dict[str, Any]] = []

    async def take(patch: dict[str, Any]) -> None:
        patches.append(patch)

    async with connected(hub, device_id) as device:
        device.on_twin_desired_properties_patch_received = take
        assert await device.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
        await device.patch_twin_reported_properties({"state": {"speed": 3, "list": [1, 2]}, "gone": 1})
        await device.patch_twin_reported_properties({"gone": None})
        assert (await device.get_twin())["reported"] == {"state": {"speed": 3, "list": [1, 2]}, "$version": 3}
        desired = Twin(properties=TwinProperties(desired={"interval": 5}))
        patched = await asyncio.to_thread(service.update_twin, device_id, desired, "*")
        assert patched.properties.desired["interval"] == 5
        await eventually(lambda: patches)
    assert patches == [{"interval": 5, "$version": 2}]


async def test_module_client_does_what_a_device_does(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    make_device(hub, device_id)
    service.create_module_with_sas(device_id, "vision", "", "", "")
    module = IoTHubModuleClient.create_from_connection_string(
        hub.device_connection_string(device_id, "vision"), server_verification_cert=hub.ca.read_text()
    )

    async def answer(request: Any) -> None:
        await module.send_method_response(MethodResponse.create_from_method_request(request, 200, "seen"))

    try:
        await module.connect()
        module.on_method_request_received = answer
        await module.send_message("from the module")
        await module.patch_twin_reported_properties({"fps": 30})
        assert (await module.get_twin())["reported"]["fps"] == 30
        method = CloudToDeviceMethod(method_name="look", response_timeout_in_seconds=20, connect_timeout_in_seconds=10)
        result = await asyncio.to_thread(service.invoke_device_module_method, device_id, "vision", method)
        assert result.payload == "seen"
    finally:
        await module.shutdown()
    (event,) = await asyncio.to_thread(reader.of_device, device_id)
    assert event.system_properties[b"iothub-connection-module-id"] == b"vision"
    assert event.body_as_str() == "from the module"


async def test_device_that_left_comes_back_to_what_waited(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    received: list[bytes] = []
    async with connected(hub, device_id) as device:
        device.on_message_received = lambda message: received.append(message.data)
        await device.send_message("before")
        await device.disconnect()
        assert not device.connected
        await eventually(lambda: state_of(service, device_id) == "Disconnected")
        await asyncio.to_thread(service.send_c2d_message, device_id, "while away", {})
        await device.connect()
        assert device.connected
        await device.send_message("after")
        await eventually(lambda: received == [b"while away"])
        await eventually(lambda: state_of(service, device_id) == "Connected")
    events = await asyncio.to_thread(reader.of_device, device_id, 2)
    assert [event.body_as_str() for event in events] == ["before", "after"]


async def test_shut_down_client_is_gone_for_the_hub_too(
    hub: RunningHub, device_id: str, service: IoTHubRegistryManager
) -> None:
    make_device(hub, device_id)
    device = client_of(hub, hub.device_connection_string(device_id))
    await device.connect()
    await eventually(lambda: state_of(service, device_id) == "Connected")
    await device.shutdown()
    await eventually(lambda: state_of(service, device_id) == "Disconnected")


async def test_wrong_key_is_refused(hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    right = hub.device_connection_string(device_id)
    device = client_of(hub, right.replace(key_of(right), OTHER_KEY))
    with pytest.raises(CredentialError):
        await device.connect()
    await device.shutdown()
    assert hub.json("explain", "--device-id", device_id)[0]["rule"] == "auth.signature"


@asynccontextmanager
async def connected(hub: RunningHub, device_id: str, **options: Any) -> AsyncIterator[IoTHubDeviceClient]:
    """A connected client of a new device; shut down afterwards."""
    await asyncio.to_thread(make_device, hub, device_id)
    device = client_of(hub, await asyncio.to_thread(hub.device_connection_string, device_id), **options)
    await device.connect()
    try:
        yield device
    finally:
        await device.shutdown()


def client_of(hub: RunningHub, connection_string: str, **options: Any) -> IoTHubDeviceClient:
    """A client that trusts the hub's CA."""
    return IoTHubDeviceClient.create_from_connection_string(
        connection_string, server_verification_cert=hub.ca.read_text(), **options
    )


async def invoke(service: IoTHubRegistryManager, device_id: str, name: str, payload: object) -> Any:
    """The result of a direct method."""
    method = CloudToDeviceMethod(method_name=name, payload=payload, response_timeout_in_seconds=20)
    method.connect_timeout_in_seconds = 10
    return await asyncio.to_thread(service.invoke_device_method, device_id, method)


def state_of(service: IoTHubRegistryManager, device_id: str) -> str:
    """Whether the registry has it as connected."""
    return str(service.get_device(device_id).connection_state)


async def eventually(condition: Callable[[], object]) -> None:
    """Returns when the condition holds, which is asked in a thread; fails as `until` does."""
    await asyncio.to_thread(until, condition)
