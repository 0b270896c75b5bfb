"""Hubs and events of the routing tests."""

from collections.abc import Mapping
from dataclasses import replace

from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import OutboxEvent
from isthmus.resources.hub import Hub, Route, RouteSource
from isthmus.telemetry.message import MessageSource, StateEvent, encode_state_event
from telemetry.fakes import START_MS


class FakeTwins:
    """The twins that a test gives; it remembers which are held."""

    def __init__(self) -> None:
        self.twins: dict[DeviceRef, Mapping[str, object]] = {}
        self.held: set[DeviceRef] = set()

    async def hold(self, ref: DeviceRef) -> None:
        self.held.add(ref)

    def release(self, ref: DeviceRef) -> None:
        self.held.discard(ref)

    def get(self, ref: DeviceRef) -> Mapping[str, object] | None:
        return self.twins.get(ref) if ref in self.held else None

    async def read(self, ref: DeviceRef) -> Mapping[str, object] | None:
        return self.twins.get(ref)


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
