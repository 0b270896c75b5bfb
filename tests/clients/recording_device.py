"""A device that does everything at once on MQTT and writes down what it did and was told (`support.history`).

Theory of operation. The engine's client half on a socket of asyncio. One task reads and answers what comes: telemetry
goes out as acknowledgements come in, a few messages in flight. Another patches the reported properties, one patch at a
time. When the connection is gone, the device waits until it is told that the hub is up, connects again, looks at its
twin, and sends first what was not acknowledged. That a message came is written down before it is acknowledged, and that
a method is executed before it is answered, so that the order of the history is that of causes.
"""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Callable
from urllib.parse import parse_qs

from clients.raw import tls_context
from clients.sas import sas_token
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.events import ClientEvent
from isthmus.wire.mqtt.packets import ConnAck, Connect, PubAck, Publish, SubAck
from support.history import Acknowledged, CommandReceived, Heard, Looked, MethodExecuted, Patched, Sent, Step
from support.server import RunningHub

READ_BYTES = 65_536
IN_FLIGHT_MAX = 8
MESSAGES_PER_CONNECTION = 150
PATCHES_PER_CONNECTION = 40
"""With the messages: what a test has to read back in the end stays small."""

METHODS = "$iothub/methods/POST/"
REPLIES = "$iothub/twin/res/"
DESIRED = "$iothub/twin/PATCH/properties/desired/"
LOST = (OSError, ssl.SSLError)
"""What a connection raises whose other end was killed."""


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
        self._session: ClientSession
        self._writer: asyncio.StreamWriter
        self._packets: dict[int, int] = {}
        self._waiting: dict[str, asyncio.Future[Publish | None]] = {}

    @property
    def settled(self) -> bool:
        """True when it sends nothing new and was told everything about what it has sent."""
        return not self.writing and not self._unacknowledged and not self._patching

    async def run(self) -> None:
        while True:
            await self._power.on.wait()
            cuts = self._power.cuts
            try:
                await self._connected()
            except* LOST:
                self.looked = False
                if self._power.cuts == cuts:
                    raise

    async def look(self) -> None:
        """Asks for its twin and writes down what it was given."""
        answer = await self._ask("$iothub/twin/GET/", b"")
        twin = json.loads(answer.payload)
        reported, desired = twin["reported"], twin["desired"]
        self._record(Looked(self.reported, reported.get("value"), reported["$version"]))
        self._record(Heard(self.desired, self._connection, desired.get("value"), desired["$version"], whole=True))
        self.looked = True

    async def _connected(self) -> None:
        self._connection += 1
        context = tls_context(self._hub)
        reader, self._writer = await asyncio.open_connection(
            self._hub.address, 8883, ssl=context, server_hostname=self._hub.host_name
        )
        self._session = ClientSession()
        self._packets.clear()
        self._numbers_end = self._next_number + MESSAGES_PER_CONNECTION
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(reader))
                tasks.create_task(self._live())
        finally:
            self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(READ_BYTES):
            for event in self._session.receive(data):
                self._take(event)
        raise ConnectionResetError

    async def _live(self) -> None:
        user = f"{self._hub.host_name}/{self.device_id}/?api-version=2021-04-12"
        password = self._token.encode()
        connect = Connect(self.device_id, clean_session=False, keep_alive=240, user_name=user, password=password)
        await self._answer("connect", self._session.connect(connect))
        commands = f"devices/{self.device_id}/messages/devicebound/#"
        filters = [(commands, 1), *((f"{topic}#", 0) for topic in (METHODS, REPLIES, DESIRED))]
        await self._answer("subscribe", self._session.subscribe(*filters))
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
            answer = await self._ask("$iothub/twin/PATCH/properties/reported/", json.dumps({"value": value}).encode())
            version = int(_properties(answer)["$version"])
        finally:
            self._patching = False
            self._record(Patched(self.reported, value, version))

    async def _ask(self, topic: str, body: bytes) -> Publish:
        request = f"{self._connection}-{self._next_value}-{len(self._waiting)}"
        answer = await self._answer(request, self._session.publish(f"{topic}?$rid={request}".encode(), body))
        assert answer is not None, "a CONNACK for a request"
        status = answer.topic.decode().removeprefix(REPLIES).split("/")[0]
        assert status in ("200", "204"), (topic, status, answer.payload)
        return answer

    async def _answer(self, name: str, request: bytes) -> Publish | None:
        self._waiting[name] = asyncio.get_running_loop().create_future()
        self._writer.write(request)
        try:
            return await self._waiting[name]
        finally:
            del self._waiting[name]

    def _take(self, event: ClientEvent) -> None:
        match event:
            case ConnAck(code=ConnectCode.ACCEPTED):
                self._waiting["connect"].set_result(None)
            case SubAck():
                self._waiting["subscribe"].set_result(None)
            case PubAck(packet_id):
                self._acknowledged(packet_id)
            case Publish(topic) if topic.startswith(REPLIES.encode()):
                self._waiting[_properties(event)["$rid"]].set_result(event)
            case Publish(topic) if topic.startswith(METHODS.encode()):
                self._execute(event)
            case Publish(topic) if topic.startswith(DESIRED.encode()):
                patch = json.loads(event.payload)
                self._record(Heard(self.desired, self._connection, patch["value"], patch["$version"], whole=False))
            case Publish():
                self._record(CommandReceived(self.device_id, self._connection, event.payload.decode()))
                self._writer.write(self._session.puback([event.packet_id]))
            case _:
                raise AssertionError(f"{self.device_id} was told {event}")

    def _execute(self, event: Publish) -> None:
        call = int(json.loads(event.payload)["call"])
        request = _properties(event)["$rid"]
        self._record(MethodExecuted(self.device_id, call, result_of(call)))
        body = json.dumps({"result": result_of(call)}).encode()
        self._writer.write(self._session.publish(f"$iothub/methods/res/200/?$rid={request}".encode(), body))

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
        topic = f"devices/{self.device_id}/messages/events/".encode()
        before = set(self._session.waiting)
        self._writer.write(self._session.publish(topic, f"{self._connection}:{number}".encode(), qos=1))
        (packet_id,) = self._session.waiting - before
        self._packets[packet_id] = number


def _properties(event: Publish) -> dict[str, str]:
    """What stands behind the question mark of a topic."""
    return {name: values[0] for name, values in parse_qs(event.topic.decode().partition("?")[2]).items()}
