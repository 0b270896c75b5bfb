"""One endpoint in a worker: its deliveries, its sink, and what is under way between them.

Theory of operation. `set_off` asks the machine (`routing.delivery`) what is to be done now and starts a task for each
batch; a task tells the machine what became of it and wakes the worker, which sets off again. A task ends in any case:
a sink that says nothing for `DELIVERY_SECONDS_MAX` has failed. A changed endpoint gets a new sink at once; what the old
one has under way comes to its end, or fails when the old one is closed, and is repeated by the new one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.ids import HubId
from isthmus.base.limits import TELEMETRY_BYTES_MAX
from isthmus.egress.chunks import Chunk
from isthmus.egress.messages import Counts, Progress, Serve
from isthmus.routing.delivery import Batch, Deliveries, Errand
from isthmus.routing.health import NOTHING_TRIED, HealthStatus
from isthmus.routing.sink import Delivery, FailureKind, HubName, Sink, SinkFailure, Unacceptable
from isthmus.telemetry.message import Envelope, decode_envelope
from isthmus.telemetry.ports import Record

DELIVERY_SECONDS_MAX = 120.0
"""For one batch: longer than the official clients wait for an answer and try again by themselves."""

PROBE_SECONDS_MAX = 30.0
"""For a probe, which somebody waits for."""

BURIAL_RETRY_SECONDS = 1.0
"""Before records are buried once more, when the dead-letter log did not take them."""

logger = logging.getLogger(__name__)

MakeSink = Callable[[HubName, Serve], Sink]
"""Makes the sink of an endpoint as it is served."""

BuryRecords = Callable[[Serve, Batch], Awaitable[str]]
"""Has a batch made durable in the dead-letter log; answers what went wrong, or nothing."""


class Courier:
    """Delivers to one endpoint. `wake` is called whenever there may be more to do."""

    def __init__(
        self,
        serve: Serve,
        make_sink: MakeSink,
        bury: BuryRecords,
        clock: Clock,
        wake: Callable[[], None],
        *,
        dead_after_ms: int,
        bury_dead: bool,
    ) -> None:
        self._serve = serve
        self._make_sink = make_sink
        self._bury = bury
        self._clock = clock
        self._wake = wake
        self._bury_dead = bury_dead
        self._sink: Sink | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts = Counts()
        self._told: Progress | None = None
        self.deliveries = Deliveries(
            serve.endpoint.number, serve.cursors, serve.start, serve.health, dead_after_ms=dead_after_ms
        )

    @property
    def hub(self) -> int:
        """The number of the endpoint's hub."""
        return self._serve.hub

    def change(self, serve: Serve) -> None:
        """Delivers to the endpoint as it is now; without effect when nothing of it has changed."""
        unchanged = _without_record(self._serve) == _without_record(serve)
        self._serve = serve
        if not unchanged:
            self._begin(self._close_sink())
            self.deliveries.retry_now()
            self._wake()

    def offer(self, chunk: Chunk) -> None:
        """Takes what was read where this endpoint reads on."""
        mine = [record for record in chunk.records if record.partition.stream == self._serve.hub]
        self.deliveries.offer(mine, chunk.end)

    def set_off(self) -> None:
        """Starts what is to be done now."""
        for batch in self.deliveries.next_batches(self._clock.utc_ms()):
            self._begin(self._deliver(batch) if batch.errand is Errand.DELIVER else self._inter(batch))

    @property
    def has_news(self) -> bool:
        """True when `progress` would tell something."""
        return self._now_told() != self._told

    def progress(self) -> Progress | None:
        """What has changed since the last call; None for nothing."""
        told = self._now_told()
        if told == self._told:
            return None
        self._counts = Counts()
        self._told = msgspec.structs.replace(told, counts=self._counts)
        return told

    async def probe(self) -> None:
        """As `Sink.probe`; raises `SinkFailure`."""
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                await self._the_sink().probe()
        except TimeoutError as error:
            reason = f"nothing was answered within {PROBE_SECONDS_MAX:g} s"
            raise SinkFailure(FailureKind.TRANSIENT, reason, "Timeout") from error
        self.deliveries.retry_now()
        self._wake()

    async def close(self) -> None:
        """Ends what is under way, and the sink."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_sink()

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, batch: Batch) -> None:
        machine, partition = self.deliveries, batch.partition
        before = machine.health.status
        try:
            await self._hand_over(batch)
        except SinkFailure as failure:
            machine.failed(
                partition, failure.kind, failure.reason, failure.code, self._now(), delivered=failure.delivered
            )
            self._count(batch, failure.delivered, failures=1)
        except Unacceptable as refused:
            machine.unacceptable(partition, refused.index, refused.reason, "InvalidMessage", self._now())
            self._count(batch, refused.index)
        except asyncio.CancelledError:
            machine.undone(partition)
            self._wake()
            raise
        except Exception as error:
            logger.exception("a sink failed", extra=self._names())
            machine.failed(partition, FailureKind.TRANSIENT, str(error), type(error).__name__, self._now())
            self._count(batch, 0, failures=1)
        else:
            machine.delivered(partition, self._now())
            self._count(batch, len(batch.records))
        if self._bury_dead and machine.is_failing and machine.health.status is HealthStatus.DEAD:
            # What came since the last try was tried just now, and did not find the endpoint alive either.
            machine.give_up(machine.position, "the endpoint is dead")
        self._tell_of_health(before)
        self._wake()

    async def _hand_over(self, batch: Batch) -> None:
        deliveries, objection = prepared(batch.records, self._serve.endpoint.number)
        if deliveries:
            try:
                async with asyncio.timeout(DELIVERY_SECONDS_MAX):
                    await self._the_sink().deliver(batch.partition, deliveries)
            except TimeoutError as error:
                reason = f"nothing was answered within {DELIVERY_SECONDS_MAX:g} s"
                raise SinkFailure(FailureKind.TRANSIENT, reason, "Timeout") from error
        if objection:
            raise Unacceptable(len(deliveries), objection)

    async def _inter(self, batch: Batch) -> None:
        machine, partition = self.deliveries, batch.partition
        try:
            trouble = await self._bury(self._serve, batch)
            if trouble:
                logger.error("records could not be buried", extra={**self._names(), "reason": trouble})
                await asyncio.sleep(BURIAL_RETRY_SECONDS)
        except asyncio.CancelledError:
            machine.undone(partition)
            raise
        if trouble:
            machine.undone(partition)
        else:
            machine.buried(partition)
            self._counts = msgspec.structs.replace(self._counts, buried=self._counts.buried + len(batch.records))
        self._wake()

    def _now_told(self) -> Progress:
        serve, machine = self._serve, self.deliveries
        cursors = machine.cursors(serve.partitions)
        return Progress(serve.hub, serve.endpoint.number, cursors, machine.health, self._counts, machine.waiting)

    def _the_sink(self) -> Sink:
        if self._sink is None:
            self._sink = self._make_sink(HubName(HubId(self._serve.hub), self._serve.hub_name), self._serve)
        return self._sink

    def _close_sink(self) -> Coroutine[object, object, None]:
        """Parts with the sink now; what is answered closes it."""
        sink, self._sink = self._sink, None
        return _closed(sink)

    def _count(self, batch: Batch, delivered: int, failures: int = 0) -> None:
        now_ms, counts = self._now(), self._counts
        done = batch.records[:delivered]
        self._counts = Counts(
            counts.delivered + delivered,
            counts.bytes + sum(len(record.payload) for record in done),
            counts.latency_ms + sum(max(0, now_ms - record.enqueued_ms) for record in done),
            counts.failures + failures,
            counts.buried,
        )

    def _tell_of_health(self, before: HealthStatus) -> None:
        """One line of the log for each change of an endpoint's state."""
        health = self.deliveries.health
        if health.status is before:
            return
        told = {**self._names(), "status": health.status.value}
        if health.failures:
            logger.warning("endpoint failing", extra={**told, "kind": health.last_kind, "reason": health.last_reason})
        else:
            logger.info("endpoint healthy", extra=told)

    def _names(self) -> dict[str, object]:
        return {"hub": self._serve.hub_name, "endpoint": self._serve.endpoint.name}

    def _now(self) -> int:
        return self._clock.utc_ms()


def prepared(records: Sequence[Record], endpoint: int) -> tuple[list[Delivery], str]:
    """The records as a sink gets them, up to the first that no target will be shown, and what is wrong with that."""
    deliveries: list[Delivery] = []
    for record in records:
        try:
            envelope = decode_envelope(record.envelope)
        except msgspec.DecodeError as error:
            return deliveries, f"The record cannot be read: {error}"
        stamped = envelope.stamped.get(endpoint)
        if stamped or envelope.stamped or envelope.enrichments:
            properties = {**envelope.properties, **(stamped or {})}
            envelope = msgspec.structs.replace(envelope, properties=properties, enrichments={}, stamped={})
        if stamped and (size := _size(envelope, record.payload)) > TELEMETRY_BYTES_MAX:
            return deliveries, f"With its enrichments the message has {size} bytes; {TELEMETRY_BYTES_MAX} are allowed"
        deliveries.append(Delivery(record, envelope))
    return deliveries, ""


def _size(envelope: Envelope, payload: bytes) -> int:
    texts = (*envelope.properties.items(), *envelope.system.items())
    return len(payload) + sum(len(key) + len(str(value)) for key, value in texts)


def _without_record(serve: Serve) -> Serve:
    """What of an order makes a new sink necessary."""
    return msgspec.structs.replace(serve, start=0, cursors={}, health=NOTHING_TRIED)


async def _closed(sink: Sink | None) -> None:
    if sink is not None:
        await sink.close()
