"""Publishers that go on through the death of a server, and know what was acknowledged."""

import struct
import threading
import time
from collections import deque

from clients.raw import ACCEPTED, RawMqtt
from clients.sas import sas_token
from support.server import RunningHub

AHEAD_MAX = 300
"""How far a fast publisher may run ahead of the slowest, so that what is read back afterwards stays small."""
ROUND_SECONDS_MAX = 60.0
IN_FLIGHT_MAX = 8
RECONNECT_SECONDS = 0.2


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
