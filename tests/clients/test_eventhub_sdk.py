"""The azure-eventhub reader against the built-in endpoint: properties, start positions, groups, epochs, balance."""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.eventhub import EventData, EventHubConsumerClient, TransportType
from azure.eventhub.exceptions import AuthenticationError, ConnectError, ConnectionLostError, EventHubError

from clients.devices import connected
from clients.reading import WAIT_SECONDS, EventCollector
from support.server import RunningHub


@pytest.fixture(scope="module")
def device(hub: RunningHub) -> str:
    """A device that has sent ten messages, numbered."""
    device_id = f"sender-{uuid.uuid4().hex[:8]}"
    with connected(hub, device_id) as client:
        for number in range(10):
            client.send_message(str(number))
    return device_id


def test_hub_and_partition_properties(hub: RunningHub, device: str) -> None:
    with consumer(hub) as client:
        properties = client.get_eventhub_properties()
        assert properties["eventhub_name"] == entity(hub)
        assert properties["partition_ids"] == ["0", "1", "2", "3"]
        assert isinstance(properties["created_at"], datetime)
        last = [client.get_partition_properties(partition) for partition in properties["partition_ids"]]
    assert all(one["eventhub_name"] == entity(hub) for one in last)
    assert any(not one["is_empty"] and one["last_enqueued_sequence_number"] >= 9 for one in last)
    for one in last:
        assert one["beginning_sequence_number"] == 0
        assert isinstance(one["last_enqueued_offset"], str)


def test_every_start_position(hub: RunningHub, device: str, collect: Callable[..., EventCollector]) -> None:
    everything = collect()
    events = everything.of_device(device, 10)
    assert [event.body_as_str() for event in events] == [str(number) for number in range(10)]
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + 10))
    middle = events[4]
    partition = everything.partition_of(middle)
    everything.close()
    for cases in (
        ((middle.offset, False, "5"), (middle.offset, True, "4"), ("-1", False, "0")),
        (
            (middle.sequence_number, False, "5"),
            (middle.sequence_number, True, "4"),
            (datetime(2020, 1, 1, tzinfo=UTC), False, "0"),
        ),
    ):
        readers = [
            collect(partition_id=partition, starting_position=position, starting_position_inclusive=inclusive)
            for position, inclusive, _ in cases
        ]
        for reader, case in zip(readers, cases, strict=True):
            assert reader.of_device(device)[0].body_as_str() == case[2], case
            reader.close()


def test_time_in_the_future_and_latest_give_only_what_comes_later(
    hub: RunningHub, device: str, collect: Callable[..., EventCollector], device_id: str
) -> None:
    latest = collect(starting_position="@latest", prefetch=1)
    now = collect(starting_position=datetime.now(UTC), prefetch=1)
    with connected(hub, device_id) as client:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (seen(latest, device_id) and seen(now, device_id)):
            client.send_message("later")
            assert time.monotonic() < deadline
    assert not seen(latest, device)
    assert not seen(now, device)


def test_consumer_groups_read_independently_and_unknown_ones_are_refused(
    hub: RunningHub, device: str, collect: Callable[..., EventCollector]
) -> None:
    hub.json("iot", "hub", "consumer-group", "create", "--name", "second")
    assert len(collect(consumer_group="second").of_device(device, 10)) == 10
    assert len(collect().of_device(device, 10)) == 10
    with pytest.raises(AssertionError, match="the reader failed"):
        collect(consumer_group="nobody", partition_id="0", retry_total=0).of_device(device)


def test_higher_owner_level_steals_the_partition(hub: RunningHub, device: str) -> None:
    stolen: list[Exception] = []
    lost, first_got, second_got = threading.Event(), threading.Event(), threading.Event()

    def take_error(context: Any, error: Exception) -> None:
        stolen.append(error)
        lost.set()

    first, second = consumer(hub, retry_total=0), consumer(hub)
    partition = busiest(hub)
    threads = [
        receiving(first, partition, 1, lambda context, event: first_got.set(), take_error),
    ]
    assert first_got.wait(WAIT_SECONDS)
    threads.append(receiving(second, partition, 2, lambda context, event: second_got.set(), lambda *_: None))
    assert lost.wait(WAIT_SECONDS)
    assert second_got.wait(WAIT_SECONDS)
    assert isinstance(stolen[0], ConnectionLostError)
    lower = consumer(hub, retry_total=0)
    refused = threading.Event()
    threads.append(receiving(lower, partition, 1, lambda *_: None, lambda *_: refused.set()))
    assert refused.wait(WAIT_SECONDS)
    for client in (first, second, lower):
        client.close()
    for thread in threads:
        thread.join(WAIT_SECONDS)


def test_last_enqueued_is_tracked(hub: RunningHub, device: str) -> None:
    tracked: list[dict[str, Any]] = []
    got = threading.Event()

    def take(context: Any, event: EventData) -> None:
        tracked.append(context.last_enqueued_event_properties)
        got.set()

    client = consumer(hub)
    thread = threading.Thread(
        target=client.receive,
        kwargs={
            "on_event": take,
            "partition_id": busiest(hub),
            "starting_position": "-1",
            "track_last_enqueued_event_properties": True,
        },
    )
    thread.start()
    assert got.wait(WAIT_SECONDS)
    client.close()
    thread.join(WAIT_SECONDS)
    assert tracked[0]["sequence_number"] >= 9
    assert isinstance(tracked[0]["offset"], str)


def test_wrong_key_and_wrong_entity_are_refused(hub: RunningHub) -> None:
    good = hub.events_connection_string()
    for bad in (good.replace("SharedAccessKey=", "SharedAccessKey=AAAA"), good.replace("EntityPath=", "EntityPath=no")):
        client = EventHubConsumerClient.from_connection_string(
            bad, "$Default", connection_verify=str(hub.ca), retry_total=0
        )
        with client, pytest.raises((AuthenticationError, ConnectError, EventHubError)):
            client.get_eventhub_properties()


def test_two_balanced_readers_share_the_partitions(hub: RunningHub, device: str) -> None:
    store = MemoryCheckpoints()
    owned: dict[str, set[str]] = {"a": set(), "b": set()}
    clients = {name: consumer(hub, checkpoint_store=store, load_balancing_interval=1) for name in owned}
    threads = []
    for name, client in clients.items():
        threads.append(
            threading.Thread(
                target=client.receive,
                kwargs={
                    "on_event": lambda context, event: None,
                    "on_partition_initialize": lambda context, name=name: owned[name].add(context.partition_id),
                    "on_partition_close": lambda context, reason, name=name: owned[name].discard(context.partition_id),
                    "starting_position": "-1",
                },
            )
        )
        threads[-1].start()
    deadline = time.monotonic() + 60
    pause = threading.Event()
    while not (len(owned["a"]) == 2 and len(owned["b"]) == 2):
        assert time.monotonic() < deadline, owned
        pause.wait(0.1)
    for client in clients.values():
        client.close()
    for thread in threads:
        thread.join(WAIT_SECONDS)


class MemoryCheckpoints:
    """The checkpoint store interface of azure-eventhub, in memory, shared by two readers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, dict[str, Any]] = {}

    def list_ownership(self, *names: str, **_: Any) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(owner) for owner in self._owners.values()]

    def claim_ownership(self, ownership_list: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:
        claimed = []
        with self._lock:
            for wanted in ownership_list:
                current = self._owners.get(wanted["partition_id"])
                if current and current.get("etag") != wanted.get("etag"):
                    continue
                owner = dict(wanted) | {"etag": uuid.uuid4().hex, "last_modified_time": time.time()}
                self._owners[wanted["partition_id"]] = owner
                claimed.append(dict(owner))
        return claimed

    def update_checkpoint(self, checkpoint: dict[str, Any], **_: Any) -> None:
        return None

    def list_checkpoints(self, *names: str, **_: Any) -> list[dict[str, Any]]:
        return []


def consumer(hub: RunningHub, **options: Any) -> EventHubConsumerClient:
    return EventHubConsumerClient.from_connection_string(
        hub.events_connection_string(),
        "$Default",
        connection_verify=str(hub.ca),
        transport_type=TransportType.Amqp,
        **options,
    )


def entity(hub: RunningHub) -> str:
    """The name of the event hub, as the connection string gives it."""
    return hub.events_connection_string().rsplit("EntityPath=", 1)[1]


def receiving(client: Any, partition: str, level: int, take: Any, failed: Any) -> threading.Thread:
    thread = threading.Thread(
        target=client.receive,
        kwargs={
            "on_event": take,
            "on_error": failed,
            "partition_id": partition,
            "owner_level": level,
            "starting_position": "-1",
        },
    )
    thread.start()
    return thread


def busiest(hub: RunningHub) -> str:
    with consumer(hub) as client:
        return str(
            max(
                client.get_partition_ids(),
                key=lambda p: client.get_partition_properties(p)["last_enqueued_sequence_number"],
            )
        )


def seen(collector: EventCollector, device_id: str) -> bool:
    try:
        return bool(collector.of_device(device_id, timeout=0.05))
    except AssertionError:
        return False
