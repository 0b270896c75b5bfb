"""Proves paths to a hub: makes a probe, sends a walker out, and tells what it met and which rule refused it.

Theory of operation. A target is a private endpoint or the public door. Its paths are walked side by side, one for each
way a client may come, each with a probe of its own; where the walker stands is somebody else's business (`Vantage`): on
this machine, in a network namespace, or where a connector is. What a door refused to the probe is known here, with rule
and remedy, because the walker hears no more than any stranger. The last round by the clock is kept for the metrics.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from isthmus.base.errors import HubError, Refusal
from isthmus.base.hosts import normal_address
from isthmus.devices.probes import Probes
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.paths.errand import Errand, Verdict, Walk, Way, no_walk
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.network_names import NetworkNames
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.servers.gateway.plane import Plane

WALK_SECONDS_MAX = 40.0
"""For one walk: six stations of five seconds each, and the way to who walks it. Below a management call's patience."""

WALKS_AT_ONCE = 12
"""Walks under way, each of them a connection to the hub; less than one connector performs at a time."""

ENDPOINTS_PER_ROUND = 64
"""Endpoints walked by one call; with more, the call has to name some."""

PLANES: Mapping[Way, Plane] = {
    Way.MQTT: Plane.MQTT,
    Way.AMQP: Plane.AMQP,
    Way.HTTPS: Plane.HTTPS,
    Way.EVENTS: Plane.AMQP,
}

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where this machine reaches an address that stands for all of its own."""

logger = logging.getLogger(__name__)


class Vantage(Protocol):
    """Who walks, from the places that there are."""

    async def walk(self, place: str, errand: Errand) -> Walk:
        """Walks from a place; raises HubError or `ConfigurationError` when nobody there can set out."""


@dataclass(frozen=True, slots=True)
class Target:
    """A door to walk to; without a `name` the public one, at one of its addresses."""

    name: str
    network: str
    place: str
    address: str

    @property
    def label(self) -> str:
        """The endpoint's name, or `public`."""
        return self.name or "public"


@dataclass(frozen=True, slots=True)
class Proved:
    """One path, walked; `refusal` is why a door said no, when one did."""

    hub: str
    target: Target
    way: Way
    port: int
    walk: Walk
    refusal: Refusal | None = None

    def to_json(self) -> dict[str, object]:
        """As the management API tells it."""
        refusal = self.refusal
        return {
            "hub": self.hub,
            "endpoint": self.target.label,
            "network": self.target.network,
            "from": self.target.place or "this machine",
            "plane": self.way.value,
            "address": self.target.address,
            "port": self.port,
            "works": self.walk.works,
            "hops": [
                {
                    "hop": step.station.value,
                    "verdict": step.verdict.value,
                    "milliseconds": step.milliseconds,
                    "detail": step.detail,
                }
                for step in self.walk.steps
            ],
            "rule": refusal.rule if refusal is not None else "",
            "value": refusal.value if refusal is not None else "",
            "remedy": refusal.remedy if refusal is not None else "",
        }


@dataclass(frozen=True, slots=True)
class Outside:
    """What of the installation a prover is told: planes' ports, public addresses, the name service's port, the CA."""

    ports: Callable[[], Mapping[Plane, int]]
    public: tuple[str, ...]
    names_port: int
    authorities: str


class Prover:
    """Walks paths of all hubs; used on the event loop only."""

    def __init__(
        self,
        outside: Outside,
        hubs: Hubs,
        endpoints: PrivateEndpoints,
        names: NetworkNames,
        probes: Probes,
        vantage: Vantage,
    ) -> None:
        self._outside = outside
        self._hubs = hubs
        self._endpoints = endpoints
        self._names = names
        self._probes = probes
        self._vantage = vantage
        self._room = asyncio.Semaphore(WALKS_AT_ONCE)
        self.latest: tuple[Proved, ...] = ()
        """What the last round by the clock found."""

    def private(self, hub: Hub) -> list[PrivateEndpoint]:
        """The private endpoints that lead to a hub, whatever state they are in, by name."""
        found = [each for each in self._endpoints.all() if each.target_id.lower() == hub.resource_id.lower()]
        return sorted(found, key=lambda each: each.name.lower())

    def is_approved(self, endpoint: PrivateEndpoint) -> bool:
        """True when its connection is."""
        return self._endpoints.status(endpoint) is ConnectionStatus.APPROVED

    def public(self) -> list[Target]:
        """The public door, at each of its addresses."""
        return [Target("", "", "", _ANY.get(address, address)) for address in self._outside.public]

    async def prove(self, hub: Hub, targets: Iterable[Target], ways: Sequence[Way]) -> list[Proved]:
        """Walks every way to each of the targets, and tells in their order what was met."""
        paths = [(target, way) for target in targets for way in ways]
        return list(await asyncio.gather(*(self._prove(hub, *path) for path in paths)))

    async def run(self, interval_seconds: float) -> None:
        """Walks to all approved private endpoints, again and again, until it is cancelled."""
        while True:
            found: list[Proved] = []
            for hub in self._hubs.all():
                approved = [target_of(each) for each in self.private(hub) if self.is_approved(each)]
                found += await self.prove(hub, approved, tuple(Way))
            self._tell(found)
            self.latest = tuple(found)
            await asyncio.sleep(interval_seconds)

    async def _prove(self, hub: Hub, target: Target, way: Way) -> Proved:
        port = self._outside.ports()[PLANES[way]]
        async with self._room:
            probe = self._probes.make(hub.number, hub.host_name)
            try:
                walk = await self._walk(
                    target.place, self._errand(hub, target, way, port, probe.device_id, probe.token)
                )
            finally:
                refusal = self._probes.forget(probe)
        return Proved(hub.name, target, way, port, walk, None if walk.works else refusal)

    async def _walk(self, place: str, errand: Errand) -> Walk:
        try:
            async with asyncio.timeout(WALK_SECONDS_MAX):
                return await self._vantage.walk(place, errand)
        except TimeoutError:
            return no_walk(f"nothing came back in {WALK_SECONDS_MAX:g} s")
        except HubError as error:
            return no_walk(error.message)

    def _errand(self, hub: Hub, target: Target, way: Way, port: int, device_id: str, token: str) -> Errand:
        outside = self._outside
        servers: tuple[str, ...] = ()
        if target.name and outside.names_port:
            servers = self._names.servers(target.network) if target.network else (target.address,)
        return Errand(
            way=way,
            host_name=hub.host_name,
            address=target.address,
            port=port,
            authorities=outside.authorities,
            device_id=device_id,
            token=token,
            name_servers=tuple((server, outside.names_port) for server in servers),
            own_resolver=not target.name,
            public=tuple(normal_address(each) for each in outside.public),
        )

    def _tell(self, found: Iterable[Proved]) -> None:
        """A line of the log for each path that works no more, or again."""
        before = {(each.target.name, each.way): each.walk.works for each in self.latest}
        for each in found:
            works = each.walk.works
            if before.get((each.target.name, each.way), True) != works:
                extra = {"hub": each.hub, "endpoint": each.target.name, "plane": each.way.value, "works": works}
                logger.warning("private path changed", extra=extra)


def target_of(endpoint: PrivateEndpoint) -> Target:
    """A private endpoint as a target."""
    return Target(endpoint.name, endpoint.door.network, endpoint.place, endpoint.address)


def hop_seconds(found: Iterable[Proved]) -> Iterator[tuple[dict[str, str], float]]:
    """The time of each hop that was tried, with its labels."""
    for each in found:
        for step in each.walk.steps:
            if step.verdict is not Verdict.SKIPPED:
                labels = {"endpoint": each.target.label, "plane": each.way.value, "hop": step.station.value}
                yield labels, step.milliseconds / 1_000
