"""Routes, compiled: which endpoints a hub's records of each source name, and which partition a device has.

Where no condition is left to ask, the answer is made once for a snapshot of the hub, and a message costs one look-up.
"""

import zlib
from dataclasses import dataclass
from functools import cached_property

from isthmus.base.errors import Code, HubError
from isthmus.query.conditions.compiler import Condition
from isthmus.query.conditions.values import Subject
from isthmus.resources.hub import EVENTS_ENDPOINT, Hub, RouteSource
from isthmus.resources.routes import compiled_condition
from isthmus.routing.stamps import Stamps
from isthmus.telemetry.message import MessageSource
from isthmus.telemetry.ports import EVENTS, Partition

ROUTE_SOURCES = {
    MessageSource.TELEMETRY: RouteSource.DEVICE_MESSAGES,
    MessageSource.TWIN_CHANGES: RouteSource.TWIN_CHANGES,
    MessageSource.DEVICE_LIFECYCLE: RouteSource.DEVICE_LIFECYCLE,
    MessageSource.DEVICE_CONNECTION_STATE: RouteSource.DEVICE_CONNECTION_STATE,
    MessageSource.DEVICE_JOB_LIFECYCLE: RouteSource.DEVICE_JOB_LIFECYCLE,
}
"""How routes call each source ("IoT Hub message routing", data sources)."""


@dataclass(frozen=True)
class SourceRoutes:
    """The routes of one source. `always` is where its records go that no condition is asked about.

    `conditional` are conditions with the endpoint each leads to; `fallback` takes what none of these takes.
    """

    always: tuple[int, ...]
    conditional: tuple[tuple[Condition, int], ...] = ()
    fallback: tuple[tuple[Condition, int], ...] = ()

    @cached_property
    def settled(self) -> bool:
        """True when nothing depends on the message."""
        return not self.conditional and not self.fallback

    @cached_property
    def asks_twin(self) -> bool:
        """True when a condition asks for the sender's twin."""
        return any(condition.asks_twin for condition, _ in (*self.conditional, *self.fallback))


@dataclass(frozen=True, slots=True)
class RouteTable:
    """What holds for one snapshot of a hub: its routes by source, its partitions, and its enrichments.

    `plain` is True when nothing depends on a device message, so that it is neither judged nor enriched.
    """

    hub: Hub
    partitions: tuple[Partition, ...]
    sources: dict[MessageSource, SourceRoutes]
    telemetry: SourceRoutes
    stamps: Stamps
    plain: bool

    @property
    def telemetry_asks_twin(self) -> bool:
        """True when a condition or an enrichment of device messages asks for the sender's twin."""
        return self.telemetry.asks_twin or self.stamps.asks_twin


def compile_routes(hub: Hub) -> RouteTable:
    """The table of a hub.

    A message goes to each endpoint once, however many routes name it. The fallback route takes device messages that no
    enabled route takes; events about devices exist only where a route asks for them. Raises `HubError` ArgumentInvalid
    for a condition that does not compile, or an endpoint that is not there: neither can be saved.
    """
    sources = {source: _source_routes(hub, wanted) for source, wanted in ROUTE_SOURCES.items()}
    partitions = tuple(Partition(hub.number, number) for number in range(hub.partitions))
    telemetry, stamps = sources[MessageSource.TELEMETRY], Stamps(hub)
    return RouteTable(hub, partitions, sources, telemetry, stamps, plain=telemetry.settled and not stamps)


def judge(routes: SourceRoutes, message: Subject) -> tuple[tuple[int, ...], int]:
    """The endpoints of a message, each once, and how many conditions were undefined for it."""
    endpoints = dict.fromkeys(routes.always)
    undefined = _judge(routes.conditional, message, endpoints)
    if not endpoints:
        undefined += _judge(routes.fallback, message, endpoints)
    return tuple(endpoints), undefined


def partition_number(device_id: str, partitions: int) -> int:
    """Partition of a device and its modules: CRC-32 (the one of zlib and Ethernet) of the UTF-8 id, modulo the count.

    Never changes: a device's order across releases hangs on it.
    """
    return zlib.crc32(device_id.encode()) % partitions


def _source_routes(hub: Hub, source: RouteSource) -> SourceRoutes:
    routes = [route for route in hub.routes if route.enabled and route.source is source]
    compiled = [
        (compiled_condition(route), _endpoint_number(hub, name)) for route in routes for name in route.endpoint_names
    ]
    always = tuple(dict.fromkeys(endpoint for condition, endpoint in compiled if _is_true(condition)))
    conditional = tuple((condition, endpoint) for condition, endpoint in compiled if endpoint not in always)
    fallback: tuple[tuple[Condition, int], ...] = ()
    if source is hub.fallback_route.source and hub.fallback_route.enabled and not always:
        last = compiled_condition(hub.fallback_route)
        fallback = tuple((last, _endpoint_number(hub, name)) for name in hub.fallback_route.endpoint_names)
    if not conditional and all(_is_true(condition) for condition, _ in fallback):
        return SourceRoutes(always or tuple(dict.fromkeys(endpoint for _, endpoint in fallback)))
    return SourceRoutes(always, conditional, fallback)


def _judge(conditional: tuple[tuple[Condition, int], ...], message: Subject, endpoints: dict[int, None]) -> int:
    undefined = 0
    for condition, endpoint in conditional:
        holds = condition.holds(message)
        if holds:
            endpoints[endpoint] = None
        undefined += holds is None
    return undefined


def _is_true(condition: Condition) -> bool:
    return condition.text.strip() == "true"


def _endpoint_number(hub: Hub, name: str) -> int:
    if name.lower() == EVENTS_ENDPOINT:
        return EVENTS
    endpoint = hub.endpoint(name)
    if endpoint is None:
        raise HubError(Code.ARGUMENT_INVALID, f"the hub {hub.name} has no endpoint {name}")
    return endpoint.number
