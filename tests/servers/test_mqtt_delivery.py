"""Deliveries of cloud-to-device messages, where the queue does not do what it should."""

import asyncio

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import Damaged, Key
from isthmus.servers.gateway.mqtt_delivery import Delivery
from isthmus.servers.gateway.mqtt_requests import RequestLine
from servers.mqtt_world import Command, FakeQueue, settled

REF = DeviceRef(HubId(1), "dev1")


class FakeOutgoing:
    """Sends as long as it is open."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.open = True
        self.room = 10

    def window(self) -> int:
        return self.room

    def send(self, topic: bytes, payload: bytes) -> int | None:
        if not self.open:
            return None
        self.sent.append(payload)
        return len(self.sent)


class TroubledQueue(FakeQueue):
    """Raises what it is given, once, in the place of an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Exception | None = None

    async def receive(self, ref: DeviceRef, limit: int) -> list[Command]:
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        return await super().receive(ref, limit)


@pytest.fixture
def outgoing() -> FakeOutgoing:
    """Where messages go."""
    return FakeOutgoing()


@pytest.fixture
def queue() -> TroubledQueue:
    """Where messages come from."""
    return TroubledQueue()


async def test_a_damaged_message_stops_nobody_behind_it(outgoing: FakeOutgoing, queue: TroubledQueue) -> None:
    queue.trouble = Damaged(Key("queue", HubId(1), "q"))
    queue.put(b"behind")
    failures: list[Exception] = []
    Delivery(REF, queue, outgoing, failures.append).wake()
    await settled()

    assert outgoing.sent == [b"behind"]
    assert failures == []


async def test_a_failing_queue_ends_the_connection(outgoing: FakeOutgoing, queue: TroubledQueue) -> None:
    trouble = queue.trouble = HubError(Code.DEVICE_NOT_FOUND, "gone")
    failures: list[Exception] = []
    delivery = Delivery(REF, queue, outgoing, failures.append)
    delivery.wake()
    await settled()
    await delivery.close()

    assert failures == [trouble]


async def test_what_was_locked_and_not_sent_is_given_back(outgoing: FakeOutgoing, queue: TroubledQueue) -> None:
    outgoing.open = False
    queue.put(b"1", b"2")
    Delivery(REF, queue, outgoing, lambda error: None).wake()
    await settled()

    assert [command.payload for command in queue.waiting] == [b"1", b"2"]
    assert queue.locked == {}


async def test_an_end_while_messages_are_fetched_gives_them_back(outgoing: FakeOutgoing, queue: TroubledQueue) -> None:
    queue.put(b"1")
    delivery = Delivery(REF, queue, outgoing, lambda error: None)
    delivery.wake()
    await asyncio.sleep(0)
    await delivery.close()
    delivery.wake()
    await settled()

    assert outgoing.sent == []
    assert [command.payload for command in queue.waiting] == [b"1"]


async def test_a_message_that_comes_while_the_queue_is_asked_is_not_missed(
    outgoing: FakeOutgoing, queue: TroubledQueue
) -> None:
    delivery = Delivery(REF, queue, outgoing, lambda error: None)
    delivery.wake()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    queue.put(b"late")
    delivery.wake()
    await settled()

    assert outgoing.sent == [b"late"]


async def test_requests_stop_at_the_first_failure() -> None:
    done: list[int] = []
    failures: list[Exception] = []
    line = RequestLine(failures.append)

    async def work(number: int) -> None:
        if number == 2:
            raise HubError(Code.INVALID_OPERATION, "no")
        done.append(number)

    for number in (1, 2, 3):
        line.add(lambda number=number: work(number))  # type: ignore[misc]
    await settled()
    line.add(lambda: work(4))
    await line.close(finish=False)

    assert done == [1]
    assert len(failures) == 1


@pytest.mark.parametrize(("finish", "expected"), [(False, [1]), (True, [1, 2])])
async def test_a_closed_line_finishes_the_first_or_all(finish: bool, expected: list[int]) -> None:
    gate, done = asyncio.Event(), list[int]()
    line = RequestLine(lambda error: None)

    async def work(number: int) -> None:
        await gate.wait()
        done.append(number)

    line.add(lambda: work(1))
    line.add(lambda: work(2))
    await settled()
    closing = asyncio.create_task(line.close(finish=finish))
    await settled()
    line.add(lambda: work(3))
    gate.set()
    await closing

    assert done == expected
