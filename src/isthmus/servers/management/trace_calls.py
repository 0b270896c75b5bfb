"""The management call that follows a message: `POST /trace`, for a record that was found in the log.

What a record says of its way in stands in it: door, principal, partition, offset. Where it goes stands in it as well,
by the numbers of endpoints. What became of it there is told by how far each endpoint has been served, by its health,
and by the dead-letter log. Routes are judged as they are now, with the sender's twin of now; one that was changed since
may have been another one then.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

from isthmus.base.clock import iso_utc
from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.resources.hub import EVENTS_ENDPOINT, Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.routing_endpoint import RoutingEndpoint
from isthmus.routing.dead_letters import DeadLetters
from isthmus.routing.diagnosis import diagnose
from isthmus.routing.ledger import Delivered, Ledger
from isthmus.routing.route import ROUTE_SOURCES
from isthmus.routing.subject import RoutedMessage
from isthmus.routing.trial import routes_taken
from isthmus.servers.management.request import Call, Reply
from isthmus.telemetry.message import Envelope, decode_envelope
from isthmus.telemetry.ports import EVENTS

Json = dict[str, object]

ENDPOINTS_MAX = 64
"""Endpoints that a record may name; a hub has fewer."""


class Traced(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A record as it was found; `envelope` and `payload` are base64, the latter empty where it is very large."""

    stream: int
    partition: int
    offset: int
    sequence: int
    enqueued_ms: int
    ingress_ms: int
    endpoints: Annotated[tuple[int, ...], msgspec.Meta(max_length=ENDPOINTS_MAX)]
    envelope: str
    payload: str
    bytes: int


class Twins(Protocol):
    """Twins as routes are judged by; `devices.twin_snapshots.TwinSnapshots`."""

    async def read(self, ref: DeviceRef) -> Mapping[str, object] | None:
        """The twin, with `tags` and `properties`."""


@dataclass(frozen=True, slots=True)
class TraceCalls:
    """Answers the call; on the event loop only."""

    hubs: Hubs
    twins: Twins
    ledger: Ledger
    dead_letters: DeadLetters

    async def answer(self, call: Call) -> Reply:
        """What is known of a record, null for one of no hub; raises HubError ArgumentInvalid."""
        try:
            record = msgspec.json.decode(call.body, type=Traced)
            envelope = decode_envelope(base64.b64decode(record.envelope, validate=True))
            payload = base64.b64decode(record.payload, validate=True)
        except (*NOT_JSON, ValueError) as error:
            raise HubError(Code.ARGUMENT_INVALID, f"The record is not valid: {error}") from error
        hub = self.hubs.by_number(HubId(record.stream))
        if hub is None:
            return Reply(value=None)
        return Reply(value=await self._told(hub, record, envelope, payload))

    async def _told(self, hub: Hub, record: Traced, envelope: Envelope, payload: bytes) -> Json:
        names = {number: await self._delivery(hub, record, number) for number in record.endpoints}
        return {
            "messageId": envelope.system.get("message-id"),
            "correlationId": envelope.system.get("correlation-id"),
            "hub": hub.name,
            "source": envelope.source.value,
            "device": f"{envelope.device_id}/{envelope.module_id}" if envelope.module_id else envelope.device_id,
            "door": envelope.door,
            "identity": envelope.principal,
            "authentication": _authentication(envelope),
            "ingressTime": iso_utc(record.ingress_ms),
            "enqueuedTime": iso_utc(record.enqueued_ms),
            "partition": record.partition,
            "offset": record.offset,
            "sequenceNumber": record.sequence if record.sequence >= 0 else None,
            "bytes": record.bytes,
            "routes": await self._routes(hub, record, envelope, payload),
            "deliveries": list(names.values()),
        }

    async def _routes(self, hub: Hub, record: Traced, envelope: Envelope, payload: bytes) -> list[str]:
        source = ROUTE_SOURCES.get(envelope.source)
        if source is None:
            return []
        twin = await self.twins.read(DeviceRef(hub.number, envelope.device_id, envelope.module_id))
        message = RoutedMessage(envelope, payload, record.ingress_ms, twin)
        return [route.name for route in routes_taken(hub, source, message)]

    async def _delivery(self, hub: Hub, record: Traced, number: int) -> Json:
        """How one endpoint does with the record: its state, and the sink's answer or what is known instead."""
        if number == EVENTS:
            answer = f"readers find it by sequence number {record.sequence}"
            return _shown(EVENTS_ENDPOINT, "builtIn", f"{hub.host_name}/{hub.name}", "readable", answer)
        endpoint = next((each for each in hub.endpoints if each.number == number), None)
        if endpoint is None:
            return _shown("", "", "", "deleted", f"the endpoint {number} was deleted since")
        state, answer = await self._became(hub, record, endpoint, self.ledger.page(hub.number, number))
        return _shown(endpoint.name, endpoint.kind.value, f"{endpoint.host}/{endpoint.entity}", state, answer)

    async def _became(
        self, hub: Hub, record: Traced, endpoint: RoutingEndpoint, page: Delivered | None
    ) -> tuple[str, str]:
        if page is None:
            return "unknown", "nothing is known of the endpoint yet"
        if record.offset >= page.cursors.get(record.partition, page.start):
            return "waiting", _why_waiting(endpoint, page)
        found = await self.dead_letters.find(hub.number, endpoint.number, (record.partition, record.offset))
        if found is None:
            return "delivered", "the target has said that it is durable there"
        buried, is_there = found
        code = f" ({buried.letter.code})" if buried.letter.code else ""
        reason = f"{buried.letter.reason}{code}, {iso_utc(buried.letter.buried_ms)[:19]}Z"
        if is_there:
            return "dead-letter", f"number {buried.number}: {reason}"
        return "re-driven or purged", f"it was the dead letter {buried.number}: {reason}"


def _why_waiting(endpoint: RoutingEndpoint, page: Delivered) -> str:
    health = page.health
    if not health.failures:
        return "it is among the next"
    found = diagnose(endpoint, health.last_kind)
    code = f" ({health.last_code})" if health.last_code else ""
    return f"{found.sentence}: {health.last_reason}{code}"


def _authentication(envelope: Envelope) -> object:
    try:
        return msgspec.json.decode(envelope.auth_method) if envelope.auth_method else None
    except NOT_JSON:
        return envelope.auth_method


def _shown(name: str, kind: str, target: str, state: str, answer: str) -> Json:
    return {"endpoint": name, "type": kind, "target": target, "state": state, "answer": answer}
