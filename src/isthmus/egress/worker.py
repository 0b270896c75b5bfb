"""The worker process: reads the log, delivers by the sinks, and tells the hub how far it is.

Theory of operation. Two tasks. One hears the hub's orders; the other is the pump: it gives every endpoint that has room
what follows in the log, sets off what is to be done, reports, and sleeps until something wakes it: a delivery that came
to its end, an order, growth of the log, or the time of the next try. The hub tells of growth only to a worker that has
said it is at the end (`Asleep`), once, so that a busy log costs one message a round and an idle one none. When the hub
goes, however it goes, the socket ends and so does the worker. What it had delivered and not yet reported is delivered
once more by the next one.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.ids import HubId
from isthmus.egress.channel import Channel
from isthmus.egress.chunks import Chunks
from isthmus.egress.courier import Courier
from isthmus.egress.judged import JudgedEgress, system_lookup
from isthmus.egress.messages import (
    Asleep,
    Bury,
    DeadRecord,
    Forget,
    GiveUp,
    Grown,
    Interred,
    Order,
    Probe,
    Probed,
    Serve,
    Settings,
    TokenGiven,
    TokenWanted,
    decode_order,
)
from isthmus.logs import configure_logging
from isthmus.routing.delivery import Batch
from isthmus.routing.egress_policy import OutboundRules
from isthmus.routing.sink import FailureKind, HubName, Sink, SinkFactory, SinkFailure
from isthmus.telemetry.damage import Damage
from isthmus.telemetry.reader import LogReader

REPORT_SECONDS = 0.2
"""Between two reports of an endpoint: a restart repeats no more than what was delivered in that time, and a second."""

ANSWER_SECONDS_MAX = 30.0
"""For the hub to give a token or to bury: it does both from memory and its own disk."""

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FactoryOf = Callable[[Settings], SinkFactory]
"""The factory of sinks by the hub's settings."""


def run_worker(descriptor: int, log_folder: Path, factory: FactoryOf) -> int:
    """Delivers until the hub at the other end of the socket `descriptor` has gone; returns the exit code."""
    configure_logging()
    end = socket.socket(fileno=descriptor)
    asyncio.run(_run(end, log_folder, factory))
    return 0


async def _run(end: socket.socket, log_folder: Path, factory: FactoryOf) -> None:
    channel = await Channel.over(end, decode_order)
    first = await channel.hear()
    if not isinstance(first, Settings):
        return
    reader = LogReader(log_folder, indexed=False, on_damage=_passed_over)
    worker = Worker(channel, reader, first, factory(first), SystemClock())
    try:
        await worker.run()
    finally:
        reader.close()


def _passed_over(damage: Damage) -> None:
    logger.error("damage in the log passed over", extra={"start": damage.start, "end": damage.end})


class Worker:
    """All endpoints of a worker process."""

    def __init__(
        self, channel: Channel[Order], reader: LogReader, settings: Settings, factory: SinkFactory, clock: Clock
    ) -> None:
        self._channel = channel
        self._chunks = Chunks(reader)
        self._clock = clock
        self._settings = settings
        self._rules: dict[int, OutboundRules] = {}
        self._egress = JudgedEgress(lambda: self._settings, self._rules_of, self._ask_token, system_lookup)
        self._factory = factory
        self._couriers: dict[tuple[int, int], Courier] = {}
        self._awake = asyncio.Event()
        self._requests = itertools.count(1)
        self._tokens: dict[int, asyncio.Future[TokenGiven]] = {}
        self._burials: dict[int, asyncio.Future[Interred]] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._reported = 0.0

    async def run(self) -> None:
        """Delivers until the hub has gone."""
        pumping = asyncio.create_task(self._pump())
        try:
            while not pumping.done() and (order := await self._channel.hear()) is not None:
                self._obey(order)
        finally:
            pumping.cancel()
            for errand in self._errands:
                errand.cancel()
            await asyncio.gather(pumping, *self._errands, return_exceptions=True)
            await asyncio.gather(*(courier.close() for courier in self._couriers.values()))
            self._reported = 0.0
            self._report()
            self._channel.close()
        if not pumping.cancelled():
            pumping.result()

    def _obey(self, order: Order) -> None:
        match order:
            case Settings():
                self._settings = order
                for each in self._couriers.values():
                    each.deliveries.retry_now()  # a name may lead somewhere now
            case Serve():
                self._serve(order)
            case Forget(hub, endpoint):
                courier = self._couriers.pop((hub, endpoint), None)
                if courier is not None:
                    self._begin(courier.close())
            case GiveUp(hub, endpoint, before, reason):
                if (hub, endpoint) in self._couriers:
                    self._couriers[(hub, endpoint)].deliveries.give_up(before, reason)
            case TokenGiven(request):
                _answer(self._tokens, request, order)
            case Interred(request):
                _answer(self._burials, request, order)
            case Probe():
                self._begin(self._probe(order))
            case Grown():
                pass
        self._awake.set()

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        """Orders that take time are carried out beside the next ones, which may be what they wait for."""
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _serve(self, serve: Serve) -> None:
        self._rules[serve.hub] = OutboundRules(serve.restricted, serve.allowed)
        courier = self._couriers.get(serve.name)
        if courier is not None:
            courier.change(serve)
            return
        settings = self._settings
        self._couriers[serve.name] = Courier(
            serve,
            self._make_sink,
            self._bury,
            self._clock,
            self._awake.set,
            dead_after_ms=settings.dead_after_ms,
            bury_dead=settings.bury_dead,
        )

    async def _pump(self) -> None:
        try:
            while True:
                self._awake.clear()
                is_behind = self._read()
                for courier in self._couriers.values():
                    courier.set_off()
                self._report()
                if is_behind:
                    await asyncio.sleep(0)  # others' answers come in between
                else:
                    await self._sleep()
        except Exception:
            logger.exception("the worker ends")
            self._channel.close()
            raise

    def _read(self) -> bool:
        """Gives each endpoint with room one chunk; True when any may want another at once."""
        self._chunks.serve(frozenset(courier.hub for courier in self._couriers.values()))
        is_behind = False
        for courier in self._couriers.values():
            if courier.deliveries.has_room and (chunk := self._chunks.after(courier.deliveries.position)) is not None:
                courier.offer(chunk)
                is_behind = is_behind or courier.deliveries.has_room
        return is_behind

    def _report(self) -> None:
        now = self._clock.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            for courier in self._couriers.values():
                if (progress := courier.progress()) is not None:
                    self._channel.say(progress)

    async def _sleep(self) -> None:
        """Until there may be something to do."""
        at_end = [courier.deliveries.position for courier in self._couriers.values() if courier.deliveries.has_room]
        if at_end:
            self._channel.say(Asleep(min(at_end)))
        now_ms = self._clock.utc_ms()
        due = [due_ms for courier in self._couriers.values() if (due_ms := courier.deliveries.due_ms()) is not None]
        seconds = min([max(0, due_ms - now_ms) / 1000 for due_ms in due], default=None)
        if any(courier.has_news for courier in self._couriers.values()):
            seconds = REPORT_SECONDS if seconds is None else min(seconds, REPORT_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    async def _probe(self, order: Probe) -> None:
        courier = self._couriers.get((order.hub, order.endpoint))
        if courier is None:
            self._channel.say(Probed(order.request, FailureKind.NOT_FOUND, "there is no such endpoint", ""))
            return
        try:
            await courier.probe()
        except SinkFailure as failure:
            self._channel.say(Probed(order.request, failure.kind, failure.reason, failure.code))
        except Exception as error:
            logger.exception("a probe failed")
            self._channel.say(Probed(order.request, FailureKind.TRANSIENT, str(error), type(error).__name__))
        else:
            self._channel.say(Probed(order.request))

    def _rules_of(self, hub: HubId) -> OutboundRules:
        return self._rules.get(hub, OutboundRules())

    def _make_sink(self, hub: HubName, serve: Serve) -> Sink:
        return self._factory(hub, serve.endpoint, self._egress)

    async def _ask_token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        request = next(self._requests)
        self._channel.say(TokenWanted(request, hub, identity, scope))
        given = await _answered(self._tokens, request)
        if given.error:
            raise SinkFailure(FailureKind.IDENTITY, given.error, "NoIdentity")
        return given.token, given.expires_s

    async def _bury(self, serve: Serve, batch: Batch) -> str:
        request = next(self._requests)
        records = [
            DeadRecord(
                record.partition.number,
                record.sequence,
                record.offset,
                record.enqueued_ms,
                record.ingress_ms,
                record.outbox_id,
                record.envelope,
                record.payload,
            )
            for record in batch.records
        ]
        self._channel.say(Bury(request, serve.hub, serve.endpoint.number, records, batch.reason, batch.code))
        try:
            return (await _answered(self._burials, request)).error
        except SinkFailure as failure:
            return failure.reason


async def _answered(waiting: dict[int, asyncio.Future[Answer]], request: int) -> Answer:
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    waiting[request] = answer
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return await answer
    except TimeoutError as error:
        reason = f"the hub did not answer within {ANSWER_SECONDS_MAX:g} s"
        raise SinkFailure(FailureKind.TRANSIENT, reason, "Timeout") from error
    finally:
        del waiting[request]


def _answer(waiting: dict[int, asyncio.Future[Answer]], request: int, answer: Answer) -> None:
    future = waiting.get(request)
    if future is not None and not future.done():
        future.set_result(answer)
