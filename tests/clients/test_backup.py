"""A backup under load comes back in another folder, as it was at one moment, and clients go on with what they have."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from azure.iot.device import Message
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties

from clients.devices import client_of, until
from clients.reading import EventCollector, sender
from support.server import RunningHub

DEVICES = 3
BACKUPS = 1
BACKUPS_LONG = 8
BEFORE_A_BACKUP = 15
"""Messages acknowledged by each device before each backup, so that there is something under way at every cut."""
REPORTED_EACH = 4
QUEUED_MAX = 40
"""A device's queue holds 50."""
WAIT_SECONDS = 60.0


class Talker:
    """A device on the stock client that sends numbers and reports some, and notes what was acknowledged."""

    def __init__(self, hub: RunningHub, device_id: str) -> None:
        self.device_id = device_id
        self.connection_string = hub.create_device(device_id)
        self.acknowledged = self.reported = -1
        self._device = client_of(hub, self.connection_string)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._device.shutdown()

    def _run(self) -> None:
        self._device.connect()
        for number in itertools.count():
            if self._stopping.is_set():
                return
            self._device.send_message(Message(str(number)))
            self.acknowledged = number
            if number % REPORTED_EACH == 0:
                self._device.patch_twin_reported_properties({"number": number})
                self.reported = number


class Servant:
    """A back-end that changes a twin and sends commands to a device that is away, and notes what was answered."""

    def __init__(self, service: IoTHubRegistryManager) -> None:
        self._service = service
        self.desired = self.queued = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count(1):
            if self._stopping.is_set():
                return
            twin = self._service.update_twin("away", Twin(properties=TwinProperties(desired={"number": number})), "*")
            assert twin.properties.desired["$version"] == number + 1
            self.desired = number
            if self.queued < QUEUED_MAX:
                self._service.send_c2d_message("away", f"command {number}", {})
                self.queued += 1


@pytest.fixture
def hub(make_hub: Callable[..., RunningHub]) -> RunningHub:
    return make_hub()


def test_backups_under_load_come_back_elsewhere(hub: RunningHub, service: IoTHubRegistryManager) -> None:
    back_up_and_compare(hub, service, BACKUPS)


@pytest.mark.long
def test_many_backups_under_load_come_back_elsewhere(hub: RunningHub, service: IoTHubRegistryManager) -> None:
    back_up_and_compare(hub, service, BACKUPS_LONG)


def back_up_and_compare(hub: RunningHub, service: IoTHubRegistryManager, backups: int) -> None:
    folder, strings = hub.data.parent, {"away": hub.create_device("away")}
    talkers = [Talker(hub, f"talker-{number}") for number in range(DEVICES)]
    servant = Servant(service)
    made: list[tuple[dict[str, Any], dict[str, int]]] = []
    try:
        for number in range(backups):
            wait_for_messages(talkers, BEFORE_A_BACKUP)
            before = history(talkers, servant)
            made.append((hub.json("backup", str(folder / f"backup-{number}")), before))
        wait_for_messages(talkers, BEFORE_A_BACKUP)
    finally:
        servant.stop()
        for each in talkers:
            each.stop()
    checkpoints = last_offsets(hub)
    hub.stop()
    strings |= {each.device_id: each.connection_string for each in talkers}
    for number, (told, before) in enumerate(made):
        restored = RunningHub(folder / f"restored-{number}", hub.address)
        again = restored.json("restore", str(folder / f"backup-{number}"))
        assert (again["recoveryPoint"], again["log"]) == (told["recoveryPoint"], told["log"])
        restored.start()
        try:
            assert restored.ca.read_bytes() == hub.ca.read_bytes()
            check_history(restored, told, before)
            if number == backups - 1:
                check_clients_go_on(restored, strings)
                check_readers_go_on(restored, checkpoints, len(strings))
        finally:
            restored.stop()


def wait_for_messages(talkers: list[Talker], count: int) -> None:
    wanted = [each.acknowledged + count for each in talkers]
    until(lambda: all(each.acknowledged >= number for each, number in zip(talkers, wanted, strict=True)), WAIT_SECONDS)


def history(talkers: list[Talker], servant: Servant) -> dict[str, int]:
    """What was acknowledged until now, at least."""
    sent = {each.device_id: each.acknowledged for each in talkers}
    reported = {f"{each.device_id} reported": each.reported for each in talkers}
    return sent | reported | {"desired": servant.desired, "queued": servant.queued}


def check_history(restored: RunningHub, told: dict[str, Any], before: dict[str, int]) -> None:
    """Everything acknowledged before is there, each version once, and the log ends where the backup says."""
    last = {each["partition"]: each["lastSequenceNumber"] for each in told["log"]["partitions"]}
    with reading(restored) as collector:
        events = collector.wait(lambda event: True, sum(number + 1 for number in last.values()))
        for partition, number in last.items():
            found = collector.client.get_partition_properties(str(partition))
            assert found["last_enqueued_sequence_number"] == number
    for device_id in (name for name in before if name.startswith("talker") and " " not in name):
        numbers = [int(event.body_as_str()) for event in events if sender(event) == device_id]
        assert numbers == list(range(len(numbers)))
        assert numbers[-1] >= before[device_id]
        reported = restored.json("device-twin", "show", "-d", device_id)["properties"]["reported"]
        assert reported["number"] >= before[f"{device_id} reported"]
        assert reported["$version"] == reported["number"] // REPORTED_EACH + 2
    away = restored.json("device-twin", "show", "-d", "away")
    assert away["properties"]["desired"]["number"] >= before["desired"]
    assert away["properties"]["desired"]["$version"] == away["properties"]["desired"]["number"] + 1
    assert away["cloudToDeviceMessageCount"] >= before["queued"]


def check_clients_go_on(restored: RunningHub, strings: dict[str, str]) -> None:
    """With the connection strings of the hub that was backed up."""
    queued = restored.json("device-twin", "show", "-d", "away")["cloudToDeviceMessageCount"]
    with reading(restored) as collector:
        for device_id, connection_string in strings.items():
            device = client_of(restored, connection_string)
            commands: list[Message] = []
            device.on_message_received = commands.append
            device.connect()
            device.send_message(Message("after the restore"))
            if device_id == "away":
                until(partial(has, commands, queued))
            device.shutdown()
        collector.wait(lambda event: event.body_as_str() == "after the restore", len(strings))


def last_offsets(hub: RunningHub) -> dict[str, str]:
    """Where a reader is who has read everything."""
    with reading(hub) as collector:
        client = collector.client
        found = {each: client.get_partition_properties(each) for each in client.get_partition_ids()}
    return {partition: each["last_enqueued_offset"] for partition, each in found.items()}


def check_readers_go_on(restored: RunningHub, checkpoints: dict[str, str], count: int) -> None:
    """From a checkpoint of what is lost a reader gets all that is new, and nothing else."""
    with reading(restored, starting_position=checkpoints) as collector:
        events = collector.wait(lambda event: True, count)
        assert {event.body_as_str() for event in events} == {"after the restore"}
        last = {each: collector.client.get_partition_properties(each) for each in checkpoints}
        for event in events:
            told = last[collector.partition_of(event)]
            assert int(event.offset or 0) > int(checkpoints[collector.partition_of(event)])
            assert (event.sequence_number or 0) <= told["last_enqueued_sequence_number"]


def has(commands: list[Message], count: int) -> bool:
    return len(commands) == count


@contextmanager
def reading(hub: RunningHub, **options: Any) -> Iterator[EventCollector]:
    collector = EventCollector(hub.events_connection_string(), str(hub.ca), **options)
    try:
        yield collector
    finally:
        collector.close()
