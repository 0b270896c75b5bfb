"""The synchronous azure-iot-device client, against a running hub."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.iot.device import IoTHubModuleClient, Message, MethodResponse
from azure.iot.device.exceptions import ConnectionFailedError, CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from clients.devices import OTHER_KEY, client_of, connected, identity, key_of, make_device, twin_of, until
from clients.reading import WAIT_SECONDS, EventCollector
from support.server import RunningHub


def test_telemetry_is_read_exactly_as_sent(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    message = Message(json.dumps({"temperature": 21.5, "place": "Hälle 3"}), message_id="m 1/ä")
    message.correlation_id = "c/1&2=3"
    message.user_id = "user+one"
    message.content_type = "application/json"
    message.content_encoding = "utf-8"
    message.custom_properties = {"alert": "true", "empty": "", "a b&=/#+%": "x=1&y/ü", "UPPER": "Case"}
    with connected(hub, device_id) as device:
        device.send_message(message)
        device.send_message(b"\x00\x01binary")
    first, second = reader.of_device(device_id, 2)
    assert json.loads(first.body_as_str()) == {"temperature": 21.5, "place": "Hälle 3"}
    assert first.properties == {b"alert": b"true", b"empty": b"", b"a b&=/#+%": b"x=1&y/\xc3\xbc", b"UPPER": b"Case"}
    system = first.system_properties
    assert system[b"message-id"] == "m 1/ä".encode()
    assert system[b"correlation-id"] == b"c/1&2=3"
    assert system[b"user-id"] == b"user+one"
    assert system[b"content-type"] == b"application/json"
    assert system[b"content-encoding"] == b"utf-8"
    assert system[b"iothub-connection-device-id"] == device_id.encode()
    assert json.loads(system[b"iothub-connection-auth-method"]) == {
        "scope": "device",
        "type": "sas",
        "issuer": "iothub",
        "acceptingIpFilterRule": None,
    }
    assert system[b"iothub-message-source"] == b"Telemetry"
    assert system[b"iothub-connection-auth-generation-id"].decode() == identity(hub, device_id)["generationId"]
    assert abs(system[b"iothub-enqueuedtime"] - time.time() * 1000) < 60_000
    assert isinstance(first.sequence_number, int)
    assert first.offset is not None
    assert abs(first.enqueued_time.timestamp() - time.time()) < 60
    assert b"".join(second.body) == b"\x00\x01binary"
    assert second.properties in ({}, None)


def test_largest_and_empty_messages_pass(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    with connected(hub, device_id) as device:
        device.send_message(Message(b""))
        device.send_message(Message(b"x" * 260_000))
    empty, large = reader.of_device(device_id, 2)
    assert b"".join(empty.body) == b""
    assert len(b"".join(large.body)) == 260_000


def test_c2d_is_received_and_completed(hub: RunningHub, device_id: str, service: IoTHubRegistryManager) -> None:
    received: list[Message] = []
    arrived = threading.Event()

    def take(message: Message) -> None:
        received.append(message)
        arrived.set()

    with connected(hub, device_id) as device:
        device.on_message_received = take
        service.send_c2d_message(
            device_id,
            "stop the press",
            {"messageId": "c2d-1", "correlationId": "7", "contentType": "text/plain", "a": "b c"},
        )
        assert arrived.wait(WAIT_SECONDS)
        (message,) = received
        assert message.data == b"stop the press"
        assert message.message_id == "c2d-1"
        assert message.correlation_id == "7"
        assert message.content_type == "text/plain"
        assert message.custom_properties["a"] == "b c"
        until(lambda: twin_of(hub, device_id)["cloudToDeviceMessageCount"] == 0)


def test_c2d_waits_for_a_device_that_is_away(hub: RunningHub, device_id: str, service: IoTHubRegistryManager) -> None:
    make_device(hub, device_id)
    for number in range(3):
        service.send_c2d_message(device_id, f"waiting {number}", {})
    assert twin_of(hub, device_id)["cloudToDeviceMessageCount"] == 3
    received: list[bytes] = []
    with connected(hub, device_id, create=False) as device:
        device.on_message_received = lambda message: received.append(message.data)
        until(lambda: len(received) == 3)
    assert received == [b"waiting 0", b"waiting 1", b"waiting 2"]


def test_method_is_answered_with_any_json(hub: RunningHub, device_id: str, service: IoTHubRegistryManager) -> None:
    with connected(hub, device_id) as device:

        def answer(request: Any) -> None:
            payload = {"echo": request.payload, "name": request.name}
            device.send_method_response(MethodResponse.create_from_method_request(request, 207, payload))

        device.on_method_request_received = answer
        for payload in ({"speed": 3}, [1, "two", None], "text", 5, ""):
            method = CloudToDeviceMethod(method_name="set_speed", payload=payload, response_timeout_in_seconds=20)
            method.connect_timeout_in_seconds = 10
            result = service.invoke_device_method(device_id, method)
            assert result.status == 207
            assert result.payload == {"echo": payload, "name": "set_speed"}


def test_twin_get_patch_and_desired(hub: RunningHub, device_id: str, service: IoTHubRegistryManager) -> None:
    patches: list[dict[str, Any]] = []
    with connected(hub, device_id) as device:
        device.on_twin_desired_properties_patch_received = patches.append
        assert device.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
        device.patch_twin_reported_properties({"state": {"speed": 3, "list": [1, 2]}, "gone": 1})
        device.patch_twin_reported_properties({"gone": None})
        assert device.get_twin()["reported"] == {"state": {"speed": 3, "list": [1, 2]}, "$version": 3}
        twin = service.get_twin(device_id)
        patched = service.update_twin(
            device_id, Twin(tags={"hall": 3}, properties=TwinProperties(desired={"interval": 5})), twin.etag
        )
        assert patched.properties.desired["interval"] == 5
        until(lambda: patches)
        assert patches == [{"interval": 5, "$version": 2}]
        assert service.get_twin(device_id).properties.reported["state"] == {"speed": 3, "list": [1, 2]}


def test_module_client_does_what_a_device_does(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    make_device(hub, device_id)
    service.create_module_with_sas(device_id, "vision", "", "", "")
    module = IoTHubModuleClient.create_from_connection_string(
        hub.device_connection_string(device_id, "vision"), server_verification_cert=hub.ca.read_text()
    )
    module.connect()
    try:
        module.on_method_request_received = lambda request: module.send_method_response(
            MethodResponse.create_from_method_request(request, 200, "seen")
        )
        module.send_message("from the module")
        module.patch_twin_reported_properties({"fps": 30})
        assert module.get_twin()["reported"]["fps"] == 30
        method = CloudToDeviceMethod(method_name="look", response_timeout_in_seconds=20, connect_timeout_in_seconds=10)
        assert service.invoke_device_module_method(device_id, "vision", method).payload == "seen"
    finally:
        module.shutdown()
    (event,) = reader.of_device(device_id)
    assert event.system_properties[b"iothub-connection-module-id"] == b"vision"
    assert event.body_as_str() == "from the module"


def test_newer_connection_takes_over(hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]) -> None:
    reader = collect()
    with connected(hub, device_id, connection_retry=False) as first:
        dropped = threading.Event()
        first.on_connection_state_change = lambda: dropped.set() if not first.connected else None
        with connected(hub, device_id, create=False) as second:
            assert dropped.wait(WAIT_SECONDS)
            second.send_message("from the second")
    assert reader.of_device(device_id)[0].body_as_str() == "from the second"


def test_sas_token_is_renewed_by_reconnecting(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    with connected(hub, device_id, sastoken_ttl=125) as device:
        device.send_message("before")
        reconnected = threading.Event()
        device.on_connection_state_change = lambda: reconnected.set() if device.connected else None
        assert reconnected.wait(WAIT_SECONDS)
        device.send_message("after")
    assert [event.body_as_str() for event in reader.of_device(device_id, 2)] == ["before", "after"]


def test_wrong_key_and_unknown_device_are_refused_alike(hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    right = hub.device_connection_string(device_id)
    wrong, unknown = right.replace(key_of(right), OTHER_KEY), right.replace(device_id, f"{device_id}-unknown")
    for connection_string in (wrong, unknown):
        device = client_of(hub, connection_string, connection_retry=False)
        with pytest.raises((CredentialError, ConnectionFailedError)) as raised:
            device.connect()
        assert isinstance(raised.value, CredentialError)
        device.shutdown()
