"""What an owner does about endpoints: dead letters, outbound rules, enrichments, also by azure-mgmt-iothub."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.iot.device import IoTHubDeviceClient, Message
from azure.mgmt.iothub.models import (
    EnrichmentProperties,
    RouteProperties,
    RoutingServiceBusQueueEndpointProperties,
)
from azure.servicebus import ServiceBusClient

from clients.devices import connected, until
from clients.hosted import Namespace, namespace
from clients.managing import GROUP, MANAGEMENT_OPTIONS, Managing, make_token, managing
from clients.names import resolved
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
HUB_OPTIONS = MANAGEMENT_OPTIONS
HUB_SETTINGS = '[egress]\ndead_after_seconds = 1\nwhen_dead = "dead-letter"\n'
ROLE = "Azure Service Bus Data Sender"


@pytest.fixture(scope="module")
def bus(hub: RunningHub) -> Iterator[Namespace]:
    with ExitStack() as stack:
        stack.enter_context(resolved(HUB_HOST, hub.address))
        bus = stack.enter_context(namespace(hub, "servicebus"))
        hub.isthmus("iot", "hub", "identity", "assign", "--system-assigned")
        yield bus


@pytest.fixture
def queue(hub: RunningHub, bus: Namespace, device_id: str) -> str:
    """A queue of this test's own, with an endpoint of its name and all telemetry to it; the hub has no role there."""
    name = f"q-{device_id}"
    bus.make("queue", "create", "-n", name)
    options = ("--identity", "[system]", "--endpoint-uri", f"sb://{bus.host}", "--entity-path", name)
    hub.isthmus("iot", "hub", "message-endpoint", "create", "servicebus-queue", "--en", name, *options)
    hub.isthmus("iot", "hub", "message-route", "create", "--rn", name, "-t", "DeviceMessages", "--en", name)
    return name


def test_dead_letters_are_listed_with_reasons_and_driven_in_order(
    hub: RunningHub, bus: Namespace, queue: str, device_id: str
) -> None:
    with connected(hub, device_id) as device:
        _send(device, 10)
    until(lambda: len(_dead(hub, queue)) == 10)
    dead = _dead(hub, queue)
    assert [each["deviceId"] for each in dead] == [device_id] * 10
    assert all("the endpoint is dead" in each["reason"] and "Send" in each["reason"] for each in dead)
    shown = hub.json("dead-letter", "show", "--en", queue, "--number", "3")
    assert shown["properties"] == {"number": "3"}
    [refused, *_] = [each for each in hub.json("explain", "--all") if each["rule"] == "egress.role"]
    assert ROLE in refused["remedy"]
    _grant(hub, bus)
    assert hub.json("dead-letter", "redrive", "--en", queue) == {"endpointName": queue, "redriven": 10}
    assert [_number(message) for message in _received(hub, bus, queue, 10)] == list(range(10))
    assert _dead(hub, queue) == []
    assert hub.json("iot", "hub", "message-endpoint", "show-health", "--en", queue)["healthStatus"] == "healthy"


def test_dead_letters_can_be_purged(hub: RunningHub, bus: Namespace, queue: str, device_id: str) -> None:
    bus.make("queue", "delete", "-n", queue)
    with connected(hub, device_id) as device:
        _send(device, 3)
    until(lambda: len(_dead(hub, queue)) == 3)
    assert hub.json("dead-letter", "purge", "--en", queue, "--until", "0") == {"endpointName": queue, "purged": 1}
    assert [each["number"] for each in _dead(hub, queue)] == [1, 2]
    health = hub.json("iot", "hub", "message-endpoint", "show-health", "--en", queue)
    assert health["deadLetters"] == 2
    assert health["lastKnownErrorSwitch"] == "entity"


def test_outbound_rules_stop_deliveries_and_let_them_go_on(
    hub: RunningHub, bus: Namespace, queue: str, device_id: str
) -> None:
    _grant(hub, bus)
    hub.isthmus("iot", "hub", "update", "--set", "properties.restrictOutboundNetworkAccess=true")
    try:
        with connected(hub, device_id) as device:
            _send(device, 1)
        health = ("iot", "hub", "message-endpoint", "show-health", "--en", queue)
        until(lambda: hub.json(*health).get("lastKnownErrorSwitch") == "outbound")
        hub.isthmus("iot", "hub", "update", "--add", "properties.allowedFqdnList", bus.host)
        until(lambda: hub.json(*health)["healthStatus"] == "healthy" or len(_dead(hub, queue)) == 1)
        hub.isthmus("dead-letter", "redrive", "--en", queue)
        assert [_number(message) for message in _received(hub, bus, queue, 1)] == [0]
    finally:
        hub.isthmus("iot", "hub", "update", "--set", "properties.restrictOutboundNetworkAccess=false")


def test_messages_are_enriched_for_their_endpoint(hub: RunningHub, bus: Namespace, queue: str, device_id: str) -> None:
    _grant(hub, bus)
    words = ("iot", "hub", "message-enrichment", "create", "-n", "hub", "--endpoints", queue)
    hub.isthmus(*words, "--key", "site", "--value", "$twin.tags.site")
    hub.isthmus(*words, "--key", "hub", "--value", "$iothubname")
    hub.isthmus("device-identity", "create", "-d", device_id)
    hub.isthmus("device-twin", "update", "-d", device_id, "--tags", '{"site": "Oslo"}')
    with connected(hub, device_id, create=False) as device:
        _send(device, 1)
        [message] = _received(hub, bus, queue, 1)
    properties = {_text(name): _text(value) for name, value in (message.application_properties or {}).items()}
    assert (properties["site"], properties["hub"], properties["number"]) == ("Oslo", "hub", "0")
    for key in ("site", "hub"):
        hub.isthmus("iot", "hub", "message-enrichment", "delete", "-n", "hub", "--key", key)


def test_the_stock_management_client_reads_and_writes_endpoints(hub: RunningHub, bus: Namespace) -> None:
    bus.make("queue", "create", "-n", "managed")
    string = bus.connection_string("", "RootManageSharedAccessKey").rstrip(";") + ";EntityPath=managed"
    with managing(hub, make_token(hub, "egress-owner")) as clients:
        _add(clients, string)
        shown = clients.iothub.iot_hub_resource.get(GROUP, "hub")
        routing = shown.properties.routing
        [queue] = [each for each in routing.endpoints.service_bus_queues if each.name == "managed"]
        assert queue.id
        assert queue.connection_string.endswith("SharedAccessKey=****;EntityPath=managed")
        again = clients.iothub.iot_hub_resource.begin_create_or_update(GROUP, "hub", shown, if_match=shown.etag)
        assert again.result().etag == shown.etag
        health = clients.iothub.iot_hub_resource.get_endpoint_health(GROUP, "hub")
        assert {"events", "managed"} <= {each.endpoint_id for each in health}
        routing.endpoints.service_bus_queues = []
        with pytest.raises(HttpResponseError, match="which is not there"):
            clients.iothub.iot_hub_resource.begin_create_or_update(GROUP, "hub", shown, if_match=shown.etag).result()
    hub.isthmus("iot", "hub", "message-endpoint", "delete", "--en", "managed", "--force")
    assert hub.json("iot", "hub", "message-enrichment", "list", "-n", "hub") == []


def _add(clients: Managing, string: str) -> None:
    hubs = clients.iothub.iot_hub_resource
    shown = hubs.get(GROUP, "hub")
    routing = shown.properties.routing
    routing.endpoints.service_bus_queues.append(
        RoutingServiceBusQueueEndpointProperties(name="managed", connection_string=string)
    )
    routing.routes.append(
        RouteProperties(name="managed", source="DeviceMessages", endpoint_names=["managed"], is_enabled=False)
    )
    routing.enrichments = [EnrichmentProperties(key="k", value="v", endpoint_names=["managed"])]
    hubs.begin_create_or_update(GROUP, "hub", shown, if_match=shown.etag).result()


def _grant(hub: RunningHub, bus: Namespace) -> None:
    """Gives the hub the role; a second time is no error."""
    principal = hub.json("iot", "hub", "identity", "show")["principalId"]
    who = ("--assignee-object-id", principal)
    hub.run("role", "assignment", "create", *who, "--role", ROLE, "--scope", bus.resource_id)


def _send(device: IoTHubDeviceClient, count: int) -> None:
    for number in range(count):
        message = Message("x")
        message.custom_properties["number"] = str(number)
        device.send_message(message)


def _dead(hub: RunningHub, queue: str) -> list[dict[str, Any]]:
    return list(hub.json("dead-letter", "list", "--en", queue))


def _received(hub: RunningHub, bus: Namespace, queue: str, count: int) -> list[Any]:
    received: list[Any] = []
    with (
        ServiceBusClient.from_connection_string(bus.connection_string(), connection_verify=str(hub.ca)) as client,
        client.get_queue_receiver(queue) as receiver,
    ):
        while len(received) < count:
            messages = receiver.receive_messages(max_message_count=20, max_wait_time=20)
            assert messages, f"{len(received)} of {count}"
            for message in messages:
                receiver.complete_message(message)
            received += messages
    return received


def _number(message: Any) -> int:
    properties = {_text(name): _text(value) for name, value in message.application_properties.items()}
    return int(properties["number"])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
