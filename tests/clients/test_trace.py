"""`trace`: a stock device's message, followed from its door to what each sink answered."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message

from clients.devices import client_of, until
from clients.names import resolved
from support.loopback import Loopback
from support.server import RunningHub

HOST = "hub.isthmus.test"
TARGET = "https://plantstore.blob.isthmus.test"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub whose messages go to its built-in endpoint and to a storage account that does not let it in."""
    with Loopback() as loopback:
        running = RunningHub(tmp_path_factory.mktemp("hub"), loopback.take(), hostname=HOST)
        try:
            running.start()
            running.isthmus("iot", "hub", "identity", "assign", "--system-assigned")
            running.isthmus("storage", "account", "create", "-n", "plantstore")
            running.isthmus("storage", "container", "create", "-n", "telemetry", "--account-name", "plantstore")
            add_endpoint(running, "store", "telemetry")
            add_route(running, "hot", "store", "level = 'hot'")
            add_route(running, "all", "events", "true")
            yield running
            running.stop()
        finally:
            running.kill()


@pytest.fixture
def device(hub: RunningHub, device_id: str) -> Iterator[IoTHubDeviceClient]:
    with resolved(hub.host_name, hub.address):
        client = client_of(hub, hub.create_device(device_id))
        client.connect()
        yield client
        client.shutdown()


def test_a_message_is_followed_from_its_door_to_the_sinks_answer(
    hub: RunningHub, device: IoTHubDeviceClient, device_id: str
) -> None:
    send(device, f"{device_id}-1")
    until(lambda: "lacks the role" in delivery(traced(hub, f"{device_id}-1"), "store")["answer"])
    found = traced(hub, f"{device_id}-1")
    assert (found["door"], found["identity"], found["authentication"]["type"]) == (
        *("public", f"device:{device_id}", "sas"),
    )
    assert (found["hub"], found["device"], found["source"], found["routes"]) == (
        *("hub", device_id, "Telemetry", ["hot", "all"]),
    )
    assert delivery(found, "events")["state"] == "readable"
    assert f"sequence number {found['sequenceNumber']}" in delivery(found, "events")["answer"]
    waiting = delivery(found, "store")
    assert (waiting["state"], waiting["target"]) == ("waiting", "plantstore.blob.isthmus.test/telemetry")
    assert "AuthorizationPermissionMismatch" in waiting["answer"]

    told = json.loads(hub.run("check", "endpoint", "store", "--output", "json").stdout)
    for remedy in [each["remedy"] for each in told["switches"] if each["state"] == "off"]:
        hub.isthmus(*shlex.split(remedy)[1:])
    until(lambda: delivery(traced(hub, f"{device_id}-1"), "store")["state"] == "delivered")
    by_offset = traced(hub, "--offset", str(found["offset"]))
    assert (by_offset["messageId"], by_offset["offset"]) == (f"{device_id}-1", found["offset"])


def test_what_no_sink_was_to_get_and_what_is_not_there(
    hub: RunningHub, device: IoTHubDeviceClient, device_id: str
) -> None:
    send(device, f"{device_id}-cold", "cold")
    found = traced(hub, f"{device_id}-cold", "--device-id", device_id)
    assert [each["endpoint"] for each in found["deliveries"]] == ["events"]
    assert found["routes"] == ["all"]
    printed = hub.isthmus("trace", f"{device_id}-cold")
    assert f"device:{device_id} by sas" in printed
    for words in (
        (f"{device_id}-cold", "--device-id", "other"),
        ("nothing",),
        (f"{device_id}-cold", "--hub-name", "x"),
    ):
        done = hub.run("trace", *words)
        assert ("No message" in done.stdout, done.returncode) == (True, 1)
    assert "Say which message" in hub.isthmus("trace", code=1)


def test_what_waits_for_an_endpoint_that_is_deleted_is_told(
    hub: RunningHub, device: IoTHubDeviceClient, device_id: str
) -> None:
    add_endpoint(hub, "gone", "nowhere")
    add_route(hub, "to-gone", "gone", "true")
    send(device, f"{device_id}-dead")
    until(lambda: "lacks the role" in delivery(traced(hub, f"{device_id}-dead"), "gone")["answer"])
    hub.isthmus("iot", "hub", "message-route", "delete", "--rn", "to-gone")
    hub.isthmus("iot", "hub", "message-endpoint", "delete", "--en", "gone")
    found = traced(hub, f"{device_id}-dead")
    assert "deleted" in [each["state"] for each in found["deliveries"]]


def add_endpoint(hub: RunningHub, name: str, container: str) -> None:
    hub.isthmus(
        *("iot", "hub", "message-endpoint", "create", "storage-container", "--en", name, "--container", container),
        *("--identity", "[system]", "--endpoint-uri", TARGET, "--encoding", "json"),
    )


def add_route(hub: RunningHub, name: str, endpoint: str, condition: str) -> None:
    words = ("--rn", name, "-t", "DeviceMessages", "--en", endpoint, "-c", condition)
    hub.isthmus("iot", "hub", "message-route", "create", *words)


def send(device: IoTHubDeviceClient, message_id: str, level: str = "hot") -> None:
    message = Message(json.dumps({"number": 1}), message_id=message_id)
    message.custom_properties["level"] = level
    device.send_message(message)


def traced(hub: RunningHub, *words: str) -> dict[str, Any]:
    (found,) = hub.json("trace", *words)
    return dict(found)


def delivery(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in found["deliveries"] if each["endpoint"] == name)
