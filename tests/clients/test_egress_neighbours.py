"""Routes from a stock device to targets that the hub's server hosts, with the hub's identity and no key."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message
from azure.servicebus import ServiceBusClient
from azure.storage.blob import BlobServiceClient

from clients.devices import connected, until
from clients.hosted import Namespace, namespace
from clients.names import resolved
from clients.reading import EventCollector
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
ACCOUNT = "plantstore"
CONTAINER = "telemetry"
ENTITY = "telemetry"
EVENT_HUBS_ROLE = "Azure Event Hubs Data Sender"
SERVICE_BUS_ROLE = "Azure Service Bus Data Sender"
STORAGE_ROLE = "Storage Blob Data Contributor"
HUB_SETTINGS = "[egress]\ndead_after_seconds = 1\n"


class Site:
    """A hub with an identity, and neighbours that nobody but it is to write to."""

    def __init__(self, hub: RunningHub, events: Namespace, bus: Namespace) -> None:
        self.hub = hub
        self.events = events
        self.bus = bus
        self.principal = hub.json("iot", "hub", "identity", "assign", "--system-assigned")["principalId"]
        events.make("eventhub", "create", "-n", ENTITY, "--partition-count", "2")
        bus.make("queue", "create", "-n", ENTITY)
        self.account = hub.json("storage", "account", "create", "-n", ACCOUNT)
        hub.isthmus("storage", "container", "create", "-n", CONTAINER, "--account-name", ACCOUNT)

    def grant(self, role: str, scope: str) -> None:
        who = ("--assignee-object-id", self.principal)
        self.hub.isthmus("role", "assignment", "create", *who, "--role", role, "--scope", scope)

    def route(self, kind: str, name: str, *options: str) -> None:
        """An endpoint with the hub's identity, and all telemetry to it."""
        endpoint = ("message-endpoint", "create", kind, "--en", name, "--identity", "[system]", *options)
        self.hub.isthmus("iot", "hub", *endpoint)
        self.hub.isthmus("iot", "hub", "message-route", "create", "--rn", name, "-t", "DeviceMessages", "--en", name)

    def health(self, name: str) -> dict[str, Any]:
        return dict(self.hub.json("iot", "hub", "message-endpoint", "show-health", "--en", name))

    @property
    def blobs(self) -> str:
        return str(self.account["primaryEndpoints"]["blob"])


@pytest.fixture(scope="module")
def site(hub: RunningHub) -> Iterator[Site]:
    with ExitStack() as stack:
        events = stack.enter_context(namespace(hub, "eventhubs"))
        bus = stack.enter_context(namespace(hub, "servicebus"))
        site = Site(hub, events, bus)
        stack.enter_context(resolved(HUB_HOST, hub.address))
        stack.enter_context(resolved(site.blobs.removeprefix("https://").strip("/").partition(":")[0], hub.address))
        yield site


def test_an_event_hub_gets_what_a_route_takes(site: Site, device_id: str) -> None:
    site.grant(EVENT_HUBS_ROLE, site.events.resource_id)
    site.route("eventhub", "hub-events", "--endpoint-uri", f"sb://{site.events.host}", "--entity-path", ENTITY)
    with connected(site.hub, device_id) as device:
        _send(device, 0, 10, device_id)
        reader = EventCollector(site.events.connection_string(ENTITY), str(site.hub.ca))
        try:
            events = reader.wait(lambda event: json.loads(event.body_as_str())["device"] == device_id, 10)
        finally:
            reader.close()
    assert [json.loads(event.body_as_str())["number"] for event in events] == list(range(10))
    assert site.health("hub-events")["healthStatus"] == "healthy"


def test_a_queue_and_a_container_get_it_as_well(site: Site, device_id: str) -> None:
    site.grant(SERVICE_BUS_ROLE, site.bus.resource_id)
    site.grant(STORAGE_ROLE, site.account["id"])
    site.route("servicebus-queue", "queue", "--endpoint-uri", f"sb://{site.bus.host}", "--entity-path", ENTITY)
    uri = site.blobs.rstrip("/")
    site.route("storage-container", "blobs", "--endpoint-uri", uri, "--container", CONTAINER, "--encoding", "json")
    with connected(site.hub, device_id) as device:
        _send(device, 0, 10, device_id)
    assert _of_queue(site, device_id, 10) == list(range(10))
    until(lambda: len(_of_blobs(site, device_id)) == 10)
    assert _of_blobs(site, device_id) == list(range(10))


def test_a_role_that_is_missing_shows_in_health_and_nothing_is_lost(site: Site, device_id: str) -> None:
    other = site.events.make("eventhub", "create", "-n", "late", "--partition-count", "1")
    assert other is not None
    scope = f"{site.events.resource_id}/eventhubs/late"
    site.hub.isthmus("role", "assignment", "delete", "--assignee", site.principal, "--scope", site.events.resource_id)
    site.route("eventhub", "late", "--endpoint-uri", f"sb://{site.events.host}", "--entity-path", "late")
    with connected(site.hub, device_id) as device:
        _send(device, 0, 5, device_id)
        until(lambda: site.health("late")["healthStatus"] == "dead")
        health = site.health("late")
        assert health["lastKnownErrorSwitch"] == "role"
        _send(device, 5, 5, device_id)
        site.hub.restart()
        site.grant(EVENT_HUBS_ROLE, scope)
        reader = EventCollector(site.events.connection_string("late"), str(site.hub.ca))
        try:
            events = reader.wait(lambda event: json.loads(event.body_as_str())["device"] == device_id, 10)
        finally:
            reader.close()
    assert [json.loads(event.body_as_str())["number"] for event in events] == list(range(10))
    until(lambda: site.health("late")["healthStatus"] == "healthy")


def _send(device: IoTHubDeviceClient, first: int, count: int, name: str = "") -> None:
    for number in range(first, first + count):
        body = json.dumps({"device": name, "number": number})
        device.send_message(Message(body, content_encoding="utf-8", content_type="application/json"))


def _of_queue(site: Site, device_id: str, count: int) -> list[int]:
    numbers: list[int] = []
    string = site.bus.connection_string()
    with (
        ServiceBusClient.from_connection_string(string, connection_verify=str(site.hub.ca)) as client,
        client.get_queue_receiver(ENTITY) as receiver,
    ):
        while len(numbers) < count:
            messages = receiver.receive_messages(max_message_count=20, max_wait_time=20)
            assert messages, f"{len(numbers)} of {count}"
            for message in messages:
                body = json.loads(str(message))
                numbers += [body["number"]] if body["device"] == device_id else []
                receiver.complete_message(message)
    return numbers


def _of_blobs(site: Site, device_id: str) -> list[int]:
    string = site.hub.json("storage", "account", "show-connection-string", "-n", ACCOUNT)["connectionString"]
    with BlobServiceClient.from_connection_string(string, connection_verify=str(site.hub.ca)) as service:
        container = service.get_container_client(CONTAINER)
        blobs = [container.download_blob(blob.name).readall() for blob in container.list_blobs()]
    lines = [json.loads(line) for blob in blobs for line in blob.splitlines()]
    return [line["Body"]["number"] for line in lines if line["Body"]["device"] == device_id]
