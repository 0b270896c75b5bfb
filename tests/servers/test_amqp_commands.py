"""Cloud-to-device messages sent over AMQP, and the feedback read there."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from devices.fakes import HUB, NOW_MS
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import C2D_BYTES_MAX, C2D_QUEUE_DEPTH_MAX
from isthmus.commands.cloud_to_device import Ack, Locked
from isthmus.servers.gateway.amqp_commands import decode_command, target_device
from isthmus.wire.amqp import message
from isthmus.wire.amqp.events import Transfer
from isthmus.wire.amqp.limits import LINK_CREDIT
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Properties
from isthmus.wire.amqp.performatives import Disposition as DispositionFrame
from isthmus.wire.amqp.states import (
    ACCEPTED_STATE,
    RELEASED_STATE,
    Accepted,
    DeliveryState,
    Modified,
    Rejected,
)
from isthmus.wire.amqp.values import AmqpValue, Byte, Float, Long, Symbol, Timestamp, UInt, ULong
from servers.amqp_world import AmqpClient, AmqpWorld, command
from servers.mqtt_world import settled

DEVICE = DeviceRef(HUB, "dev1")
DEVICEBOUND = "/messages/devicebound"
FEEDBACK = "/messages/serviceBound/feedback"


# Sending


async def sent(amqp: AmqpWorld, *sections: bytes) -> tuple[AmqpClient, DeliveryState]:
    """What becomes of a message."""
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    link.send(*sections)
    await client.run()
    (outcome,) = client.outcomes(link)
    return client, outcome


async def received(amqp: AmqpWorld) -> Locked:
    (locked,) = await amqp.commands.receive(DEVICE, 5)
    return locked


async def test_a_command_is_accepted_once_it_is_in_its_queue(amqp: AmqpWorld) -> None:
    header = Properties(
        message_id=uuid.UUID(int=1),
        user_id=b"backend",
        to="/devices/dev1/messages/devicebound",
        correlation_id=ULong(7),
        content_type="application/json",
        content_encoding="utf-8",
        absolute_expiry_time=NOW_MS + 60_000,
    )
    properties: dict[str, AmqpValue] = {"iothub-ack": "Full", "level": UInt(3), "share": Float(0.5), "on": True}
    body = message.data(b"hel") + message.data(b"lo")
    _, outcome = await sent(amqp, header.encode(), message.application_properties(properties), body)
    assert outcome == ACCEPTED_STATE
    locked = await received(amqp)
    assert locked.payload == b"hello"
    assert locked.system == {
        "message-id": str(uuid.UUID(int=1)),
        "correlation-id": "7",
        "user-id": "backend",
        "to": "/devices/dev1/messages/devicebound",
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }
    assert locked.properties == {"level": 3, "share": 0.5, "on": True}
    assert [type(value) for value in locked.properties.values()] == [int, float, bool]
    assert (locked.expiry_ms, locked.ack) == (NOW_MS + 60_000, Ack.FULL)


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (message.value("text"), b"text"),
        (message.value(b"\x00\x01"), b"\x00\x01"),
        (message.value(None), b""),
        (b"", b""),
    ],
)
async def test_bodies_that_are_values_are_taken_too(amqp: AmqpWorld, body: bytes, payload: bytes) -> None:
    _, outcome = await sent(amqp, command()[: -len(message.data(b"hello"))], body)
    assert outcome == ACCEPTED_STATE
    assert (await received(amqp)).payload == payload


REFUSED: list[tuple[str, bytes, str, str]] = [
    ("an unknown device", command(device_id="none"), "amqp:not-found", "error.DeviceNotFound"),
    ("too large", command(bytes(C2D_BYTES_MAX + 1)), "amqp:link:message-size-exceeded", "limit.message-size"),
    ("expired", command(absolute_expiry_time=NOW_MS - 1), "com.microsoft:argument-error", "contract.expiry"),
    ("no target", command(to=None), "com.microsoft:argument-error", "contract.to"),
    ("a bad target", command(to="/devices/dev1"), "com.microsoft:argument-error", "contract.to"),
    (
        "a module",
        command(to="/devices/dev1/modules/m/messages/devicebound"),
        "com.microsoft:argument-error",
        "contract.to",
    ),
    (
        "a bad ack",
        message.application_properties({"iothub-ack": "often"}) + command(),
        "com.microsoft:argument-error",
        "error.ArgumentInvalid",
    ),
    (
        "a bad property",
        message.application_properties({"list": [UInt(1)]}) + command(),
        "com.microsoft:argument-error",
        "contract.property",
    ),
    (
        "a body that is a map",
        command()[: -len(message.data(b"hello"))] + message.value({"a": "b"}),
        "com.microsoft:argument-error",
        "contract.message",
    ),
    (
        "a broken value",
        command()[:-7] + b"\x00\x53\x77\xa1\x01\xff",
        "com.microsoft:argument-error",
        "contract.message",
    ),
    ("no message", b"nonsense", "com.microsoft:argument-error", "contract.message"),
]


@pytest.mark.parametrize(("encoded", "condition", "rule"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
async def test_a_refused_command_is_rejected_with_its_condition(
    amqp: AmqpWorld, encoded: bytes, condition: str, rule: str
) -> None:
    client, outcome = await sent(amqp, encoded)
    assert isinstance(outcome, Rejected)
    assert outcome.error is not None
    assert outcome.error.condition == condition
    assert "TrackingId:" in (outcome.error.description or "")
    assert not client.is_closed()
    assert await amqp.rules() == [rule]


async def test_the_command_after_as_many_as_a_queue_holds_is_refused(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    for _ in range(C2D_QUEUE_DEPTH_MAX + 1):
        link.send(command())
    await client.run()
    outcomes = client.outcomes(link)
    assert outcomes[:-1] == [ACCEPTED_STATE] * C2D_QUEUE_DEPTH_MAX
    error = getattr(outcomes[-1], "error", None)
    assert error is not None
    assert error.condition == "amqp:resource-limit-exceeded"
    (decision,) = [each for each in await amqp.doors.decisions() if each.device]
    assert (decision.device, decision.principal) == ("dev1", "policy:service")


async def test_commands_keep_their_order(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    for number in range(20):
        link.send(command(str(number).encode()))
    await client.run()
    locked = await amqp.commands.receive(DEVICE, 50)
    assert [each.payload for each in locked] == [str(number).encode() for number in range(20)]


async def test_credit_is_topped_up_and_settled_commands_are_taken(amqp: AmqpWorld) -> None:
    await amqp.register("dev2")
    client = await amqp.service()
    link = await client.sender(DEVICEBOUND)
    assert link.credit == LINK_CREDIT
    for _ in range(LINK_CREDIT // 2 - 1):
        link.send(command(device_id="none"), settled=True)
    await client.run()
    assert link.credit == LINK_CREDIT // 2 + 1
    link.send(command(device_id="dev2"), settled=True)
    await client.run()
    assert link.credit == LINK_CREDIT
    assert client.outcomes(link) == []
    assert await amqp.commands.count(DeviceRef(HUB, "dev2")) == 1


@pytest.mark.parametrize(
    ("to", "device"),
    [
        ("/devices/dev1/messages/devicebound", "dev1"),
        ("devices/dev%201/messages/deviceBound", "dev 1"),
        ("/Devices/dev1/Messages/Devicebound/", "dev1"),
        ("amqps://hub.example.test/devices/dev1/messages/devicebound", "dev1"),
    ],
)
def test_a_target_names_its_device(to: str, device: str) -> None:
    assert target_device(to) == device


def test_numbers_of_all_sizes_become_pythons_own() -> None:
    properties: dict[str, AmqpValue] = {"b": Byte(-1), "s": Symbol("x"), "none": None, "id": uuid.UUID(int=2)}
    _, decoded = decode_command(message.application_properties(properties))
    assert decoded.properties == {"b": -1, "s": "x", "none": None, "id": str(uuid.UUID(int=2))}
    assert [type(value) for value in decoded.properties.values()] == [int, str, type(None), str]


# Feedback


async def told(amqp: AmqpWorld, message_id: str = "m1") -> None:
    """Makes feedback: a command is sent and completed."""
    target, decoded = decode_command(
        command(message_id=message_id) + message.application_properties({"iothub-ack": "full"})
    )
    assert target is not None
    await amqp.commands.send(amqp.doors.hub, "dev1", decoded)
    (locked,) = await amqp.commands.receive(DEVICE, 1)
    await amqp.commands.complete(DEVICE, locked.lock_token)
    await amqp.feedback.tick()


async def waiting(amqp: AmqpWorld) -> int:
    """Feedback messages that can be received; they are given back."""
    messages = await amqp.feedback.batches.receive(HUB, 10)
    for each in messages:
        amqp.feedback.batches.release(HUB, each.lock_token)
    return len(messages)


async def feedback_reader(amqp: AmqpWorld, credit: int = 10) -> tuple[AmqpClient, Link]:
    client = await amqp.service()
    return client, await client.receiver(FEEDBACK, credit=credit)


def deliveries(client: AmqpClient, link: Link) -> list[Transfer]:
    return [event for event in client.of(Transfer) if event.link is link]


async def test_feedback_waits_for_its_reader(amqp: AmqpWorld) -> None:
    await told(amqp)
    client, link = await feedback_reader(amqp)
    (received,) = client.messages(link)
    (record,) = json.loads(b"".join(received.data))
    assert (record["originalMessageId"], record["statusCode"], record["deviceId"]) == ("m1", "Success", "dev1")
    assert received.properties.content_type == "application/vnd.microsoft.iothub.feedback.json"
    assert received.properties.user_id == b"hub"
    assert received.header is not None
    assert received.header.delivery_count == 0
    assert isinstance(received.annotations[Symbol("iothub-enqueuedtime")], Timestamp)
    assert isinstance(received.annotations[Symbol("x-opt-sequence-number")], Long)
    (delivery,) = deliveries(client, link)
    assert not delivery.settled
    assert len(delivery.tag) == 16


async def test_feedback_wakes_a_reader_that_waits(amqp: AmqpWorld) -> None:
    client, link = await feedback_reader(amqp)
    await told(amqp)
    await client.run()
    assert len(client.messages(link)) == 1


async def test_feedback_that_comes_while_the_queue_is_asked_is_not_missed(
    amqp: AmqpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = amqp.feedback.batches.receive
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(hub: Any, limit: int = 1) -> Any:
        found = await receive(hub, limit)
        asked.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(amqp.feedback.batches, "receive", slow)
    client = await amqp.service()
    link = await client.receiver(FEEDBACK)
    link.grant(5)
    client.send()
    await asked.wait()
    await told(amqp)
    go_on.set()
    await client.run()
    assert len(client.messages(link)) == 1


@pytest.mark.rule("AMQP-3.3", "AMQP-3.4.2", "AMQP-3.4.4", "AMQP-3.4.5")
@pytest.mark.parametrize(
    ("state", "left", "count"),
    [
        (Accepted(), 0, 0),
        (Rejected(), 0, 0),
        (None, 0, 0),
        (RELEASED_STATE, 1, 1),
        (Modified(delivery_failed=True), 1, 1),
    ],
)
async def test_an_outcome_settles_feedback(
    amqp: AmqpWorld, state: DeliveryState, left: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(amqp)
    client, link = await feedback_reader(amqp, credit=1)
    (delivery,) = deliveries(client, link)
    assert await waiting(amqp) == 0, "it is locked"
    client.session.write(DispositionFrame(True, delivery.delivery_id, delivery.delivery_id, True, state).encode())
    await client.run()
    link.detach()
    await client.run()
    messages = await amqp.feedback.batches.receive(HUB, 10)
    assert [each.delivery_count for each in messages] == [count] * left


async def test_an_outcome_that_is_not_settled_is_answered(amqp: AmqpWorld) -> None:
    await told(amqp)
    client, link = await feedback_reader(amqp)
    (delivery,) = deliveries(client, link)
    frame = DispositionFrame(True, delivery.delivery_id, delivery.delivery_id, False, ACCEPTED_STATE)
    client.session.write(frame.encode())
    client.send()
    await settled()
    assert b"\x00\x53\x15" in b"".join(client.connection.writes)
    assert await waiting(amqp) == 0


async def test_what_a_reader_accepts_and_closes_in_one_breath_is_settled(amqp: AmqpWorld) -> None:
    await told(amqp)
    client, link = await feedback_reader(amqp)
    (delivery,) = deliveries(client, link)
    link.settle(delivery.delivery_id, ACCEPTED_STATE)
    client.engine.close()
    client.send()
    await amqp.gateway.drained()
    assert await waiting(amqp) == 0


@pytest.mark.rule("AMQP-3.3")
async def test_a_reader_that_leaves_gives_back_what_it_did_not_settle(amqp: AmqpWorld) -> None:
    await told(amqp)
    client, link = await feedback_reader(amqp)
    assert await waiting(amqp) == 0
    link.detach()
    await client.run()
    (again,) = await amqp.feedback.batches.receive(HUB, 10)
    assert again.delivery_count == 0


async def test_a_lost_connection_gives_back_too_also_what_was_on_its_way(
    amqp: AmqpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(amqp)
    receive = amqp.feedback.batches.receive
    go_on = asyncio.Event()

    async def slow(hub: Any, limit: int = 1) -> Any:
        found = await receive(hub, limit)
        await go_on.wait()
        return found

    monkeypatch.setattr(amqp.feedback.batches, "receive", slow)
    client = await amqp.service()
    link = await client.receiver(FEEDBACK)
    link.grant(5)
    client.send()
    await settled()
    await client.drop()
    go_on.set()
    await amqp.gateway.drained()
    assert await waiting(amqp) == 1


async def test_an_outcome_after_the_lock_was_lost_is_journaled(amqp: AmqpWorld) -> None:
    await told(amqp)
    client, link = await feedback_reader(amqp, credit=1)
    (delivery,) = deliveries(client, link)
    await client.stay(61)
    await amqp.feedback.tick()
    link.settle(delivery.delivery_id, ACCEPTED_STATE)
    await client.run()
    assert await amqp.rules() == ["error.DeviceMessageLockLost"]
    assert await waiting(amqp) == 1


async def test_feedback_stops_at_credit_and_a_drain_gives_the_rest_back(amqp: AmqpWorld) -> None:
    for number in range(3):
        amqp.timers.move(16)
        await told(amqp, f"m{number}")
    client, link = await feedback_reader(amqp, credit=1)
    assert len(client.messages(link)) == 1
    link.grant(5, drain=True)
    await client.run()
    assert len(client.messages(link)) == 3
    assert link.credit == 0


async def test_a_drain_that_feedback_uses_up_is_answered_too(amqp: AmqpWorld) -> None:
    await told(amqp)
    client, link = await feedback_reader(amqp, credit=0)
    link.grant(1, drain=True)
    client.send()
    await settled()
    assert b"".join(client.connection.writes).count(b"\x00\x53\x13") == 1
    client.receive()
    assert len(client.messages(link)) == 1


@pytest.mark.rule("AMQP-3.3", "AMQP-3.5.2")
async def test_two_readers_get_each_feedback_once(amqp: AmqpWorld) -> None:
    readers = [await feedback_reader(amqp) for _ in range(2)]
    for number in range(2):
        amqp.timers.move(16)
        await told(amqp, f"m{number}")
    for client, _ in readers:
        await client.run()
    assert sum(len(client.messages(link)) for client, link in readers) == 2


async def test_a_congested_reader_of_feedback_waits(amqp: AmqpWorld) -> None:
    await told(amqp)
    client = await amqp.service()
    link = await client.receiver(FEEDBACK)
    client.connection.congested = True
    link.grant(5)
    client.send()
    await settled()
    client.receive()
    assert client.messages(link) == []
    client.connection.congested = False
    client.pump.writable()
    await client.run()
    assert len(client.messages(link)) == 1
