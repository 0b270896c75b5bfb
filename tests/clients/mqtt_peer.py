"""The client half of the MQTT engine on a socket of asyncio: a device that does nothing by itself.

Theory of operation. `read` is the one task that reads; it hands every message to `on_message` and every acknowledgement
to `on_acknowledged`, unless somebody waits for it. The other calls may come from any task of the loop. When the
connection is gone, `read` raises ConnectionResetError; whoever waits for an answer is to be cancelled with it, as the
tasks of one TaskGroup are.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Self
from urllib.parse import parse_qs

from clients.raw import tls_context
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.events import ClientEvent
from isthmus.wire.mqtt.packets import ConnAck, Connect, PubAck, Publish, SubAck
from support.server import RunningHub

READ_BYTES = 65_536
KEEP_ALIVE_SECONDS = 240
METHODS = "$iothub/methods/POST/"
REPLIES = "$iothub/twin/res/"
DESIRED = "$iothub/twin/PATCH/properties/desired/"
REPORTED = "$iothub/twin/PATCH/properties/reported/"
GET = "$iothub/twin/GET/"
LOST = (OSError, ssl.SSLError)
"""What a connection raises whose other end is gone."""


class MqttPeer:
    """One connection; `connect` first, and `read` beside everything else."""

    def __init__(
        self,
        hub: RunningHub,
        device_id: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.device_id = device_id
        self.on_message: Callable[[Publish], None] = lambda publish: None
        self.on_acknowledged: Callable[[int], None] = lambda packet_id: None
        self._hub = hub
        self._reader = reader
        self._writer = writer
        self._session = ClientSession()
        self._waiting: dict[str | int, asyncio.Future[Publish | None]] = {}
        self._requests = 0

    @classmethod
    async def open(cls, hub: RunningHub, device_id: str, context: ssl.SSLContext | None = None) -> Self:
        """Connects the socket; raises OSError."""
        streams = await asyncio.open_connection(
            hub.address, 8883, ssl=context or tls_context(hub), server_hostname=hub.host_name
        )
        return cls(hub, device_id, *streams)

    async def connect(self, token: str, *, clean: bool) -> None:
        """Proves itself."""
        user = f"{self._hub.host_name}/{self.device_id}/?api-version=2021-04-12"
        connect = Connect(self.device_id, clean, KEEP_ALIVE_SECONDS, user, token.encode())
        await self._answer("connect", self._session.connect(connect))

    async def subscribe(self) -> None:
        """Asks for commands, methods, answers about its twin and desired properties."""
        commands = f"devices/{self.device_id}/messages/devicebound/#"
        filters = [(commands, 1), *((f"{topic}#", 0) for topic in (METHODS, REPLIES, DESIRED))]
        await self._answer("subscribe", self._session.subscribe(*filters))

    async def read(self) -> None:
        """Reads until the connection is gone."""
        while data := await self._reader.read(READ_BYTES):
            for event in self._session.receive(data):
                self._take(event)
        raise ConnectionResetError

    def send(self, body: bytes) -> int:
        """Sends telemetry at QoS 1; its packet identifier is what `on_acknowledged` is called with."""
        before = set(self._session.waiting)
        topic = f"devices/{self.device_id}/messages/events/".encode()
        self._writer.write(self._session.publish(topic, body, qos=1))
        (packet_id,) = self._session.waiting - before
        return packet_id

    async def delivered(self, *bodies: bytes) -> None:
        """Sends telemetry, and returns when all of it is acknowledged."""
        loop = asyncio.get_running_loop()
        waiting: dict[str | int, asyncio.Future[Publish | None]] = {
            self.send(body): loop.create_future() for body in bodies
        }
        self._waiting |= waiting
        try:
            await asyncio.gather(*waiting.values())
        finally:
            for packet_id in waiting:
                del self._waiting[packet_id]

    async def ask(self, topic: str, body: bytes = b"") -> Publish:
        """Asks about its twin and returns the answer, which must be good."""
        self._requests += 1
        request = f"r{self._requests}"
        answer = await self._answer(request, self._session.publish(f"{topic}?$rid={request}".encode(), body))
        assert answer is not None, "no answer at all"
        status = answer.topic.decode().removeprefix(REPLIES).partition("/")[0]
        assert status in ("200", "204"), (topic, status, answer.payload)
        return answer

    def answer_method(self, request: Publish, body: bytes) -> None:
        """Answers a method with status 200."""
        topic = f"$iothub/methods/res/200/?$rid={properties(request)['$rid']}"
        self._writer.write(self._session.publish(topic.encode(), body))

    def acknowledge(self, publish: Publish) -> None:
        """Acknowledges a command."""
        self._writer.write(self._session.puback([publish.packet_id]))

    def disconnect(self) -> None:
        """Says goodbye."""
        self._writer.write(self._session.disconnect())
        self._writer.close()

    def close(self) -> None:
        """Goes without a word."""
        self._writer.close()

    async def _answer(self, name: str, request: bytes) -> Publish | None:
        future: asyncio.Future[Publish | None] = asyncio.get_running_loop().create_future()
        self._waiting[name] = future
        self._writer.write(request)
        try:
            return await future
        finally:
            del self._waiting[name]

    def _take(self, event: ClientEvent) -> None:
        match event:
            case ConnAck(code=ConnectCode.ACCEPTED):
                self._waiting["connect"].set_result(None)
            case SubAck():
                self._waiting["subscribe"].set_result(None)
            case PubAck(packet_id) if packet_id in self._waiting:
                self._waiting[packet_id].set_result(None)
            case PubAck(packet_id):
                self.on_acknowledged(packet_id)
            case Publish(topic) if topic.startswith(REPLIES.encode()):
                self._waiting[properties(event)["$rid"]].set_result(event)
            case Publish():
                self.on_message(event)
            case _:
                raise AssertionError(f"{self.device_id} was told {event}")


def properties(event: Publish) -> dict[str, str]:
    """What stands behind the question mark of a topic."""
    return {name: values[0] for name, values in parse_qs(event.topic.decode().partition("?")[2]).items()}
