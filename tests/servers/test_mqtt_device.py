"""A connected device: telemetry, back-pressure, subscriptions, commands, methods and its twin."""

import asyncio
import json

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.limits import DEVICE_MESSAGES_PER_SECOND, LOG_BACKLOG_BYTES_MAX, TELEMETRY_BYTES_MAX
from isthmus.devices.ports import MethodAnswer
from isthmus.servers.gateway.mqtt_device import BACKLOG_SECONDS, INBOUND_WINDOW, OUTBOUND_WINDOW, TOPICS_MAX
from isthmus.servers.gateway.mqtt_requests import REQUESTS_MAX
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import ConnAck, PubAck, Publish, SubAck, UnsubAck, encode
from servers.mqtt_world import NOW_S, Device, World, settled

REF = DeviceRef(HubId(1), "dev1")
EVENTS = "devices/dev1/messages/events/"
DEVICEBOUND = "devices/dev1/messages/devicebound/#"
METHODS = "$iothub/methods/POST/#"
TWIN = "$iothub/twin/res/#"
DESIRED = "$iothub/twin/PATCH/properties/desired/#"


@pytest.fixture
def world() -> World:
    """A fresh world."""
    return World()


@pytest.fixture
async def device(world: World) -> Device:
    """A device that was let in."""
    return await world.connected_device()


# ── telemetry ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("MQTT-3.3.4-1", "MQTT-4.3.2-2")
async def test_an_acknowledgement_follows_the_commit(world: World, device: Device) -> None:
    device.telemetry(b"1")
    device.telemetry(b"2")
    assert await device.heard() == []
    world.inlet.commit()

    assert device.connection.writes == [encode(PubAck(1)) + encode(PubAck(2))]
    assert world.inlet.payloads == [b"1", b"2"]


async def test_the_envelope_says_who_sent_it_whatever_the_message_says(world: World) -> None:
    device = await world.connected_device(query="?api-version=2021-04-12&model-id=dtmi:com:example:T;1")
    device.telemetry(b"x", "%24.mid=m1&$.ct=application%2Fjson&$.cdid=other&a=b")

    (message,) = world.inlet.appended
    envelope = message.envelope
    assert (envelope.device_id, envelope.module_id, envelope.generation_id) == ("dev1", "", "gen1")
    assert (envelope.door, envelope.principal) == ("public", "device:dev1")
    assert envelope.model_id == "dtmi:com:example:T;1"
    assert json.loads(envelope.auth_method) == {
        "scope": "device",
        "type": "sas",
        "issuer": "iothub",
        "acceptingIpFilterRule": None,
    }
    assert envelope.system == {"message-id": "m1", "content-type": "application/json"}
    assert envelope.properties == {"a": "b"}
    assert message.ingress_ms == NOW_S * 1000


async def test_a_topic_seen_before_is_made_once(world: World, device: Device) -> None:
    for _ in range(3):
        device.telemetry(b"x", "a=1")
    first, second, third = world.inlet.appended

    assert first.encoded is second.encoded is third.encoded


async def test_topics_remembered_are_bounded(world: World, device: Device) -> None:
    for number in range(3 * TOPICS_MAX):
        device.telemetry(b"x", f"$.mid={number}")
    device.telemetry(b"x", "long=" + "x" * 5000)

    assert [message.envelope.system.get("message-id") for message in world.inlet.appended[:3]] == ["0", "1", "2"]
    assert len(world.inlet.appended) == 3 * TOPICS_MAX + 1


@pytest.mark.rule("MQTT-3.3.4-1", "MQTT-4.3.1-1")
async def test_quality_zero_is_not_acknowledged(world: World, device: Device) -> None:
    device.telemetry(b"0", qos=0)
    device.telemetry(b"1", qos=1)
    world.inlet.commit()

    assert await device.heard() == [PubAck(1)]


@pytest.mark.rule("MQTT-3.3.1-5")
async def test_retain_becomes_a_property_and_is_not_mixed_up(world: World, device: Device) -> None:
    device.publish(f"{EVENTS}a=1", b"1", retain=True)
    device.publish(f"{EVENTS}a=1", b"2")
    device.publish(f"{EVENTS}a=1", b"3", retain=True)

    assert [message.envelope.properties for message in world.inlet.appended] == [
        {"a": "1", "mqtt-retain": "true"},
        {"a": "1"},
        {"a": "1", "mqtt-retain": "true"},
    ]


@pytest.mark.rule("MQTT-4.8.0-2")
async def test_what_was_lost_is_never_acknowledged(world: World, device: Device) -> None:
    device.telemetry(b"x")
    world.inlet.fail()

    assert device.reason() == "log: disk"
    assert await device.heard() == []


async def test_a_commit_after_the_end_says_nothing(world: World, device: Device) -> None:
    device.telemetry(b"x")
    await device.drop()
    world.inlet.commit()

    assert device.connection.writes == []


@pytest.mark.rule("MQTT-3.3.5-2")
@pytest.mark.parametrize(
    ("topic", "payload", "qos", "rule"),
    [
        ("devices/dev2/messages/events/", b"", 1, "contract.topic"),
        ("anything", b"", 0, "contract.topic"),
        (f"{EVENTS}a=10:30", b"", 1, "contract.property-bag"),
        (EVENTS, b"", 2, "contract.qos"),
        (EVENTS, bytes(TELEMETRY_BYTES_MAX + 1), 1, "limit.message-size"),
        (f"{EVENTS}a=bc", bytes(TELEMETRY_BYTES_MAX - 2), 1, "limit.message-size"),
        (EVENTS, bytes(TELEMETRY_BYTES_MAX + 70_000), 1, "limit.packet"),
    ],
)
async def test_a_bad_message_ends_the_connection(
    world: World, device: Device, topic: str, payload: bytes, qos: int, rule: str
) -> None:
    device.telemetry(b"good")
    device.publish(topic, payload, qos)
    device.telemetry(b"late")
    await settled()

    assert device.reason() == rule
    assert [(refused.rule, refused.hub, refused.device, refused.principal) for refused in world.gate.refusals] == [
        (rule, "hub", "dev1", "device:dev1")
    ]
    assert world.inlet.payloads == [b"good"]


@pytest.mark.rule("MQTT-4.3.3-2")
async def test_a_topic_known_at_quality_one_is_still_refused_at_two(world: World, device: Device) -> None:
    device.telemetry(b"1", qos=1)
    device.telemetry(b"2", qos=2)

    assert device.reason() == "contract.qos"


async def test_the_largest_message_passes(world: World, device: Device) -> None:
    device.publish(f"{EVENTS}a=bc", bytes(TELEMETRY_BYTES_MAX - 3))
    world.inlet.commit()

    assert await device.acknowledged() == 1


async def test_nothing_behind_a_bad_message_of_the_same_read_is_taken(world: World, device: Device) -> None:
    good = device.client.publish(EVENTS.encode(), b"good", qos=1)
    bad = device.client.publish(b"nowhere", b"bad", qos=1)
    device.give(good + bad + good)

    assert world.inlet.payloads == [b"good"]


async def test_a_device_of_a_deleted_hub_is_ended(world: World, device: Device) -> None:
    world.hubs.hub = None
    device.telemetry(b"x")

    assert device.reason() == "hub deleted"
    assert world.inlet.appended == []


# ── back-pressure ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_reading_pauses_at_the_window_and_goes_on_after_the_commit(world: World, device: Device) -> None:
    message = encode(Publish(EVENTS.encode(), b"x"))
    device.give(message * (INBOUND_WINDOW - 1))
    assert device.is_read()
    device.give(message)
    assert not device.is_read()
    world.inlet.commit()

    assert device.is_read()


async def test_reading_pauses_while_the_log_is_behind(world: World, device: Device) -> None:
    world.inlet.backlog_bytes = LOG_BACKLOG_BYTES_MAX + 1
    device.telemetry(b"x")
    assert not device.is_read()
    world.inlet.commit()
    world.timers.move(BACKLOG_SECONDS)
    assert not device.is_read()
    world.inlet.backlog_bytes = 0
    world.timers.move(BACKLOG_SECONDS)

    assert device.is_read()


async def test_a_device_that_is_too_fast_is_slowed_and_not_refused(world: World, device: Device) -> None:
    message = encode(Publish(EVENTS.encode(), b"x"))
    device.give(message * (DEVICE_MESSAGES_PER_SECOND + 500))
    world.inlet.commit()
    assert not device.is_read()
    world.timers.move(0.09)
    assert not device.is_read()
    world.timers.move(0.02)

    assert device.is_read()
    assert len(world.inlet.appended) == DEVICE_MESSAGES_PER_SECOND + 500


async def test_a_device_we_do_not_read_is_not_called_silent(world: World) -> None:
    device = await world.connected_device(keep_alive=10)
    device.give(encode(Publish(EVENTS.encode(), b"x")) * INBOUND_WINDOW)
    world.timers.move(100)
    assert device.reason() == ""
    world.inlet.commit()
    world.timers.move(100)

    assert device.reason() == "keep-alive"


async def test_a_device_that_does_not_read_us_is_not_read_and_not_spared(world: World) -> None:
    device = await world.connected_device(keep_alive=10)
    device.connection.congested = True
    device.give(device.client.subscribe((TWIN, 0)))
    assert not device.is_read()
    device.connection.congested = False
    device.pump.writable()
    assert device.is_read()
    device.connection.congested = True
    device.give(device.client.subscribe((TWIN, 0)))
    world.timers.move(16)

    assert device.reason() == "keep-alive"


async def test_a_device_that_asks_more_than_is_answered_is_not_read(world: World, device: Device) -> None:
    await device.subscribe(TWIN)
    world.twins.hold = asyncio.Event()
    for number in range(REQUESTS_MAX + 1):
        device.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={number}", b"{}")
    await settled()
    device.telemetry(b"x")
    assert not device.is_read()
    world.twins.hold.set()
    await settled()

    assert device.is_read()
    assert len(world.twins.reported) == REQUESTS_MAX + 1


# ── subscriptions ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.10.4-5", "MQTT-3.10.4-6")
async def test_subscriptions_are_granted_up_to_quality_one(device: Device) -> None:
    device.give(device.client.subscribe((DEVICEBOUND, 2), (TWIN, 0)))
    assert await device.heard() == [SubAck(1, (1, 0))]
    device.give(device.client.unsubscribe(DEVICEBOUND, "never/there"))

    assert await device.heard() == [UnsubAck(2)]


@pytest.mark.rule("MQTT-3.8.3-2")
@pytest.mark.parametrize(
    ("filters", "rule"),
    [
        (["devices/dev2/messages/devicebound/#"], "contract.filter"),
        ([TWIN, "#"], "contract.filter"),
        (
            [TWIN, DESIRED, METHODS, DEVICEBOUND, "$iothub/methods/POST/a/#", "$iothub/methods/POST/b/#"],
            "limit.subscriptions",
        ),
    ],
)
async def test_a_bad_filter_ends_the_connection(world: World, device: Device, filters: list[str], rule: str) -> None:
    device.give(device.client.subscribe(*[(topic_filter, 1) for topic_filter in filters]))

    assert await device.heard() == []
    assert device.reason() == rule
    assert world.gate.rules == [rule]


@pytest.mark.rule("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.2.2-2", "MQTT-4.5.0-1")
async def test_a_kept_session_receives_right_behind_the_connack(world: World) -> None:
    device = await world.connected_device(clean=False)
    await device.subscribe(DEVICEBOUND)
    device.give(device.client.disconnect())
    await settled()
    world.queue.put(b"1", b"2")
    again = world.device()

    assert await again.connect(clean=False) == ConnAck(True, ConnectCode.ACCEPTED)
    assert [event.payload for event in again.early if isinstance(event, Publish)] == [b"1", b"2"]


@pytest.mark.rule("MQTT-3.1.2-6", "MQTT-3.1.4-3", "MQTT-3.2.2-1", "MQTT-3.2.2-3")
async def test_a_clean_session_forgets_the_kept_one(world: World) -> None:
    device = await world.connected_device(clean=False)
    await device.subscribe(DEVICEBOUND)
    world.queue.put(b"1")
    clean = world.device()
    assert await clean.connect(clean=True) == ConnAck(False, ConnectCode.ACCEPTED)
    assert clean.early == []
    kept = world.device()

    assert await kept.connect(clean=False) == ConnAck(False, ConnectCode.ACCEPTED)
    assert kept.early == []
    assert world.queue.waiting


async def test_a_kept_session_ends_with_its_last_subscription(world: World) -> None:
    device = await world.connected_device(clean=False)
    await device.subscribe(DEVICEBOUND)
    device.give(device.client.unsubscribe(DEVICEBOUND))
    assert await device.heard() == [UnsubAck(2)]

    assert await world.device().connect(clean=False) == ConnAck(False, ConnectCode.ACCEPTED)


async def test_a_device_made_again_does_not_inherit_the_session(world: World) -> None:
    device = await world.connected_device(clean=False)
    await device.subscribe(DEVICEBOUND)
    world.gate.generation_id = "gen2"

    assert await world.device().connect(clean=False) == ConnAck(False, ConnectCode.ACCEPTED)


@pytest.mark.rule("MQTT-3.1.2-6")
async def test_subscriptions_of_a_clean_session_are_not_stored(world: World, device: Device) -> None:
    await device.subscribe(DEVICEBOUND)

    assert await world.state.scan("session", HubId(1)) == []


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_command_is_completed_by_its_acknowledgement(world: World, device: Device) -> None:
    world.queue.put(b"go", system={"message-id": "m1"}, properties={"a": "1"}, ack="full")
    (message,) = await device.subscribe(DEVICEBOUND)

    assert isinstance(message, Publish)
    assert (message.payload, message.qos, message.retain, message.duplicate) == (b"go", 1, False, False)
    assert message.topic == (
        b"devices/dev1/messages/devicebound/%24.mid=m1&%24.to=%2Fdevices%2Fdev1%2Fmessages%2Fdevicebound"
        b"&iothub-ack=full&a=1"
    )
    assert world.queue.completed == []
    device.give(device.client.puback([message.packet_id]))
    await settled()
    assert world.queue.completed == ["t1"]


@pytest.mark.rule("MQTT-4.6.0-5", "MQTT-4.6.0-6")
async def test_commands_come_in_order_and_up_to_the_window(world: World, device: Device) -> None:
    world.queue.put(*[str(number).encode() for number in range(OUTBOUND_WINDOW + 10)])
    early = await device.subscribe(DEVICEBOUND)
    assert [event.payload for event in early if isinstance(event, Publish)] == [
        str(number).encode() for number in range(OUTBOUND_WINDOW)
    ]
    device.give(device.client.puback([event.packet_id for event in early if isinstance(event, Publish)][:3]))

    assert await device.commands() == [b"50", b"51", b"52"]
    assert world.queue.completed == ["t1", "t2", "t3"]


@pytest.mark.rule("MQTT-4.1.0-2")
async def test_a_new_command_is_delivered_at_once(world: World, device: Device) -> None:
    await device.subscribe(DEVICEBOUND)
    world.queue.put(b"go")
    found = world.connected.find(REF)
    assert found is not None
    found.c2d_available()

    assert await device.commands() == [b"go"]
    assert world.queue.completed == ["t1"]


@pytest.mark.rule("MQTT-3.8.4-6")
async def test_quality_zero_completes_on_sending(world: World, device: Device) -> None:
    world.queue.put(b"1", b"2")
    early = await device.subscribe(DEVICEBOUND, qos=0)

    assert [event.qos for event in early if isinstance(event, Publish)] == [0, 0]
    assert world.queue.completed == ["t1", "t2"]


@pytest.mark.rule("MQTT-4.4.0-1")
async def test_unsettled_commands_are_given_back_at_the_end(world: World, device: Device) -> None:
    world.queue.put(b"1", b"2", b"3")
    early = await device.subscribe(DEVICEBOUND)
    device.give(device.client.puback([event.packet_id for event in early if isinstance(event, Publish)][:1]))
    await settled()
    await device.drop()

    assert world.queue.completed == ["t1"]
    assert [command.payload for command in world.queue.waiting] == [b"2", b"3"]
    assert world.queue.locked == {}


@pytest.mark.rule("MQTT-4.6.0-2")
async def test_an_acknowledgement_that_skips_one_ends_the_connection(world: World, device: Device) -> None:
    world.queue.put(b"1", b"2")
    early = await device.subscribe(DEVICEBOUND)
    device.give(device.client.puback([event.packet_id for event in early if isinstance(event, Publish)][1:]))
    await settled()

    assert device.reason() == "contract.protocol"
    assert [command.payload for command in world.queue.waiting] == [b"1", b"2"]


async def test_a_late_acknowledgement_settles_nothing_and_the_command_comes_again(world: World, device: Device) -> None:
    world.queue.put(b"1")
    (message,) = await device.subscribe(DEVICEBOUND)
    assert isinstance(message, Publish)
    world.queue.lose_locks()
    device.give(device.client.puback([message.packet_id]))

    assert await device.commands() == [b"1"]
    assert world.queue.completed == ["t1'"]


async def test_a_command_no_packet_can_hold_is_rejected_and_blocks_nobody(world: World, device: Device) -> None:
    world.queue.put(b"", properties={"a": "%" * 22_000})
    world.queue.put(b"next")

    assert [event.payload for event in await device.subscribe(DEVICEBOUND) if isinstance(event, Publish)] == [b"next"]
    assert world.queue.rejected == ["t1"]


async def test_a_device_that_does_not_read_gets_no_more_commands(world: World, device: Device) -> None:
    device.connection.congested = True
    world.queue.put(b"1")
    assert await device.subscribe(DEVICEBOUND) == []
    device.connection.congested = False
    device.pump.writable()

    assert await device.commands() == [b"1"]


@pytest.mark.rule("MQTT-3.3.2-3")
async def test_nothing_is_delivered_without_a_subscription(world: World, device: Device) -> None:
    world.queue.put(b"1")
    await device.subscribe(METHODS)
    found = world.connected.find(REF)
    assert found is not None
    found.c2d_available()

    assert await device.heard() == []
    assert len(world.queue.waiting) == 1


# ── methods ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_method_is_answered(world: World, device: Device) -> None:
    await device.subscribe(METHODS)
    found = world.connected.find(REF)
    assert found is not None
    call = await world.background(found.invoke("reboot", b'{"in":5}'))

    assert await device.heard() == [Publish(b"$iothub/methods/POST/reboot/?$rid=1", b'{"in":5}')]
    device.publish("$iothub/methods/res/200/?$rid=1", b'{"ok":true}')
    assert await call == MethodAnswer(200, b'{"ok":true}')
    assert await device.acknowledged() == 1


async def test_a_method_without_a_payload_carries_null(world: World, device: Device) -> None:
    await device.subscribe(METHODS)
    found = world.connected.find(REF)
    assert found is not None
    calls = [await world.background(found.invoke("a", b"")) for _ in range(2)]

    assert await device.heard() == [
        Publish(b"$iothub/methods/POST/a/?$rid=1", b"null"),
        Publish(b"$iothub/methods/POST/a/?$rid=2", b"null"),
    ]
    device.publish("$iothub/methods/res/204/?$rid=2", b"", 0)
    assert await calls[1] == MethodAnswer(204, b"")
    calls[0].cancel()


async def test_late_answers_are_dropped_and_counted(world: World, device: Device) -> None:
    await device.subscribe(METHODS)
    found = world.connected.find(REF)
    assert found is not None
    call = await world.background(found.invoke("a", b""))
    call.cancel()
    await device.heard()
    device.publish("$iothub/methods/res/200/?$rid=1")
    device.publish("$iothub/methods/res/200/?$rid=99")

    assert await device.acknowledged() == 2
    assert device.reason() == ""
    assert world.services.counts.late_method_answers == 2


async def test_a_method_ends_with_the_connection(world: World, device: Device) -> None:
    await device.subscribe(METHODS)
    found = world.connected.find(REF)
    assert found is not None
    call = await world.background(found.invoke("a", b""))
    await device.drop()

    with pytest.raises(HubError) as caught:
        await call
    assert caught.value.code is Code.DEVICE_CONNECTION_CLOSED


async def test_a_device_takes_the_methods_it_subscribed_to(world: World, device: Device) -> None:
    found = world.connected.find(REF)
    assert found is not None
    assert not found.accepts_methods()
    await device.subscribe("$iothub/methods/POST/reboot/#")

    assert found.accepts_methods()
    with pytest.raises(HubError) as caught:
        await found.invoke("erase", b"")
    assert caught.value.code is Code.DEVICE_NOT_ONLINE


async def test_who_waits_for_a_device_hears_when_it_takes_methods(world: World) -> None:
    waiting = await world.background(world.connected.wait(REF, 60))
    device = await world.connected_device()
    assert not waiting.done()
    await device.subscribe(METHODS)

    assert await waiting is world.connected.find(REF)


async def test_who_waits_hears_of_a_kept_session_too(world: World) -> None:
    device = await world.connected_device(clean=False)
    await device.subscribe(METHODS)
    await device.drop()
    waiting = await world.background(world.connected.wait(REF, 60))
    await world.connected_device(clean=False)

    assert await waiting is not None


# ── twin ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_twin_is_read(device: Device) -> None:
    await device.subscribe(TWIN)
    device.publish("$iothub/twin/GET/?$rid=r1", b" ", 0)

    (answer,) = await device.heard()
    assert isinstance(answer, Publish)
    assert answer.topic == b"$iothub/twin/res/200/?$rid=r1"
    assert json.loads(answer.payload) == {"desired": {"$version": 3}, "reported": {"$version": 1}}


async def test_reported_properties_are_patched_in_order(world: World, device: Device) -> None:
    await device.subscribe(TWIN)
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"a":1}')
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=2&$version=2", b'{"a":null}')

    assert await device.heard() == [
        PubAck(2),
        Publish(b"$iothub/twin/res/204/?$rid=1&$version=2", b""),
        PubAck(3),
        Publish(b"$iothub/twin/res/204/?$rid=2&$version=3", b""),
    ]
    assert world.twins.reported == [({"a": 1}, None), ({"a": None}, 2)]


async def test_a_patch_sent_before_the_goodbye_is_applied(world: World, device: Device) -> None:
    patches = [
        device.client.publish(b"$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"a":%d}' % number)
        for number in (1, 2)
    ]
    device.give(b"".join(patches) + device.client.disconnect())
    await settled()

    assert world.twins.reported == [({"a": 1}, None), ({"a": 2}, None)]


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":}', b"\xff"])
async def test_a_patch_that_is_no_json_is_refused_with_a_body(world: World, device: Device, body: bytes) -> None:
    await device.subscribe(TWIN)
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", body, 0)

    (answer,) = await device.heard()
    assert isinstance(answer, Publish)
    assert answer.topic == b"$iothub/twin/res/400/?$rid=1"
    words = json.loads(answer.payload)
    assert (words["errorCode"], words["trackingId"]) == (400004, "tracking-1")
    assert device.reason() == ""


async def test_a_refused_patch_has_the_status_of_its_code(world: World, device: Device) -> None:
    await device.subscribe(TWIN)
    world.twins.error = HubError(Code.PRECONDITION_FAILED, "no")
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=7", b"{}", 0)

    (answer,) = await device.heard()
    assert isinstance(answer, Publish)
    assert answer.topic == b"$iothub/twin/res/412/?$rid=1"


async def test_a_patch_applies_without_a_subscription_and_is_not_answered(world: World, device: Device) -> None:
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b"{}", 0)

    assert await device.heard() == []
    assert len(world.twins.reported) == 1


async def test_a_twin_asked_for_behind_the_subscribe_is_answered(device: Device) -> None:
    device.give(device.client.subscribe((TWIN, 0)) + device.client.publish(b"$iothub/twin/GET/?$rid=1", b""))

    subscribed, answer = await device.heard()
    assert isinstance(subscribed, SubAck)
    assert isinstance(answer, Publish)


async def test_desired_properties_are_told_to_who_subscribed(world: World, device: Device) -> None:
    found = world.connected.find(REF)
    assert found is not None
    found.desired_changed(b'{"a":1,"$version":8}', 8)
    assert await device.heard() == []
    await device.subscribe(DESIRED)
    found.desired_changed(b'{"a":1,"$version":8}', 8)

    assert await device.heard() == [
        Publish(b"$iothub/twin/PATCH/properties/desired/?$version=8", b'{"a":1,"$version":8}')
    ]
