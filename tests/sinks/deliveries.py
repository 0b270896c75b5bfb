"""Deliveries for tests of sinks: of one hub, one log, and whatever a test says of them."""

from isthmus.routing.sink import Delivery
from isthmus.telemetry.message import Envelope, MessageSource, Properties, encode_envelope
from isthmus.telemetry.ports import Partition, Record

AUTH_METHOD = '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'
INGRESS_MS = 1_557_468_392_722
"""2019-05-10T06:06:32.722Z, the moment of the documentation's example."""


def delivery(
    payload: bytes = b"body",
    *,
    number: int = 0,
    device_id: str = "device-1",
    module_id: str = "",
    source: MessageSource = MessageSource.TELEMETRY,
    model_id: str = "",
    system: Properties | None = None,
    properties: Properties | None = None,
    ingress_ms: int = INGRESS_MS,
) -> Delivery:
    """A message of a device; `number` is its offset."""
    envelope = Envelope(
        device_id=device_id,
        module_id=module_id,
        source=source,
        auth_method=AUTH_METHOD,
        generation_id="636930642531278483",
        model_id=model_id,
        system=system or {},
        properties=properties or {},
    )
    record = Record(Partition(1, 0), -1, number, ingress_ms, ingress_ms, (2,), 0, encode_envelope(envelope), payload)
    return Delivery(record, envelope)


def json_delivery(payload: bytes, encoding: str = "utf-8", content_type: str = "application/json") -> Delivery:
    """A message that says of its body that it is JSON."""
    return delivery(payload, system={"content-type": content_type, "content-encoding": encoding})
