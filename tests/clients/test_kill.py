"""`kill -9` under load: what was acknowledged is there afterwards, in order per device; twins and queues as well."""

import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

import certifi
import pytest
from azure.eventhub import EventData
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties

from clients.raw import ACCEPTED, RawMqtt
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
RECONNECT_SECONDS = 0.2


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
    """Publishes numbers at QoS 1, a few in flight, and notes which were acknowledged.

    After a cut it connects again and sends what was not acknowledged first, in order, as a device has to.
    """

    def __init__(self, hub: RunningHub, device_id: str) -> None:
        self.device_id = device_id
        self.acknowledged: set[int] = set()
        self._hub = hub
        key = hub.create_device(device_id).rsplit("SharedAccessKey=", 1)[1]
        self._token = sas_token(f"{hub.host_name}/devices/{device_id}", key)
        self._topic = f"devices/{device_id}/messages/events/kind=number"
        self._unacknowledged: deque[int] = deque()
        self._next = 0
        self._allowed = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def allow(self, count: int) -> None:
        """Lets it publish so many numbers in all."""
        with self._changed:
            self._allowed = count
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._connected()
            except OSError:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, RECONNECT_SECONDS)

    def _connected(self) -> None:
        with RawMqtt(self._hub) as connection:
            user = f"{self._hub.host_name}/{self.device_id}/?api-version=2021-04-12"
            if connection.connect(self.device_id, user, self._token) != ACCEPTED:
                raise ConnectionRefusedError
            for number in self._unacknowledged:
                connection.send_publish(self._topic, str(number).encode(), packet_id(number))
            while not self._stopping:
                self._fill(connection)
                self._take_acknowledgement(connection)

    def _fill(self, connection: RawMqtt) -> None:
        with self._changed:
            while not self._unacknowledged and self._next >= self._allowed and not self._stopping:
                self._changed.wait()
        while len(self._unacknowledged) < IN_FLIGHT_MAX and self._next < self._allowed:
            number, self._next = self._next, self._next + 1
            self._unacknowledged.append(number)
            connection.send_publish(self._topic, str(number).encode(), packet_id(number))

    def _take_acknowledgement(self, connection: RawMqtt) -> None:
        if not self._unacknowledged:
            return
        packet = connection.read(4)
        if len(packet) < 4:
            raise ConnectionResetError
        number = self._unacknowledged.popleft()
        assert packet == struct.pack(">BBH", 0x40, 2, packet_id(number)), "acknowledged in order"
        self.acknowledged.add(number)


def packet_id(number: int) -> int:
    """From 1 to 65,535, and never in use twice at once."""
    return number % 65_535 + 1


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
