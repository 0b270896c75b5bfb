"""Cloud-to-device messages: sending, receiving, settling, and what their senders are told."""

import asyncio

import pytest

from commands.fakes import DEVICE, HUB, OTHER_DEVICE, Bench, C2DRules, HubRules, WokenDevice
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import C2D_BYTES_MAX, C2D_QUEUE_DEPTH_MAX
from isthmus.base.state import Conflict
from isthmus.commands.cloud_to_device import Ack, C2DMessage, parse_ack
from isthmus.commands.feedback import StatusCode
from queues.fakes import START_MS


@pytest.fixture
async def bench() -> Bench:
    """A hub with two devices."""
    bench = Bench()
    await bench.register()
    await bench.register(OTHER_DEVICE)
    return bench


async def test_a_message_arrives_as_it_was_sent(bench: Bench) -> None:
    message = C2DMessage(
        b"\x00\xff",
        message_id="m1",
        correlation_id="c1",
        user_id="u1",
        content_type="text/plain",
        content_encoding="utf-8",
        to="/devices/dev1/messages/devicebound",
        expiry_ms=START_MS + 10_000,
        ack=Ack.FULL,
        properties={
            "text": "ä",
            "number": 1,
            "real": 1.5,
            "flag": True,
            "bytes": b"\xff",
            "nothing": None,
            "empty": "",
        },
    )
    await bench.send(message)
    locked = await bench.receive()
    assert locked.message == message
    assert (locked.sequence, locked.delivery_count, locked.enqueued_ms) == (1, 0, START_MS)
    assert (locked.payload, locked.expiry_ms, locked.ack) == (b"\x00\xff", START_MS + 10_000, "full")
    assert locked.system == {
        "message-id": "m1",
        "correlation-id": "c1",
        "user-id": "u1",
        "to": "/devices/dev1/messages/devicebound",
        "content-type": "text/plain",
        "content-encoding": "utf-8",
    }


async def test_what_the_sender_leaves_out_is_filled_in(bench: Bench) -> None:
    await bench.send(C2DMessage(b""))
    locked = await bench.receive()
    assert locked.message.to == "/devices/dev1/messages/devicebound"
    assert locked.message.message_id
    assert (locked.ack, locked.expiry_ms, locked.expires_ms) == (None, None, START_MS + 3_600_000)


async def test_messages_come_in_order_and_only_to_their_device(bench: Bench) -> None:
    for number in range(3):
        await bench.send(C2DMessage(bytes([number])))
    await bench.send(C2DMessage(b"other"), OTHER_DEVICE)
    assert [locked.payload for locked in await bench.c2d.receive(DEVICE, 10)] == [b"\x00", b"\x01", b"\x02"]
    assert [locked.payload for locked in await bench.c2d.receive(OTHER_DEVICE, 10)] == [b"other"]


async def test_an_unknown_device_is_refused(bench: Bench) -> None:
    with pytest.raises(HubError) as caught:
        await bench.send(C2DMessage(b""), DeviceRef(HUB, "nobody"))
    assert caught.value.code is Code.DEVICE_NOT_FOUND


async def test_the_51st_message_is_refused(bench: Bench) -> None:
    for _ in range(C2D_QUEUE_DEPTH_MAX):
        await bench.send(C2DMessage(b""))
    assert await bench.c2d.count(DEVICE) == 50
    with pytest.raises(HubError) as caught:
        await bench.send(C2DMessage(b""))
    assert caught.value.code is Code.QUEUE_DEPTH_EXCEEDED


@pytest.mark.parametrize(
    "message",
    [
        C2DMessage(bytes(C2D_BYTES_MAX + 1), message_id="", to=""),
        C2DMessage(bytes(C2D_BYTES_MAX), content_type="x"),
        C2DMessage(bytes(C2D_BYTES_MAX - 2), properties={"ä": "x"}),
        C2DMessage(bytes(C2D_BYTES_MAX - 8), properties={"n": 1}),
    ],
)
async def test_a_message_above_64_kib_is_refused(bench: Bench, message: C2DMessage) -> None:
    with pytest.raises(HubError) as caught:
        await bench.send(message)
    assert caught.value.code is Code.MESSAGE_TOO_LARGE


async def test_a_message_of_64_kib_passes(bench: Bench) -> None:
    await bench.send(C2DMessage(bytes(C2D_BYTES_MAX - 10), properties={"n": 1, "x": None}))
    assert len((await bench.receive()).payload) == C2D_BYTES_MAX - 10


async def test_an_expiry_that_has_passed_is_refused(bench: Bench) -> None:
    with pytest.raises(HubError) as caught:
        await bench.send(C2DMessage(b"", expiry_ms=START_MS))
    assert caught.value.code is Code.INVALID_EXPIRY


@pytest.mark.parametrize(("text", "ack"), [("none", Ack.NONE), ("Full", Ack.FULL), ("NEGATIVE", Ack.NEGATIVE)])
def test_acks_are_read_in_any_case(text: str, ack: Ack) -> None:
    assert parse_ack(text) is ack


def test_an_unknown_ack_is_refused() -> None:
    with pytest.raises(HubError) as caught:
        parse_ack("maybe")
    assert caught.value.code is Code.ARGUMENT_INVALID


async def test_only_an_abandonment_counts(bench: Bench) -> None:
    await bench.send(C2DMessage(b""))
    await bench.receive()
    await bench.pass_time(seconds=60)
    locked = await bench.receive()
    assert locked.delivery_count == 0
    await bench.c2d.release_all(DEVICE, [locked.lock_token, "unknown"])
    locked = await bench.receive()
    assert locked.delivery_count == 0
    await bench.c2d.abandon(DEVICE, locked.lock_token)
    assert (await bench.receive()).delivery_count == 1


async def test_a_lost_lock_is_told(bench: Bench) -> None:
    await bench.send(C2DMessage(b""))
    locked = await bench.receive()
    bench.clock.move(seconds=60)
    for settle in (bench.c2d.complete, bench.c2d.reject, bench.c2d.abandon):
        with pytest.raises(HubError) as caught:
            await settle(DEVICE, locked.lock_token)
        assert caught.value.code is Code.MESSAGE_LOCK_LOST


async def test_the_hub_says_how_often_a_message_is_delivered() -> None:
    bench = Bench(hub=HubRules(cloud_to_device=C2DRules(max_delivery_count=1)))
    await bench.register()
    await bench.send(C2DMessage(b""))
    await bench.c2d.abandon(DEVICE, (await bench.receive()).lock_token)
    assert await bench.c2d.count(DEVICE) == 0


async def test_a_connected_device_is_woken(bench: Bench) -> None:
    device = WokenDevice()
    bench.connected.devices[DEVICE] = device
    await bench.send(C2DMessage(b""))
    await bench.send(C2DMessage(b""), OTHER_DEVICE)
    assert device.woken == 1
    await bench.receive()
    await bench.pass_time(seconds=60)
    assert device.woken == 2


async def test_modules_have_no_queue(bench: Bench) -> None:
    await bench.send(C2DMessage(b""))
    module = DeviceRef(HUB, "dev1", "m")
    assert await bench.c2d.receive(module, 10) == []
    assert await bench.c2d.count(module) == 0
    assert await bench.c2d.purge(module) == 0
    assert await bench.c2d.removal(module) == ()


async def test_messages_survive_a_crash(bench: Bench) -> None:
    await bench.send(C2DMessage(b"a"))
    await bench.send(C2DMessage(b"b"))
    await bench.receive()
    again = await bench.restarted()
    assert [locked.payload for locked in await again.c2d.receive(DEVICE, 10)] == [b"a", b"b"]


SETTLED = ["complete", "reject", "expire", "exceed", "purge"]
STATUS = {
    "complete": StatusCode.SUCCESS,
    "reject": StatusCode.REJECTED,
    "expire": StatusCode.EXPIRED,
    "exceed": StatusCode.DELIVERY_COUNT_EXCEEDED,
    "purge": StatusCode.PURGED,
}


@pytest.mark.parametrize("how", SETTLED)
@pytest.mark.parametrize("ack", [None, *Ack])
async def test_the_sender_hears_what_it_asked_for(bench: Bench, how: str, ack: Ack | None) -> None:
    await bench.send(C2DMessage(b"", message_id="m1", ack=ack))
    await settle(bench, how)
    wanted = {None: [], Ack.NONE: [], Ack.POSITIVE: ["complete"], Ack.NEGATIVE: SETTLED[1:], Ack.FULL: SETTLED}
    batches = await bench.records()
    assert [[record.status_code for record in batch] for batch in batches] == (
        [[STATUS[how]]] if how in wanted[ack] else []
    )
    assert await bench.c2d.count(DEVICE) == 0


async def test_purge_says_how_many(bench: Bench) -> None:
    for _ in range(3):
        await bench.send(C2DMessage(b""))
    await bench.receive()
    assert await bench.c2d.purge(DEVICE) == 3
    assert await bench.c2d.purge(DEVICE) == 0


async def test_deleting_a_device_drops_its_queue(bench: Bench) -> None:
    await bench.send(C2DMessage(b"", ack=Ack.FULL))
    await bench.unregister()
    await bench.register()
    await bench.pass_time(seconds=7_200)
    assert await bench.c2d.receive(DEVICE, 10) == []
    assert await bench.records() == []


async def test_a_message_sent_while_its_device_is_deleted_is_not_left_behind(bench: Bench) -> None:
    removal = await bench.c2d.removal(DEVICE)
    await bench.send(C2DMessage(b""))
    with pytest.raises(Conflict):
        await bench.state.commit(removal)


async def test_a_send_that_races_with_a_deletion_finds_no_device(bench: Bench) -> None:
    await bench.send(C2DMessage(b""))
    outcomes = await asyncio.gather(
        bench.unregister(), *(bench.send(C2DMessage(b"")) for _ in range(5)), return_exceptions=True
    )
    lost = [outcome for outcome in outcomes[1:] if isinstance(outcome, HubError)]
    deleted = not isinstance(outcomes[0], Conflict)
    assert all(error.code is Code.DEVICE_NOT_FOUND for error in lost)
    assert await bench.state.count("queue", HUB) == (0 if deleted else 6 - len(lost))


async def settle(bench: Bench, how: str) -> None:
    """Lets the only message of the device end in one of the five ways, and closes the batch."""
    if how == "complete":
        await bench.c2d.complete(DEVICE, (await bench.receive()).lock_token)
    elif how == "reject":
        await bench.c2d.reject(DEVICE, (await bench.receive()).lock_token)
    elif how == "purge":
        await bench.c2d.purge(DEVICE)
    elif how == "exceed":
        for _ in range(10):
            await bench.c2d.abandon(DEVICE, (await bench.receive()).lock_token)
    await bench.pass_time(seconds=3_600 if how == "expire" else 0)
