"""Taking messages in: judge the hub's routes, pick the device's partition, append to the log.

The routes of a hub are compiled once for each snapshot of it, and conditions are judged by what the message is at that
moment. A device message that neither a route nor the fallback route takes is stored all the same, naming no endpoint,
and counted as orphaned: so its acknowledgement keeps its place among those of the same device.
"""

from isthmus.base.clock import iso_utc
from isthmus.base.ids import DeviceRef, HubId
from isthmus.resources.hub import Hub
from isthmus.routing.ports import TwinsAtHand
from isthmus.routing.route import RouteTable, SourceRoutes, compile_routes, judge, partition_number
from isthmus.routing.subject import RoutedMessage
from isthmus.telemetry.message import (
    Envelope,
    PropertyValue,
    StateEvent,
    encode_envelope,
    encode_stamped,
    enriched,
)
from isthmus.telemetry.ports import CommitWaiter, Log


class Accept:
    """The way into the log for everything that has a hub. Called on the event loop only.

    Counted since the start: `orphaned` device messages, which no route took, and `undefined` judgements.
    """

    def __init__(self, log: Log, twins: TwinsAtHand) -> None:
        self._log = log
        self._twins = twins
        self._attended: dict[DeviceRef, int] = {}
        self._tables: dict[HubId, RouteTable] = {}
        self.orphaned = 0
        self.undefined = 0

    async def attend(self, hub: Hub, ref: DeviceRef) -> None:
        """Makes ready what a device is judged by until as many `leave`: its twin, where a condition asks for it."""
        self._attended[ref] = self._attended.get(ref, 0) + 1
        if self._table(hub).telemetry_asks_twin:
            await self._twins.hold(ref)

    def leave(self, ref: DeviceRef) -> None:
        """Takes back one `attend`: the device sends nothing more that way."""
        left = self._attended.get(ref, 0) - 1
        if left > 0:
            self._attended[ref] = left
        else:
            self._attended.pop(ref, None)
            self._twins.release(ref)

    async def hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        """Makes ready, for all devices that are attended, what the hub's present conditions ask for."""
        if new is None:
            if old is not None:
                self._tables.pop(old.number, None)
            return
        asks_twin = self._table(new).telemetry_asks_twin
        for ref in [ref for ref in self._attended if ref.hub == new.number]:
            if asks_twin:
                await self._twins.hold(ref)
            if not asks_twin or ref not in self._attended:
                self._twins.release(ref)

    def telemetry(
        self,
        hub: Hub,
        envelope: Envelope,
        encoded: bytes,
        payload: bytes,
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
    ) -> None:
        """Appends a device message; `encoded` is `encode_envelope(envelope)`. `waiter` hears of the commit."""
        table = self._table(hub)
        routes = table.telemetry
        endpoints = routes.always
        if not table.plain:
            ref = DeviceRef(hub.number, envelope.device_id, envelope.module_id)
            twin = self._twins.get(ref) if table.telemetry_asks_twin else None
            if not routes.settled:
                endpoints = self._judge(routes, RoutedMessage(envelope, payload, ingress_ms, twin))
            if stamped := table.stamps.encoded(endpoints, twin):
                encoded = enriched(encoded, stamped)
        if not endpoints:
            self.orphaned += 1
        partition = table.partitions[partition_number(envelope.device_id, hub.partitions)]
        self._log.append(partition, endpoints, encoded, payload, ingress_ms, waiter, cookie)

    async def state_event(
        self, hub: Hub, event: StateEvent, outbox_id: int, ingress_ms: int, waiter: CommitWaiter, cookie: int
    ) -> bool:
        """Appends an event about a device when a route takes it; False when none does."""
        table = self._table(hub)
        routes = table.sources.get(event.source)
        if routes is None or (routes.settled and not routes.always):
            return False
        envelope = state_event_envelope(hub, event, outbox_id)
        endpoints = routes.always
        ref = DeviceRef(hub.number, event.device_id, event.module_id)
        twin = await self._twins.read(ref) if routes.asks_twin or table.stamps.asks_twin else None
        if not routes.settled:
            endpoints = self._judge(routes, RoutedMessage(envelope, event.body, ingress_ms, twin))
        if endpoints:
            stamped = table.stamps.resolved(endpoints, twin)
            encoded = enriched(encode_envelope(envelope), encode_stamped(stamped))
            partition = table.partitions[partition_number(event.device_id, hub.partitions)]
            self._log.append(partition, endpoints, encoded, event.body, ingress_ms, waiter, cookie, outbox_id)
        return bool(endpoints)

    def _judge(self, routes: SourceRoutes, message: RoutedMessage) -> tuple[int, ...]:
        endpoints, undefined = judge(routes, message)
        self.undefined += undefined
        return endpoints

    def _table(self, hub: Hub) -> RouteTable:
        """The compiled routes of a snapshot of a hub."""
        table = self._tables.get(hub.number)
        if table is None or table.hub is not hub:
            table = self._tables[hub.number] = compile_routes(hub)
        return table


def state_event_envelope(hub: Hub, event: StateEvent, outbox_id: int) -> Envelope:
    """What readers see around an event's body (IoT Hub developer guide, "Non-telemetry event schemas").

    The correlation id is made of the outbox id, so that an event that is relayed twice is the same both times.
    """
    names: dict[str, PropertyValue] = {"hubName": hub.name}
    if event.device_id:
        names["deviceId"] = event.device_id
    if event.module_id:
        names["moduleId"] = event.module_id
    return Envelope(
        device_id=event.device_id,
        module_id=event.module_id,
        source=event.source,
        system={
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "correlation-id": f"{outbox_id:016x}",
            "user-id": hub.name,
        },
        properties={
            **names,
            "operationTimestamp": iso_utc(event.operation_ms),
            "iothub-message-schema": event.schema,
            "opType": event.op_type,
        },
    )
