"""Messages as frames: four bytes of length, big-endian, then that many bytes of JSON."""

from typing import Final

import msgspec

from isthmus.base.errors import NOT_JSON
from isthmus.wire.link.messages import (
    Certificate,
    Check,
    ConnectorMessage,
    Drain,
    Enrol,
    Hello,
    HubMessage,
    Ping,
    Pong,
    Refused,
    Renew,
    Result,
    Setup,
    Status,
)

FRAME_BYTES_MAX: Final = 262_144
"""Of a frame's JSON: a setup with `ENDPOINTS_MAX` endpoints and their names fits."""

_LENGTH_BYTES: Final = 4


class LinkProtocolError(Exception):
    """The other side broke a rule of the link protocol; the text says which."""


def encode_message(message: ConnectorMessage | HubMessage) -> bytes:
    """A message as a frame; raises ValueError where it is too large."""
    body = _encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def decode_connector_message(body: bytes) -> ConnectorMessage:
    """What a connector says; raises `LinkProtocolError`."""
    try:
        message: ConnectorMessage = _decode_connector(body)
    except NOT_JSON as error:
        raise LinkProtocolError(f"no message of a connector: {error}") from error
    return message


def decode_hub_message(body: bytes) -> HubMessage:
    """What a hub says; raises `LinkProtocolError`."""
    try:
        message: HubMessage = _decode_hub(body)
    except NOT_JSON as error:
        raise LinkProtocolError(f"no message of a hub: {error}") from error
    return message


class FrameReader:
    """Cuts what comes into frames; holds one frame that is not whole at most."""

    __slots__ = ("_held", "_position")

    def __init__(self) -> None:
        self._held = bytearray()
        self._position = 0

    @property
    def held(self) -> int:
        """Bytes received that no frame has used yet."""
        return len(self._held) - self._position

    def feed(self, data: bytes) -> None:
        """Takes a read."""
        del self._held[: self._position]
        self._position = 0
        self._held += data

    def frame(self) -> bytes | None:
        """The next frame's JSON, None when it is not whole; raises `LinkProtocolError` where it is too large."""
        start = self._position + _LENGTH_BYTES
        if len(self._held) < start:
            return None
        length = int.from_bytes(self._held[self._position : start], "big")
        if not 0 < length <= FRAME_BYTES_MAX:
            raise LinkProtocolError(f"a frame of {length} bytes; 1 to {FRAME_BYTES_MAX} are allowed")
        if len(self._held) < start + length:
            return None
        self._position = start + length
        return bytes(self._held[start : self._position])


_encode = msgspec.json.Encoder().encode
_decode_connector = msgspec.json.Decoder(Hello | Ping | Renew | Status | Result | Enrol).decode
_decode_hub = msgspec.json.Decoder(Setup | Pong | Certificate | Drain | Refused | Check).decode
