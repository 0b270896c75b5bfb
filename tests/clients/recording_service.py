"""A service that does everything at once and writes down what it did and was told (`support.history`).

Desired properties and methods go over HTTPS, a device after the other; commands and feedback over AMQP, each on a
connection of its own. Nothing is repeated: what was under way when the hub was killed stays unknown.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count, cycle, islice
from typing import Any

import aiohttp

from clients.amqp_peer import amqp_peer, service_credentials
from clients.mqtt_peer import LOST
from clients.raw import tls_context
from clients.recording_device import Power, RecordingDevice
from clients.sas import sas_token
from isthmus.wire.amqp import message
from isthmus.wire.amqp.message import Properties
from isthmus.wire.amqp.states import ACCEPTED_STATE
from support.history import CommandSent, FeedbackRead, Heard, Looked, MethodAnswered, MethodCalled, Patched, Step
from support.server import RunningHub

PATCHES_PER_LIFE = 60
CALLS_PER_LIFE = 60
COMMANDS_PER_LIFE = 16
"""Between two starts of the hub: what is left over for the end, feedback above all, stays small."""
CONNECT_SECONDS = 5
"""How long a call waits for a device that has not come back yet."""
REQUEST_SECONDS_MAX = 30.0
GONE = (*LOST, aiohttp.ClientError)
NOBODY_THERE = (404, 504)
"""What a call is answered whose device did not come back, or was lost before it answered."""


class RecordingService:
    """One service; `run` until it is cancelled."""

    def __init__(
        self, hub: RunningHub, devices: Sequence[RecordingDevice], record: Callable[[Step], None], power: Power
    ) -> None:
        string = hub.connection_string()
        key = string.rsplit("SharedAccessKey=", 1)[1]
        self.writing = True
        self._hub = hub
        self._devices = devices
        self._turns = {part: cycle(devices) for part in ("patch", "call", "send")}
        self._numbers = count()
        self._record = record
        self._power = power
        self._headers = {"Authorization": sas_token(hub.host_name, key, "iothubowner")}
        self._credentials = service_credentials(hub)
        self._under_way = 0

    @property
    def settled(self) -> bool:
        """True when nothing new is begun and nothing is under way."""
        return not self.writing and not self._under_way

    async def run(self) -> None:
        """Works on all planes until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for part in (self._patch_desired, self._call_methods, self._send_commands, self._read_feedback):
                tasks.create_task(self._in_each_life(part))

    async def look(self) -> None:
        """Writes down what the registry shows of every twin."""
        async with self._client() as client:
            for device in self._devices:
                _, twin = await self._request(client, "GET", f"/twins/{device.device_id}")
                desired, reported = twin["properties"]["desired"], twin["properties"]["reported"]
                self._record(Looked(device.desired, desired.get("value"), desired["$version"]))
                self._record(Heard(device.reported, 0, reported.get("value"), reported["$version"], whole=True))

    async def _in_each_life(self, part: Callable[[], Awaitable[None]]) -> None:
        while True:
            cuts = await self._power.life()
            try:
                await part()
            except GONE:
                if self._power.cuts == cuts:
                    raise
            if self._power.cuts == cuts:
                await self._power.off.wait()

    async def _patch_desired(self) -> None:
        async with self._client() as client:
            for device, value in self._turn("patch", PATCHES_PER_LIFE):
                version = None
                try:
                    patch = {"properties": {"desired": {"value": value}}}
                    status, twin = await self._request(client, "PATCH", f"/twins/{device.device_id}", patch)
                    assert status == 200, twin
                    version = int(twin["properties"]["desired"]["$version"])
                finally:
                    self._end(Patched(device.desired, value, version))

    async def _call_methods(self) -> None:
        async with self._client() as client:
            for device, call in self._turn("call", CALLS_PER_LIFE):
                self._record(MethodCalled(device.device_id, call))
                answered = None
                try:
                    asked = {"methodName": "do", "payload": {"call": call}, "connectTimeoutInSeconds": CONNECT_SECONDS}
                    status, answer = await self._request(client, "POST", f"/twins/{device.device_id}/methods", asked)
                    if status not in NOBODY_THERE:
                        assert (status, answer["status"]) == (200, 200), answer
                        answered = MethodAnswered(device.device_id, call, int(answer["payload"]["result"]))
                finally:
                    self._end(answered)

    async def _send_commands(self) -> None:
        async with amqp_peer(self._hub, *self._credentials) as peer:
            link = await peer.sender("/messages/devicebound")
            for device, number in self._turn("send", COMMANDS_PER_LIFE):
                message_id, accepted = f"command-{number}", False
                to = f"/devices/{device.device_id}/messages/devicebound"
                wanted = message.application_properties({"iothub-ack": "full"})
                encoded = Properties(message_id=message_id, to=to).encode() + wanted + message.data(message_id.encode())
                try:
                    outcome = await peer.send(link, encoded)
                    accepted = outcome == ACCEPTED_STATE
                finally:
                    self._end(CommandSent(device.device_id, message_id, accepted))

    async def _read_feedback(self) -> None:
        async with amqp_peer(self._hub, *self._credentials) as peer:
            link = await peer.receiver("/messages/serviceBound/feedback", 10)
            while True:
                delivery_id, batch = await peer.receive(link)
                for record in json.loads(b"".join(batch.data)):
                    became = FeedbackRead(record["deviceId"], record["originalMessageId"], record["statusCode"])
                    self._record(became)
                peer.accept(link, delivery_id)

    def _turn(self, part: str, count_max: int) -> Iterator[tuple[RecordingDevice, int]]:
        """Devices in turn with new numbers, as long as something new may be begun; each is under way until `_end`."""
        for device in islice(self._turns[part], count_max):
            if not self.writing:
                return
            self._under_way += 1
            yield device, next(self._numbers)

    def _end(self, step: Step | None) -> None:
        self._under_way -= 1
        if step is not None:
            self._record(step)

    def _client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            f"https://{self._hub.host_name}",
            headers=self._headers,
            connector=aiohttp.TCPConnector(ssl=tls_context(self._hub)),
            timeout=aiohttp.ClientTimeout(REQUEST_SECONDS_MAX),
        )

    async def _request(self, client: aiohttp.ClientSession, verb: str, path: str, body: object = None) -> Any:
        async with client.request(verb, path, params={"api-version": "2021-04-12"}, json=body) as answer:
            return answer.status, await answer.json()
