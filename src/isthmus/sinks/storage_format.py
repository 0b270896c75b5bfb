"""What a storage container is given: names of blobs, and messages as JSON lines or as Avro.

Forms are those of the IoT Hub documentation: "Use IoT Hub message routing to send device-to-cloud messages to Azure
Storage" (names and JSON) and "Query Avro data by using Azure Data Lake Analytics" (the schema). Avro files follow the
Apache Avro specification, "Object Container Files". Both forms may be cut behind any block that was appended: a reader
of an unfinished blob finds whole messages only.
"""

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

import fastavro
import msgspec

from isthmus.base.clock import iso_utc
from isthmus.base.errors import NOT_JSON
from isthmus.resources.routing_endpoint import BlobEncoding, StorageSettings
from isthmus.routing.sink import Delivery
from isthmus.routing.subject import body_encoding
from isthmus.sinks.property_text import property_text

SCHEMA: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Message",
        "namespace": "Microsoft.Azure.Devices",
        "fields": [
            {"name": "EnqueuedTimeUtc", "type": "string"},
            {"name": "Properties", "type": {"type": "map", "values": "string"}},
            {"name": "SystemProperties", "type": {"type": "map", "values": "string"}},
            {"name": "Body", "type": ["null", "bytes"]},
        ],
    }
)
SYSTEM_NAMES: Final = (
    ("message-id", "messageId"),
    ("user-id", "userId"),
    ("content-type", "contentType"),
    ("content-encoding", "contentEncoding"),
    ("correlation-id", "correlationId"),
    ("dt-subject", "dt-subject"),
)
"""System properties of senders, as an envelope has them and as blobs do."""

_PART: Final = re.compile(r"\{(iothub|partition|YYYY|MM|DD|HH|mm)\}")
_SUFFIXES: Final = {BlobEncoding.JSON: ".json", BlobEncoding.AVRO: ".avro", BlobEncoding.AVRO_DEFLATE: ".avro"}
_RAW_DEFLATE: Final = -15
"""Window of deflate without the header and checksum of zlib (Avro specification, "deflate")."""


class BlobFormat(Protocol):
    """How messages become bytes of one blob."""

    header: bytes
    """What the blob begins with."""

    def encode(self, delivery: Delivery) -> bytes:
        """One message."""

    def block(self, messages: Sequence[bytes]) -> bytes:
        """Encoded messages as bytes to append."""


class Piece(NamedTuple):
    """Consecutive messages that are appended at once."""

    messages: list[bytes]
    size: int


def blob_name(settings: StorageSettings, hub: str, *, partition: int, utc_ms: int, clash: int = 0) -> str:
    """The name of a blob begun at a moment; `clash` counts those of the same minute before it.

    Names of one minute are in the order of their blobs, because `_` comes after the dot.
    """
    moment = datetime.fromtimestamp(utc_ms / 1000, UTC)
    parts = {
        "iothub": hub,
        "partition": f"{partition:02d}",
        "YYYY": f"{moment.year:04d}",
        "MM": f"{moment.month:02d}",
        "DD": f"{moment.day:02d}",
        "HH": f"{moment.hour:02d}",
        "mm": f"{moment.minute:02d}",
    }
    rendered = _PART.sub(lambda part: parts[part[1]], settings.file_name_format)
    return f"{rendered}{f'_{clash:03d}' if clash else ''}{_SUFFIXES[settings.encoding]}"


def blob_format(encoding: BlobEncoding, marker: bytes) -> BlobFormat:
    """The format of a new blob; `marker` is of 16 bytes that no other blob has."""
    if encoding is BlobEncoding.JSON:
        return JsonLines()
    return AvroFile(marker, deflated=encoding is BlobEncoding.AVRO_DEFLATE)


def pieces(messages: Sequence[bytes], size_max: int) -> Iterator[Piece]:
    """Cuts messages into pieces of at most `size_max` bytes, or of one message that is larger."""
    taken: list[bytes] = []
    size = 0
    for message in messages:
        if taken and size + len(message) > size_max:
            yield Piece(taken, size)
            taken, size = [], 0
        taken.append(message)
        size += len(message)
    if taken:
        yield Piece(taken, size)


class JsonLines:
    """One JSON object a line.

    The body stands as JSON where its content type and encoding say that it is JSON in UTF-8, and it is; in base64
    otherwise. Numbers and the order of names stay as they were sent.
    """

    header = b""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._check = msgspec.json.Decoder(msgspec.Raw).decode

    def encode(self, delivery: Delivery) -> bytes:
        return self._encode(
            _Line(
                iso_utc(delivery.record.ingress_ms),
                properties(delivery),
                system_properties(delivery),
                self._body(delivery),
            )
        )

    def block(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join((*messages, b""))

    def _body(self, delivery: Delivery) -> msgspec.Raw | bytes:
        payload, system = delivery.record.payload, delivery.envelope.system
        content_type, content_encoding = (
            property_text(system.get(name)) for name in ("content-type", "content-encoding")
        )
        if body_encoding(content_type, content_encoding) != "utf-8":
            return payload
        try:
            payload.decode()
            self._check(payload)
        except NOT_JSON:
            return payload
        # JSON has line breaks between its tokens only, where a space means the same.
        return msgspec.Raw(payload.replace(b"\r", b" ").replace(b"\n", b" "))


class _Line(msgspec.Struct, rename="pascal"):
    enqueued_time_utc: str
    properties: dict[str, str]
    system_properties: dict[str, str]
    body: msgspec.Raw | bytes


class AvroFile:
    """An Avro object container file, one record a message, one block an append."""

    def __init__(self, marker: bytes, *, deflated: bool) -> None:
        self._marker = marker
        self._deflated = deflated
        begin = io.BytesIO()
        fastavro.writer(begin, SCHEMA, [], codec="deflate" if deflated else "null", sync_marker=marker)
        self.header = begin.getvalue()

    def encode(self, delivery: Delivery) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(
            out,
            SCHEMA,
            {
                "EnqueuedTimeUtc": iso_utc(delivery.record.ingress_ms),
                "Properties": properties(delivery),
                "SystemProperties": system_properties(delivery),
                "Body": delivery.record.payload,
            },
        )
        return out.getvalue()

    def block(self, messages: Sequence[bytes]) -> bytes:
        data = b"".join(messages)
        if self._deflated:
            data = zlib.compress(data, wbits=_RAW_DEFLATE)
        return b"".join((_long(len(messages)), _long(len(data)), data, self._marker))


def properties(delivery: Delivery) -> dict[str, str]:
    """Application properties, enrichments among them."""
    return {name: property_text(value) for name, value in delivery.envelope.properties.items()}


def system_properties(delivery: Delivery) -> dict[str, str]:
    """What the sender and the hub say of a message, in the words of blobs."""
    envelope = delivery.envelope
    values = {wire: property_text(envelope.system[name]) for name, wire in SYSTEM_NAMES if name in envelope.system}
    hub = {
        "connectionDeviceId": envelope.device_id,
        "connectionModuleId": envelope.module_id,
        "connectionAuthMethod": envelope.auth_method,
        "connectionDeviceGenerationId": envelope.generation_id,
        "dt-dataschema": envelope.model_id,
        "enqueuedTime": iso_utc(delivery.record.ingress_ms),
    }
    return values | {name: value for name, value in hub.items() if value}


def _long(number: int) -> bytes:
    """A count as Avro's variable-length zig-zag (Avro specification, "Binary encoding")."""
    rest = number << 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
