"""Identities bound to doors, as stock SDKs meet it: refused like a wrong key, cut while live, back when they may.

The Python device client tries again at once when its connection ends; after an answer that says it is not authorized it
waits for the next thing to send, and then connects by itself.
"""

import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
from azure.eventhub.exceptions import EventHubError
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

from clients.devices import client_of, connected, make_device
from clients.names import resolved
from clients.reading import WAIT_SECONDS, EventCollector
from support.server import RunningHub

CUT_SECONDS = 1.0
"""A session that a policy binds to another door ends within a second; the command answers when it has been told."""


@pytest.fixture
def endpoint(hub: RunningHub, loopback_address: str) -> Iterator[str]:
    """Name of an approved private endpoint, at `loopback_address`."""
    name = f"plant-{uuid.uuid4().hex[:6]}"
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", name, "--connection-name", name),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"], "--group-id", "iotHub"),
        *("--ip-config", f"name={name}", "group-id=iotHub", "member-name=iotHub"),
        f"private-ip-address={loopback_address}",
    )
    yield name
    for policy in hub.json("policy", "list"):
        hub.isthmus("policy", "delete", "-n", policy["name"])
    hub.isthmus("network", "private-endpoint", "delete", "--name", name)


def test_a_device_at_the_wrong_door_hears_of_a_wrong_key_and_its_owner_why(
    hub: RunningHub, endpoint: str, loopback_address: str
) -> None:
    make_device(hub, "bound")
    made = hub.json("policy", "create", "-n", "floor", "--device-id", "bound", "--doors", f"private:{endpoint}")
    assert made["properties"]["doors"] == [f"private:{endpoint}"]
    for options in ({}, {"websockets": True}):
        with pytest.raises(CredentialError):
            send(hub, "bound", **options)
    refusal = hub.json("explain", "--device-id", "bound")[0]
    assert (refusal["rule"], refusal["hop"], refusal["door"]) == ("policy.wrong-door", "authorization", "public")
    for named in ("floor", "public", f"private:{endpoint}"):
        assert named in refusal["value"]
    assert "isthmus policy update -n floor --doors" in refusal["remedy"]
    with resolved(hub.host_name, loopback_address):
        send(hub, "bound")
    send_as(hub, "free")


def test_a_live_device_is_cut_and_comes_back_when_it_may(hub: RunningHub, endpoint: str) -> None:
    with connected(hub, "live") as device:
        down, up = threading.Event(), threading.Event()
        device.on_connection_state_change = lambda: (up if device.connected else down).set()
        hub.isthmus("policy", "create", "-n", "floor", "-d", "live", "other", "--doors", "private")
        assert down.wait(CUT_SECONDS)
        hub.isthmus("policy", "update", "-n", "floor", "--doors", "private", "public")
        device.send_message("back")
        assert up.wait(WAIT_SECONDS)


def test_tags_bind_a_device_while_it_is_connected(hub: RunningHub, endpoint: str) -> None:
    hub.isthmus("policy", "create", "-n", "site", "--tag-query", "tags.site = 'plant1'", "--doors", "private")
    with connected(hub, "tagged") as device:
        down, up = threading.Event(), threading.Event()
        device.on_connection_state_change = lambda: (up if device.connected else down).set()
        hub.isthmus("device-twin", "update", "-d", "tagged", "--tags", '{"site": "plant1"}')
        assert down.wait(CUT_SECONDS)
        assert hub.json("explain", "--device-id", "tagged")[0]["rule"] == "policy.wrong-door"
        hub.isthmus("device-twin", "update", "-d", "tagged", "--tags", '{"site": "plant2"}')
        device.send_message("back")
        assert up.wait(WAIT_SECONDS)


def test_readers_of_a_consumer_group_are_bound_and_others_are_not(
    hub: RunningHub, endpoint: str, loopback_address: str, collect: Callable[..., EventCollector]
) -> None:
    hub.isthmus("iot", "hub", "consumer-group", "create", "--name", "billing")
    reader, free = collect(consumer_group="billing", retry_total=0), collect()
    send_as(hub, "teller")
    reader.of_device("teller")
    hub.isthmus("policy", "create", "-n", "money", "--consumer-group", "billing", "--doors", f"private:{endpoint}")
    error = reader.wait_for_error()
    assert isinstance(error, EventHubError)
    assert "unauthorized" in str(error).lower()
    with resolved(hub.host_name, loopback_address):
        inside = collect(consumer_group="billing")
        inside.of_device("teller")
    send(hub, "teller")
    free.of_device("teller", 2)
    entry = next(each for each in hub.json("explain") if each["rule"] == "policy.wrong-door")
    assert (entry["plane"], entry["principal"]) == ("amqp", "policy:iothubowner")
    assert "billing" in entry["value"]


def test_a_shared_access_policy_is_bound_and_others_are_not(
    hub: RunningHub, endpoint: str, loopback_address: str
) -> None:
    hub.isthmus("policy", "create", "-n", "office", "--policy-name", "registryRead", "--doors", "private")
    with pytest.raises(HttpOperationError, match="Unauthorized"):
        read_statistics(hub, "registryRead")
    read_statistics(hub, "registryReadWrite")
    with resolved(hub.host_name, loopback_address):
        read_statistics(hub, "registryRead")


def test_a_policy_that_can_only_be_a_mistake_is_refused(hub: RunningHub, endpoint: str) -> None:
    for flags, said in (
        (("--device-id", "d", "--doors", "private:nowhere"), f"private:{endpoint}"),
        (("--tag-query", "tags.n > 3", "--doors", "public"), "joined by AND"),
        (("--tag-query", "properties.reported.site = 'a'", "--doors", "public"), "tags only"),
        (("--policy-name", "nobody", "--doors", "public"), "iothubowner"),
        (("--device-id", "d"), "--doors"),
    ):
        assert said in hub.isthmus("policy", "create", "-n", "wrong", *flags, code=1)
    assert hub.json("policy", "list") == []


def send_as(hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    send(hub, device_id)


def send(hub: RunningHub, device_id: str, **options: bool) -> None:
    device = client_of(hub, hub.device_connection_string(device_id), connection_retry=False, **options)
    try:
        device.connect()
        device.send_message("hello")
    finally:
        device.shutdown()


def read_statistics(hub: RunningHub, policy: str) -> None:
    IoTHubRegistryManager.from_connection_string(hub.connection_string(policy)).get_device_registry_statistics()
