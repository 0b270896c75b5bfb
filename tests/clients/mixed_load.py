"""A load of every kind at once, at full speed or at a pace, for a soak.

Theory of operation. Each part is a coroutine that does one thing again and again; before each round it takes its turn
at its `Pace`, and afterwards counts what it has done. Without a rate a pace lets everything pass: how fast a part then
goes beside all the others is what the machine does, and the soak runs each part at half of that.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

import aiohttp

from clients.amqp_peer import amqp_peer, service_credentials
from clients.mqtt_peer import DESIRED, GET, METHODS, REPORTED, MqttPeer
from clients.raw import tls_context
from clients.sas import sas_token
from isthmus.wire.amqp import message
from isthmus.wire.amqp.message import Properties
from isthmus.wire.amqp.states import ACCEPTED_STATE
from isthmus.wire.mqtt.packets import Publish
from support.server import RunningHub

BODY = b"x" * 200
LARGE_BODY = b"x" * 32_768
BURST = 8
"""Messages of a device in one turn."""
QUERY = "SELECT * FROM devices WHERE status = 'enabled'"
PAUSE_SECONDS_MAX = 1.0
"""A pace that fell behind does not catch up on more than this."""


class Pace:
    """How often a part may begin a round; without `rate`, a second, as often as it likes."""

    def __init__(self) -> None:
        self.done = 0
        self.rate: float | None = None
        self._next = 0.0

    def __repr__(self) -> str:
        return f"{self.done} done, {self.rate and round(self.rate, 1)} a second"

    async def turn(self, weight: int = 1) -> None:
        """Returns when a round that does so much is due."""
        loop = asyncio.get_running_loop()
        if self.rate is not None:
            self._next = max(self._next + weight / self.rate, loop.time() - PAUSE_SECONDS_MAX)
            await asyncio.sleep(max(0.0, self._next - loop.time()))


@dataclass
class MixedLoad:
    """What all parts share: the devices by id, with their keys, and what has been done by part."""

    hub: RunningHub
    keys: dict[str, str]
    paces: dict[str, Pace] = field(default_factory=dict)
    connections: int = 0

    @property
    def acknowledged(self) -> int:
        """Telemetry messages that the hub has taken over."""
        return sum(pace.done for name, pace in self.paces.items() if name in TELEMETRY)

    def set_rates(self, rates: dict[str, float] | None) -> None:
        """Lets each part do so much a second, or as much as it can."""
        for name, pace in self.paces.items():
            pace.rate = rates[name] if rates else None

    def token(self, device_id: str) -> str:
        """A device's own."""
        return sas_token(f"{self.hub.host_name}/devices/{device_id}", self.keys[device_id])

    def client(self, device_id: str = "") -> aiohttp.ClientSession:
        """HTTPS of a device, or of the service."""
        key = self.hub.connection_string().rsplit("SharedAccessKey=", 1)[1]
        token = self.token(device_id) if device_id else sas_token(self.hub.host_name, key, "iothubowner")
        self.connections += 1
        return aiohttp.ClientSession(
            f"https://{self.hub.address}",
            headers={"Authorization": token, "Host": self.hub.host_name},
            connector=aiohttp.TCPConnector(ssl=tls_context(self.hub)),
        )

    async def fill(self, messages: int) -> None:
        """Telemetry of large messages, so that what keeps the newest in memory is full."""

        async def live(peer: MqttPeer) -> None:
            for _ in range(messages // BURST):
                await peer.delivered(*[LARGE_BODY] * BURST)
                self.paces["mqtt"].done += BURST

        await connected(self, "mqtt", live)

    async def run(self) -> None:
        """Everything, until it is cancelled; what goes wrong anywhere ends it."""
        async with asyncio.TaskGroup() as tasks:
            for name, part in PARTS.items():
                pace = self.paces.setdefault(name, Pace())
                tasks.create_task(part(self, pace), name=name)


Part: TypeAlias = Callable[[MixedLoad, Pace], Coroutine[Any, Any, None]]


async def mqtt_telemetry(load: MixedLoad, pace: Pace) -> None:
    """A connected device that publishes, a few messages at once."""

    async def live(peer: MqttPeer) -> None:
        while True:
            await pace.turn(BURST)
            await peer.delivered(*[BODY] * BURST)
            pace.done += BURST

    await connected(load, "mqtt", live)


async def https_telemetry(load: MixedLoad, pace: Pace) -> None:
    """A device that posts."""
    async with load.client("https") as client:
        while True:
            await pace.turn()
            await asked(client, "POST", "/devices/https/messages/events", data=BODY)
            pace.done += 1


async def reconnects(load: MixedLoad, pace: Pace) -> None:
    """A device that comes, publishes and goes, every other time without a word."""
    for number in count():
        await pace.turn()

        async def live(peer: MqttPeer, number: int = number) -> None:
            await peer.delivered(BODY)
            pace.done += 1
            if number % 2:
                peer.disconnect()

        await connected(load, "restless", live)


async def reported(load: MixedLoad, pace: Pace) -> None:
    """A device that patches its reported properties, and looks at its twin now and then."""

    async def live(peer: MqttPeer) -> None:
        for value in count():
            await pace.turn()
            await peer.ask(REPORTED, json.dumps({"value": value % 10, "at": value}).encode())
            if value % 10 == 0:
                await peer.ask(GET)
            pace.done += 1

    await connected(load, "reporting", live)


async def commanded(load: MixedLoad, pace: Pace) -> None:
    """A device that is sent a command over AMQP, then desired properties and a method over HTTPS."""
    came: asyncio.Queue[str] = asyncio.Queue()

    def take(peer: MqttPeer, publish: Publish) -> None:
        came.put_nowait(taken(peer, publish))

    async def live(peer: MqttPeer) -> None:
        async with load.client() as client, amqp_peer(load.hub, *credentials) as amqp:
            load.connections += 1
            link = await amqp.sender("/messages/devicebound")
            for number in count():
                await pace.turn()
                encoded = command("commanded", number)
                assert await amqp.send(link, encoded) == ACCEPTED_STATE
                await came.get()
                patch = {"properties": {"desired": {"value": number}}}
                await asked(client, "PATCH", "/twins/commanded", json=patch)
                await came.get()
                await asked(client, "POST", "/twins/commanded/methods", json={"methodName": "do", "payload": number})
                await came.get()
                pace.done += 1

    credentials = await asyncio.to_thread(service_credentials, load.hub)
    await connected(load, "commanded", live, take)


async def feedback(load: MixedLoad, pace: Pace) -> None:
    """A service that reads what became of the commands, as fast as it comes."""
    credentials = await asyncio.to_thread(service_credentials, load.hub)
    async with amqp_peer(load.hub, *credentials) as amqp:
        load.connections += 1
        link = await amqp.receiver("/messages/serviceBound/feedback", 10)
        while True:
            delivery_id, batch = await amqp.receive(link)
            pace.done += len(json.loads(b"".join(batch.data)))
            amqp.accept(link, delivery_id)


async def queries(load: MixedLoad, pace: Pace) -> None:
    """A service that asks for twins."""
    async with load.client() as client:
        while True:
            await pace.turn()
            await asked(client, "POST", "/devices/query", json={"query": QUERY})
            pace.done += 1


PARTS: dict[str, Part] = {
    "mqtt": mqtt_telemetry,
    "https": https_telemetry,
    "reconnects": reconnects,
    "reported": reported,
    "commanded": commanded,
    "feedback": feedback,
    "queries": queries,
}
TELEMETRY = ("mqtt", "https", "reconnects")
DEVICES = ("mqtt", "https", "restless", "reporting", "commanded")


async def connected(
    load: MixedLoad,
    device_id: str,
    live: Callable[[MqttPeer], Coroutine[Any, Any, None]],
    take: Callable[[MqttPeer, Publish], None] = lambda peer, publish: None,
) -> None:
    """Runs `live` on a connection of a device and closes it; raises what went wrong, a lost connection too.

    `take` gets every message from the first on: one that nobody acknowledges would stand before all others.
    """
    load.connections += 1
    peer = await MqttPeer.open(load.hub, device_id)
    peer.on_message = lambda publish: take(peer, publish)
    reading = asyncio.create_task(peer.read())
    living = asyncio.create_task(lived(load, peer, live))
    try:
        await asyncio.wait([reading, living], return_when=asyncio.FIRST_COMPLETED)
        await (living if living.done() else reading)
    finally:
        reading.cancel()
        living.cancel()
        await asyncio.gather(reading, living, return_exceptions=True)
        peer.close()


async def lived(load: MixedLoad, peer: MqttPeer, live: Callable[[MqttPeer], Awaitable[None]]) -> None:
    await peer.connect(load.token(peer.device_id), clean=True)
    await peer.subscribe()
    await live(peer)


async def asked(client: aiohttp.ClientSession, verb: str, path: str, **body: Any) -> None:
    """One request that must be answered well."""
    host, parameters = client.headers["Host"], {"api-version": "2021-04-12"}
    async with client.request(verb, path, params=parameters, server_hostname=host, **body) as answer:
        text = await answer.text()
        assert answer.status < 300, (verb, path, answer.status, text)


def taken(peer: MqttPeer, publish: Publish) -> str:
    """Answers a method, acknowledges a command, and tells the topic."""
    topic = publish.topic.decode()
    if topic.startswith(METHODS):
        peer.answer_method(publish, b"{}")
    elif not topic.startswith(DESIRED):
        peer.acknowledge(publish)
    return topic


def command(device_id: str, number: int) -> bytes:
    """A command whose outcome is to be told."""
    properties = Properties(message_id=f"m{number}", to=f"/devices/{device_id}/messages/devicebound")
    return properties.encode() + message.application_properties({"iothub-ack": "full"}) + message.data(BODY)
