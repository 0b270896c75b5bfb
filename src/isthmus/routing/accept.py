"""Taking messages in: judge the hub's routes, pick the device's partition, append to the log.

The routes of a hub are compiled once for each snapshot of it. A device message that neither a route nor the fallback
route takes is stored all the same, naming no endpoint, and counted as orphaned: so its acknowledgement keeps its place
among those of the same device.
"""

from isthmus.base.clock import iso_utc
from isthmus.base.ids import HubId
from isthmus.resources.hub import Hub
from isthmus.routing.route import RouteTable, compile_routes, partition_number
from isthmus.telemetry.message import Envelope, PropertyValue, StateEvent, encode_envelope
from isthmus.telemetry.ports import CommitWaiter, Log


class Accept:
    """The way into the log for everything that has a hub. Called on the event loop only."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tables: dict[HubId, RouteTable] = {}
        self._orphaned: dict[HubId, int] = {}

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
        """Appends a device message; `encoded` is `encode_envelope(envelope)`. `waiter` hears of the commit.

        Raises `HubError` NotImplemented when the hub has a route that is not offered yet.
        """
        table = self._tables.get(hub.number)
        if table is None or table.hub is not hub:
            table = self._compile(hub)
        if not table.telemetry:
            self._orphaned[hub.number] = self._orphaned.get(hub.number, 0) + 1
        partition = table.partitions[partition_number(envelope.device_id, hub.partitions)]
        self._log.append(partition, table.telemetry, encoded, payload, ingress_ms, waiter, cookie)

    def state_event(
        self, hub: Hub, event: StateEvent, outbox_id: int, ingress_ms: int, waiter: CommitWaiter, cookie: int
    ) -> bool:
        """Appends an event about a device when a route takes it; False when none does. Raises as `telemetry`."""
        table = self._tables.get(hub.number)
        if table is None or table.hub is not hub:
            table = self._compile(hub)
        endpoints = table.endpoints.get(event.source, ())
        if endpoints:
            envelope = encode_envelope(state_event_envelope(hub, event, outbox_id))
            partition = table.partitions[partition_number(event.device_id, hub.partitions)]
            self._log.append(partition, endpoints, envelope, event.body, ingress_ms, waiter, cookie, outbox_id)
        return bool(endpoints)

    def orphaned(self, hub: HubId) -> int:
        """Device messages of a hub that no route took, since the start."""
        return self._orphaned.get(hub, 0)

    def _compile(self, hub: Hub) -> RouteTable:
        table = self._tables[hub.number] = compile_routes(hub)
        return table


def state_event_envelope(hub: Hub, event: StateEvent, outbox_id: int) -> Envelope:
    """What readers see around an event's body (IoT Hub developer guide, "Non-telemetry event schemas").

    The correlation id is made of the outbox id, so that an event that is relayed twice is the same both times.
    """
    names: dict[str, PropertyValue] = {"hubName": hub.name, "deviceId": event.device_id}
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
