"""Routes, compiled: which endpoints a hub's records of each source name, and which partition a device has."""

import zlib
from dataclasses import dataclass

from isthmus.base.errors import Code, HubError
from isthmus.resources.hub import EVENTS_ENDPOINT, Hub, Route, RouteSource
from isthmus.telemetry.message import MessageSource
from isthmus.telemetry.ports import EVENTS, Partition

ENDPOINT_IDS = {EVENTS_ENDPOINT: EVENTS}
"""Endpoint ids by name, for what every hub has."""

ROUTE_SOURCES = {
    MessageSource.TELEMETRY: RouteSource.DEVICE_MESSAGES,
    MessageSource.TWIN_CHANGES: RouteSource.TWIN_CHANGES,
    MessageSource.DEVICE_LIFECYCLE: RouteSource.DEVICE_LIFECYCLE,
    MessageSource.DEVICE_CONNECTION_STATE: RouteSource.DEVICE_CONNECTION_STATE,
}
"""How routes call each source ("IoT Hub message routing", data sources)."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """What holds for one snapshot of a hub: endpoints by source, empty where no route takes it, and its partitions."""

    hub: Hub
    partitions: tuple[Partition, ...]
    endpoints: dict[MessageSource, tuple[int, ...]]
    telemetry: tuple[int, ...]


def compile_routes(hub: Hub) -> RouteTable:
    """The table of a hub.

    A message goes to each endpoint once, however many routes name it. The fallback route takes device messages that no
    enabled route takes; events about devices exist only where a route asks for them. Raises `HubError` NotImplemented
    for a condition other than `true` or an endpoint other than the built-in one.
    """
    endpoints = {source: _endpoints(hub.routes, wanted) for source, wanted in ROUTE_SOURCES.items()}
    telemetry = endpoints[MessageSource.TELEMETRY] or _endpoints((hub.fallback_route,), RouteSource.DEVICE_MESSAGES)
    endpoints[MessageSource.TELEMETRY] = telemetry
    partitions = tuple(Partition(hub.number, number) for number in range(hub.partitions))
    return RouteTable(hub, partitions, endpoints, telemetry)


def partition_number(device_id: str, partitions: int) -> int:
    """Partition of a device and its modules: CRC-32 (the one of zlib and Ethernet) of the UTF-8 id, modulo the count.

    Never changes: a device's order across releases hangs on it.
    """
    return zlib.crc32(device_id.encode()) % partitions


def _endpoints(routes: tuple[Route, ...], source: RouteSource) -> tuple[int, ...]:
    named = [name for route in routes if route.enabled and route.source is source for name in _names(route)]
    return tuple(dict.fromkeys(_endpoint_id(name) for name in named))


def _names(route: Route) -> tuple[str, ...]:
    if route.condition.strip().lower() != "true":
        raise HubError(
            Code.NOT_IMPLEMENTED, f"the route {route.name} has a condition; only the condition true is offered yet"
        )
    return route.endpoint_names


def _endpoint_id(name: str) -> int:
    if name not in ENDPOINT_IDS:
        raise HubError(Code.NOT_IMPLEMENTED, f"there is no endpoint {name}; only {EVENTS_ENDPOINT} is offered yet")
    return ENDPOINT_IDS[name]
