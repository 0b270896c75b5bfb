"""Feedback: when batches close, what they say, and how they are read."""

import json

import pytest

from commands.fakes import DEVICE, HUB, OTHER_DEVICE, Bench
from isthmus.base.errors import Code, HubError
from isthmus.commands import servicebound
from isthmus.commands.cloud_to_device import Ack, C2DMessage
from isthmus.commands.feedback import BATCH_RECORDS_MAX, FeedbackRecord
from queues.fakes import START_MS, FailingState


@pytest.fixture
async def bench() -> Bench:
    """A hub with two devices."""
    bench = Bench()
    await bench.register()
    await bench.register(OTHER_DEVICE)
    return bench


async def test_a_batch_is_what_the_guide_shows() -> None:
    bench = Bench()
    generation = await bench.register()
    bench.clock.move(seconds=0.789)
    await succeed(bench, "0987654321")
    await bench.pass_time(seconds=0)
    (message,) = await bench.feedback.batches.receive(HUB)
    assert json.loads(message.body) == [
        {
            "originalMessageId": "0987654321",
            "enqueuedTimeUtc": "2026-01-01T00:00:00.789Z",
            "statusCode": "Success",
            "description": "Success",
            "deviceId": "dev1",
            "deviceGenerationId": generation,
        }
    ]
    assert (message.user_id, message.enqueued_ms, message.delivery_count) == ("myhub", START_MS + 789, 0)


async def test_the_first_record_after_a_quiet_time_goes_at_once(bench: Bench) -> None:
    await succeed(bench, "m1")
    assert bench.feedback.next_deadline_ms() == START_MS
    await bench.pass_time(seconds=0)
    assert ids(await bench.records()) == [["m1"]]


async def test_the_next_batch_waits_15_seconds(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    await succeed(bench, "m2")
    await bench.pass_time(seconds=7)
    await succeed(bench, "m3")
    await bench.pass_time(seconds=7.999)
    assert ids(await bench.records()) == [["m1"]]
    assert bench.feedback.next_deadline_ms() == START_MS + 15_000
    await bench.pass_time(seconds=0.001)
    assert ids(await bench.records()) == [["m2", "m3"]]


async def test_a_full_batch_does_not_wait(bench: Bench) -> None:
    await succeed(bench, "first")
    await bench.pass_time(seconds=0)
    for number in range(BATCH_RECORDS_MAX + 1):
        await succeed(bench, f"m{number}")
    await bench.pass_time(seconds=0)
    assert [len(batch) for batch in await bench.records()] == [1, BATCH_RECORDS_MAX]
    await bench.pass_time(seconds=15)
    assert ids(await bench.records()) == [[f"m{BATCH_RECORDS_MAX}"]]


async def test_a_new_record_wakes(bench: Bench) -> None:
    woken: list[int | None] = []
    bench.feedback.on_earlier(lambda: woken.append(bench.feedback.next_deadline_ms()))
    await succeed(bench, "m1")
    assert woken == [START_MS]


async def test_readers_are_told_until_they_leave(bench: Bench) -> None:
    told: list[int] = []
    undo = bench.feedback.batches.on_available(told.append)
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    assert told == [HUB]
    (message,) = await bench.feedback.batches.receive(HUB)
    bench.feedback.batches.release(HUB, message.lock_token)
    assert told == [HUB, HUB]
    undo()
    await succeed(bench, "m2")
    await bench.pass_time(seconds=15)
    assert told == [HUB, HUB]


async def test_a_batch_is_settled_once(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    (message,) = await bench.feedback.batches.receive(HUB)
    assert await bench.feedback.batches.receive(HUB) == []
    await bench.feedback.batches.complete(HUB, message.lock_token)
    batches = bench.feedback.batches
    for settle in (batches.complete, batches.reject, batches.abandon):
        with pytest.raises(HubError) as caught:
            await settle(HUB, message.lock_token)
        assert caught.value.code is Code.MESSAGE_LOCK_LOST


async def test_an_unsettled_batch_comes_again_after_its_lock(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    await bench.feedback.batches.receive(HUB)
    await bench.pass_time(seconds=60)
    assert ids(await bench.records()) == [["m1"]]


async def test_a_batch_is_delivered_ten_times_at_most(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    for count in range(10):
        (message,) = await bench.feedback.batches.receive(HUB)
        assert message.delivery_count == count
        await bench.feedback.batches.abandon(HUB, message.lock_token)
    assert await bench.feedback.batches.receive(HUB) == []


async def test_a_batch_nobody_reads_expires_after_an_hour(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    await bench.pass_time(seconds=3_600)
    assert await bench.records() == []


async def test_a_batch_does_not_wait_for_a_clock_that_was_set_back(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    bench.clock.set_by(seconds=-3_600)
    await succeed(bench, "m2")
    await bench.pass_time(seconds=0)
    assert ids(await bench.records()) == [["m1"], ["m2"]]


async def test_feedback_about_a_deleted_device_is_dropped(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.send(C2DMessage(b"", message_id="other", ack=Ack.FULL), OTHER_DEVICE)
    await bench.c2d.complete(OTHER_DEVICE, (await bench.receive(OTHER_DEVICE)).lock_token)
    await bench.unregister()
    bench.clock.move(seconds=1)
    await bench.register()
    await bench.pass_time(seconds=0)
    assert ids(await bench.records()) == [["other"]]
    assert await bench.state.count("queue", HUB) == 0


async def test_records_survive_a_crash_before_their_batch_closes(bench: Bench) -> None:
    await succeed(bench, "m1")
    await succeed(bench, "m2")
    again = await bench.restarted()
    await succeed(again, "m3")
    await again.pass_time(seconds=0)
    assert ids(await again.records()) == [["m1", "m2", "m3"]]


async def test_batches_survive_a_crash_and_take_their_records_along(bench: Bench) -> None:
    await succeed(bench, "m1")
    await bench.pass_time(seconds=0)
    await bench.feedback.batches.receive(HUB)
    again = await bench.restarted()
    await again.pass_time(seconds=0)
    assert ids(await again.records()) == [["m1"]]


async def test_a_batch_that_cannot_be_written_is_tried_again() -> None:
    state = FailingState()
    bench = Bench(state=state)
    await bench.register()
    await succeed(bench, "m1")
    state.failures = 1
    with pytest.raises(Exception, match="disk is full"):
        await bench.feedback.tick()
    await bench.feedback.tick()
    assert ids(await bench.records()) == [["m1"]]


async def test_a_settlement_that_fails_leaves_no_record() -> None:
    state = FailingState()
    bench = Bench(state=state)
    await bench.register()
    await bench.send(C2DMessage(b"", message_id="m1", ack=Ack.FULL))
    locked = await bench.receive()
    state.failures = 1
    with pytest.raises(Exception, match="disk is full"):
        await bench.c2d.complete(DEVICE, locked.lock_token)
    await bench.pass_time(seconds=0)
    assert await bench.records() == []
    await bench.c2d.complete(DEVICE, (await bench.receive()).lock_token)
    await bench.pass_time(seconds=0)
    assert ids(await bench.records()) == [["m1"]]


async def test_unread_feedback_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicebound, "WAITING_MAX", 2)
    for number in range(4):
        await succeed(bench, f"m{number}")
        await bench.pass_time(seconds=15)
    assert bench.feedback.dropped == 2
    assert ids(await bench.records()) == [["m0"], ["m1"]]


async def test_a_deleted_hub_has_no_feedback(bench: Bench) -> None:
    await succeed(bench, "m1")
    bench.hub = None
    await bench.pass_time(seconds=0)
    assert bench.feedback.next_deadline_ms() is None


async def succeed(bench: Bench, message_id: str) -> None:
    """Sends a message that the device completes."""
    await bench.send(C2DMessage(b"", message_id=message_id, ack=Ack.FULL))
    await bench.c2d.complete(DEVICE, (await bench.receive()).lock_token)


def ids(batches: list[list[FeedbackRecord]]) -> list[list[str]]:
    return [[record.original_message_id for record in batch] for batch in batches]
