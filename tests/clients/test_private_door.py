"""The public door is closed before everybody's eyes: each plane, each in its protocol's words, and why."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient, TransportType
from azure.eventhub.exceptions import EventHubError
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

from clients.devices import client_of, connected, make_device
from clients.names import resolved
from clients.reading import WAIT_SECONDS, EventCollector
from support.server import RunningHub

HUB_TYPE = ("--type", "Microsoft.Devices/IotHubs")


@pytest.fixture
def private_address(hub: RunningHub, loopback_address: str) -> Iterator[str]:
    """An approved private endpoint of the hub, at an address of its own; the public door is open again afterwards."""
    name = f"plant-{uuid.uuid4().hex[:6]}"
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", name, "--connection-name", name),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"], "--group-id", "iotHub"),
        *("--ip-config", f"name={name}", "group-id=iotHub", "member-name=iotHub"),
        f"private-ip-address={loopback_address}",
    )
    yield loopback_address
    set_public(hub, "Enabled")
    hub.isthmus("network", "private-endpoint", "delete", "--name", name)


def test_closing_cuts_the_public_door_and_leaves_the_private_one(
    hub: RunningHub, private_address: str, collect: Callable[..., EventCollector]
) -> None:
    with ExitStack() as stack:
        outside = stack.enter_context(connected(hub, "outside", connection_retry=False))
        outside_reader = collect(retry_total=0)
        outside.send_message("first")
        outside_reader.of_device("outside")
        with resolved(hub.host_name, private_address):
            inside = stack.enter_context(connected(hub, "inside"))
            inside_reader = collect()
            inside_reader.of_device("outside")
        cut = threading.Event()
        outside.on_connection_state_change = lambda: cut.set() if not outside.connected else None
        outside.send_message("before")
        inside.send_message("before")
        assert inside_reader.of_device("outside", 2)[1].body_as_str() == "before"
        set_public(hub, "Disabled")
        assert cut.wait(WAIT_SECONDS)
        outside_reader.wait_for_error()
        inside.send_message("after")
        assert inside_reader.of_device("inside", 2)[1].body_as_str() == "after"


def test_each_plane_refuses_in_public_and_works_in_private(hub: RunningHub, private_address: str) -> None:
    make_device(hub, "worker")
    set_public(hub, "Disabled")
    for act, error in (
        (send, CredentialError),
        (send_by_websocket, CredentialError),
        (read_event_hub_by_websocket, EventHubError),
        (read_statistics, HttpOperationError),
        (read_event_hub, EventHubError),
    ):
        with pytest.raises(error):
            act(hub)
        with resolved(hub.host_name, private_address):
            act(hub)
    explained = hub.json("explain")
    planes = {entry["plane"] for entry in explained if entry["rule"] == "network.public-access"}
    assert planes >= {"mqtt", "https", "amqp"}
    for entry in explained:
        if entry["rule"] == "network.public-access":
            assert entry["hop"] == "network"
            assert "publicNetworkAccess" in entry["remedy"]
            assert entry["address"] == "127.0.0.1"


def test_pending_and_rejected_endpoints_carry_nothing(hub: RunningHub, loopback_address: str) -> None:
    make_device(hub, "patient")
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", "late", "--connection-name", "late"),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"], "--group-id", "iotHub"),
        *("--manual-request", "true", "--request-message", "please"),
        *("--ip-config", "name=late", "group-id=iotHub", "member-name=iotHub"),
        f"private-ip-address={loopback_address}",
    )
    (connection,) = hub.json("network", "private-endpoint-connection", "list", "--name", hub_name(hub), *HUB_TYPE)
    assert connection["properties"]["privateLinkServiceConnectionState"]["status"] == "Pending"
    with resolved(hub.host_name, loopback_address):
        with pytest.raises(Exception, match=r"."):
            send(hub, "patient")
        decide(hub, "approve", connection["name"])
        send(hub, "patient")
        with connected(hub, "patient", create=False, connection_retry=False) as device:
            cut = threading.Event()
            device.on_connection_state_change = lambda: cut.set() if not device.connected else None
            decide(hub, "reject", connection["name"])
            assert cut.wait(WAIT_SECONDS)
        with pytest.raises(Exception, match=r"."):
            send(hub, "patient")
    hub.isthmus("network", "private-endpoint", "delete", "--name", "late")


def hub_name(hub: RunningHub) -> str:
    return str(hub.json("iot", "hub", "show")["name"])


def decide(hub: RunningHub, verb: str, name: str) -> None:
    hub.isthmus(
        "network", "private-endpoint-connection", verb, "--name", name, "--resource-name", hub_name(hub), *HUB_TYPE
    )


def set_public(hub: RunningHub, value: str) -> None:
    hub.isthmus("iot", "hub", "update", "--set", f"properties.publicNetworkAccess={value}")


def send(hub: RunningHub, device_id: str = "worker", **options: Any) -> None:
    device = client_of(hub, hub.device_connection_string(device_id), connection_retry=False, **options)
    try:
        device.connect()
        device.send_message("hello")
    finally:
        device.shutdown()


def read_statistics(hub: RunningHub) -> None:
    IoTHubRegistryManager.from_connection_string(hub.connection_string()).get_device_registry_statistics()


def send_by_websocket(hub: RunningHub) -> None:
    send(hub, websockets=True)


def read_event_hub_by_websocket(hub: RunningHub) -> None:
    read_event_hub(hub, transport_type=TransportType.AmqpOverWebsocket)


def read_event_hub(hub: RunningHub, **options: Any) -> None:
    client = EventHubConsumerClient.from_connection_string(
        hub.events_connection_string(), "$Default", connection_verify=str(hub.ca), retry_total=0, **options
    )
    with client:
        client.get_eventhub_properties()
