"""A server that is killed at random while stock producers send: nothing accepted is lost, order per key holds."""

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from azure.eventhub import EventData, EventHubProducerClient
from azure.eventhub.exceptions import EventHubError

from clients.hosted import Namespace, namespace
from clients.reading import EventCollector
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
ENTITY = "telemetry"
PRODUCERS = 3
KILLS = 4
BATCH = 5
SECONDS_MAX = 180.0


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    with namespace(hub, "eventhubs") as made:
        made.make("eventhub", "create", "-n", ENTITY, "--partition-count", "2")
        yield made


@dataclass
class Producer:
    """Sends batches of numbers under one key, each until it is accepted, as a client does that resends."""

    plant: Namespace
    string: str
    key: str
    stop: threading.Event
    accepted: int = 0
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def is_last(self, event: EventData) -> bool:
        """True for the last event that was accepted: when it has been read, all before it have."""
        return bool(event.partition_key == self.key.encode()) and event.body_as_str() == str(self.accepted - 1)

    def _run(self) -> None:
        while not self.stop.is_set():
            client = EventHubProducerClient.from_connection_string(
                self.string, connection_verify=str(self.plant.hub.ca), retry_total=0
            )
            with suppress(EventHubError, OSError), client:
                self._send(client)

    def _send(self, client: EventHubProducerClient) -> None:
        while not self.stop.is_set():
            numbers = range(self.accepted, self.accepted + BATCH)
            client.send_batch([EventData(str(number)) for number in numbers], partition_key=self.key)
            self.accepted += BATCH


@pytest.mark.long
def test_nothing_accepted_is_lost_and_order_per_key_holds(plant: Namespace) -> None:
    stop, chance = threading.Event(), random.Random(4)
    string = plant.connection_string(ENTITY)
    producers = [Producer(plant, string, f"key-{number}", stop) for number in range(PRODUCERS)]
    pause = threading.Event()
    for _ in range(KILLS):
        wanted = sum(each.accepted for each in producers) + chance.randrange(50, 400)
        for _ in range(int(SECONDS_MAX / 0.01)):
            if sum(each.accepted for each in producers) >= wanted:
                break
            pause.wait(0.01)
        plant.hub.kill()
        plant.hub.start()
    stop.set()
    for each in producers:
        each.thread.join(SECONDS_MAX)
    reader = EventCollector(string, str(plant.hub.ca))
    for each in producers:
        reader.wait(each.is_last, timeout=SECONDS_MAX)
    events = list(reader.events)
    reader.close()
    for each in producers:
        read = [int(event.body_as_str()) for event in events if event.partition_key == each.key.encode()]
        seen = read[: len(read) - read[::-1].index(each.accepted - 1)]
        assert set(range(each.accepted)) <= set(seen)
        assert in_order_up_to_resends(seen), seen


def in_order_up_to_resends(numbers: list[int]) -> bool:
    """A batch that was resent begins again at its own beginning; each batch is whole, and nothing else goes back."""
    batches = [numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)]
    starts = [batch[0] for batch in batches]
    whole = all(batch == list(range(batch[0], batch[0] + BATCH)) for batch in batches)
    return whole and all(later in (earlier, earlier + BATCH) for earlier, later in pairwise(starts))
