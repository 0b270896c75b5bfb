"""Dry runs before stock SDKs: whom they list is who is then refused, and whom they do not goes on."""

import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest
from azure.eventhub import EventHubConsumerClient
from azure.eventhub.exceptions import EventHubError
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

from clients.devices import client_of, connected, make_device
from clients.names import resolved
from clients.reading import EventCollector
from support.server import ISTHMUS, RunningHub

CLOSING = ("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")
SOURCE = "127.0.0.1"


@pytest.fixture
def endpoint(hub: RunningHub, loopback_address: str) -> Iterator[str]:
    """Name of an approved private endpoint, at `loopback_address`; the public door is open again afterwards."""
    name = f"plant-{uuid.uuid4().hex[:6]}"
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", name, "--connection-name", name),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"], "--group-id", "iotHub"),
        *("--ip-config", f"name={name}", "group-id=iotHub", "member-name=iotHub"),
        f"private-ip-address={loopback_address}",
    )
    yield name
    hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Enabled")
    hub.isthmus("network", "private-endpoint", "delete", "--name", name)


def test_closing_the_public_side_cuts_off_whom_its_dry_run_lists(
    hub: RunningHub, endpoint: str, loopback_address: str, collect: Callable[..., EventCollector]
) -> None:
    for device_id in ("gone", "outside", "inside"):
        make_device(hub, device_id)
    hub.isthmus("iot", "hub", "consumer-group", "create", "--name", "billing")
    send(hub, "gone")
    read_statistics(hub)
    with connected(hub, "outside", create=False), resolved(hub.host_name, loopback_address):
        send(hub, "inside")
    with connected(hub, "outside", create=False) as outside:
        outside.send_message("before")
        reader = collect(consumer_group="billing", retry_total=0)
        reader.of_device("gone")
        told = hub.json(*CLOSING, "--dry-run")
        outside.send_message("nothing was changed")
    listed = {each["device"] or each["consumerGroup"] or each["plane"]: each for each in told}
    assert {"gone", "outside", "billing", "https"} <= set(listed)
    assert "inside" not in listed
    assert [listed[name]["live"] for name in ("gone", "outside", "billing")] == [False, True, True]
    for each in told:
        assert (each["rule"], each["address"], each["door"]) == ("network.public-access", SOURCE, "public")
        assert "publicNetworkAccess" in each["remedy"]
    assert listed["https"]["principal"] == "policy:iothubowner"
    assert hub.json("iot", "hub", "show")["properties"]["publicNetworkAccess"] == "Enabled"

    hub.isthmus(*CLOSING)

    reader.wait_for_error()
    for device_id in ("gone", "outside"):
        with pytest.raises(CredentialError):
            send(hub, device_id)
    with pytest.raises(HttpOperationError):
        read_statistics(hub)
    with pytest.raises(EventHubError):
        read_properties(hub)
    with resolved(hub.host_name, loopback_address):
        send(hub, "inside")


def test_rejecting_an_endpoint_and_a_policy_list_who_came_by_the_door(
    hub: RunningHub, endpoint: str, loopback_address: str
) -> None:
    make_device(hub, "plant-only")
    make_device(hub, "elsewhere")
    with resolved(hub.host_name, loopback_address):
        send(hub, "plant-only")
    send(hub, "elsewhere")
    rejecting = ("network", "private-endpoint-connection", "reject", "--name", endpoint, "--resource-name")
    name = hub.json("iot", "hub", "show")["name"]
    (refused,) = hub.json(*rejecting, name, "--dry-run")
    assert (refused["device"], refused["rule"]) == ("plant-only", "network.private-endpoint-rejected")
    assert refused["door"].startswith(f"private:{endpoint}.")
    binding = ("policy", "create", "-n", "floor", "-d", "plant-only", "elsewhere", "--doors", f"private:{endpoint}")
    (refused,) = hub.json(*binding, "--dry-run")
    assert (refused["device"], refused["rule"]) == ("elsewhere", "policy.wrong-door")
    assert hub.json("policy", "list") == []


def test_a_dry_run_says_in_words_what_was_looked_at(hub: RunningHub, endpoint: str) -> None:
    make_device(hub, "told")
    send(hub, "told")
    done = subprocess.run(
        [str(ISTHMUS), *CLOSING, "--dry-run", "--since", "1h", "--output", "table", "--data", str(hub.data)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr.startswith("Dry run, nothing was changed. ")
    heading, _, *rows = done.stdout.splitlines()
    for column in ("Address", "Device", "Door", "LastSeen", "Live", "Plane", "Rule"):
        assert column in heading.split()
    assert any("told" in row and "network.public-access" in row for row in rows)


def send(hub: RunningHub, device_id: str) -> None:
    device = client_of(hub, hub.device_connection_string(device_id), connection_retry=False)
    try:
        device.connect()
        device.send_message("hello")
    finally:
        device.shutdown()


def read_statistics(hub: RunningHub) -> None:
    IoTHubRegistryManager.from_connection_string(hub.connection_string()).get_device_registry_statistics()


def read_properties(hub: RunningHub) -> None:
    client = EventHubConsumerClient.from_connection_string(
        hub.events_connection_string(), "$Default", connection_verify=str(hub.ca), retry_total=0
    )
    with client:
        client.get_eventhub_properties()
