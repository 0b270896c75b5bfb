"""A device that does everything at once on MQTT and writes down what it did and was told (`support.history`).

Theory of operation. One task reads and answers what comes: telemetry goes out as acknowledgements come in, a few
messages in flight. Another patches the reported properties, one patch at a
time. When the connection is gone, the device waits until it is told that the hub is up, connects again, looks at its
twin, and sends first what was not acknowledged. That a message came is written down before it is acknowledged, and that
a method is executed before it is answered, so that the order of the history is that of causes.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable

from clients.mqtt_peer import DESIRED, GET, LOST, METHODS, REPORTED, MqttPeer, properties
from clients.sas import sas_token
from isthmus.wire.mqtt.packets import Publish
from support.history import Acknowledged, CommandReceived, Heard, Looked, MethodExecuted, Patched, Sent, Step
from support.server import RunningHub

IN_FLIGHT_MAX = 8
MESSAGES_PER_CONNECTION = 150
PATCHES_PER_CONNECTION = 40
"""With the messages: what a test has to read back in the end stays small."""


def result_of(call: int) -> int:
    """What a device answers to a call."""
    return call * 7 + 1


class Power:
    """Tells whether the hub is on; its clients wait for that instead of knocking. `cuts` counts its deaths."""

    def __init__(self) -> None:
        self.cuts = 0
        self.on = asyncio.Event()
        self.off = asyncio.Event()
        self.on.set()

    async def life(self) -> int:
        """Returns when the hub is on: the number of its deaths before this life."""
        while not self.on.is_set():  # it may have died again before a waiter had its turn
            await self.on.wait()
        return self.cuts

    def cut(self) -> None:
        self.cuts += 1
        self.on.clear()
        self.off.set()

    def restore(self) -> None:
        self.off.clear()
        self.on.set()


class RecordingDevice:
    """One device; `run` lives from connection to connection until it is cancelled."""

    def __init__(self, hub: RunningHub, connection_string: str, record: Callable[[Step], None], power: "Power") -> None:
        parts = dict(part.split("=", 1) for part in connection_string.split(";"))
        self.device_id = parts["DeviceId"]
        self.reported = f"{self.device_id} reported"
        self.desired = f"{self.device_id} desired"
        self.writing = True
        self.looked = False
        self._hub = hub
        self._token = sas_token(f"{hub.host_name}/devices/{self.device_id}", parts["SharedAccessKey"])
        self._record = record
        self._power = power
        self._connection = 0
        self._unacknowledged: deque[int] = deque()
        self._next_number = 0
        self._numbers_end = 0
        self._next_value = 0
        self._patching = False
        self._peer: MqttPeer
        self._packets: dict[int, int] = {}

    @property
    def settled(self) -> bool:
        """True when it sends nothing new and was told everything about what it has sent."""
        return not self.writing and not self._unacknowledged and not self._patching

    async def run(self) -> None:
        while True:
            cuts = await self._power.life()
            try:
                await self._connected()
            except* LOST:
                self.looked = False
                if self._power.cuts == cuts:
                    raise

    async def look(self) -> None:
        """Asks for its twin and writes down what it was given."""
        twin = json.loads((await self._peer.ask(GET)).payload)
        reported, desired = twin["reported"], twin["desired"]
        self._record(Looked(self.reported, reported.get("value"), reported["$version"]))
        self._record(Heard(self.desired, self._connection, desired.get("value"), desired["$version"], whole=True))
        self.looked = True

    async def _connected(self) -> None:
        self._connection += 1
        self._packets.clear()
        self._numbers_end = self._next_number + MESSAGES_PER_CONNECTION
        self._peer = await MqttPeer.open(self._hub, self.device_id)
        self._peer.on_message = self._take
        self._peer.on_acknowledged = self._acknowledged
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._peer.read())
                tasks.create_task(self._live())
        finally:
            self._peer.close()

    async def _live(self) -> None:
        await self._peer.connect(self._token, clean=False)
        await self._peer.subscribe()
        await self.look()
        for number in self._unacknowledged:
            self._send(number)
        self._fill()
        for _ in range(PATCHES_PER_CONNECTION):
            if self.writing:
                await self._patch()

    async def _patch(self) -> None:
        value, self._next_value = self._next_value, self._next_value + 1
        version = None
        self._patching = True
        try:
            answer = await self._peer.ask(REPORTED, json.dumps({"value": value}).encode())
            version = int(properties(answer)["$version"])
        finally:
            self._patching = False
            self._record(Patched(self.reported, value, version))

    def _take(self, event: Publish) -> None:
        topic = event.topic.decode()
        if topic.startswith(METHODS):
            call = int(json.loads(event.payload)["call"])
            self._record(MethodExecuted(self.device_id, call, result_of(call)))
            self._peer.answer_method(event, json.dumps({"result": result_of(call)}).encode())
        elif topic.startswith(DESIRED):
            patch = json.loads(event.payload)
            self._record(Heard(self.desired, self._connection, patch["value"], patch["$version"], whole=False))
        else:
            self._record(CommandReceived(self.device_id, self._connection, event.payload.decode()))
            self._peer.acknowledge(event)

    def _acknowledged(self, packet_id: int) -> None:
        number = self._unacknowledged.popleft()
        assert self._packets.pop(packet_id) == number, "acknowledged in order"
        self._record(Acknowledged(self.device_id, number))
        self._fill()

    def _fill(self) -> None:
        while self.writing and len(self._unacknowledged) < IN_FLIGHT_MAX and self._next_number < self._numbers_end:
            number, self._next_number = self._next_number, self._next_number + 1
            self._unacknowledged.append(number)
            self._send(number)

    def _send(self, number: int) -> None:
        self._record(Sent(self.device_id, self._connection, number))
        self._packets[self._peer.send(f"{self._connection}:{number}".encode())] = number
