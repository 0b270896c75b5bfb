"""`kill -9` under load: what was acknowledged is there afterwards, in order per device; twins and queues as well."""

import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress

import certifi
import pytest
from azure.eventhub import EventData
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from paho.mqtt import client as paho

from clients.reading import EventCollector, sender
from clients.sas import sas_token
from support.server import RunningHub

DEVICES = 6
KILLS = 5
KILLS_LONG = 100
ACKNOWLEDGED_BETWEEN_KILLS = 150
AHEAD_MAX = 300
"""How far a fast publisher may run ahead of the slowest, so that what is read back afterwards stays small."""
ROUND_SECONDS_MAX = 60.0
IN_FLIGHT_MAX = 8


@pytest.fixture
def hub(make_hub: Callable[..., RunningHub]) -> RunningHub:
    return make_hub()


def test_nothing_acknowledged_is_lost(hub: RunningHub, publishers: list["Publisher"]) -> None:
    kill_and_check(hub, publishers, KILLS)


@pytest.mark.long
def test_nothing_acknowledged_is_lost_in_many_rounds(hub: RunningHub, publishers: list["Publisher"]) -> None:
    kill_and_check(hub, publishers, KILLS_LONG)


def kill_and_check(hub: RunningHub, publishers: list["Publisher"], kills: int) -> None:
    twins: dict[str, int] = {}
    queued: dict[str, int] = defaultdict(int)
    hub.create_device("away")
    for round_number in range(kills):
        wanted = acknowledged_by_all(publishers) + ACKNOWLEDGED_BETWEEN_KILLS
        change_twin_and_queue(hub, round_number, twins, queued)
        wait_for_acknowledgements(publishers, wanted)
        hub.restart()
        twin = hub.json("device-twin", "show", "-d", "away")
        assert twin["properties"]["desired"]["$version"] == twins["away"]
        assert twin["properties"]["desired"]["round"] == round_number
        assert twin["cloudToDeviceMessageCount"] == queued["away"]
    for publisher in publishers:
        publisher.stop()
    events = read_all(hub, sum(len(publisher.acknowledged) for publisher in publishers))
    for publisher in publishers:
        numbers = [int(event.body_as_str()) for event in events if sender(event) == publisher.device_id]
        assert publisher.acknowledged <= set(numbers)
        first_seen = list(dict.fromkeys(numbers))
        assert first_seen == sorted(first_seen)


def change_twin_and_queue(hub: RunningHub, round_number: int, twins: dict[str, int], queued: dict[str, int]) -> None:
    service = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    twin = service.update_twin("away", Twin(properties=TwinProperties(desired={"round": round_number})), "*")
    twins["away"] = twin.properties.desired["$version"]
    if queued["away"] < 40:
        service.send_c2d_message("away", f"message {round_number}", {})
        queued["away"] += 1
    service.amqp_svc_client.disconnect_sync()


def read_all(hub: RunningHub, at_least: int) -> list[EventData]:
    collector = EventCollector(hub.events_connection_string(), str(hub.ca))
    try:
        collector.wait(lambda event: True, at_least, timeout=120)
        return collector.events
    finally:
        collector.close()


@pytest.fixture
def publishers(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[list["Publisher"]]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hub.ca))
    monkeypatch.setattr(certifi, "where", lambda: str(hub.ca))
    running = [Publisher(hub, f"loader-{number}") for number in range(DEVICES)]
    yield running
    for publisher in running:
        publisher.stop()


class Publisher:
    """Publishes numbers at QoS 1, a few in flight, and notes which were acknowledged; reconnects by itself.

    paho holds a lock of its own while it tells of an acknowledgement, so that is only noted there: a thread publishes.
    """

    def __init__(self, hub: RunningHub, device_id: str) -> None:
        self.device_id = device_id
        self.acknowledged: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._early: set[int] = set()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(IN_FLIGHT_MAX)
        self._allowed = 0
        self._allowance = threading.Condition()
        self._stopping = threading.Event()
        connection_string = hub.create_device(device_id)
        self._client = paho.Client(device_id, clean_session=False)
        self._client.username_pw_set(
            f"{hub.host_name}/{device_id}/?api-version=2021-04-12",
            sas_token(f"{hub.host_name}/devices/{device_id}", connection_string.rsplit("SharedAccessKey=", 1)[1]),
        )
        self._client.tls_set_context(ssl.create_default_context(cafile=str(hub.ca)))
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_publish = self._told
        self._address = hub.address
        self._threads = [threading.Thread(target=work) for work in (self._publish, self._network)]
        for thread in self._threads:
            thread.start()

    def allow(self, count: int) -> None:
        """Lets it publish so many numbers in all."""
        with self._allowance:
            self._allowed = count
            self._allowance.notify_all()

    def stop(self) -> None:
        self._stopping.set()
        self.allow(0)
        self._room.release()
        self._client.disconnect()
        for thread in self._threads:
            thread.join()

    def _publish(self) -> None:
        """Publishes; when TLS was cut, paho raises but keeps the message, so its number is sent once more."""
        topic = f"devices/{self.device_id}/messages/events/kind=number"
        number = 0
        while self._may_publish(number):
            try:
                mid = self._client.publish(topic, str(number), qos=1).mid
            except OSError:
                continue
            with self._lock:
                if mid in self._early:
                    self._early.discard(mid)
                    self.acknowledged.add(number)
                else:
                    self._numbers[mid] = number
            number += 1

    def _may_publish(self, number: int) -> bool:
        with self._allowance:
            self._allowance.wait_for(lambda: number < self._allowed or self._stopping.is_set())
        return self._room.acquire() and not self._stopping.is_set()

    def _network(self) -> None:
        """paho's loop ends with an exception when TLS is cut in the middle of a record; then it begins anew."""
        while not self._stopping.is_set():
            self._client.connect_async(self._address, 8883)
            with suppress(OSError, ValueError):
                self._client.loop_forever(retry_first_connection=True)

    def _told(self, client: object, userdata: object, mid: int) -> None:
        with self._lock:
            if mid in self._numbers:
                self.acknowledged.add(self._numbers.pop(mid))
            else:
                self._early.add(mid)
        self._room.release()


def acknowledged_by_all(publishers: list[Publisher]) -> int:
    return min(len(publisher.acknowledged) for publisher in publishers)


def wait_for_acknowledgements(publishers: list[Publisher], wanted: int) -> None:
    deadline = time.monotonic() + ROUND_SECONDS_MAX
    pause = threading.Event()
    for publisher in publishers:
        publisher.allow(wanted + AHEAD_MAX)
    while acknowledged_by_all(publishers) < wanted:
        assert time.monotonic() < deadline
        pause.wait(0.05)
