"""Signs shared access signatures (IoT Hub developer guide, "Control access to IoT Hub using SAS")."""

import base64
import binascii
import hashlib
import hmac
from urllib.parse import quote

PREFIX = "SharedAccessSignature "


def sign(resource: str, key: str, expires_s: int, policy: str = "") -> str:
    """Makes a token over `resource` (`{host}`, `{host}/devices/{device}`, …) with a base64 key.

    Raises ValueError when the key is not base64.
    """
    key_bytes = decode_key(key)
    if key_bytes is None:
        raise ValueError("the key is not base64")
    encoded = quote(resource, safe="")
    digest = hmac_sha256(key_bytes, f"{encoded}\n{expires_s}".encode())
    token = f"{PREFIX}sr={encoded}&sig={quote(base64.b64encode(digest), safe='')}&se={expires_s}"
    return f"{token}&skn={quote(policy, safe='')}" if policy else token


def decode_key(key: str) -> bytes | None:
    """The bytes of a base64 key, or None for an empty one or no base64."""
    try:
        decoded = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded or None


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104)."""
    return hmac.digest(key, message, hashlib.sha256)
