"""SIGTERM under load: the hub ends in time, and what it had acknowledged is there afterwards."""

import signal
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from azure.eventhub import EventData

from app.starting import KEY, seed_of
from clients.devices import until
from clients.raw import ACCEPTED, RawMqtt
from clients.reading import EventCollector, sender
from clients.sas import sas_token
from support.loopback import Loopback
from support.server import RunningHub

DRAIN_SECONDS_MAX = 10.0
"""What SIGTERM promises."""
SENDERS = 8
"""Threads that send, each for its share of the devices, one message at a time."""
SENT_MIN = 150
READ_SECONDS = 120.0


@pytest.mark.parametrize("devices", [50, pytest.param(2_000, marks=pytest.mark.long)])
def test_what_was_acknowledged_before_the_end_is_there_afterwards(tmp_path: Path, devices: int) -> None:
    with Loopback() as loopback, ExitStack() as stack:
        hub = RunningHub(
            tmp_path / "hub", loopback.take(), options=["--seed", str(seed_of(tmp_path, devices)), "--partitions", "1"]
        )
        stack.callback(hub.kill)
        hub.start()
        fleet = Fleet(hub, devices, stack)
        fleet.send_until(SENT_MIN)
        hub.signal(signal.SIGTERM)
        assert hub.wait(DRAIN_SECONDS_MAX) == 0, hub.words()
        fleet.join()
        assert "Traceback" not in hub.words()
        hub.start()
        collector = EventCollector(hub.events_connection_string(), str(hub.ca))
        stack.callback(collector.close)
        until(lambda: not missing(fleet.acknowledged, collector.events), READ_SECONDS)
        for name, numbers in by_device(collector.events).items():
            # In order, each once, and at most one more, whose acknowledgement was on its way.
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) <= fleet.acknowledged.get(name, 0) + 1


def missing(acknowledged: dict[str, int], events: list[EventData]) -> list[str]:
    """Devices of whose acknowledged messages some were not read yet."""
    found = by_device(list(events))
    return [name for name, last in acknowledged.items() if len(found[name]) < last]


def by_device(events: list[EventData]) -> dict[str, list[int]]:
    """The numbers that each device sent, in the order in which they were read."""
    found: dict[str, list[int]] = defaultdict(list)
    for event in events:
        found[sender(event)].append(int(b"".join(event.body)))
    return found


class Fleet:
    """Connected devices that send numbered messages until the hub hangs up."""

    def __init__(self, hub: RunningHub, count: int, stack: ExitStack) -> None:
        self.acknowledged: dict[str, int] = {}
        self._grown = threading.Condition()
        context = ssl.create_default_context(cafile=str(hub.ca))

        def connect(number: int) -> tuple[str, RawMqtt]:
            name, host = f"d{number}", hub.host_name
            device = RawMqtt(hub, context=context)
            token = sas_token(f"{host}/devices/{name}", KEY)
            assert device.connect(name, f"{host}/{name}/?api-version=2021-04-12", token) == ACCEPTED
            return name, device

        with ThreadPoolExecutor(16) as pool:
            self._devices = list(pool.map(connect, range(count)))
        for _, device in self._devices:
            stack.enter_context(device)
        self._threads = [threading.Thread(target=self._send, args=(share,)) for share in self._shares()]

    def send_until(self, count: int) -> None:
        """Begins to send, and returns when so many messages were acknowledged."""
        for thread in self._threads:
            thread.start()
        with self._grown:
            assert self._grown.wait_for(lambda: sum(self.acknowledged.values()) >= count, READ_SECONDS)

    def join(self) -> None:
        """Returns when everybody has heard that the hub is gone."""
        for thread in self._threads:
            thread.join(READ_SECONDS)
            assert not thread.is_alive()

    def _shares(self) -> Iterator[list[tuple[str, RawMqtt]]]:
        return (self._devices[start::SENDERS] for start in range(SENDERS))

    def _send(self, share: list[tuple[str, RawMqtt]]) -> None:
        number = 0
        while True:
            number += 1
            for name, device in share:
                try:
                    told = device.publish(f"devices/{name}/messages/events/", str(number).encode(), number)
                except OSError:
                    return
                if len(told) < 4:
                    return
                with self._grown:
                    self.acknowledged[name] = number
                    self._grown.notify_all()
