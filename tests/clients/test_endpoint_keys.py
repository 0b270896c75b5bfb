"""Keys of targets are renewed under load: who shows an identity never notices, who shows a key needs the new one."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
from azure.identity import ClientSecretCredential
from azure.iot.device import IoTHubDeviceClient, Message

from clients.devices import connected, until
from clients.hosted import namespace
from clients.names import resolved
from clients.site import DOMAIN, HOST, TENANT, assign
from clients.target_readers import ContainerReader, EventHubReader, ServiceBusPeeker, TargetReader
from isthmus.base.partitioning import partition_of
from support.loopback import Loopback
from support.server import RunningHub

ROOT: Final = "RootManageSharedAccessKey"
REFUSED: Final = ("InvalidSignature: The token has an invalid signature.", "Server failed to authenticate the request.")
"""What namespaces say of a key that is not theirs, and storage."""

KINDS: Final = ("eventhub", "servicebus-queue", "servicebus-topic", "storage-container")


@dataclass(frozen=True)
class Target:
    """A target with what an endpoint is told of it, by key and by identity, and how it is read."""

    key: Callable[[], str]
    renew: Callable[[], None]
    uri: str
    entity: tuple[str, ...]
    resource_id: str
    sender: str
    reader: TargetReader


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub with an identity of its own, whose token authority is served."""
    with Loopback() as loopback:
        folder, settings = tmp_path_factory.mktemp("hub"), "[authority]\nenabled = true\n"
        running = RunningHub(folder, loopback.take(), hostname=HOST, settings=settings)
        try:
            running.start()
            running.isthmus("iot", "hub", "identity", "assign", "--system-assigned", "true")
            with resolved(HOST, running.address):
                yield running
            running.stop()
        finally:
            running.kill()


@pytest.fixture(scope="module")
def credential(hub: RunningHub) -> tuple[Any, str]:
    """A stock credential for readers, and its object id."""
    made = hub.json("identity", "create", "-n", "reader")
    secret = hub.json("identity", "secret", "create", "-n", "reader")["secretText"]
    shown = ClientSecretCredential(
        *(TENANT, made["clientId"], secret),
        authority=f"https://{hub.address}",
        disable_instance_discovery=True,
        connection_verify=str(hub.ca),
    )
    return shown, made["principalId"]


@pytest.fixture
def make_target(hub: RunningHub, credential: tuple[Any, str]) -> Iterator[Callable[[str, str], Target]]:
    """Makes a target of a kind for the messages of a device."""
    with ExitStack() as stack:

        def make(kind: str, device: str) -> Target:
            if kind == "storage-container":
                target = _container(hub, stack, credential)
            else:
                target = _entity(hub, stack, credential, kind, device)
            stack.callback(target.reader.close)
            return target

        yield make


@pytest.mark.parametrize("kind", KINDS)
def test_a_renewed_key_stops_whoever_shows_it_and_nobody_else(
    hub: RunningHub, make_target: Callable[[str, str], Target], kind: str
) -> None:
    device_id = f"press-{kind}"
    target = make_target(kind, device_id)
    endpoint = ("iot", "hub", "message-endpoint")
    more = ("--encoding", "json") if kind == "storage-container" else ()
    hub.isthmus(*endpoint, "create", kind, "--en", kind, "--connection-string", target.key(), *target.entity, *more)
    _route(hub, kind, device_id)
    with connected(hub, device_id) as device:
        _send(device, 0, 10)
        until(lambda: target.reader.numbers() == list(range(10)))
        target.renew()
        _send(device, 10, 20)
        until(lambda: _health(hub, kind)["healthStatus"] == "unhealthy")
        health = _health(hub, kind)
        assert "with the key that holds now" in health["remedy"]
        assert REFUSED[kind == "storage-container"] in health["lastKnownError"]
        hub.isthmus(*endpoint, "update", kind, "--en", kind, "--connection-string", target.key())
        until(lambda: target.reader.numbers()[-1:] == [19])
        _send(device, 20, 25)
        assign(hub, _principal(hub), target.sender, target.resource_id)
        where = () if kind == "storage-container" else target.entity
        identity = ("--identity", "[system]", "--endpoint-uri", target.uri, *where)
        hub.isthmus(*endpoint, "update", kind, "--en", kind, *identity)
        _send(device, 25, 30)
        target.renew()
        _send(device, 30, 40)
        until(lambda: target.reader.numbers()[-1:] == [39])
    assert list(dict.fromkeys(target.reader.numbers())) == list(range(40))
    assert _health(hub, kind)["healthStatus"] == "healthy"


def _entity(hub: RunningHub, stack: ExitStack, credential: tuple[Any, str], kind: str, device: str) -> Target:
    words = "eventhubs" if kind == "eventhub" else "servicebus"
    made = stack.enter_context(namespace(hub, words))
    shown, principal = credential
    name, ca = "target", str(hub.ca)
    title = "Event Hubs" if kind == "eventhub" else "Service Bus"
    assign(hub, principal, f"Azure {title} Data Receiver", made.resource_id)
    reader: TargetReader
    if kind == "eventhub":
        made.make("eventhub", "create", "-n", name, "--partition-count", "4")
        reader = EventHubReader(made.host, name, partition_of(device, 4), shown, ca)
    elif kind == "servicebus-queue":
        made.make("queue", "create", "-n", name)
        reader = ServiceBusPeeker(made.host, lambda client: client.get_queue_receiver(name), shown, ca)
    else:
        made.make("topic", "create", "-n", name)
        made.make("topic", "subscription", "create", "--topic-name", name, "-n", "all")
        reader = ServiceBusPeeker(made.host, lambda client: client.get_subscription_receiver(name, "all"), shown, ca)

    def renew() -> None:
        for key in ("PrimaryKey", "SecondaryKey"):
            made.make("namespace", "authorization-rule", "keys", "renew", "-n", ROOT, "--key", key)

    return Target(
        key=lambda: made.connection_string(name),
        renew=renew,
        uri=f"sb://{made.host}",
        entity=("--entity-path", name),
        resource_id=made.resource_id,
        sender=f"Azure {title} Data Sender",
        reader=reader,
    )


def _container(hub: RunningHub, stack: ExitStack, credential: tuple[Any, str]) -> Target:
    account, container, ca = "keyedstore", "target", str(hub.ca)
    made = hub.json("storage", "account", "create", "-n", account)
    hub.isthmus("storage", "container", "create", "--account-name", account, "-n", container)
    shown, principal = credential
    assign(hub, principal, "Storage Blob Data Reader", made["id"])
    host = f"{account}.blob.{DOMAIN}"
    stack.enter_context(resolved(host, hub.address))

    def renew() -> None:
        for key in ("primary", "secondary"):
            hub.isthmus("storage", "account", "keys", "renew", "-n", account, "--key", key)

    return Target(
        key=lambda: str(hub.json("storage", "account", "show-connection-string", "-n", account)["connectionString"]),
        renew=renew,
        uri=f"https://{host}",
        entity=("--container", container),
        resource_id=made["id"],
        sender="Storage Blob Data Contributor",
        reader=ContainerReader(host, container, shown, ca),
    )


def _route(hub: RunningHub, kind: str, device_id: str) -> None:
    command = ("iot", "hub", "message-route", "create", "--rn", kind, "-t", "DeviceMessages", "--en", kind)
    hub.isthmus(*command, "--condition", f"$connectionDeviceId = '{device_id}'")


def _send(device: IoTHubDeviceClient, first: int, end: int) -> None:
    for number in range(first, end):
        device.send_message(Message(json.dumps({"number": number}), None, "utf-8", "application/json"))


def _health(hub: RunningHub, endpoint: str) -> dict[str, Any]:
    shown: Any = hub.json("iot", "hub", "message-endpoint", "show-health", "--en", endpoint)
    return dict(shown[0] if isinstance(shown, list) else shown)


def _principal(hub: RunningHub) -> str:
    return str(hub.json("iot", "hub", "identity", "show")["principalId"])
