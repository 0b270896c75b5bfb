"""The opening handshake, from a request's headers to the answer's bytes (RFC 6455 §4.2)."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

VERSION = "13"
"""The only version there is (RFC 6455 §4.1)."""

VERSION_HEADER = "Sec-WebSocket-Version"
"""What a refused client is told it by (RFC 6455 §4.2.2)."""

KEY_BYTES = 16
"""Of the nonce in Sec-WebSocket-Key, once decoded (RFC 6455 §4.1)."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 §1.3."""


class HandshakeError(Exception):
    """The request does not open a WebSocket."""


class NoProtocolError(HandshakeError):
    """None of the sub-protocols that the client offers is spoken here; the text is what it offered."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What was agreed on; `answer` is the whole response, the first bytes of the connection."""

    protocol: str
    answer: bytes


def open_server(header: Callable[[str], str], spoken: Collection[str]) -> Opening:
    """Agrees on the first offered sub-protocol that is `spoken`; raises `HandshakeError`, `NoProtocolError`.

    `header` gives a header's value, several of one name joined by commas, and an empty text for none. Extensions are
    not agreed on, whatever is offered.
    """
    if "upgrade" not in _tokens(header("Connection").lower()) or "websocket" not in _tokens(header("Upgrade").lower()):
        raise HandshakeError("the request does not ask for an upgrade to WebSocket")
    if header(VERSION_HEADER).strip() != VERSION:
        raise HandshakeError(f"the version of WebSocket is not {VERSION}")
    key = header("Sec-WebSocket-Key").strip()
    if not _is_key(key):
        raise HandshakeError("Sec-WebSocket-Key is not 16 bytes in Base64")
    offered = header("Sec-WebSocket-Protocol")
    for protocol in _tokens(offered):
        if protocol in spoken:
            return Opening(protocol, _answer(key, protocol))
    raise NoProtocolError(offered)


def accept_of(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _answer(key: str, protocol: str) -> bytes:
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_of(key)}",
        f"Sec-WebSocket-Protocol: {protocol}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _tokens(value: str) -> list[str]:
    return [token.strip() for token in value.split(",")]


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False
