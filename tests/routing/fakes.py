"""Hubs and events of the routing tests."""

from dataclasses import replace

from isthmus.base.ids import HubId
from isthmus.base.state import OutboxEvent
from isthmus.resources.hub import Hub, Route, RouteSource
from isthmus.telemetry.message import MessageSource, StateEvent, encode_state_event
from telemetry.fakes import START_MS

HUB = Hub(number=HubId(1), name="plant", host_name="plant.isthmus.test", partitions=4, created_ms=START_MS)
NO_FALLBACK = replace(HUB.fallback_route, enabled=False)
TWIN_ROUTE = Route("twins", RouteSource.TWIN_CHANGES)


def hub_with(*routes: Route, fallback: Route = HUB.fallback_route) -> Hub:
    return replace(HUB, routes=routes, fallback_route=fallback)


def twin_change(number: int, device_id: str = "pump", source: MessageSource = MessageSource.TWIN_CHANGES) -> StateEvent:
    return StateEvent(
        device_id=device_id,
        module_id="",
        source=source,
        op_type="updateTwin",
        operation_ms=START_MS,
        body=b'{"version":%d}' % number,
        schema="twinChangeNotification",
    )


def row(event: StateEvent, hub: int = 1) -> OutboxEvent:
    return OutboxEvent(HubId(hub), encode_state_event(event))
