"""Fuzz targets of MQTT and AMQP as a whole: bytes of one connection into a pump of a whole house, without sockets.

Invariant: whatever bytes a connection brings, at once or a packet after the other, nothing is raised and nothing is
logged as failed; the hub says only what a peer can read, stops reading only for a while, and once the connection is
gone no work and no session of it is left.

An input of the corpus is all that a client has ever said on one connection; its tokens are good, since `KEY` is the key
of the device and of the policy. Peers say what they say whatever they hear; what comes a packet after the other comes
when the hub has done with the one before, as if they had waited for the answer.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from fuzz.amqp_target import check_answers
from fuzz.failures import failures_of
from fuzz.http_target import HOST, House, housed
from fuzz.target import Check, Target
from isthmus.base.ids import DeviceRef
from isthmus.servers.gateway.ports import DeviceConnection
from isthmus.wire.mqtt.errors import ProtocolError
from isthmus.wire.mqtt.reader import PacketReader
from servers.mqtt_world import FakeConnection, settled

KEY = "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleSE="
DEVICE = "dev2"
PAUSE_SECONDS_MAX = 10.0
"""For work that a pump waits for: a thousand times what it takes."""

STEPS_MAX = 40
"""Packets that come alone; more come at once."""

PACKET_BYTES_MAX = 1_048_576


class Pump(Protocol):
    """What a connection gives its bytes to."""

    def opened(self, connection: DeviceConnection) -> None: ...
    def received(self, data: bytes) -> None: ...
    def closed(self, reason: str) -> None: ...


@contextmanager
def pumping_mqtt() -> Iterator[Check]:
    """A house and what devices say to it."""
    with _checked("mqtt") as check:
        yield check


@contextmanager
def pumping_amqp() -> Iterator[Check]:
    """A house and what services say to it."""
    with _checked("amqp") as check:
        yield check


@contextmanager
def _checked(plane: str) -> Iterator[Check]:
    with failures_of() as failures, asyncio.Runner() as runner:
        opened = housed()
        house = runner.run(opened.__aenter__())
        runner.run(_known(house))

        def check(data: bytes) -> None:
            failures.found.clear()
            for pieces in ([data], _in_steps(plane, data)):
                said = runner.run(_connected(house, plane, pieces))
                _check_said(plane, said)
            assert not failures.found, failures.found[0]

        yield check
        runner.run(opened.__aexit__(None, None, None))


async def _known(house: House) -> None:
    """Gives the hub's policies and a device of its own the key that tokens of the corpus are signed with."""
    domain = house.server.domain
    hub = domain.hubs.all()[0]
    keys = {"symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}
    await domain.registry.put(DeviceRef(hub.number, DEVICE), {"deviceId": DEVICE, "authentication": keys}, None)
    policies = tuple(replace(policy, primary_key=KEY) for policy in hub.policies)
    await domain.hubs.change(hub.name, lambda present: replace(present, policies=policies))


async def _connected(house: House, plane: str, pieces: list[bytes]) -> bytes:
    """One connection from its beginning to its end; what the hub said."""
    gateway = house.server.gateway
    served = gateway.mqtt if plane == "mqtt" else gateway.amqp
    pump: Pump = served.make_pump()
    connection = FakeConnection(lambda reason: pump.closed(reason))
    connection.server_name = HOST
    pump.opened(connection)
    async with asyncio.timeout(PAUSE_SECONDS_MAX):
        for piece in pieces:
            await _read_again(connection)
            if connection.reason:
                break
            pump.received(piece)
            await _done(house)
        await _read_again(connection)
        connection.close("gone")
        await settled()
        await served.drained()
    assert not list(gateway.sessions.all(house.server.domain.hubs.all()[0].number)), "a session of nobody"
    return b"".join(connection.writes)


async def _done(house: House) -> None:
    """Waits until what is ready has run, and what was appended is durable and told."""
    await settled()
    while house.server._stores.log.backlog_bytes:  # noqa: ASYNC110 - a thread of the log's makes it so
        await asyncio.sleep(0)
    await settled()


def _in_steps(plane: str, data: bytes) -> list[bytes]:
    """Packets or frames, as far as there are any; what comes behind is one piece."""
    pieces: list[bytes] = []
    size_of = _mqtt_size if plane == "mqtt" else _amqp_size
    while len(pieces) < STEPS_MAX and (size := size_of(data)):
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def _mqtt_size(data: bytes) -> int:
    """Bytes of the packet that the data begins with; 0 when it is not whole."""
    length = 0
    for place, byte in enumerate(data[1:5]):
        length |= (byte & 127) << 7 * place
        if byte < 128:
            size = place + 2 + length
            return size if size <= len(data) else 0
    return 0


def _amqp_size(data: bytes) -> int:
    """The same of a frame or a protocol header."""
    size = 8 if data[:4] == b"AMQP" else int.from_bytes(data[:4], "big")
    return size if 8 <= size <= len(data) else 0


async def _read_again(connection: FakeConnection) -> None:
    """Waits until the hub reads, or has closed."""
    while connection.paused and not connection.reason:  # noqa: ASYNC110 - many things make it so
        await asyncio.sleep(0)


def _check_said(plane: str, said: bytes) -> None:
    if plane == "amqp":
        check_answers(said)
        return
    reader = PacketReader(PACKET_BYTES_MAX)
    reader.feed(said)
    try:
        while reader.next() is not None:
            pass
    except ProtocolError as error:
        raise AssertionError(f"no packet: {error}") from error
    assert reader.held == 0, "half a packet"


TARGETS = (Target("pump-mqtt", pumping_mqtt), Target("pump-amqp", pumping_amqp))
