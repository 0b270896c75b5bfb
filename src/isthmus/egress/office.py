"""The hub's side of egress: who serves which endpoint, what its workers say, and what is kept of it.

Theory of operation. Endpoints are shared out over the worker processes by their numbers; a process is started when the
first of its endpoints is made. A change of a hub is told to the workers as whole endpoints, and they compare. What
workers report goes to the ledger, which is written about once a second; tokens and burials are done as they are asked
for. An endpoint that was deleted is served on until everything before the place the log had then is buried, and is then
forgotten, so that its records are not gone without a word.

The log is kept for endpoints that are behind (`keep_from`), up to a bound. `make_room` is told up to where retention
lets go, and has the workers bury what lies before that and is further behind than the bound.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.egress.messages import (
    Asleep,
    Bury,
    Counts,
    DeadRecord,
    Forget,
    GiveUp,
    Grown,
    Interred,
    Order,
    Probe,
    Probed,
    Progress,
    Report,
    Serve,
    Settings,
    TokenGiven,
    TokenWanted,
)
from isthmus.egress.process import END_SECONDS_MAX, Spawn, WorkerProcess, spawn_process
from isthmus.resources.guarded import Guarded
from isthmus.resources.hub import Hub
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.dead_letters import DeadLetters
from isthmus.routing.health import NOTHING_TRIED, EndpointHealth
from isthmus.routing.ledger import WRITE_SECONDS, Ledger
from isthmus.routing.sink import FailureKind, SinkFailure
from isthmus.telemetry.ports import Partition, Record

PROBE_SECONDS_MAX = 40.0
"""For the answer to a probe: longer than a worker lets it take."""

DELETED_REASON = "the endpoint was deleted"

logger = logging.getLogger(__name__)

GiveToken = Callable[[HubId, str, str], Awaitable[tuple[str, int]]]
"""A token of a hub's identity for a scope; raises HubError."""


OnHealth = Callable[[HubId, int, EndpointHealth, EndpointHealth], None]
"""Hears of an endpoint, by its hub's number and its own: the health before, and now."""


class GrowingLog(Protocol):
    """What egress asks of the hub's log."""

    def seek_end(self, partition: Partition) -> int: ...

    def bytes_behind(self, position: int) -> int: ...

    def on_commit(self, wake: Callable[[], None]) -> None: ...


@dataclass(slots=True)
class Tally:
    """What was done for an endpoint since the start, and what waits in its worker."""

    delivered: int = 0
    bytes: int = 0
    latency_ms: int = 0
    failures: int = 0
    buried: int = 0
    waiting: int = 0

    def add(self, counts: Counts, waiting: int) -> None:
        """Takes a report."""
        self.delivered += counts.delivered
        self.bytes += counts.bytes
        self.latency_ms += counts.latency_ms
        self.failures += counts.failures
        self.buried += counts.buried
        self.waiting = waiting


Name = tuple[HubId, int]
"""Numbers of a hub and of one of its endpoints."""


class EgressOffice:
    """All endpoints of an installation. On the event loop only."""

    def __init__(
        self,
        log: GrowingLog,
        log_folder: Path,
        ledger: Ledger,
        dead_letters: DeadLetters,
        token: GiveToken,
        clock: Clock,
        settings: Callable[[], Settings],
        *,
        workers: int,
        pinned_bytes: int,
        on_health: OnHealth = lambda hub, number, before, now: None,
        spawn: Spawn = spawn_process,
    ) -> None:
        """`settings` are said to each worker, and anew by `settings_changed`; see the module for `pinned_bytes`.

        `on_health` hears of an endpoint whose health has changed.
        """
        self._log = log
        self._log_folder = log_folder
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._token = token
        self._clock = clock
        self._settings = settings
        self._pinned_bytes = pinned_bytes
        self._on_health = on_health
        self._workers = [
            WorkerProcess(log_folder, self._first_words_of(place), self._heard, clock, place, spawn)
            for place in range(workers)
        ]
        self._running: dict[int, asyncio.Task[None]] = {}
        self._asleep: dict[int, int] = {}
        self._serving: dict[Name, Serve] = {}
        self._leaving: dict[Name, int] = {}
        self._given_up: dict[Name, GiveUp] = {}
        self._probes: dict[int, tuple[Probe, asyncio.Future[Probed]]] = {}
        self._requests = itertools.count(1)
        self._errands: set[asyncio.Task[None]] = set()
        self._closing = False
        self._tallies: dict[Name, Tally] = {}

    async def start(self, hubs: Iterable[Hub]) -> None:
        """Reads what is kept, and serves what is there."""
        for hub in hubs:
            await self._ledger.load(hub.number)
            await self._dead_letters.load(hub.number)
            gone = {number for owner, number in self._ledger.names() if owner == hub.number}
            gone -= {endpoint.number for endpoint in hub.endpoints}
            await self._serve_all(hub)
            for number in gone:
                self._leave(hub, _ghost(number))
        self._log.on_commit(self._grown)

    async def resource_changed(self, old: Guarded | None, new: Guarded | None) -> None:
        """Listens to all resources: hubs have endpoints, and neighbours are where some of these lead."""
        if not isinstance(old, Hub | None) or not isinstance(new, Hub | None):
            self.settings_changed()
        elif new is None:
            await self._hub_gone(old)
        else:
            await self._serve_all(new)
            kept = {endpoint.number for endpoint in new.endpoints}
            for endpoint in old.endpoints if old is not None else ():
                if endpoint.number not in kept:
                    self._leave(new, endpoint)

    def settings_changed(self) -> None:
        """Tells all workers what holds now."""
        for worker in self._workers:
            worker.say(self._settings())

    def health(self, hub: HubId, number: int) -> EndpointHealth:
        """How an endpoint does."""
        page = self._ledger.page(hub, number)
        return page.health if page is not None else NOTHING_TRIED

    def tally(self, name: Name) -> Tally:
        """What was done for an endpoint since the start."""
        return self._tallies.get(name) or Tally()

    def behind_bytes(self, hub: HubId, number: int) -> int:
        """How much log lies between an endpoint's cursor and the end."""
        page = self._ledger.page(hub, number)
        return 0 if page is None else self._log.bytes_behind(page.lowest)

    @property
    def trouble(self) -> str:
        """Why endpoints are not served; empty for nothing."""
        running = (worker for worker in self._workers if worker.place in self._running)
        return next((worker.trouble for worker in running if worker.trouble), "")

    @property
    def restarts(self) -> int:
        """How often a worker process was started again."""
        return sum(max(0, worker.starts - 1) for worker in self._workers)

    async def probe(self, hub: Hub, endpoint: RoutingEndpoint) -> None:
        """Has the target asked whether it lets the hub write; raises `SinkFailure`."""
        order = Probe(next(self._requests), hub.number, endpoint.number)
        answer: asyncio.Future[Probed] = asyncio.get_running_loop().create_future()
        self._probes[order.request] = (order, answer)
        self._worker_of((hub.number, endpoint.number)).say(order)
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                probed = await answer
        except TimeoutError as error:
            reason = f"the worker process did not answer within {PROBE_SECONDS_MAX:g} s"
            raise SinkFailure(FailureKind.TRANSIENT, reason, "Timeout") from error
        finally:
            del self._probes[order.request]
        if probed.kind:
            raise SinkFailure(FailureKind(probed.kind), probed.reason, probed.code)

    def keep_from(self) -> int | None:
        """What of the log is still to be delivered; None when nothing is."""
        return self._ledger.lowest()

    def bury_waiting(self, hub: HubId, number: int, reason: str) -> None:
        """Has everything buried that waits for an endpoint now; returns before it is."""
        self._give_up((hub, number), self._end(hub), reason)

    def make_room(self, let_go: int) -> None:
        """Has records buried that retention lets go and that are further behind than the log is kept for."""
        for name in self._ledger.names():
            page = self._ledger.page(*name)
            if page is None or page.lowest >= let_go or self._log.bytes_behind(page.lowest) <= self._pinned_bytes:
                continue
            reason = f"the log keeps {self._pinned_bytes / 2**30:g} GiB for an endpoint that is behind"
            self._give_up(name, let_go, reason)

    async def write(self) -> None:
        """Writes the ledger from time to time, until cancelled; raises what the state raises."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self._ledger.write()

    async def close(self) -> None:
        """Lets workers end, and writes how far they were; raises what the state raises."""
        self._closing = True
        for worker in self._workers:
            worker.end()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=END_SECONDS_MAX)
        for task in (*self._running.values(), *self._errands):
            task.cancel()
        await asyncio.gather(*self._running.values(), *self._errands, return_exceptions=True)
        await self._ledger.write()

    async def _serve_all(self, hub: Hub) -> None:
        for endpoint in hub.endpoints:
            page = await self._ledger.open(hub.number, endpoint.number, self._end(hub.number))
            self._serve(
                Serve(
                    hub=hub.number,
                    hub_name=hub.name,
                    partitions=hub.partitions,
                    endpoint=endpoint,
                    start=page.start,
                    cursors=page.cursors,
                    health=page.health,
                    restricted=hub.restrict_outbound,
                    allowed=hub.allowed_fqdns,
                    principal=_principal(hub, endpoint),
                )
            )

    def _serve(self, serve: Serve) -> None:
        name = (HubId(serve.hub), serve.endpoint.number)
        self._serving[name] = serve
        self._tallies.setdefault(name, Tally())
        worker = self._worker_of(name)
        worker.say(serve)
        if worker.place not in self._running and not self._closing:
            self._running[worker.place] = asyncio.create_task(worker.run())

    def _leave(self, hub: Hub, endpoint: RoutingEndpoint) -> None:
        name = (hub.number, endpoint.number)
        page = self._ledger.page(*name)
        if page is None:
            return
        if name not in self._serving:
            self._serve(Serve(hub.number, hub.name, hub.partitions, endpoint, page.start, page.cursors, page.health))
        self._leaving[name] = self._end(hub.number)
        self._give_up(name, self._leaving[name], DELETED_REASON)

    async def _hub_gone(self, hub: Hub | None) -> None:
        for name in [name for name in self._serving if hub is not None and name[0] == hub.number]:
            self._forget(name)
        if hub is not None:
            self._ledger.forget_hub(hub.number)

    def _forget(self, name: Name) -> None:
        self._worker_of(name).say(Forget(*name))
        for table in (self._serving, self._leaving, self._given_up, self._tallies):
            table.pop(name, None)

    def _give_up(self, name: Name, before: int, reason: str) -> None:
        order = self._given_up[name] = GiveUp(name[0], name[1], before, reason)
        self._worker_of(name).say(order)

    def _first_words_of(self, place: int) -> Callable[[], list[Order]]:
        def words() -> list[Order]:
            self._asleep.pop(place, None)
            served = [name for name in self._serving if self._worker_of(name).place == place]
            return [
                self._settings(),
                *(self._up_to_date(self._serving[name]) for name in served),
                *(self._given_up[name] for name in served if name in self._given_up),
                *(order for order, _ in self._probes.values() if (order.hub, order.endpoint) in served),
            ]

        return words

    def _up_to_date(self, serve: Serve) -> Serve:
        page = self._ledger.page(HubId(serve.hub), serve.endpoint.number)
        if page is None:
            return serve
        return msgspec.structs.replace(serve, cursors=page.cursors, health=page.health)

    async def _heard(self, worker: WorkerProcess, report: Report) -> None:
        match report:
            case Asleep(position):
                self._asleep[worker.place] = position
                self._grown()
            case Progress():
                await self._progressed(report)
            case TokenWanted():
                self._start(self._give_token(worker, report))
            case Bury():
                self._start(self._bury(worker, report))
            case Probed(request):
                _, answer = self._probes.get(request, (None, None))
                if answer is not None and not answer.done():
                    answer.set_result(report)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _progressed(self, report: Progress) -> None:
        name = (HubId(report.hub), report.endpoint)
        if name not in self._serving:
            return
        before = self.health(*name)
        self._ledger.note(*name, report.cursors, report.health)
        if before != report.health:
            self._on_health(*name, before, report.health)
        self._tallies[name].add(report.counts, report.waiting)
        if name in self._leaving and min(report.cursors.values()) >= self._leaving[name]:
            self._forget(name)
            await self._ledger.forget(*name)

    async def _give_token(self, worker: WorkerProcess, wanted: TokenWanted) -> None:
        try:
            token, expires_s = await self._token(HubId(wanted.hub), wanted.identity, wanted.scope)
        except HubError as error:
            worker.say(TokenGiven(wanted.request, error=error.message))
        else:
            worker.say(TokenGiven(wanted.request, token, expires_s))

    async def _bury(self, worker: WorkerProcess, bury: Bury) -> None:
        records = [_record(bury.hub, bury.endpoint, each) for each in bury.records]
        served = self._serving.get((HubId(bury.hub), bury.endpoint))
        trouble = await self._dead_letters.bury(
            HubId(bury.hub),
            bury.endpoint,
            records,
            bury.reason,
            bury.code,
            name=served.endpoint.name if served is not None else "",
        )
        worker.say(Interred(bury.request, trouble))

    def _grown(self) -> None:
        """Wakes the workers that have said that they are at the end, once."""
        for place, position in list(self._asleep.items()):
            if self._end(HubId(0)) > position:
                del self._asleep[place]
                self._workers[place].say(Grown())

    def _end(self, hub: HubId) -> int:
        return self._log.seek_end(Partition(hub, 0))

    def _worker_of(self, name: Name) -> WorkerProcess:
        return self._workers[sum(name) % len(self._workers)]


def _principal(hub: Hub, endpoint: RoutingEndpoint) -> str:
    """Who the hub is to the endpoint's target; empty where a key says it, or nobody."""
    if endpoint.authentication is EndpointAuthentication.KEY:
        return ""
    if not endpoint.identity:
        return hub.identity.principal_id
    attached = hub.identity.find(endpoint.identity)
    return attached.principal_id if attached is not None else ""


def _ghost(number: int) -> RoutingEndpoint:
    """An endpoint that was deleted, of which nothing is left but its number."""
    return RoutingEndpoint(number, "", f"deleted-{number}", EndpointKind.QUEUE, EndpointAuthentication.KEY)


def _record(hub: int, endpoint: int, dead: DeadRecord) -> Record:
    return Record(
        Partition(hub, dead.partition),
        dead.sequence,
        dead.offset,
        dead.enqueued_ms,
        dead.ingress_ms,
        (endpoint,),
        dead.outbox_id,
        dead.envelope,
        dead.payload,
    )
