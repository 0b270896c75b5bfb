"""MQTT and AMQP over WebSocket on the HTTPS port: the upgrade, frames, names, pace, and every kind of end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from isthmus.access.journal import Verdict
from isthmus.servers.gateway import connection as connection_module
from isthmus.servers.gateway.connection import WRITE_HIGH_BYTES, Connection
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.websocket import FRAME_BYTES_SENT_MAX, PING_SECONDS, WebSocketConnection
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import ConnAck, PubAck
from isthmus.wire.websocket.stream import FRAME_BYTES_MAX, Opcode, close_frame, encode_frame
from servers.front_door import WAIT_SECONDS
from servers.http_world import HOST, OTHER_HOST
from servers.mqtt_world import FakeConnection, MovedClock, MovedTimers
from servers.websocket_world import DEVICE, KEY, PATH, Echo, WebSocketWorld, connect_of, request, websocket_world
from wire.cases.websocket import binary, client_frame

EVENTS = f"devices/{DEVICE}/messages/events/".encode()
ACCEPTED = ConnAck(False, ConnectCode.ACCEPTED)
REFUSED = ConnAck(False, ConnectCode.NOT_AUTHORIZED)
NORMAL = b"\x88\x02\x03\xe8"


@pytest.fixture
async def world(tmp_path: Path, loopback_address: str) -> AsyncIterator[WebSocketWorld]:
    async with websocket_world(tmp_path, loopback_address) as world:
        yield world


# The upgrade


@pytest.mark.rule("MQTT-6.0.0-4")
@pytest.mark.parametrize(
    "path",
    [
        "/$iothub/websocket",
        "/%24iothub/websocket",
        "/$iothub/websocket/",
        "/$iothub/websocket?iothub-no-client-cert=true",
        "/$iothub/websocket/?a=b&a=c",
    ],
)
async def test_mqtt_at_every_spelling_of_the_path(world: WebSocketWorld, path: str) -> None:
    device = ClientSession()
    async with world.client.ws_connect(world.url(path), protocols=("mqtt",), headers={"Host": HOST}) as websocket:
        assert websocket.protocol == "mqtt"
        await websocket.send_bytes(device.connect(connect_of(world)))
        assert device.receive(await websocket.receive_bytes(timeout=WAIT_SECONDS)) == [ACCEPTED]
        await websocket.send_bytes(device.publish(EVENTS, b"21.5", qos=1, retain=False))
        (acknowledged,) = device.receive(await websocket.receive_bytes(timeout=WAIT_SECONDS))
        assert isinstance(acknowledged, PubAck)
    assert world.inlet.payloads == [b"21.5"]
    (admitted,) = await world.decisions()
    assert (admitted.verdict, admitted.plane, admitted.detail) == (Verdict.ALLOWED, "mqtt", "websocket")


@pytest.mark.parametrize("path", [PATH, "/$servicebus/websocket", "/%24servicebus/websocket/"])
async def test_amqp_at_both_paths(world: WebSocketWorld, path: str) -> None:
    async with world.client.ws_connect(world.url(path), protocols=("AMQPWSB10",), headers={"Host": HOST}) as websocket:
        assert websocket.protocol == "AMQPWSB10"
        await websocket.send_bytes(b"AMQP\0\1\0\0")
        assert await websocket.receive_bytes(timeout=WAIT_SECONDS) == b"AMQP\0\1\0\0"
    echo = await world.echo()
    await asyncio.wait_for(echo.is_closed.wait(), WAIT_SECONDS)
    assert echo.reason == "closed by peer"


async def test_the_answer_is_the_same_whatever_hub_is_named(world: WebSocketWorld) -> None:
    """Nothing about hubs, names and doors is told before somebody proves who he is."""
    answers = set()
    for host in (HOST, "nobody.example.test", "10.0.0.1"):
        raw = await world.raw("mqtt", host=host)
        answers.add(raw.head)
        raw.send(client_frame(Opcode.CLOSE))
        await raw.rest()
    await world.hubs.update("hub", {"properties": {"publicNetworkAccess": "Disabled"}})
    raw = await world.raw("mqtt")
    answers.add(raw.head)
    raw.send(client_frame(Opcode.CLOSE))
    await raw.rest()
    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert await world.decisions() == []


@pytest.mark.parametrize(
    ("path", "offered"),
    [(PATH, ""), (PATH, "mqttv5"), (PATH, "MQTT"), ("/$servicebus/websocket", "mqtt")],
)
async def test_an_unknown_sub_protocol_is_refused_and_explained(world: WebSocketWorld, path: str, offered: str) -> None:
    raw = await world.tls()
    raw.send(request(path, HOST, {"Sec-WebSocket-Protocol": offered}))
    head = await raw.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    (refusal,) = await world.decisions()
    assert (refusal.plane, refusal.hub, refusal.rule) == ("https", "hub", "contract.websocket-protocol")
    assert refusal.value == (offered or "none")
    assert "AMQPWSB10" in refusal.remedy
    raw.writer.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Key": "x"},
        {"Upgrade": ""},
        {"Connection": "keep-alive"},
        {"Content-Length": "1"},
    ],
)
async def test_what_is_no_websocket_is_refused_and_told_the_version(
    world: WebSocketWorld, changed: dict[str, str]
) -> None:
    raw = await world.tls()
    raw.send(request(PATH, HOST, changed) + (b"x" if "Content-Length" in changed else b""))
    head = await raw.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in head
    assert [refusal.rule for refusal in await world.decisions()] == ["contract.websocket"]
    raw.writer.close()


async def test_a_refused_upgrade_leaves_the_connection_to_http(world: WebSocketWorld) -> None:
    headers = {"Host": HOST, "Authorization": world.token()}
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await world.client.ws_connect(world.url(), protocols=("other",), headers=headers)
    async with world.client.get(world.url(f"/devices/{DEVICE}?api-version=2021-04-12"), headers=headers) as answer:
        assert answer.status == 200
    async with world.client.ws_connect(world.url(), protocols=("AMQPWSB10",), headers=headers) as websocket:
        await websocket.send_bytes(b"x")
        assert await websocket.receive_bytes(timeout=WAIT_SECONDS) == b"x"


async def test_a_websocket_may_follow_a_request_on_its_connection(world: WebSocketWorld) -> None:
    raw = await world.tls()
    ask = f"GET /devices/{DEVICE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    raw.send(ask + request(PATH, HOST, {"Sec-WebSocket-Protocol": "AMQPWSB10"}) + binary(b"early"))
    answers = await raw.reader.readuntil(b"Sec-WebSocket-Protocol: AMQPWSB10\r\n\r\n")
    assert answers.startswith(b"HTTP/1.1 401 ")
    assert await raw.frame() == (0x82, b"early")
    raw.send(client_frame(Opcode.CLOSE))
    assert await raw.rest() == close_frame(None)


async def test_what_is_sent_before_the_answer_is_not_lost(world: WebSocketWorld) -> None:
    raw = await world.raw("AMQPWSB10", binary(b"ear") + binary(b"ly")[:3])
    assert await raw.frame() == (0x82, b"ear")
    raw.send(binary(b"ly")[3:])
    assert await raw.frame() == (0x82, b"ly")
    raw.send(client_frame(Opcode.CLOSE))
    assert await raw.rest() == close_frame(None)


async def test_an_open_websocket_runs_no_task_and_is_none_of_the_http_servers(world: WebSocketWorld) -> None:
    tasks = len(asyncio.all_tasks())
    raw = await world.raw("mqtt")
    raw.send(binary(raw.mqtt.connect(connect_of(world))))
    assert await raw.packets() == [ACCEPTED]
    assert world.server.connections == []
    assert len(asyncio.all_tasks()) == tasks
    assert world.listeners.connections == 1
    raw.writer.close()


async def test_a_server_that_stops_ends_live_websockets(world: WebSocketWorld) -> None:
    raw = await world.raw("mqtt")
    raw.send(binary(raw.mqtt.connect(connect_of(world))))
    assert await raw.packets() == [ACCEPTED]
    assert await world.listeners.drain(WAIT_SECONDS) == 0
    assert await raw.rest() == b""
    assert len(world.index) == 0


# Frames


@pytest.mark.rule("MQTT-6.0.0-2")
async def test_packets_span_frames_and_frames_hold_packets(world: WebSocketWorld) -> None:
    raw = await world.raw("mqtt")
    connect = raw.mqtt.connect(connect_of(world))
    for position in range(len(connect)):
        raw.send(binary(connect[position : position + 1]))
    assert await raw.packets() == [ACCEPTED]
    several = b"".join(raw.mqtt.publish(EVENTS, b"%d" % number, qos=1, retain=False) for number in range(5))
    raw.send(binary(several[:40], final=False) + client_frame(Opcode.PING, b"?"))
    raw.send(client_frame(Opcode.CONTINUATION, several[40:]))
    seen: list[object] = []
    while len(seen) < 5:
        first, payload = await raw.frame()
        if first == 0x8A:
            assert payload == b"?"
        else:
            seen += raw.mqtt.receive(payload)
    assert world.inlet.payloads == [b"0", b"1", b"2", b"3", b"4"]
    raw.send(client_frame(Opcode.CLOSE, b"\x03\xe9"))
    assert await raw.rest() == close_frame(1001)


@pytest.mark.parametrize(
    ("sent", "goodbye", "rule"),
    [
        (client_frame(Opcode.TEXT, b"x"), 1003, "contract.websocket"),
        (encode_frame(Opcode.BINARY, b"x"), 1002, "contract.websocket"),
        (b"\x82\xff" + (FRAME_BYTES_MAX + 1).to_bytes(8, "big") + bytes(4), 1009, "limit.websocket-frame"),
    ],
)
async def test_a_broken_rule_is_answered_by_its_code_and_explained(
    world: WebSocketWorld, sent: bytes, goodbye: int, rule: str
) -> None:
    raw = await world.raw("AMQPWSB10", binary(b"good") + sent)
    assert await raw.frame() == (0x82, b"good")
    assert await raw.rest() == close_frame(goodbye)
    (refusal,) = await world.decisions()
    assert (refusal.plane, refusal.hub, refusal.rule, refusal.detail) == ("amqp", "hub", rule, "websocket")
    echo = await world.echo()
    await asyncio.wait_for(echo.is_closed.wait(), WAIT_SECONDS)


async def test_frames_of_all_sizes_come_back(world: WebSocketWorld) -> None:
    async with world.client.ws_connect(
        world.url(), protocols=("AMQPWSB10",), headers={"Host": HOST}, max_msg_size=0
    ) as websocket:
        for size in (1, 125, 126, 70_000, 2_000_000):
            sent = bytes(range(256)) * (size // 256 + 1)
            await websocket.send_bytes(sent)
            came = b""
            while len(came) < len(sent):
                came += await websocket.receive_bytes(timeout=WAIT_SECONDS)
            assert came == sent


# Who, and by which name


async def test_a_wrong_key_is_refused_in_mqtts_words_and_then_closed(world: WebSocketWorld) -> None:
    raw = await world.raw("mqtt")
    raw.send(binary(raw.mqtt.connect(connect_of(world, password=world.sign(f"{HOST}/devices/{DEVICE}", KEY)))))
    assert await raw.packets() == [REFUSED]
    assert await raw.rest() == NORMAL
    (refusal,) = await world.decisions()
    assert (refusal.plane, refusal.rule, refusal.detail) == ("mqtt", "auth.signature", "websocket")


@pytest.mark.parametrize(
    ("sni", "host", "connect", "rule"),
    [
        (HOST, OTHER_HOST, HOST, "name.mismatch"),
        (OTHER_HOST, HOST, HOST, "name.mismatch"),
        (HOST, HOST, OTHER_HOST, "name.mismatch"),
        (HOST, "nobody.example.test", HOST, "name.unknown"),
    ],
)
async def test_sni_host_header_and_connect_must_name_one_hub(
    world: WebSocketWorld, sni: str, host: str, connect: str, rule: str
) -> None:
    raw = await world.raw("mqtt", host=host, sni=sni)
    raw.send(binary(raw.mqtt.connect(connect_of(world, host=connect))))
    assert await raw.packets() == [REFUSED]
    await raw.rest()
    assert [refusal.rule for refusal in await world.decisions()] == [rule]


async def test_a_closed_public_door_is_closed_here_too(world: WebSocketWorld) -> None:
    live = await world.raw("mqtt")
    live.send(binary(live.mqtt.connect(connect_of(world))))
    assert await live.packets() == [ACCEPTED]
    await world.hubs.update("hub", {"properties": {"publicNetworkAccess": "Disabled"}})
    assert await live.rest() == NORMAL
    late = await world.raw("mqtt")
    late.send(binary(late.mqtt.connect(connect_of(world))))
    assert await late.packets() == [REFUSED]
    await late.rest()
    refusals = [decision for decision in await world.decisions() if decision.verdict is Verdict.REFUSED]
    assert {(refusal.plane, refusal.rule) for refusal in refusals} == {("mqtt", "network.public-access")}


async def test_who_opens_a_websocket_and_proves_nothing_is_cut(
    world: WebSocketWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PROOF_SECONDS", 0.3)
    raw = await world.raw("AMQPWSB10", binary(b"I am"))
    assert await raw.frame() == (0x82, b"I am")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await raw.read(1)
    raw.writer.close()
    _, plane, _, refusal = await asyncio.wait_for(world.turned_away.get(), WAIT_SECONDS)
    assert (plane, refusal.rule) == (Plane.HTTPS, "auth.time")
    echo = await world.echo()
    await asyncio.wait_for(echo.is_closed.wait(), WAIT_SECONDS)


# Pace


async def test_a_peer_that_sends_too_fast_feels_it(world: WebSocketWorld) -> None:
    raw = await world.raw()
    echo = await world.echo()
    echo.mute = True
    echo.connection.pause_reading()
    writing = asyncio.ensure_future(flood(raw.writer, 40_000_000))
    done, _ = await asyncio.wait([writing], timeout=0.5)
    assert not done
    assert echo.bytes_received <= 262_144
    echo.connection.resume_reading()
    await asyncio.wait_for(writing, WAIT_SECONDS)
    raw.send(client_frame(Opcode.CLOSE))
    assert await raw.rest() == close_frame(None)
    assert echo.bytes_received == 40_000_000


async def test_a_peer_that_does_not_read_congests_the_pump_until_it_does(world: WebSocketWorld) -> None:
    raw = await world.raw()
    echo = await world.echo()
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    written = 0
    while not echo.connection.congested:
        echo.connection.write(bytes(16_384))
        written += 16_384
        await asyncio.sleep(0)
    assert isinstance(echo.connection, WebSocketConnection)
    assert WRITE_HIGH_BYTES < echo.connection.buffered < 3 * WRITE_HIGH_BYTES
    assert not echo.is_writable.is_set()
    raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    while written:
        first, payload = await raw.frame()
        assert first == 0x82
        written -= len(payload)
    await asyncio.wait_for(echo.is_writable.wait(), WAIT_SECONDS)
    raw.send(client_frame(Opcode.CLOSE))
    assert await raw.rest() == close_frame(None)


# A connection in memory


class Below(FakeConnection):
    """A socket in memory."""

    opened_monotonic = 1.0
    buffered = 7

    def abort(self, reason: str = "aborted") -> None:
        self.reason = reason


class Face:
    """A `WebSocketConnection` on a socket in memory, with an echo above."""

    def __init__(self) -> None:
        clock = MovedClock()
        self.timers = MovedTimers(clock)
        self.below = Below(lambda _: None)
        self.pump = Echo()
        connection = cast(Connection, self.below)
        self.faults: list[str] = []
        self.websocket = WebSocketConnection(
            self.pump, connection, (HOST,), self.timers, lambda _, fault: self.faults.append(str(fault))
        )
        self.websocket.opened(connection)


async def test_a_silent_peer_is_pinged_in_time_and_a_lively_one_is_not() -> None:
    face = Face()
    face.timers.move(PING_SECONDS - 1)
    face.websocket.received(client_frame(Opcode.PONG))
    face.timers.move(2)
    assert face.below.writes == []
    face.timers.move(PING_SECONDS)
    assert face.below.writes == [b"\x89\x00"]
    face.timers.move(PING_SECONDS)
    assert face.below.writes == [b"\x89\x00"] * 2
    face.websocket.closed("gone")
    assert face.timers.waiting == 0
    assert face.pump.reason == "gone"


async def test_pings_of_a_peer_that_does_not_read_are_answered_once_when_it_does() -> None:
    face = Face()
    face.below.congested = True
    for number in range(3):
        face.websocket.received(client_frame(Opcode.PING, b"%d" % number))
    face.timers.move(3 * PING_SECONDS)
    assert face.below.writes == []
    face.below.congested = False
    face.websocket.writable()
    assert face.below.writes == [encode_frame(Opcode.PONG, b"2")]
    assert face.pump.is_writable.is_set()


async def test_a_long_write_becomes_several_frames() -> None:
    face = Face()
    sent = bytes(range(256)) * 4_096 + b"end"
    face.websocket.write(sent)
    assert face.below.writes == [
        encode_frame(Opcode.BINARY, sent[:FRAME_BYTES_SENT_MAX]),
        encode_frame(Opcode.BINARY, b"end"),
    ]


async def test_closing_says_one_goodbye_and_nothing_behind_it() -> None:
    face = Face()
    face.websocket.close("auth.signature")
    face.websocket.close("again")
    face.websocket.write(b"late")
    face.websocket.received(client_frame(Opcode.PING) + client_frame(Opcode.TEXT))
    assert face.below.writes == [NORMAL]
    assert face.below.reason == "auth.signature"
    assert face.faults == []


async def test_the_face_shows_what_is_known_of_the_socket() -> None:
    face = Face()
    websocket = face.websocket
    assert (websocket.host_names, websocket.carrier) == ((HOST,), "websocket")
    assert websocket.connection_id == face.below.connection_id
    assert websocket.door is face.below.door
    assert websocket.peer_address == face.below.peer_address
    assert websocket.server_name == face.below.server_name
    assert websocket.peer_chain == ()
    assert websocket.opened_monotonic == 1.0
    assert websocket.buffered == 7
    was_paused = []
    for change in (websocket.pause_reading, websocket.resume_reading):
        change()
        was_paused.append(face.below.paused)
    assert was_paused == [True, False]
    websocket.abort("enough")
    assert face.below.reason == "enough"


async def flood(writer: asyncio.StreamWriter, count: int) -> None:
    """Sends so many bytes in frames, as fast as the peer takes them."""
    frame = binary(bytes(100_000))
    for _ in range(count // 100_000):
        writer.write(frame)
        await writer.drain()
