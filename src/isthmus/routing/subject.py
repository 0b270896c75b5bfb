"""A message as conditions see it ("IoT Hub message routing query syntax"): names in any case, values as text."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from isthmus.base.clock import iso_utc
from isthmus.base.errors import NOT_JSON
from isthmus.telemetry.message import Envelope, PropertyValue

JSON_TYPE = "application/json"

ENCODINGS: Mapping[str, str] = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""Content encodings of bodies that can be asked, and how Python calls them; those of several bytes little-endian."""

SYSTEM_NAMES: Mapping[str, str] = {
    "contenttype": "content-type",
    "contentencoding": "content-encoding",
    "messageid": "message-id",
    "correlationid": "correlation-id",
    "userid": "user-id",
    "to": "to",
    "dt-subject": "dt-subject",
}
"""Names in conditions, in small letters, and in an envelope."""

_CHARSET = re.compile(r"\s*;\s*charset\s*=\s*\"?([^\s;\"]+)\"?\s*", re.IGNORECASE)
_UNREAD: Final = object()


class RoutedMessage:
    """One message on its way into the log, asked by conditions; its body is parsed once, and only when it is asked."""

    __slots__ = ("_body", "_envelope", "_ingress_ms", "_payload", "_properties", "_twin")

    def __init__(
        self, envelope: Envelope, payload: bytes, ingress_ms: int, twin: Mapping[str, object] | None = None
    ) -> None:
        self._envelope = envelope
        self._payload = payload
        self._ingress_ms = ingress_ms
        self._twin = twin
        self._properties = {name.lower(): value for name, value in envelope.properties.items()}
        self._body: object = _UNREAD

    def application_property(self, name: str) -> str | None:
        """An application property's text."""
        return _text(self._properties.get(name))

    def system_property(self, name: str) -> str | None:
        """A system property's text; the message source is none of them."""
        envelope = self._envelope
        if name in SYSTEM_NAMES:
            return _text(envelope.system.get(SYSTEM_NAMES[name]))
        match name:
            case "enqueuedtime":
                return iso_utc(self._ingress_ms)
            case "connectiondeviceid":
                return envelope.device_id
            case "connectionmoduleid":
                return envelope.module_id or None
            case "connectiondevicegenerationid":
                return envelope.generation_id or None
            case "connectionauthmethod":
                return envelope.auth_method or None
            case "dt-dataschema":
                return envelope.model_id or None
            case "creation-time-utc":
                created = envelope.system.get("creation-time")
                return iso_utc(created) if isinstance(created, int) else None
            case _:
                return None

    def body(self) -> Mapping[str, object] | None:
        """The body where it is a JSON object by its content type, encoding and bytes."""
        if self._body is _UNREAD:
            self._body = self._parsed()
        return self._body if isinstance(self._body, dict) else None

    def twin(self) -> Mapping[str, object] | None:
        """The sender's twin as it was last committed: a module's own where a module sent."""
        return self._twin

    def _parsed(self) -> object:
        system = self._envelope.system
        encoding = body_encoding(_text(system.get("content-type")), _text(system.get("content-encoding")))
        if encoding is None:
            return None
        try:
            text = self._payload if encoding == "utf-8" else self._payload.decode(encoding)
            return msgspec.json.decode(text)
        except NOT_JSON:
            return None


def body_encoding(content_type: str | None, content_encoding: str | None) -> str | None:
    """How a body is decoded that conditions may ask, by Python's name; None for one that they may not.

    The charset may also stand in the content type.
    """
    if content_type is None or not content_type.lower().startswith(JSON_TYPE):
        return None
    parameters = content_type[len(JSON_TYPE) :]
    charset = _CHARSET.fullmatch(parameters)
    if parameters.strip() and charset is None:
        return None
    named = charset[1] if charset is not None else content_encoding or ""
    return ENCODINGS.get(named.lower())


def _text(value: PropertyValue) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
