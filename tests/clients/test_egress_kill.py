"""A hub and its targets in two installations, killed and cut off from each other at random while devices send.

Whatever was acknowledged to a device is afterwards at every target, and in the order in which the device sent it, up to
what was sent again. The hub writes by its identity, whose issuer the other installation trusts; there is no key between
them.
"""

import base64
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from azure.eventhub import EventData
from azure.servicebus import ServiceBusClient, ServiceBusReceiveMode
from azure.storage.blob import BlobServiceClient

from clients.devices import until
from clients.hosted import Namespace
from clients.names import resolved
from clients.publisher import Publisher, acknowledged_by_all, wait_for_acknowledgements
from clients.reading import EventCollector, sender
from support.cable import Cable
from support.loopback import Loopback
from support.server import RunningHub

NEEDS_ROOT: Final = "a hosts file of one process's own needs root and unshare"
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason=NEEDS_ROOT)

Sent: TypeAlias = tuple[str, int]
"""A device and one of its numbers."""

TENANT: Final = "00000000-0000-0000-0000-000000000000"
DEVICES: Final = 4
ROUNDS: Final = 4
ROUNDS_LONG: Final = 60
ACKNOWLEDGED_BETWEEN: Final = 60
ACCOUNT: Final = "farstore"
ENTITY: Final = "readings"
SEED: Final = 20261124


@dataclass
class Worlds:
    """The hub, the installation that hosts its targets, and the cable between them."""

    hub: RunningHub
    far: RunningHub
    cable: Cable
    events: Namespace
    bus: Namespace
    storage: str


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worlds]:
    with Loopback() as loopback, ExitStack() as stack:
        address, port_of_cable, far_address = loopback.take(), loopback.take(), loopback.take()
        hosts = tmp_path / "hosts"
        hosts.write_text("127.0.0.1 localhost\n")
        issuer = f"https://{address}/{TENANT}/v2.0"
        hub = RunningHub(
            tmp_path / "hub",
            address,
            hostname="hub.isthmus.test",
            settings=f'[authority]\nenabled = true\nissuer = "{issuer}"\n',
            under=("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)),
        )
        stack.callback(hub.kill)
        hub.start()
        trusted = f'[[authority.trusted]]\nissuer = "{issuer}"\nca = "{hub.ca}"\n'
        far = RunningHub(tmp_path / "far", far_address, hostname="far.plant.test", settings=trusted)
        stack.callback(far.kill)
        far.start()
        cable = stack.enter_context(Cable(port_of_cable, far_address, (443, 5671)))
        worlds = _connected(hub, far, cable)
        names = (worlds.events.host, worlds.bus.host, worlds.storage)
        hosts.write_text("".join(f"{port_of_cable} {name}\n" for name in names))
        for name in names:
            stack.enter_context(resolved(name, far_address))
        monkeypatch.setenv("SSL_CERT_FILE", str(far.ca))
        hub.restart()
        yield worlds
        hub.stop()
        far.stop()


def _connected(hub: RunningHub, far: RunningHub, cable: Cable) -> Worlds:
    """Makes the targets, lets the hub's identity write to them, and routes everything there."""
    principal = hub.json("iot", "hub", "identity", "assign", "--system-assigned")["principalId"]
    events = Namespace(far, "eventhubs", "far-events", far.json("eventhubs", "namespace", "create", "-n", "far-events"))
    bus = Namespace(far, "servicebus", "far-bus", far.json("servicebus", "namespace", "create", "-n", "far-bus"))
    account = far.json("storage", "account", "create", "-n", ACCOUNT)
    events.make("eventhub", "create", "-n", ENTITY, "--partition-count", "2")
    bus.make("queue", "create", "-n", ENTITY)
    far.isthmus("storage", "container", "create", "-n", ENTITY, "--account-name", ACCOUNT)
    for role, scope in (
        ("Azure Event Hubs Data Sender", events.resource_id),
        ("Azure Service Bus Data Sender", bus.resource_id),
        ("Storage Blob Data Contributor", account["id"]),
    ):
        who = ("--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal")
        far.isthmus("role", "assignment", "create", *who, "--role", role, "--scope", scope)
    storage = f"{ACCOUNT}.blob.plant.test"
    _route(hub, "eventhub", "events", f"sb://{events.host}", "--entity-path", ENTITY)
    _route(hub, "servicebus-queue", "queue", f"sb://{bus.host}", "--entity-path", ENTITY)
    _route(hub, "storage-container", "blobs", f"https://{storage}", "--container", ENTITY, "--encoding", "json")
    return Worlds(hub, far, cable, events, bus, storage)


def _route(hub: RunningHub, kind: str, name: str, uri: str, *options: str) -> None:
    create = ("iot", "hub", "message-endpoint", "create", kind, "--en", f"{name}-far", "--identity", "[system]")
    hub.isthmus(*create, "--endpoint-uri", uri, *options)
    hub.isthmus(*("iot", "hub", "message-route", "create", "--rn", name, "-t", "DeviceMessages", "--en", f"{name}-far"))


@pytest.fixture
def publishers(worlds: Worlds) -> Iterator[list[Publisher]]:
    running = [Publisher(worlds.hub, f"press-{number}") for number in range(DEVICES)]
    yield running
    for publisher in running:
        publisher.stop()


def test_nothing_acknowledged_is_lost_at_any_target(worlds: Worlds, publishers: list[Publisher]) -> None:
    break_and_check(worlds, publishers, ROUNDS)


@pytest.mark.long
def test_nothing_acknowledged_is_lost_at_any_target_in_many_rounds(worlds: Worlds, publishers: list[Publisher]) -> None:
    break_and_check(worlds, publishers, ROUNDS_LONG)


def break_and_check(worlds: Worlds, publishers: list[Publisher], rounds: int) -> None:
    ways: list[Callable[[], None]] = [
        worlds.hub.restart,
        worlds.far.restart,
        lambda: cut(worlds, publishers),
        lambda: killed_apart(worlds),
    ]
    chance = random.Random(SEED)
    for number in range(rounds):
        wait_for_acknowledgements(publishers, acknowledged_by_all(publishers) + ACKNOWLEDGED_BETWEEN)
        (ways[number % len(ways)] if rounds == len(ways) else chance.choice(ways))()
    wait_for_acknowledgements(publishers, acknowledged_by_all(publishers) + ACKNOWLEDGED_BETWEEN)
    for publisher in publishers:
        publisher.stop()
    everything = {(publisher.device_id, number) for publisher in publishers for number in publisher.acknowledged}
    for read in (events_of, messages_of, lines_of):
        seen = read(worlds, everything)
        assert everything <= set(seen), f"{read.__name__}: {len(everything - set(seen))} are lost"
        for publisher in publishers:
            numbers = list(dict.fromkeys(number for device, number in seen if device == publisher.device_id))
            assert numbers == sorted(numbers), read.__name__


def cut(worlds: Worlds, publishers: list[Publisher]) -> None:
    """Cuts the cable, and lets devices send meanwhile."""
    worlds.cable.cut()
    wait_for_acknowledgements(publishers, acknowledged_by_all(publishers) + ACKNOWLEDGED_BETWEEN)
    worlds.cable.mend()


def killed_apart(worlds: Worlds) -> None:
    """Both die while the cable is cut."""
    worlds.cable.cut()
    worlds.far.kill()
    worlds.hub.restart()
    worlds.far.start()
    worlds.cable.mend()


def events_of(worlds: Worlds, wanted: set[Sent]) -> list[Sent]:
    """What is in the event hub, once all that is wanted is there, or in vain for a while."""
    collector = EventCollector(worlds.events.connection_string(ENTITY), str(worlds.far.ca))
    try:
        until(lambda: wanted <= set(_sent(collector.events)), 90)
        return _sent(collector.events)
    finally:
        collector.close()


def _sent(events: list[EventData]) -> list[Sent]:
    return [(sender(event), int(event.body_as_str())) for event in list(events)]


def messages_of(worlds: Worlds, wanted: set[Sent]) -> list[Sent]:
    """What is in the queue, which is emptied."""
    seen: list[Sent] = []
    client = ServiceBusClient.from_connection_string(
        worlds.bus.connection_string(), connection_verify=str(worlds.far.ca)
    )
    with client, client.get_queue_receiver(ENTITY, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE) as receiver:
        while not wanted <= set(seen) and (some := receiver.receive_messages(200, max_wait_time=30)):
            for message in some:
                properties: Any = message.application_properties
                seen.append((properties[b"iothub-connection-device-id"].decode(), int(str(message))))
    return seen


def lines_of(worlds: Worlds, wanted: set[Sent]) -> list[Sent]:
    """What is in all blobs."""
    seen: list[Sent] = []
    string = worlds.far.json("storage", "account", "show-connection-string", "-n", ACCOUNT)["connectionString"]
    with BlobServiceClient.from_connection_string(string, connection_verify=str(worlds.far.ca)) as service:
        container = service.get_container_client(ENTITY)

        def read() -> bool:
            blobs = [container.download_blob(blob.name).readall() for blob in container.list_blobs()]
            records = [json.loads(line) for blob in blobs for line in blob.splitlines()]
            seen[:] = [
                (each["SystemProperties"]["connectionDeviceId"], int(base64.b64decode(each["Body"])))
                for each in records
            ]
            return wanted <= set(seen)

        until(read, 90)
    return seen
