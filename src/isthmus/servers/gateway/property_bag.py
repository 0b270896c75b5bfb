"""The property bag of a topic: `key=value` pairs joined by `&`, both sides percent-encoded.

System properties travel under `$.` keys, which devices write as `$.mid` or `%24.mid`; inside they have the canonical
names of `telemetry.message.Envelope.system`. A bag that is not well formed is refused whole and never read in part
(IoT Hub developer guide, "Use the MQTT protocol directly"): an undecodable escape, text that is not UTF-8, or a
character raw that a URI reserves for its structure, which includes the raw `:` and `/` a real hub disconnects for.
Characters that a client library in use leaves raw (`$ ! ' ( ) * , ;` and `+`, which is no space) are taken.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from isthmus.base.clock import parse_iso_ms
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.telemetry.message import PropertyValue

SYSTEM_NAMES: Mapping[str, str] = {
    "$.mid": "message-id",
    "$.cid": "correlation-id",
    "$.uid": "user-id",
    "$.to": "to",
    "$.ct": "content-type",
    "$.ce": "content-encoding",
    "$.exp": "absolute-expiry-time",
    "$.ctime": "creation-time",
    "$.sub": "dt-subject",
    "$.ifid": "iothub-interface-id",
    "$.schema": "iothub-message-schema",
    "$.diagid": "Diagnostic-Id",
    "$.diagctx": "Correlation-Context",
}
"""Keys of a device's bag and the canonical names they stand for."""

DEVICEBOUND_KEYS: Mapping[str, str] = {
    "message-id": "%24.mid",
    "correlation-id": "%24.cid",
    "user-id": "%24.uid",
    "to": "%24.to",
    "absolute-expiry-time": "%24.exp",
    "content-type": "%24.ct",
    "content-encoding": "%24.ce",
}
"""Canonical names that a device is told, in the order of the bag, and their keys as clients search for them."""

SPOOFABLE = frozenset({"$.cdid", "$.cmid"})
"""Say on whose behalf a message comes; a device cannot be believed in that, so they are dropped."""

TIMES = frozenset({"absolute-expiry-time", "creation-time"})

RESERVED = re.compile(r"[:/?#\[\]@]")
"""`gen-delims` of RFC 3986 §2.2."""

BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class PropertyBag:
    """What a bag says: system properties under their canonical names, times in ms, and application properties."""

    system: dict[str, PropertyValue] = field(default_factory=dict)
    properties: dict[str, PropertyValue] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that count for the message size: system values, application names and values; a time counts 8."""
        values = sum(_size(value) for value in self.system.values())
        return values + sum(_size(name) + _size(value) for name, value in self.properties.items())


def decode_bag(text: str) -> PropertyBag:
    """Reads the bag of a telemetry topic, without the slash that may follow it.

    `key` alone is null and `key=` empty; an empty pair says nothing; of equal keys the last counts. Raises `HubError`
    with the refusal `contract.property-bag`.
    """
    bag = PropertyBag()
    for pair in text.split("&"):
        if not pair:
            continue
        raw_key, equals, raw_value = pair.partition("=")
        key = _decode(raw_key)
        value = _decode(raw_value) if equals else None
        if not key:
            raise _refused(pair, "Give every property a name.")
        if key in SPOOFABLE:
            continue
        name = SYSTEM_NAMES.get(key)
        if name is None:
            bag.properties[key] = value
        elif value is not None:
            bag.system[name] = _time(pair, value) if name in TIMES else value
    return bag


def encode_bag(pairs: Iterable[tuple[str, PropertyValue]]) -> str:
    """Writes application properties as a bag; null is `key` alone."""
    return "&".join(
        quote(key, safe="") if value is None else f"{quote(key, safe='')}={encode_value(value)}" for key, value in pairs
    )


def encode_value(value: PropertyValue) -> str:
    """A value as it stands behind the `=`: its text percent-encoded, with `%20` for space."""
    return quote(text_of(value), safe="")


def text_of(value: PropertyValue) -> str:
    """A value as text for protocols that carry nothing else; bytes as base64."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def _decode(raw: str) -> str:
    if "=" in raw or RESERVED.search(raw) or BROKEN_ESCAPE.search(raw):
        raise _refused(raw, "Percent-encode names and values of properties.")
    if "%" not in raw:
        return raw
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise _refused(raw, "Percent-encode the UTF-8 bytes of names and values.") from error


def _time(pair: str, text: str) -> int:
    moment = parse_iso_ms(text)
    if moment is None:
        raise _refused(pair, "Write times as ISO 8601 in UTC, as in 2026-01-01T00:00:00Z.")
    return moment


def _size(value: PropertyValue) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    return 0 if value is None else 8


def _refused(value: str, remedy: str) -> HubError:
    refusal = Refusal(Hop.CONTRACT, "contract.property-bag", value[:256], remedy)
    return HubError(Code.ARGUMENT_INVALID, "The property bag is not well formed", refusal)
