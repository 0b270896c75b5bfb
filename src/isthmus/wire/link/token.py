"""The enrolment token: all that a connector needs to find its hub, to trust it, and to be let in once.

Its text is `isthmus-enrol-1.` and behind it a JSON object as base64url without padding: it survives shells, YAML files
and environment variables. The secret is the only part that is one; a hub stores its hash. What else stands there the
hub does not believe: it has a record of its own of each token.
"""

import base64
import binascii
from typing import Annotated, Final

import msgspec
from msgspec import Meta

PREFIX: Final = "isthmus-enrol-1."

TOKEN_CHARACTERS_MAX: Final = 8_192
"""Of a token's text: addresses of a hub are few."""

HUBS_MAX: Final = 16


class TokenError(Exception):
    """The text is no enrolment token; the message never repeats it."""


class EnrolmentToken(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says."""

    secret: Annotated[str, Meta(min_length=22, max_length=128)]
    """At least 128 random bits, as base64url."""
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    """The connector's."""
    network: Annotated[str, Meta(max_length=256)]
    """The virtual network that the connector is present in; for people."""
    hubs: Annotated[tuple[str, ...], Meta(min_length=1, max_length=HUBS_MAX)]
    """Where the link door is, each `host:port`, tried in this order."""
    tls_name: Annotated[str, Meta(min_length=1, max_length=255)]
    """The name that the hub's certificate must be for."""
    ca_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the hub's CA certificate (DER), in lower-case hexadecimal; the hub sends that certificate in TLS."""
    expires: Annotated[int, Meta(ge=0)]
    """Seconds since 1970-01-01 UTC."""

    def __repr__(self) -> str:
        return f"EnrolmentToken(name={self.name!r}, hubs={self.hubs!r}, secret=…)"


def encode_token(token: EnrolmentToken) -> str:
    """The token's text."""
    return PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def parse_token(text: str) -> EnrolmentToken:
    """What a text says; white space around it is allowed. Raises `TokenError`."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > TOKEN_CHARACTERS_MAX:
        raise TokenError(f"an enrolment token begins with {PREFIX} and is printed by `isthmus connector enrol`")
    body = text[len(PREFIX) :]
    try:
        decoded = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(decoded, type=EnrolmentToken)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError, RecursionError):
        # Without the cause: it may repeat a part of the secret.
        raise TokenError("the enrolment token was cut or changed on the way here: copy it again") from None
