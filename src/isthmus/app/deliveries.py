"""Deliveries to routing endpoints, connected: the office with its workers, over hubs, logs and configuration."""

from collections.abc import Iterator
from dataclasses import replace

from isthmus.access.journal import Decision, Verdict
from isthmus.app.domain import Domain
from isthmus.app.egress import Ports, egress_settings
from isthmus.app.stores import Stores
from isthmus.base.ids import HubId
from isthmus.config import Config
from isthmus.egress.office import EgressOffice
from isthmus.routing.dead_letters import DeadLetters
from isthmus.routing.diagnosis import RULES, diagnose
from isthmus.routing.health import EndpointHealth, HealthStatus
from isthmus.routing.ledger import Ledger
from isthmus.routing.sink import FailureKind
from isthmus.servers.management.metrics import Reading

PLANE = "egress"
"""How the journal calls the way out, as a plane and as a door."""


class HubDeliveries:
    """The parts of it that others need."""

    def __init__(self, config: Config, stores: Stores, domain: Domain, ports: Ports) -> None:
        self._settings = config.egress
        self._domain = domain
        self._stores = stores
        self.ledger = Ledger(stores.state)
        self.dead_letters = DeadLetters(stores.state, stores.dead_letters, stores.log, stores.clock)
        self.office = EgressOffice(
            stores.log,
            stores.log_folder,
            self.ledger,
            self.dead_letters,
            domain.authority.token,
            stores.clock,
            lambda: egress_settings(config, domain, ports),
            workers=config.egress.workers,
            pinned_bytes=int(config.egress.pinned_gib * 2**30),
            on_health=self._note,
        )

    async def start(self) -> None:
        """Serves what is there, and what comes."""
        await self.office.start(self._domain.hubs.all())
        self._domain.directory.on_change(self.office.resource_changed)

    def tick(self, now_ms: int) -> None:
        """Lets both logs forget what is old, but for what endpoints still need."""
        let_go = self._stores.log.tick(now_ms, self.office.keep_from())
        self.office.make_room(let_go)
        self._stores.dead_letters.tick(now_ms)

    def _note(self, number: HubId, endpoint_number: int, before: EndpointHealth, now: EndpointHealth) -> None:
        """Writes into the journal what an owner will ask `explain`: that deliveries are refused, and why."""
        hub = self._domain.hubs.by_number(number)
        endpoint = next((each for each in hub.endpoints if each.number == endpoint_number), None) if hub else None
        if hub is None or endpoint is None or not _is_news(before, now):
            return
        decision = Decision(Verdict.ALLOWED, hub=hub.name, plane=PLANE, door=PLANE)
        detail = f"endpoint {endpoint.name} is {now.status.value}"
        if now.failures:
            found = diagnose(endpoint, now.last_kind)
            decision = replace(
                decision,
                verdict=Verdict.REFUSED,
                code=now.last_code,
                rule=RULES[FailureKind(now.last_kind)],
                value=now.last_reason,
                remedy=found.remedy,
            )
            detail = f"{detail}: {found.sentence}"
        self._domain.journal.write(replace(decision, detail=detail))

    def readings(self) -> Iterator[Reading]:
        """What a scrape reads of deliveries; that of one name for all endpoints in a row."""
        office, dead = self.office, self.dead_letters
        named = list(self._endpoints())
        told = [(labels, office.tally(name)) for labels, name in named]
        yield Reading("egress_worker_restarts", "Workers started again", office.restarts, total=True)
        for labels, tally in told:
            yield Reading("egress_delivered", "Messages delivered", tally.delivered, total=True, labels=labels)
        for labels, tally in told:
            yield Reading("egress_bytes", "Bytes of bodies delivered", tally.bytes, total=True, labels=labels)
        for labels, tally in told:
            seconds = tally.latency_ms / 1000
            yield Reading("egress_latency_seconds", "From log to target", seconds, total=True, labels=labels)
        for labels, tally in told:
            yield Reading("egress_failures", "Batches not taken", tally.failures, total=True, labels=labels)
        for labels, tally in told:
            yield Reading("egress_buried", "Messages buried", tally.buried, total=True, labels=labels)
        for labels, tally in told:
            yield Reading("egress_waiting", "Messages read and not delivered", tally.waiting, labels=labels)
        for labels, name in named:
            yield Reading("egress_behind_bytes", "Log still to deliver", office.behind_bytes(*name), labels=labels)
        for labels, name in named:
            rank = list(HealthStatus).index(office.health(*name).status)
            yield Reading("egress_health", "0 unknown, 1 healthy, 2 unhealthy, 3 dead", rank, labels=labels)
        for labels, name in named:
            yield Reading("dead_letters", "Dead letters that are kept", dead.count(*name), labels=labels)
        yield Reading("dead_letters_redriven", "Dead letters redriven", dead.redriven, total=True)
        yield from self._bounds()

    def _bounds(self) -> Iterator[Reading]:
        """What the configuration says, beside what it bounds."""
        settings = self._settings
        said = {"addresses": settings.addresses, "credentials": settings.credentials, "when_dead": settings.when_dead}
        yield Reading("egress_settings", "1, with what is configured", 1, labels=said)
        yield Reading("egress_workers_max", "Worker processes at most", settings.workers)
        yield Reading("egress_pinned_bytes_max", "Log kept for an endpoint", settings.pinned_gib * 2**30)
        yield Reading("egress_dead_after_seconds", "Without a success to be dead", settings.dead_after_seconds)
        yield Reading("dead_letters_retention_bytes", "Bytes of dead letters kept", settings.dead_letter_gib * 2**30)
        yield Reading("dead_letters_retention_seconds", "Age of dead letters", settings.dead_letter_days * 86_400)

    def _endpoints(self) -> Iterator[tuple[dict[str, str], tuple[HubId, int]]]:
        """Labels and name of each endpoint."""
        for hub in self._domain.hubs.all():
            for endpoint in hub.endpoints:
                labels = {"hub": hub.name, "endpoint": endpoint.name, "type": endpoint.kind.value}
                yield labels, (hub.number, endpoint.number)


def _is_news(before: EndpointHealth, now: EndpointHealth) -> bool:
    """True for another state, or another reason to be in it."""
    other_reason = now.last_kind != before.last_kind and now.status in (HealthStatus.UNHEALTHY, HealthStatus.DEAD)
    return now.status is not before.status or (now.failures > 0 and other_reason)
