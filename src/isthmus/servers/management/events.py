"""Messages of the built-in endpoint as JSON lines, in the form in which `az iot hub monitor-events` prints them."""

import asyncio
import fnmatch
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import msgspec

from isthmus.base.clock import parse_iso_ms
from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.resources.consumer_groups import group_to_arm
from isthmus.resources.hub import Hub
from isthmus.telemetry.message import Envelope, decode_envelope
from isthmus.telemetry.ports import Log, Partition, Record

BATCH_EVENTS = 100
BATCH_BYTES = 256 * 1024
"""Events and bytes read at a time of one partition; the socket's back-pressure holds the next read."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What somebody wants to see: events of devices that match, from a start on."""

    start: str = "latest"
    device_id: str = ""
    module_id: str = ""
    content_type: str = ""
    properties: frozenset[str] = frozenset()

    def wants(self, envelope: Envelope) -> bool:
        """True for an event to be shown; a `*` in the device's name stands for any characters."""
        device = not self.device_id or fnmatch.fnmatchcase(envelope.device_id, self.device_id)
        return device and (not self.module_id or envelope.module_id == self.module_id)


def watch_of(hub: Hub, query: Mapping[str, str]) -> Watch:
    """The watch that a query asks for; raises HubError for an unknown consumer group or a bad time."""
    group_to_arm(hub, query.get("consumerGroup") or "$Default")
    start = query.get("start") or "latest"
    if start not in ("latest", "earliest") and parse_iso_ms(start) is None:
        raise HubError(Code.ARGUMENT_INVALID, "start is latest, earliest, or an ISO 8601 date and time")
    return Watch(
        start,
        query.get("deviceId", ""),
        query.get("moduleId", ""),
        query.get("contentType", ""),
        frozenset(query.get("properties", "").split(",")) - {""},
    )


async def watched(log: Log, hub: Hub, watch: Watch) -> AsyncIterator[bytes]:
    """JSON lines of the events, without end; each partition in order."""
    partitions = [Partition(hub.number, number) for number in range(hub.partitions)]
    cursors = {partition: _start(log, partition, watch.start) for partition in partitions}
    grown = asyncio.Event()
    undo = [log.on_growth(partition, grown.set) for partition in partitions]
    try:
        while True:
            grown.clear()
            quiet = True
            for partition in partitions:
                records, cursors[partition] = log.read(partition, cursors[partition], BATCH_EVENTS, BATCH_BYTES)
                quiet = quiet and not records
                for record in records:
                    envelope = decode_envelope(record.envelope)
                    if watch.wants(envelope):
                        yield shown(record, envelope, watch)
            if quiet:
                await grown.wait()
    finally:
        for forget in undo:
            forget()


def shown(record: Record, envelope: Envelope, watch: Watch) -> bytes:
    """One event as a line."""
    event: dict[str, object] = {
        "origin": envelope.device_id,
        "module": envelope.module_id,
        "interface": str(envelope.system.get("iothub-interface-id") or ""),
        "component": str(envelope.system.get("dt-subject") or ""),
        "payload": _payload(record.payload, watch.content_type or str(envelope.system.get("content-type") or "")),
    }
    properties = _properties(record, envelope, watch.properties)
    if properties:
        event["properties"] = properties
    return msgspec.json.encode({"event": event}) + b"\n"


def _start(log: Log, partition: Partition, start: str) -> int:
    if start == "latest":
        return log.seek_end(partition)
    return log.seek_time(partition, 0 if start == "earliest" else parse_iso_ms(start) or 0)


def _payload(payload: bytes, content_type: str) -> object:
    """JSON where the event says so and it is, else text."""
    if "json" in content_type.lower():
        try:
            return msgspec.json.decode(payload)
        except NOT_JSON:
            pass
    return payload.decode("utf-8", "replace")


def _properties(record: Record, envelope: Envelope, kinds: frozenset[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    if kinds & {"sys", "all"} and envelope.system:
        found["system"] = {name.replace("-", "_"): value for name, value in envelope.system.items()}
    if kinds & {"app", "all"} and envelope.properties:
        found["application"] = envelope.properties
    if kinds & {"anno", "all"}:
        found["annotations"] = {
            "iothub-connection-device-id": envelope.device_id,
            "iothub-connection-auth-method": envelope.auth_method,
            "iothub-connection-auth-generation-id": envelope.generation_id,
            "iothub-enqueuedtime": record.ingress_ms,
            "iothub-message-source": envelope.source.value,
            "x-opt-sequence-number": record.sequence,
            "x-opt-offset": str(record.offset),
            "x-opt-enqueued-time": record.enqueued_ms,
        }
    return found
