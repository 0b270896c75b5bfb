"""Conditions of routes decide what readers of the built-in endpoint get; set with the commands of `az`."""

import json
from collections.abc import Callable, Iterator

import pytest
from azure.iot.device import Message
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin

from clients.devices import connected
from clients.reading import EventCollector
from support.server import RunningHub

ROUTE = ("iot", "hub", "message-route")
CONDITION = "messageType = 'alerts' AND $body.temperature > 20"


@pytest.fixture
def alerts_only(hub: RunningHub) -> Iterator[None]:
    """One route, and no fallback."""
    arguments = ("--source-type", "devicemessages", "--endpoint-name", "events", "--condition", CONDITION)
    routes = hub.json(*ROUTE, "create", "--route-name", "alerts", *arguments)
    assert [(route["name"], route["condition"]) for route in routes] == [("alerts", CONDITION)]
    assert hub.json(*ROUTE, "fallback", "set", "--enabled", "false")["isEnabled"] is False
    yield
    hub.isthmus(*ROUTE, "delete", "--route-name", "alerts")
    hub.isthmus(*ROUTE, "fallback", "set", "--enabled", "true")


@pytest.mark.usefixtures("alerts_only")
def test_readers_get_what_the_condition_takes(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    with connected(hub, device_id) as device:
        for number, (kind, temperature) in enumerate((("alerts", 30), ("alerts", 10), ("log", 30), ("alerts", 21))):
            message = Message(
                json.dumps({"temperature": temperature, "number": number}),
                content_type="application/json",
                content_encoding="utf-8",
            )
            message.custom_properties["messageType"] = kind
            device.send_message(message)
        # Dropped by the condition as the second and third, but read: it proves that these are not merely late.
        hub.isthmus(*ROUTE, "fallback", "set", "--enabled", "true")
        device.send_message("the last")
    reader.wait(lambda event: event.body_as_str() == "the last")
    read = [event.body_as_str() for event in reader.of_device(device_id, 3)]
    assert [json.loads(body)["number"] for body in read[:-1]] == [0, 3]


def test_the_twin_of_the_moment_decides(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector], service: IoTHubRegistryManager
) -> None:
    reader = collect()
    with connected(hub, device_id) as device:
        condition = ("--condition", "$twin.tags.hall = 2 OR $twin.properties.reported.verbose")
        where = ("--source-type", "DeviceMessages", "--en", "events")
        hub.isthmus(*ROUTE, "create", "--rn", "hall", *where, *condition)
        hub.isthmus(*ROUTE, "fallback", "set", "--enabled", "false")
        try:
            device.send_message("no tag")
            service.update_twin(device_id, Twin(tags={"hall": 2}), "*")
            device.send_message("hall 2")
            service.update_twin(device_id, Twin(tags={"hall": 3}), "*")
            device.send_message("hall 3")
            device.patch_twin_reported_properties({"verbose": True})
            device.send_message("verbose")
        finally:
            hub.isthmus(*ROUTE, "delete", "--rn", "hall")
            hub.isthmus(*ROUTE, "fallback", "set", "--enabled", "true")
    assert [event.body_as_str() for event in reader.of_device(device_id, 2)] == ["hall 2", "verbose"]


@pytest.mark.usefixtures("alerts_only")
def test_a_route_is_tried_shown_and_changed(hub: RunningHub) -> None:
    system = json.dumps({"contentType": "application/json", "contentEncoding": "utf-8"})
    sent = ("--body", '{"temperature": 25}', "--app-properties", '{"messageType": "alerts"}', "--sp", system)
    assert hub.json(*ROUTE, "test", "--route-name", "alerts", *sent)["result"] == "true"
    assert [each["properties"]["name"] for each in hub.json(*ROUTE, "test", *sent)["routes"]] == ["alerts"]
    assert hub.json(*ROUTE, "update", "--rn", "alerts", "-e", "false")["isEnabled"] is False
    assert hub.json(*ROUTE, "show", "--rn", "alerts")["isEnabled"] is False
    assert hub.json(*ROUTE, "test", *sent)["routes"] == []
    refused = hub.isthmus(*ROUTE, "update", "--rn", "alerts", "-c", "severity > 2", code=1)
    assert "does not compile at character 1" in refused
    assert hub.json(*ROUTE, "show", "--rn", "alerts")["condition"] == CONDITION
