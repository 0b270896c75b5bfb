"""The MQTT pump: how a connection begins, lasts and ends."""

import asyncio
import logging

import pytest

from isthmus.backends.memory.state import MemoryState
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.base.state import StateClosed
from isthmus.commands.cloud_to_device import CloudToDevice
from isthmus.devices.ports import ConnectedDevices
from isthmus.devices.presence import Presence
from isthmus.devices.twins import Twins
from isthmus.resources.hubs import Hubs
from isthmus.routing.accept import Accept
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.connection import Connection, Handler
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.kept_sessions import StoredSessions
from isthmus.servers.gateway.mqtt import MqttPump, MqttServices
from isthmus.servers.gateway.ports import DeviceConnection
from isthmus.servers.gateway.probe_mail import ProbeMail
from isthmus.telemetry.ports import Log
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import ConnAck, Connect, PingResp, Will, encode
from isthmus.wire.mqtt.session import CONNECT_SECONDS_MAX, PIPELINED_BYTES_MAX
from servers.mqtt_world import HOST, HUB, NOW_S, World, settled

EVENTS = "devices/dev1/messages/events/"


@pytest.fixture
def world() -> World:
    """A fresh world."""
    return World()


@pytest.mark.rule("MQTT-3.1.4-4")
async def test_a_device_with_a_good_key_is_let_in(world: World) -> None:
    device = world.device()

    assert await device.connect() == ConnAck(False, ConnectCode.ACCEPTED)
    assert [admitted.principal.label for admitted in world.gate.admissions] == ["device:dev1"]
    assert [session.principal.label for session in world.sessions.live] == ["device:dev1"]
    assert world.presence.told == [("dev1", "connected")]
    assert world.connected.count(HUB.number) == 1


async def test_a_module_is_let_in_beside_its_device(world: World) -> None:
    device = await world.connected_device("dev1")
    module = await world.connected_device("dev1/mod1")

    assert device.reason() == ""
    assert module.reason() == ""
    assert world.connected.count(HUB.number) == 2


@pytest.mark.rule("MQTT-3.2.2-5")
@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ({"password": b"bad"}, "auth.signature"),
        ({"password": b""}, "auth.signature"),
        ({"password": b"\xff"}, "auth.signature"),
        ({"host": "other.example.test"}, "IotHubNotFound"),
        ({"client_id": "dev2"}, "contract.client-id"),
        ({"host": ""}, "contract.user-name"),
        ({"will": Will("devices/dev2/messages/events/", b"")}, "contract.will"),
        ({"will": Will(EVENTS, bytes(65_000), 2)}, "contract.will"),
    ],
)
async def test_everything_unauthorised_is_answered_alike(world: World, how: dict[str, object], rule: str) -> None:
    device = world.device()

    assert await device.connect(**how) == ConnAck(False, ConnectCode.NOT_AUTHORIZED)  # type: ignore[arg-type]
    assert device.reason() == rule
    assert world.gate.rules == [rule]
    assert world.sessions.live == []
    assert world.presence.told == []


async def test_a_refusal_names_who_was_claimed(world: World) -> None:
    await world.device("dev1/mod1").connect(password=b"bad")
    await world.device("dev1").connect(host="other.example.test")

    assert [(refused.hub, refused.device) for refused in world.gate.refusals] == [
        ("hub", "dev1/mod1"),
        ("other.example.test", "dev1"),
    ]


async def test_a_server_in_trouble_says_come_again(world: World) -> None:
    world.gate.error = HubError(Code.SERVER_BUSY, "busy")
    assert (await world.device().connect()).code is ConnectCode.SERVER_UNAVAILABLE
    world.gate.error = StateClosed()
    assert (await world.device().connect()).code is ConnectCode.SERVER_UNAVAILABLE


@pytest.mark.rule("MQTT-3.1.4-5")
async def test_what_was_sent_behind_a_refused_connect_is_not_looked_at(world: World) -> None:
    device = world.device()
    connect = device.client.connect(Connect("dev1", user_name=f"{HOST}/dev1", password=b"bad"))
    device.give(connect + device.client.publish(EVENTS.encode(), b"x", qos=1))

    assert await device.heard() == [ConnAck(False, ConnectCode.NOT_AUTHORIZED)]
    assert world.inlet.appended == []


async def test_what_was_sent_behind_the_connect_waits_for_the_answer(world: World) -> None:
    world.gate.hold = asyncio.Event()
    device = world.device()
    connect = device.client.connect(Connect("dev1", user_name=f"{HOST}/dev1", password=b"good"))
    device.give(connect + device.client.publish(EVENTS.encode(), b"early"))
    await settled()

    assert not device.is_read()
    assert world.inlet.appended == []
    world.gate.hold.set()
    assert await device.heard() == [ConnAck(False, ConnectCode.ACCEPTED)]
    assert world.inlet.payloads == [b"early"]
    assert device.is_read()


async def test_what_waits_behind_the_connect_is_bounded(world: World) -> None:
    world.gate.hold = asyncio.Event()
    device = world.device()
    device.give(encode(Connect("dev1", user_name=f"{HOST}/dev1", password=b"good")))
    device.give(bytes(PIPELINED_BYTES_MAX + 1))
    world.gate.hold.set()
    await settled()

    assert world.gate.rules == ["limit.packet"]
    assert world.sessions.live == []


async def test_a_device_that_left_while_it_was_judged_leaves_nothing(world: World) -> None:
    world.gate.hold = asyncio.Event()
    device = world.device()
    device.give(encode(Connect("dev1", user_name=f"{HOST}/dev1", password=b"good")))
    await settled()
    await device.drop()
    world.gate.hold.set()
    await settled()

    assert world.sessions.live == []
    assert world.connected.count(HUB.number) == 0
    assert world.connected.find(DeviceRef(HUB.number, "dev1")) is None


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x10\x0a\x00\x04MQTT\x05\x02\x00\x3c", b"\x20\x02\x00\x01"),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
    ],
)
async def test_other_protocols_are_turned_away(world: World, data: bytes, answer: bytes) -> None:
    device = world.device()
    device.give(data)
    await settled()

    assert b"".join(device.connection.writes) == answer
    assert world.gate.rules == ["contract.protocol"]
    assert device.reason()


async def test_a_connect_has_to_come_in_time(world: World) -> None:
    device = world.device()
    world.timers.move(CONNECT_SECONDS_MAX)

    assert device.reason() == "no CONNECT in time"
    assert world.gate.rules == ["auth.time"]


@pytest.mark.rule("MQTT-3.1.2-24")
async def test_silence_ends_a_connection_and_a_ping_does_not_let_it(world: World) -> None:
    device = await world.connected_device(keep_alive=60)
    world.timers.move(80)
    device.give(device.client.ping())
    assert await device.heard() == [PingResp()]
    world.timers.move(80)
    assert device.reason() == ""
    world.timers.move(11)

    assert device.reason() == "keep-alive"


async def test_a_connection_has_one_timer(world: World) -> None:
    world.gate.expires_s = NOW_S + 100_000
    device = await world.connected_device()
    for _ in range(20):
        world.timers.move(50)
        device.give(device.client.ping())

    assert world.timers.waiting == 1
    await device.drop()
    assert world.timers.waiting == 0


async def test_a_connection_outlives_its_token_by_the_grace(world: World) -> None:
    world.gate.expires_s = NOW_S + 3600
    device = await world.connected_device(keep_alive=0)
    for _ in range(3):
        world.timers.move(1390)
        device.give(device.client.ping())
    assert device.reason() == ""
    world.timers.move(31)

    assert device.reason() == "auth.expired"
    assert world.gate.rules == ["auth.expired"]


@pytest.mark.rule("MQTT-3.1.2-10", "MQTT-3.14.4-3")
async def test_a_disconnect_ends_it_quietly(world: World) -> None:
    device = await world.connected_device(will=Will(EVENTS, b"gone"))
    device.give(device.client.disconnect())
    await settled()

    assert device.reason() == "disconnect"
    assert world.gate.refusals == []
    assert world.inlet.appended == []
    assert world.sessions.live == []
    assert world.presence.told == [("dev1", "connected"), ("dev1", "disconnected")]


@pytest.mark.rule("MQTT-3.1.2-8")
async def test_a_will_is_sent_for_a_device_that_vanished(world: World) -> None:
    device = await world.connected_device(will=Will(f"{EVENTS}a=1", b"gone", 1))
    await device.drop()
    world.inlet.commit()

    (will,) = world.inlet.appended
    assert will.payload == b"gone"
    assert will.envelope.properties == {"a": "1", "iothub-MessageType": "Will"}
    assert will.envelope.device_id == "dev1"


@pytest.mark.rule("MQTT-3.1.2-8")
async def test_a_will_is_sent_when_the_hub_ends_the_connection(world: World) -> None:
    device = await world.connected_device(will=Will(EVENTS, b"gone"))
    world.timers.move(100)
    await settled()

    assert device.reason() == "keep-alive"
    assert world.inlet.payloads == [b"gone"]


@pytest.mark.rule("MQTT-3.1.2-12")
async def test_a_device_without_a_will_vanishes_silently(world: World) -> None:
    device = await world.connected_device()
    await device.drop()

    assert world.presence.told[-1] == ("dev1", "disconnected")
    assert world.inlet.appended == []


async def test_a_device_that_was_never_let_in_has_no_will(world: World) -> None:
    await world.device().connect(password=b"bad", will=Will(EVENTS, b"gone"))

    assert world.inlet.appended == []


@pytest.mark.rule("MQTT-3.1.4-2")
async def test_a_newer_connection_takes_over_once_it_has_proved_itself(world: World) -> None:
    former = await world.connected_device()
    await world.device().connect(password=b"bad")
    assert former.reason() == ""
    newer = await world.connected_device()

    assert former.reason() == "replaced by a newer connection"
    assert newer.reason() == ""
    assert world.services.counts.takeovers == 1
    assert world.connected.count(HUB.number) == 1
    assert world.presence.told == [("dev1", "connected"), ("dev1", "connected")]
    await newer.drop()
    assert world.presence.told[-1] == ("dev1", "disconnected")


async def test_a_takeover_waits_until_messages_are_given_back(world: World) -> None:
    world.queue.put(b"1", b"2")
    former = await world.connected_device()
    await former.subscribe("devices/dev1/messages/devicebound/#")
    world.queue.releasing = asyncio.Event()
    newer, newest = world.device(), world.device()
    for device in (newer, newest):
        device.give(encode(Connect("dev1", user_name=f"{HOST}/dev1", password=b"good")))
        await settled()
    world.queue.put(b"3")
    assert newer.reason() == "replaced by a newer connection"
    assert newest.connection.writes == []
    world.queue.releasing.set()
    await newest.heard()
    await newest.subscribe("devices/dev1/messages/devicebound/#")

    assert [command.payload for command in world.queue.locked.values()] == [b"1", b"2", b"3"]


async def test_a_cut_closes_and_is_journaled(world: World) -> None:
    device = await world.connected_device()
    (session,) = world.sessions.live
    session.cut(Refusal(Hop.NETWORK, "network.public-access", "public", "open it"), Code.UNAUTHORIZED_ACCESS)
    await settled()

    assert device.reason() == "network.public-access"
    assert [(refused.rule, refused.principal) for refused in world.gate.refusals] == [
        ("network.public-access", "device:dev1")
    ]
    assert world.sessions.live == []


async def test_a_cut_reaches_a_device_on_its_way_in(world: World) -> None:
    former = await world.connected_device(clean=False)
    await former.subscribe("devices/dev1/messages/devicebound/#")
    world.queue.put(b"1")
    former.pump.writable()
    await settled()
    world.queue.releasing = asyncio.Event()
    device = world.device()
    device.give(encode(Connect("dev1", user_name=f"{HOST}/dev1", password=b"good")))
    await settled()
    newcomer = world.sessions.live[-1]
    newcomer.cut(Refusal(Hop.NETWORK, "network.public-access", "public", "open it"), Code.UNAUTHORIZED_ACCESS)
    world.queue.releasing.set()

    assert await device.heard() == [ConnAck(False, ConnectCode.NOT_AUTHORIZED)]
    assert world.sessions.live == []
    assert world.connected.count(HUB.number) == 0


async def test_the_end_is_one_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    device = await world.connected_device()
    world.timers.move(1.5)
    device.telemetry(b"x")
    await device.drop()

    (line,) = caplog.records
    assert line.getMessage() == "connection ended"
    assert {name: getattr(line, name) for name in ("hub", "device_id", "door", "plane", "duration_ms", "reason")} == {
        "hub": "hub",
        "device_id": "dev1",
        "door": "public",
        "plane": "mqtt",
        "duration_ms": 1500,
        "reason": "reset by peer",
    }


async def test_the_gateway_can_be_waited_for(world: World) -> None:
    device = await world.connected_device()
    await device.subscribe("devices/dev1/messages/devicebound/#")
    world.queue.put(b"1")
    device.pump.writable()
    await settled()
    device.connection.close()
    await settled()
    await world.gateway.drained()

    assert not world.queue.locked


@pytest.mark.rule("MQTT-4.8.0-2")
async def test_a_failing_state_closes_without_a_trace_of_the_session(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*arguments: object) -> None:
        raise StateClosed

    device = await world.connected_device(clean=False)
    monkeypatch.setattr(MemoryState, "commit", broken)
    device.give(device.client.subscribe(("devices/dev1/messages/devicebound/#", 1)))
    await settled()

    assert device.reason() == "internal error"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "mqtt connection failed"
    ]


def fits(pump: MqttPump, connection: Connection) -> tuple[Handler, DeviceConnection]:
    """The type checker's proof that pump and connection are made for each other."""
    return pump, connection


def fitted(gate: Gate, hubs: Hubs, inlet: Accept, log: Log, twins: Twins, queue: CloudToDevice, world: World) -> object:
    """The type checker's proof that the house has what the pump needs."""
    return MqttServices(
        gate=gate,
        hubs=hubs,
        inlet=inlet,
        backlog=log,
        twins=twins,
        devicebound=queue,
        kept=StoredSessions(MemoryState()),
        connected=Connected(Presence(MemoryState(), world.clock), world.clock),
        sessions=world.sessions,
        throttles=world.throttles,
        clock=world.clock,
        probe_mail=ProbeMail(log, world.clock),
    )


def serves(connected: Connected) -> ConnectedDevices:
    """The type checker's proof that the domain is served."""
    return connected
