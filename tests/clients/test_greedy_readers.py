"""Readers of the built-in endpoint that take credit and do not read: bounded, and a burden to nobody else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from azure.eventhub import EventData, EventHubConsumerClient

from clients.devices import key_of, until
from clients.raw import ACCEPTED, RawMqtt
from clients.reading import EventCollector
from clients.sas import sas_token
from isthmus.servers.gateway.amqp_contract import READERS_PER_PARTITION_MAX
from isthmus.servers.gateway.connection import WRITE_BYTES_MAX
from support.server import RunningHub
from support.usage import sample

HUB_OPTIONS = ("--partitions", "1")

PAYLOAD = bytes(200_000)
MESSAGES = 150
"""Thirty megabytes: several times what the kernel and the hub hold for one reader."""

WAIT_SECONDS = 60.0


def test_greedy_readers_are_bounded_and_others_read_on(
    hub: RunningHub, collect: Callable[..., EventCollector], device_id: str
) -> None:
    send(hub, device_id, MESSAGES)
    before = memory(hub)
    with ExitStack() as stack:
        stuck = [stack.enter_context(greedy(hub)) for _ in range(READERS_PER_PARTITION_MAX - 1)]
        until(lambda: all(reader.is_set() for reader in stuck), WAIT_SECONDS)
        assert len(collect().of_device(device_id, MESSAGES, WAIT_SECONDS)) == MESSAGES
        held = memory(hub) - before
        assert held < (READERS_PER_PARTITION_MAX + 1) * WRITE_BYTES_MAX, f"{held:,} bytes"
        # Who writes is not held up either.
        send(hub, f"{device_id}-more", 5)
        until(lambda: hub.json("device-identity", "show", "-d", f"{device_id}-more"))


def test_the_sixth_reader_of_a_partition_is_refused_and_explained(hub: RunningHub, device_id: str) -> None:
    send(hub, device_id, 1)
    refused, errors = threading.Event(), list[Exception]()
    with ExitStack() as stack:
        stuck = [stack.enter_context(greedy(hub)) for _ in range(READERS_PER_PARTITION_MAX)]
        until(lambda: all(reader.is_set() for reader in stuck), WAIT_SECONDS)

        def failed(context: Any, error: Exception) -> None:
            errors.append(error)
            refused.set()

        with reading(hub, lambda context, event: None, failed):
            assert refused.wait(WAIT_SECONDS)
    assert "limit.readers" in {each["rule"] for each in hub.json("explain", "--since", "5m")}


def test_a_deleted_consumer_group_ends_its_reader(hub: RunningHub, device_id: str) -> None:
    hub.isthmus("iot", "hub", "consumer-group", "create", "--name", "shift")
    send(hub, device_id, 1)
    got, ended = threading.Event(), threading.Event()
    with reading(hub, lambda *_: got.set(), lambda *_: ended.set(), group="shift"):
        assert got.wait(WAIT_SECONDS)
        hub.isthmus("iot", "hub", "consumer-group", "delete", "--name", "shift")
        assert ended.wait(WAIT_SECONDS)


def send(hub: RunningHub, device_id: str, count: int) -> None:
    """Messages of a device, each acknowledged."""
    key = key_of(hub.create_device(device_id))
    with RawMqtt(hub) as device:
        token = sas_token(f"{hub.host_name}/devices/{device_id}", key)
        assert device.connect(device_id, f"{hub.host_name}/{device_id}/?api-version=2021-04-12", token) == ACCEPTED
        for number in range(1, count + 1):
            assert device.publish(f"devices/{device_id}/messages/events/", PAYLOAD, number)


def memory(hub: RunningHub) -> int:
    """Bytes resident."""
    return sample(hub.pid, log=hub.log, folder=hub.data).memory


@contextmanager
def greedy(hub: RunningHub) -> Iterator[threading.Event]:
    """A reader with much credit that stops at its first event; the event tells that it has."""
    stopped, go_on = threading.Event(), threading.Event()

    def take(context: Any, event: EventData | None) -> None:
        stopped.set()
        go_on.wait(2 * WAIT_SECONDS)

    with reading(hub, take, lambda *_: None):
        yield stopped
        go_on.set()


@contextmanager
def reading(
    hub: RunningHub,
    take: Callable[[Any, EventData | None], None],
    failed: Callable[[Any, Exception], None],
    group: str = "$Default",
) -> Iterator[None]:
    """A stock client that reads the partition from the beginning in a thread."""
    client = EventHubConsumerClient.from_connection_string(
        hub.events_connection_string(), group, connection_verify=str(hub.ca), retry_total=0
    )
    options = {"partition_id": "0", "starting_position": "-1", "prefetch": 50_000}
    thread = threading.Thread(target=client.receive, args=(take,), kwargs={"on_error": failed, **options}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        client.close()
        thread.join(WAIT_SECONDS)
