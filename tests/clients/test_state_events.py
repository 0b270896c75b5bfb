"""Events about devices at the built-in endpoint: twin changes, lifecycle and connections, once routes ask for them.

Names and bodies are those of the IoT Hub developer guide, "Non-telemetry event schemas".
"""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from azure.eventhub import EventData
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties

from clients.devices import connected, make_device
from clients.reading import EventCollector, sender
from support.server import RunningHub

SOURCES = ("TwinChangeEvents", "DeviceLifecycleEvents", "DeviceConnectionStateEvents")
NEVER = "0001-01-01T00:00:00Z"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")


@pytest.fixture(scope="module", autouse=True)
def routes(hub: RunningHub) -> None:
    """Routes of every source to the built-in endpoint, added as `az iot hub update` adds them."""
    for source in SOURCES:
        route = (f"name=all-{source}", f"source={source}", 'endpointNames=["events"]', "condition=true")
        hub.isthmus("iot", "hub", "update", "--add", "properties.routing.routes", *route, "isEnabled=true")


def test_routes_are_shown_as_they_were_added(hub: RunningHub) -> None:
    assert hub.json("iot", "hub", "show")["properties"]["routing"]["routes"] == [
        {
            "name": f"all-{source}",
            "source": source,
            "condition": "true",
            "endpointNames": ["events"],
            "isEnabled": True,
        }
        for source in SOURCES
    ]


def test_twin_changes_tell_what_changed(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    make_device(hub, device_id)
    service.update_twin(device_id, Twin(tags={"hall": 3}, properties=TwinProperties(desired={"x": {"y": 1}})), "*")
    with connected(hub, device_id, create=False) as device:
        device.patch_twin_reported_properties({"speed": 7})
    service.update_twin(device_id, Twin(properties=TwinProperties(desired={"x": None})), "*")
    service.replace_twin(device_id, Twin(tags={"n": 1}, properties=TwinProperties(desired={"only": 1})), "*")
    by_service, by_device, removed, replaced = of_source(reader, device_id, b"twinChangeEvents", 4)

    for event in (by_service, by_device, removed):
        assert_described(hub, event, device_id, "twinChangeNotification", "updateTwin")
    body = by_service.body_as_json()
    assert body.keys() == {"version", "tags", "properties"}
    assert body["tags"] == {"hall": 3}
    desired = body["properties"]["desired"]
    assert desired["x"] == {"y": 1}
    assert desired["$version"] == 2
    assert desired["$metadata"]["x"]["y"]["$lastUpdatedVersion"] == 2
    assert by_device.body_as_json().keys() == {"version", "properties"}
    reported = by_device.body_as_json()["properties"]["reported"]
    assert reported["speed"] == 7
    assert reported["$version"] == 2
    assert reported["$metadata"]["speed"].keys() == {"$lastUpdated"}
    assert removed.body_as_json()["properties"]["desired"]["x"] is None

    assert_described(hub, replaced, device_id, "twinChangeNotification", "replaceTwin")
    whole = replaced.body_as_json()
    assert whole.keys() == {"deviceId", "etag", "version", "tags", "properties"}
    assert whole["deviceId"] == device_id
    assert whole["tags"] == {"n": 1}
    assert whole["properties"]["desired"]["only"] == 1
    assert whole["properties"]["reported"]["speed"] == 7
    first = body["version"]
    versions = [event.body_as_json()["version"] for event in (by_device, removed, replaced)]
    assert versions == [first, first + 1, first + 2], "what a device reports is no version of what services write"


def test_lifecycle_of_devices_and_modules(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    make_device(hub, device_id)
    service.create_module_with_sas(device_id, "vision", "", "", "")
    service.update_twin(device_id, Twin(tags={"hall": 3}), "*")
    service.delete_module(device_id, "vision")
    service.delete_device(device_id)
    created, module_created, module_deleted, deleted = of_source(reader, device_id, b"deviceLifecycleEvents", 4)

    schema = "deviceLifecycleNotification"
    assert_described(hub, created, device_id, schema, "createDeviceIdentity")
    assert created.body_as_json() == {
        "deviceId": device_id,
        "etag": "AAAAAAAAAAE=",
        "version": created.body_as_json()["version"],
        "properties": {
            "desired": {"$metadata": {"$lastUpdated": NEVER}, "$version": 1},
            "reported": {"$metadata": {"$lastUpdated": NEVER}, "$version": 1},
        },
    }
    for event, operation in ((module_created, "createDeviceIdentity"), (module_deleted, "deleteDeviceIdentity")):
        assert_described(hub, event, device_id, schema, operation, module_id="vision")
        assert event.body_as_json()["moduleId"] == "vision"
    assert_described(hub, deleted, device_id, schema, "deleteDeviceIdentity")
    assert deleted.body_as_json()["tags"] == {"hall": 3}


def test_connections_are_told_in_a_rising_sequence(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    make_device(hub, device_id)
    for turn in (1, 2):
        with connected(hub, device_id, create=False):
            of_source(reader, device_id, b"deviceConnectionStateEvents", 2 * turn - 1)
        events = of_source(reader, device_id, b"deviceConnectionStateEvents", 2 * turn)
    sequences = [event.body_as_json()["sequenceNumber"] for event in events]
    for event, operation in zip(events, ("deviceConnected", "deviceDisconnected") * 2, strict=True):
        assert_described(hub, event, device_id, "deviceConnectionStateNotification", operation)
        assert event.body_as_json().keys() == {"sequenceNumber"}
    assert all(re.fullmatch("[0-9A-F]{64}", sequence) for sequence in sequences)
    assert sequences == sorted(set(sequences))


def test_events_keep_to_their_device_s_order_among_its_messages(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    with connected(hub, device_id) as device:
        device.send_message("hello")
        events = reader.wait(lambda event: sender(event) == device_id, 3)
    assert {source_of(event) for event in events} == {
        b"deviceLifecycleEvents",
        b"deviceConnectionStateEvents",
        b"Telemetry",
    }
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))


def test_route_that_is_switched_off_brings_nothing(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    make_device(hub, device_id)
    set_enabled(hub, "TwinChangeEvents", "false")
    service.update_twin(device_id, Twin(tags={"seen": False}), "*")
    service.create_module_with_sas(device_id, "later", "", "", "")
    of_source(reader, device_id, b"deviceLifecycleEvents", 2)
    set_enabled(hub, "TwinChangeEvents", "true")
    service.update_twin(device_id, Twin(tags={"seen": True}), "*")
    (event,) = of_source(reader, device_id, b"twinChangeEvents", 1)
    assert event.body_as_json()["tags"] == {"seen": True}


def set_enabled(hub: RunningHub, source: str, value: str) -> None:
    hub.isthmus("iot", "hub", "update", "--set", f"properties.routing.routes[name=all-{source}].isEnabled={value}")


def of_source(reader: EventCollector, device_id: str, source: bytes, count: int) -> list[EventData]:
    """The events of one source about a device, in order, once `count` are there."""
    return reader.wait(lambda event: sender(event) == device_id and source_of(event) == source, count)


def source_of(event: EventData) -> bytes:
    return bytes(event.system_properties[b"iothub-message-source"])


def assert_described(
    hub: RunningHub, event: EventData, device_id: str, schema: str, operation: str, module_id: str = ""
) -> None:
    """The event's properties say what happened to whom, at which hub and when."""
    hub_name = hub.json("iot", "hub", "show")["name"]
    properties = text_of(event.properties)
    moment = properties.pop("operationTimestamp")
    assert MOMENT.fullmatch(moment)
    assert abs((datetime.fromisoformat(moment) - event.enqueued_time).total_seconds()) < 60
    assert properties == {
        "hubName": hub_name,
        "deviceId": device_id,
        "iothub-message-schema": schema,
        "opType": operation,
    } | ({"moduleId": module_id} if module_id else {})
    system = text_of(event.system_properties)
    assert system["content-type"] == "application/json"
    assert system["content-encoding"] == "utf-8"
    assert system["user-id"] == hub_name
    assert system["correlation-id"]
    assert system.get("iothub-connection-module-id", "") == module_id
    assert isinstance(system["iothub-enqueuedtime"], int)
    assert json.loads(event.body_as_str()) == event.body_as_json()


def text_of(properties: dict[Any, Any]) -> dict[str, Any]:
    """The properties with their bytes decoded."""
    return {key.decode(): value.decode() if isinstance(value, bytes) else value for key, value in properties.items()}
