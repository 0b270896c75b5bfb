"""Stock azure-eventhub, sync and aio, against a hosted Event Hubs namespace: sending, reading, keys and tokens."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from azure.core.credentials import AccessToken, TokenCredential
from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient, TransportType
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumer
from azure.eventhub.aio import EventHubProducerClient as AsyncProducer
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.eventhub.exceptions import AuthenticationError, ConnectError, EventHubError
from azure.identity import ClientSecretCredential

from clients.hosted import Namespace, namespace
from clients.reading import WAIT_SECONDS, EventCollector
from isthmus.base.partitioning import partition_of
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
HUB_SETTINGS = "[authority]\nenabled = true\n"
TENANT = "00000000-0000-0000-0000-000000000000"
SENDER = "Azure Event Hubs Data Sender"
RECEIVER = "Azure Event Hubs Data Receiver"
ENTITY = "telemetry"


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    """A namespace with an event hub of four partitions."""
    with namespace(hub, "eventhubs") as made:
        made.make("eventhub", "create", "-n", ENTITY, "--partition-count", "4")
        yield made


@pytest.fixture
def collect(plant: Namespace) -> Iterator[Callable[..., EventCollector]]:
    """Starts readers of the event hub and stops them after the test."""
    started: list[EventCollector] = []

    def start(**options: Any) -> EventCollector:
        started.append(EventCollector(plant.connection_string(ENTITY), str(plant.hub.ca), **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def producer(plant: Namespace, string: str = "", **options: Any) -> EventHubProducerClient:
    return EventHubProducerClient.from_connection_string(
        string or plant.connection_string(ENTITY), connection_verify=str(plant.hub.ca), **options
    )


def bodies(events: list[EventData]) -> list[str]:
    return [event.body_as_str() for event in events]


def everything(event: EventData) -> bool:
    return True


def test_single_events_batches_keys_and_partitions(plant: Namespace, collect: Callable[..., EventCollector]) -> None:
    with producer(plant) as client:
        assert client.get_partition_ids() == ["0", "1", "2", "3"]
        client.send_event(EventData("single"))
        batch = client.create_batch(partition_key="press-1")
        for number in range(3):
            batch.add(EventData(f"keyed {number}"))
        client.send_batch(batch)
        client.send_batch([EventData("direct 0"), EventData("direct 1")], partition_id="3")
        client.send_batch([EventData("listed")], partition_key="press-1")
    reader = collect()
    events = reader.wait(everything, 7)
    assert sorted(bodies(events)) == ["direct 0", "direct 1", "keyed 0", "keyed 1", "keyed 2", "listed", "single"]
    keyed = [event for event in events if event.partition_key == b"press-1"]
    assert bodies(keyed) == ["keyed 0", "keyed 1", "keyed 2", "listed"]
    assert {reader.partition_of(event) for event in keyed} == {str(partition_of("press-1", 4))}
    direct = [event for event in events if event.body_as_str().startswith("direct")]
    assert {reader.partition_of(event) for event in direct} == {"3"}
    assert all(isinstance(event.offset, str) and event.enqueued_time for event in events)


def test_every_part_of_an_event_comes_back(plant: Namespace, collect: Callable[..., EventCollector]) -> None:
    event = EventData(b"\x00\xff")
    event.properties = {"text": "ü", b"bytes": b"\x01", "number": 5, "fraction": 0.5, "flag": True}
    event.content_type, event.message_id, event.correlation_id = "application/json", "m1", "c1"
    annotated = AmqpAnnotatedMessage(value_body={"deep": [1, None, "x"]}, annotations={"x-own": "mine"})
    with producer(plant) as client:
        client.send_batch([event, annotated], partition_id="0")
    plain, value = collect().wait(everything, 2)
    assert b"".join(plain.body) == b"\x00\xff"
    assert (plain.content_type, plain.message_id, plain.correlation_id) == ("application/json", "m1", "c1")
    properties = plain.properties
    assert properties is not None
    assert {_text(key): each for key, each in properties.items()} == {
        "text": "ü".encode(),
        "bytes": b"\x01",
        "number": 5,
        "fraction": 0.5,
        "flag": True,
    }
    assert value.body_type is AmqpMessageBodyType.VALUE
    assert value.raw_amqp_message.annotations[b"x-own"] == b"mine"


def test_positions_groups_and_properties(plant: Namespace, collect: Callable[..., EventCollector]) -> None:
    plant.make("eventhub", "consumer-group", "create", "--eventhub-name", ENTITY, "-n", "second")
    with producer(plant) as client:
        client.send_batch([EventData(str(number)) for number in range(5)], partition_id="1")
        facts = client.get_partition_properties("1")
    assert (facts["beginning_sequence_number"], facts["last_enqueued_sequence_number"]) == (0, 4)
    first = collect(consumer_group="second").wait(everything, 5)
    assert [event.sequence_number for event in first] == [0, 1, 2, 3, 4]
    later = collect(partition_id="1", starting_position=first[2].offset).wait(everything, 2)
    assert bodies(later) == ["3", "4"]
    with pytest.raises(AssertionError, match="the reader failed"):
        collect(consumer_group="nobody", partition_id="0", retry_total=0).wait(everything)


def test_aio_clients_over_web_sockets(plant: Namespace) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # which resolves names as Python does
        runner.run(_send_and_read(plant, plant.connection_string(ENTITY), TransportType.AmqpOverWebsocket))


def test_aio_clients_with_a_bearer_token(plant: Namespace, credential: tuple[ClientSecretCredential, str]) -> None:
    shown, principal = credential
    assign(plant, principal, SENDER, plant.resource_id)
    assign(plant, principal, RECEIVER, plant.resource_id)

    class AsyncCredential:
        async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return shown.get_token(*scopes)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_send_and_read(plant, AsyncCredential(), TransportType.Amqp))


async def _send_and_read(plant: Namespace, proof: Any, transport: TransportType) -> None:
    """Sends two events by the aio producer and reads them by the aio consumer."""
    options: dict[str, Any] = {"transport_type": transport, "connection_verify": str(plant.hub.ca)}
    is_string = isinstance(proof, str)
    producing = AsyncProducer.from_connection_string if is_string else partial(AsyncProducer, plant.host, ENTITY)
    consuming = (
        partial(AsyncConsumer.from_connection_string, proof, "$Default")
        if is_string
        else partial(AsyncConsumer, plant.host, ENTITY, "$Default", proof)
    )
    async with producing(proof, **options) as client:
        await client.send_batch([EventData("one"), EventData("two")], partition_key="k")
    got: list[str] = []
    done = asyncio.Event()

    async def take(context: Any, events: list[EventData]) -> None:
        got.extend(bodies(events))
        if len(got) == 2:
            done.set()

    consumer = consuming(**options)
    reading = asyncio.create_task(consumer.receive_batch(take, starting_position="-1"))
    async with asyncio.timeout(WAIT_SECONDS):
        await done.wait()
    await consumer.close()
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    assert got == ["one", "two"]


def test_the_buffered_producer_spreads_and_flushes(plant: Namespace, collect: Callable[..., EventCollector]) -> None:
    accepted: list[Any] = []
    client = producer(
        plant,
        buffered_mode=True,
        max_wait_time=1,
        on_success=lambda events, partition: accepted.extend(events),
        on_error=lambda events, partition, error: pytest.fail(str(error)),
    )
    with client:
        for number in range(200):
            client.send_event(EventData(str(number)), partition_key=f"device-{number % 7}")
        client.flush()
    assert len(accepted) == 200
    assert len(collect().wait(everything, 200)) == 200


def test_rules_of_the_entity_let_in_for_what_they_say(plant: Namespace) -> None:
    rules = ("eventhub", "authorization-rule", "create", "--eventhub-name", ENTITY)
    plant.make(*rules, "-n", "sends", "--rights", "Send")
    plant.make(*rules, "-n", "listens", "--rights", "Listen")
    sends, listens = (plant.connection_string(ENTITY, policy) for policy in ("sends", "listens"))
    with producer(plant, sends) as client:
        client.send_event(EventData("may"))
    with producer(plant, listens, retry_total=0) as client, pytest.raises(EventHubError, match="'Send' claim"):
        client.send_event(EventData("may not"))
    assert plant.hub.json("explain", "--top", "1")[0]["rule"] == "auth.right"
    assert _read_error(plant, sends).endswith("'Listen' claim")


def _read_error(plant: Namespace, string: str) -> str:
    reader = EventCollector(string, str(plant.hub.ca), partition_id="0", retry_total=0)
    error = str(reader.wait_for_error())
    reader.close()
    return "'Listen' claim" if "'Listen' claim(s) are required" in error else error


def test_a_wrong_key_an_unknown_entity_and_a_renewed_key_are_refused(plant: Namespace) -> None:
    good = plant.connection_string(ENTITY)
    forged, elsewhere = good.replace("AccessKey=", "AccessKey=AAAA"), good.replace("EntityPath=", "EntityPath=no-")
    with producer(plant, forged, retry_total=0) as client, pytest.raises((AuthenticationError, ConnectError)):
        client.send_event(EventData("x"))
    with producer(plant, elsewhere, retry_total=0) as client, pytest.raises(EventHubError, match="could not be found"):
        client.send_event(EventData("x"))
    with producer(plant, good) as client:
        client.send_event(EventData("before"))
        keys = ("namespace", "authorization-rule", "keys", "renew", "-n", "RootManageSharedAccessKey")
        plant.make(*keys, "--key", "PrimaryKey")
    with producer(plant, good, retry_total=0) as client, pytest.raises((AuthenticationError, ConnectError)):
        client.send_event(EventData("x"))
    with producer(plant) as client:
        client.send_event(EventData("after"))


@pytest.fixture
def credential(hub: RunningHub) -> Iterator[tuple[ClientSecretCredential, str]]:
    """A stock credential of an identity, and its object id."""
    made = hub.json("identity", "create", "-n", "sends")
    secret = hub.json("identity", "secret", "create", "-n", "sends")["secretText"]
    yield (
        ClientSecretCredential(
            TENANT,
            made["clientId"],
            secret,
            authority=f"https://{hub.address}",
            disable_instance_discovery=True,
            connection_verify=str(hub.ca),
            retry_total=0,
        ),
        made["principalId"],
    )
    hub.isthmus("identity", "delete", "-n", "sends")


def test_a_stock_credential_needs_a_role_that_covers(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    with bearer_producer(plant, shown) as client, pytest.raises(EventHubError, match=r"'Send' claim\(s\) are required"):
        client.send_event(EventData("no role"))
    assert plant.hub.json("explain", "--top", "1")[0]["rule"] == "auth.role-missing"
    entity = f"{plant.resource_id}/eventhubs/{ENTITY}"
    assign(plant, principal, SENDER, f"{plant.resource_id}/eventhubs/other")
    with bearer_producer(plant, shown) as client, pytest.raises(EventHubError):
        client.send_event(EventData("another's"))
    assert plant.hub.json("explain", "--top", "1")[0]["rule"] == "auth.role-scope"
    assign(plant, principal, SENDER, entity)
    with bearer_producer(plant, shown) as client:
        client.send_event(EventData("allowed"))
    assert "'Listen' claim(s)" in str(bearer_read(plant, shown))
    assign(plant, principal, RECEIVER, entity.rpartition("/namespaces/")[0].rpartition("/providers/")[0])
    assert bearer_read(plant, shown) == ["allowed"]


def test_a_token_for_something_else_is_no_token(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    assign(plant, principal, SENDER, plant.resource_id)

    class ForStorage:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return shown.get_token("https://storage.azure.com/.default")

    with bearer_producer(plant, ForStorage()) as client, pytest.raises((AuthenticationError, ConnectError)):
        client.send_event(EventData("x"))
    assert plant.hub.json("explain", "--top", "1")[0]["rule"] == "auth.bearer-audience"


def test_local_auth_switched_off_leaves_identities_only(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    assign(plant, principal, SENDER, plant.resource_id)
    plant.hub.json("eventhubs", "namespace", "update", "-n", plant.name, "--disable-local-auth", "true")
    with producer(plant, retry_total=0) as client, pytest.raises((AuthenticationError, ConnectError)):
        client.send_event(EventData("x"))
    with bearer_producer(plant, shown) as client:
        client.send_event(EventData("allowed"))


def test_what_is_accepted_survives_a_kill_and_is_read_in_order(
    plant: Namespace, collect: Callable[..., EventCollector]
) -> None:
    accepted: list[int] = []
    stop = threading.Event()

    def send() -> None:
        with producer(plant, retry_total=0) as client:
            for number in range(1_000_000):
                if stop.is_set():
                    return
                client.send_batch([EventData(str(number))], partition_key="one")
                accepted.append(number)

    def sending() -> None:
        with suppress(EventHubError, OSError):
            send()

    thread = threading.Thread(target=sending)
    thread.start()
    pause = threading.Event()
    while len(accepted) < 50:
        pause.wait(0.01)
    plant.hub.kill()
    stop.set()
    thread.join(WAIT_SECONDS)
    plant.hub.start()
    events = collect().wait(everything, len(accepted))
    numbers = [int(event.body_as_str()) for event in events]
    assert numbers[: len(accepted)] == accepted


def test_a_deleted_event_hub_ends_its_links_and_is_empty_when_made_again(
    plant: Namespace, collect: Callable[..., EventCollector]
) -> None:
    with producer(plant, retry_total=0) as client:
        client.send_event(EventData("old"))
        collect(retry_total=0).wait(everything)
        plant.hub.isthmus("eventhubs", "eventhub", "delete", "-n", ENTITY, "--namespace-name", plant.name)
        with pytest.raises(EventHubError):
            client.send_event(EventData("nobody's"))
    plant.make("eventhub", "create", "-n", ENTITY, "--partition-count", "1")
    with producer(plant) as client:
        client.send_event(EventData("new"))
        assert client.get_partition_ids() == ["0"]
        assert client.get_partition_properties("0")["last_enqueued_sequence_number"] == 0
    assert bodies(collect().wait(everything)) == ["new"]


def test_disabled_ways_are_refused_and_live_links_end(plant: Namespace) -> None:
    with producer(plant, retry_total=0) as client:
        client.send_event(EventData("before"))
        plant.make("eventhub", "update", "-n", ENTITY, "--status", "SendDisabled")
        with pytest.raises(EventHubError):
            client.send_event(EventData("x"))
    plant.make("eventhub", "update", "-n", ENTITY, "--status", "Active")
    with producer(plant) as client:
        client.send_event(EventData("after"))


def bearer_producer(plant: Namespace, credential: Any) -> EventHubProducerClient:
    return EventHubProducerClient(
        plant.host, ENTITY, credential, connection_verify=str(plant.hub.ca), retry_total=0, user_agent="tests"
    )


def bearer_read(plant: Namespace, credential: TokenCredential) -> object:
    """The first bodies that are read, or the error."""
    client = EventHubConsumerClient(
        plant.host, ENTITY, "$Default", credential, connection_verify=str(plant.hub.ca), retry_total=0
    )
    told: list[object] = []
    done = threading.Event()

    def take(context: Any, events: list[EventData]) -> None:
        if events:
            told.append(bodies(events))
            done.set()

    def fail(context: Any, error: Exception) -> None:
        told.append(error)
        done.set()

    options = {"on_event_batch": take, "on_error": fail, "starting_position": "-1"}
    thread = threading.Thread(target=client.receive_batch, kwargs=options)
    thread.start()
    assert done.wait(WAIT_SECONDS)
    client.close()
    thread.join(WAIT_SECONDS)
    return told[0]


def assign(plant: Namespace, principal: str, role: str, scope: str) -> None:
    who = ("--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal")
    plant.hub.json("role", "assignment", "create", *who, "--role", role, "--scope", scope)


def _text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key
