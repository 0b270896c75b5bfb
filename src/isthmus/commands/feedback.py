"""Feedback: what became of cloud-to-device messages, told to the services of a hub in batches.

Theory of operation. A record is a document of its own, written in the commit in which its message leaves the device's
queue (`record`). Records wait, per hub and in the order in which they became durable, until a batch closes: when 64
wait, or when at least 15 s have passed since the last batch was sent, so that the first after a quiet time goes at
once (IoT Hub developer guide, "Receive cloud-to-device message feedback"). Closing a batch is one commit too: the
records go, and one feedback message appears in the hub's feedback queue, a lock-queue like any other. A crash at any
point finds a record or the batch that holds it, never none and never both.

Feedback about a device that has been deleted meanwhile is dropped, as the guide says: whether the identity still has
the generation that the message was sent to is looked up when the batch closes.

Nothing here waits for time by itself: `tick` closes what is due, at `next_deadline_ms`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

import msgspec

from isthmus.base.clock import Clock, is_over, iso_utc
from isthmus.base.ids import DeviceRef, HubId, Ids
from isthmus.base.state import MUST_NOT_EXIST, Change, Delete, Key, Put, State
from isthmus.commands.ports import HubOf
from isthmus.commands.servicebound import ServiceboundQueue
from isthmus.devices.documents import identity_key
from isthmus.devices.identity import decode_identity
from isthmus.queues import QueueFull, Sequel
from isthmus.queues.message import sequence_name, split_name
from isthmus.queues.placement import QUEUE_KIND

CONTENT_TYPE = "application/vnd.microsoft.iothub.feedback.json"
"""Content type of a feedback message."""

BATCH_RECORDS_MAX = 64
"""Records of one feedback message; as many close a batch at once."""

BATCH_SPACING_MS = 15_000
"""Between two batches that are not full."""

SCAN_PAGE = 1_000

BATCHES = "feedback"
RECORDS = "feedback-records"


class StatusCode(StrEnum):
    """What became of a message, in the words of the feedback record."""

    SUCCESS = "Success"
    EXPIRED = "Expired"
    DELIVERY_COUNT_EXCEEDED = "DeliveryCountExceeded"
    REJECTED = "Rejected"
    PURGED = "Purged"


class FeedbackRecord(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of a feedback message, as readers see it; `enqueued_time_utc` is when the outcome happened."""

    original_message_id: str
    enqueued_time_utc: str
    status_code: StatusCode
    description: str
    device_id: str
    device_generation_id: str


@dataclass(frozen=True, slots=True)
class _Pending:
    key: Key
    record: FeedbackRecord


@dataclass(slots=True)
class _HubRecords:
    """What waits in one hub; `sent_ms` is when the last batch was sent, None before the first."""

    waiting: deque[_Pending] = field(default_factory=deque)
    next_sequence: int = 1
    sent_ms: int | None = None

    def due_ms(self, now_ms: int) -> int | None:
        """When the next batch closes."""
        if not self.waiting:
            return None
        if self.sent_ms is None or len(self.waiting) >= BATCH_RECORDS_MAX:
            return now_ms
        end_ms = self.sent_ms + BATCH_SPACING_MS
        return now_ms if is_over(end_ms, now_ms, of_ms=BATCH_SPACING_MS) else end_ms


class Feedback:
    """Feedback of all hubs; belongs to one event loop.

    Services read `batches`: the body of a message is a JSON array of records. While as many wait as there is room for,
    further records are dropped and counted.
    """

    def __init__(self, state: State, clock: Clock, ids: Ids, hub_of: HubOf) -> None:
        self._state = state
        self._clock = clock
        self._hub_of = hub_of
        self._hubs: dict[HubId, _HubRecords] = {}
        self._earlier: list[Callable[[], None]] = []
        self._dropped = 0
        self.batches = ServiceboundQueue(
            state, clock, ids, name=BATCHES, hub_of=hub_of, settings=lambda hub: hub.cloud_to_device.feedback
        )

    @property
    def dropped(self) -> int:
        """Records dropped so far because nobody read the feedback of their hub."""
        return self._dropped

    async def start(self, hubs: Iterable[HubId]) -> None:
        """Finds what waited when the process ended; before anything else is called."""
        hubs = tuple(hubs)
        await self.batches.start(hubs)
        for hub in hubs:
            after = ""
            while page := await self._state.scan(QUEUE_KIND, hub, prefix=f"{RECORDS}\n", after=after, limit=SCAN_PAGE):
                for stored in page:
                    self._wait(_Pending(stored.key, msgspec.json.decode(stored.body, type=FeedbackRecord)))
                after = page[-1].key.name
                self._records(hub).next_sequence = split_name(after)[1] + 1

    async def close(self) -> None:
        """Waits for the operations under way."""
        await self.batches.close()

    def record(self, device: DeviceRef, generation_id: str, message_id: str, status: StatusCode, at_ms: int) -> Sequel:
        """What the commit that decides about a message has to carry, so that its sender hears of it."""
        records = self._records(device.hub)
        key = Key(QUEUE_KIND, device.hub, sequence_name(RECORDS, records.next_sequence))
        records.next_sequence += 1
        told = FeedbackRecord(
            original_message_id=message_id,
            enqueued_time_utc=_short_iso(at_ms),
            status_code=status,
            description=status.value,
            device_id=device.device_id,
            device_generation_id=generation_id,
        )
        written = Put(key, msgspec.json.encode(told), MUST_NOT_EXIST)
        return Sequel((written,), lambda: self._durable(_Pending(key, told)))

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do; None while nothing is due ever."""
        now_ms = self._clock.utc_ms()
        due = [records.due_ms(now_ms) for records in self._hubs.values()]
        return min((when for when in (*due, self.batches.next_deadline_ms()) if when is not None), default=None)

    def on_earlier(self, wake: Callable[[], None]) -> None:
        """Calls `wake` when `next_deadline_ms` has become earlier."""
        self._earlier.append(wake)
        self.batches.on_earlier(wake)

    async def tick(self) -> None:
        """Closes the batches that are due and expires those that nobody read."""
        now_ms = self._clock.utc_ms()
        for hub, records in list(self._hubs.items()):
            if self._hub_of(hub) is None:
                del self._hubs[hub]
                continue
            while (when := records.due_ms(now_ms)) is not None and when <= now_ms:
                await self._close_batch(hub, records, now_ms)
        await self.batches.tick()

    async def _close_batch(self, hub: HubId, records: _HubRecords, now_ms: int) -> None:
        batch = list(islice(records.waiting, BATCH_RECORDS_MAX))
        told = [pending.record for pending in batch if await self._is_wanted(hub, pending.record)]
        removals: list[Change] = [Delete(pending.key) for pending in batch]
        try:
            if told:
                await self.batches.send(hub, msgspec.json.encode(told), along=removals)
                records.sent_ms = now_ms
            else:
                await self._state.commit(removals)
        except QueueFull:
            await self._state.commit(removals)
            self._dropped += len(told)
        for _ in batch:
            records.waiting.popleft()

    async def _is_wanted(self, hub: HubId, record: FeedbackRecord) -> bool:
        stored = await self._state.get(identity_key(DeviceRef(hub, record.device_id)))
        return stored is not None and decode_identity(stored.body).generation_id == record.device_generation_id

    def _durable(self, pending: _Pending) -> None:
        self._wait(pending)
        for wake in self._earlier:
            wake()

    def _wait(self, pending: _Pending) -> None:
        self._records(pending.key.hub).waiting.append(pending)

    def _records(self, hub: HubId) -> _HubRecords:
        return self._hubs.setdefault(hub, _HubRecords())


def _short_iso(utc_ms: int) -> str:
    """With three digits of a second, as in the guide's example."""
    return iso_utc(utc_ms).removesuffix("0000Z") + "Z"
