"""Keys of targets renewed under load: who comes by identity never notices, who shows the former key fails and goes on.

Beside each other at one target: an endpoint with its key and one with the hub's identity, each to an entity of its own.
The one with the key is then switched to the identity, and the key that signs tokens is changed, all under way.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message
from azure.servicebus import ServiceBusClient, ServiceBusReceiver
from azure.storage.blob import BlobServiceClient

from clients.devices import connected, until
from clients.names import resolved
from clients.reading import EventCollector
from support.loopback import Loopback
from support.server import RunningHub

DOMAIN = "isthmus.test"
HOST = f"hub.{DOMAIN}"
NAME = "plantkeys"
BY_KEY, BY_IDENTITY = "by-key", "by-identity"
PAUSE_SECONDS = 0.02
WAIT_SECONDS = 60.0


class Target:
    """A neighbour with two entities, and how its keys are renewed and its messages read."""

    kind: str
    role: str
    show: tuple[str, ...]

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.make()
        principal = hub.json("iot", "hub", "identity", "show")["principalId"]
        scope = hub.json(*self.show, "-n", NAME)["id"]
        who = ("--assignee-object-id", principal, "--role", self.role)
        hub.isthmus("role", "assignment", "create", *who, "--scope", scope)

    def make(self) -> None:
        """Makes it with its entities."""
        raise NotImplementedError

    def add(self, name: str, *options: str) -> None:
        """An endpoint that leads to the entity of its name."""
        raise NotImplementedError

    def change(self, name: str, *options: str) -> None:
        """Changes such an endpoint."""
        self.hub.isthmus("iot", "hub", "message-endpoint", "update", self.kind, "--en", name, *options)

    @property
    def by_identity(self) -> tuple[str, ...]:
        """Options for an endpoint with the hub's own identity."""
        raise NotImplementedError

    @property
    def by_key(self) -> tuple[str, ...]:
        """Options for an endpoint with the present key."""
        return ("--connection-string", self.connection_string())

    def connection_string(self) -> str:
        raise NotImplementedError

    def renew(self) -> None:
        """Both keys."""
        raise NotImplementedError

    @contextmanager
    def reading(self, entity: str) -> Iterator[Callable[[], list[int]]]:
        """Gives what tells the numbers that are there so far, by the keys of now."""
        raise NotImplementedError


class Container(Target):
    kind, role, show = "storage-container", "Storage Blob Data Contributor", ("storage", "account", "show")

    def make(self) -> None:
        self.hub.isthmus("storage", "account", "create", "-n", NAME)
        for entity in (BY_KEY, BY_IDENTITY):
            self.hub.isthmus("storage", "container", "create", "-n", entity, "--account-name", NAME)

    def add(self, name: str, *options: str) -> None:
        command = ("iot", "hub", "message-endpoint", "create", self.kind, "--en", name)
        self.hub.isthmus(*command, "--container", name, "--encoding", "json", *options)

    @property
    def by_identity(self) -> tuple[str, ...]:
        return ("--identity", "[system]", "--endpoint-uri", f"https://{NAME}.blob.{DOMAIN}")

    def connection_string(self) -> str:
        shown = self.hub.json("storage", "account", "show-connection-string", "-n", NAME)
        return str(shown["connectionString"])

    def renew(self) -> None:
        for key in ("primary", "secondary"):
            self.hub.isthmus("storage", "account", "keys", "renew", "-n", NAME, "--key", key)

    @contextmanager
    def reading(self, entity: str) -> Iterator[Callable[[], list[int]]]:
        string = self.connection_string()
        with BlobServiceClient.from_connection_string(string, connection_verify=str(self.hub.ca)) as service:
            there = service.get_container_client(entity)

            def numbers() -> list[int]:
                blobs = [there.download_blob(blob.name).readall() for blob in there.list_blobs()]
                return [json.loads(line)["Body"]["number"] for blob in blobs for line in blob.splitlines()]

            yield numbers


class Namespaced(Target):
    """In a namespace, whose keys are those of its root rule."""

    group: str

    def add(self, name: str, *options: str) -> None:
        command = ("iot", "hub", "message-endpoint", "create", self.kind, "--en", name)
        self.hub.isthmus(*command, "--entity-path", name, *options)

    def change(self, name: str, *options: str) -> None:
        super().change(name, "--entity-path", name, *options)

    @property
    def by_identity(self) -> tuple[str, ...]:
        return ("--identity", "[system]", "--endpoint-uri", f"sb://{NAME}.servicebus.{DOMAIN}")

    def connection_string(self) -> str:
        return self.hub.isthmus("connection-string", "--namespace", NAME).strip()

    def renew(self) -> None:
        rule = ("authorization-rule", "keys", "renew", "--namespace-name", NAME, "-n", "RootManageSharedAccessKey")
        for key in ("PrimaryKey", "SecondaryKey"):
            self.hub.isthmus(self.group, "namespace", *rule, "--key", key)


class EventHub(Namespaced):
    kind, role, show = "eventhub", "Azure Event Hubs Data Sender", ("eventhubs", "namespace", "show")
    group = "eventhubs"

    def make(self) -> None:
        self.hub.isthmus("eventhubs", "namespace", "create", "-n", NAME)
        for entity in (BY_KEY, BY_IDENTITY):
            self.hub.isthmus("eventhubs", "eventhub", "create", "--namespace-name", NAME, "-n", entity)

    @contextmanager
    def reading(self, entity: str) -> Iterator[Callable[[], list[int]]]:
        string = self.hub.isthmus("connection-string", "--namespace", NAME, "--entity", entity).strip()
        reader = EventCollector(string, str(self.hub.ca))
        try:
            yield lambda: [json.loads(event.body_as_str())["number"] for event in list(reader.events)]
        finally:
            reader.close()


class Queue(Namespaced):
    kind, role, show = "servicebus-queue", "Azure Service Bus Data Sender", ("servicebus", "namespace", "show")
    group = "servicebus"

    def make(self) -> None:
        self.hub.isthmus("servicebus", "namespace", "create", "-n", NAME)
        for entity in (BY_KEY, BY_IDENTITY):
            self.make_entity(entity)

    def make_entity(self, entity: str) -> None:
        self.hub.isthmus("servicebus", "queue", "create", "--namespace-name", NAME, "-n", entity)

    def receiver(self, client: ServiceBusClient, entity: str) -> ServiceBusReceiver:
        return client.get_queue_receiver(entity)

    @contextmanager
    def reading(self, entity: str) -> Iterator[Callable[[], list[int]]]:
        found: list[int] = []
        string = self.connection_string()
        with (
            ServiceBusClient.from_connection_string(string, connection_verify=str(self.hub.ca)) as client,
            self.receiver(client, entity) as receiver,
        ):

            def numbers() -> list[int]:
                for message in receiver.receive_messages(max_message_count=500, max_wait_time=1):
                    found.append(json.loads(str(message))["number"])
                    receiver.complete_message(message)
                return found

            yield numbers


class Topic(Queue):
    kind = "servicebus-topic"

    def make_entity(self, entity: str) -> None:
        place = ("--namespace-name", NAME)
        self.hub.isthmus("servicebus", "topic", "create", *place, "-n", entity)
        self.hub.isthmus("servicebus", "topic", "subscription", "create", *place, "--topic-name", entity, "-n", "all")

    def receiver(self, client: ServiceBusClient, entity: str) -> ServiceBusReceiver:
        return client.get_subscription_receiver(entity, "all")


class Load:
    """A device that sends numbers, one after the other, until it is told to end."""

    def __init__(self, device: IoTHubDeviceClient) -> None:
        self._device = device
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.sent = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()

    def end(self) -> int:
        """Ends it, and tells how many were acknowledged."""
        self._ending.set()
        self._thread.join()
        return self.sent

    def more(self, count: int) -> None:
        """Returns when so many more were sent."""
        wanted = self.sent + count
        until(lambda: self.sent >= wanted, WAIT_SECONDS)

    def _send(self) -> None:
        while not self._ending.wait(PAUSE_SECONDS):
            body = json.dumps({"number": self.sent})
            self._device.send_message(Message(body, content_encoding="utf-8", content_type="application/json"))
            self.sent += 1


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with Loopback() as loopback, ExitStack() as stack:
        running = RunningHub(tmp_path_factory.mktemp("hub"), loopback.take(), hostname=HOST)
        for name in (HOST, f"{NAME}.servicebus.{DOMAIN}", f"{NAME}.blob.{DOMAIN}"):
            stack.enter_context(resolved(name, running.address))
        try:
            running.start()
            running.isthmus("iot", "hub", "identity", "assign", "--system-assigned")
            yield running
            running.stop()
        finally:
            running.kill()


@pytest.mark.parametrize(
    "kind",
    [
        Container,
        EventHub,
        pytest.param(Queue, marks=pytest.mark.long),
        pytest.param(Topic, marks=pytest.mark.long),
    ],
    ids=lambda kind: kind.__name__,
)
def test_identities_never_notice_and_keys_go_on_with_the_new_one(hub: RunningHub, kind: type[Target]) -> None:
    target = kind(hub)
    target.add(BY_KEY, *target.by_key)
    target.add(BY_IDENTITY, *target.by_identity)
    for name in (BY_KEY, BY_IDENTITY):
        hub.isthmus("iot", "hub", "message-route", "create", "--rn", name, "-t", "DeviceMessages", "--en", name)
    with connected(hub, "pump") as device, Load(device) as load:
        load.more(20)
        target.renew()
        load.more(20)
        until(lambda: health(hub, BY_KEY).get("lastKnownErrorSwitch") == "key", WAIT_SECONDS)
        assert health(hub, BY_KEY)["healthStatus"] == "unhealthy"

        target.change(BY_KEY, *target.by_key)
        until(lambda: health(hub, BY_KEY)["healthStatus"] == "healthy", WAIT_SECONDS)
        load.more(20)

        target.change(BY_KEY, *target.by_identity)
        hub.isthmus("authority", "rotate")
        load.more(20)
        target.renew()
        load.more(20)
        assert "lastKnownError" not in health(hub, BY_IDENTITY), "it never noticed"
        count = load.end()
    for name in (BY_KEY, BY_IDENTITY):
        with target.reading(name) as numbers:
            until(lambda read=numbers: set(read()) >= set(range(count)), WAIT_SECONDS)  # type: ignore[misc]
        assert health(hub, name)["healthStatus"] == "healthy"


def health(hub: RunningHub, name: str) -> dict[str, Any]:
    return dict(hub.json("iot", "hub", "message-endpoint", "show-health", "--en", name))
