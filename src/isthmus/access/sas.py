"""Shared access signatures: parse, verify, and what a token covers; `base.sas_token` signs.

The signature is checked over the `sr` text exactly as it was received: clients differ in how they percent-encode it,
and encoding it again would break half of them (IoT Hub developer guide, "Control access to IoT Hub using SAS").
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from isthmus.access.refusals import unauthorized
from isthmus.base.hosts import is_unnamed, normal_host
from isthmus.base.sas_token import PREFIX, decode_key, hmac_sha256

TOKEN_CHARACTERS_MAX = 4_096
"""A token; the longest resource (host, device, module, all encoded twice) with a signature stays below half of it."""

DEVICE_SKEW_SECONDS = 300
"""How far a device's clock may be behind when it connects (IoT Hub error reference, 401003)."""

SERVICE_SKEW_SECONDS = 0
"""A service's token is refused as soon as `se` is past."""

KeyForm = Callable[[str], bytes | None]
"""The bytes of a key that sign; None when it has none."""

DUMMY_KEY = b"\0" * 32
"""Signs what has no key, so that a stranger cannot tell by the work that is done."""

Hmac = Callable[[bytes, bytes], bytes]
"""Key and message to digest; injected so that a test can count the calls."""

_EXPIRY = re.compile(r"[0-9]{1,15}")
_SCHEME = re.compile(r"(?:sb|https?|amqps?|mqtts?|wss?)://", re.IGNORECASE)
_FIELDS = frozenset({"sr", "sig", "se", "skn"})


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource a token or an audience names: the normal host, and the path's segments, decoded once."""

    host: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SasToken:
    """A token as received: `signed` is the text under the signature, `policy` is empty for an identity's own key."""

    resource: Resource
    signed: bytes
    signature: bytes = field(repr=False)
    expires_s: int
    policy: str


def parse(text: str) -> SasToken:
    """Reads a token whose fields stand in any order; unknown fields are ignored, an empty `skn` counts as absent.

    Raises HubError with rule `auth.malformed` for everything that is not a token, and nothing else.
    """
    fields = _fields(text)
    signature = _signature_bytes(fields["sig"])
    if not _EXPIRY.fullmatch(fields["se"]):
        raise unauthorized("auth.malformed", "se is not Unix seconds", "write se as decimal seconds since 1970 UTC")
    return SasToken(
        resource=resource_of(fields["sr"]),
        signed=f"{fields['sr']}\n{fields['se']}".encode("utf-8", "surrogatepass"),
        signature=signature,
        expires_s=int(fields["se"]),
        policy=unquote(fields.get("skn", "")),
    )


def matching_key(
    token: SasToken, keys: Sequence[str], digest: Hmac = hmac_sha256, *, forms: Sequence[KeyForm] | None = None
) -> str | None:
    """The key that signed the token, or None; always one HMAC per key and form, a dummy where a key has no bytes.

    `keys` is a primary and a secondary key, so the work is the same whichever of them fits, and when none does. `forms`
    says which bytes of a key may sign, the base64-decoded ones unless said otherwise.
    """
    found: str | None = None
    for key in keys:
        for form in forms or (decode_key,):
            key_bytes = form(key)
            expected = digest(DUMMY_KEY if key_bytes is None else key_bytes, token.signed)
            if hmac.compare_digest(expected, token.signature) and key_bytes is not None and found is None:
                found = key
    return found


def key_text(key: str) -> bytes | None:
    """A key's own characters, as Event Hubs SDKs sign with them; None for an empty key."""
    return key.encode() or None


def resource_of(uri: str) -> Resource:
    """The resource of an `sr` or an audience, percent-encoded or not, with or without scheme and port."""
    text = _SCHEME.sub("", unquote(uri).strip(), count=1)
    host, _, path = text.partition("/")
    return Resource(normal_host(host), tuple(segment for segment in path.split("/") if segment))


def names_host(resource: Resource, hosts: Collection[str]) -> bool:
    """True when the resource names one of `hosts` (normal form), or names nobody: an address or `localhost`."""
    return resource.host in hosts or is_unnamed(resource.host)


def covers(scope: Sequence[str], path: Sequence[str]) -> bool:
    """True when `scope` is `path` or lies above it, segment by segment: `a/b` covers `a/b/c`, not `a/bc`.

    Device ids have a case and may have been encoded twice; the first segment, and everything that is not below
    `devices`, has none.
    """
    if len(scope) > len(path):
        return False
    below_devices = bool(path) and path[0].lower() == "devices"
    return all(
        _same(have, want) or ((place == 0 or not below_devices) and have.lower() == want.lower())
        for place, (have, want) in enumerate(zip(scope, path, strict=False))
    )


def names_exactly(scope: Sequence[str], path: Sequence[str]) -> bool:
    """True when `scope` is `path`, or all of it in lower case, as old samples write it."""
    if len(scope) != len(path):
        return False
    return covers(scope, path) or all(have == want.lower() for have, want in zip(scope, path, strict=True))


def _same(have: str, want: str) -> bool:
    return have == want or unquote(have) == want


def _fields(text: str) -> dict[str, str]:
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise unauthorized("auth.malformed", f"{len(text)} characters", f"keep it below {TOKEN_CHARACTERS_MAX}")
    if not text.startswith(PREFIX):
        raise unauthorized("auth.malformed", "no SharedAccessSignature", "send `SharedAccessSignature sr=…&sig=…&se=…`")
    fields: dict[str, str] = {}
    for pair in text[len(PREFIX) :].strip().split("&"):
        name, separator, value = pair.partition("=")
        if name not in _FIELDS:
            continue
        if not separator or name in fields:
            raise unauthorized("auth.malformed", f"{name} has no value or stands twice", "give each field once")
        fields[name] = value
    missing = [name for name in ("sr", "sig", "se") if not fields.get(name)]
    if missing:
        raise unauthorized("auth.malformed", f"without {', '.join(missing)}", "give sr, sig and se")
    return fields


def _signature_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(unquote(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise unauthorized("auth.malformed", "sig is not base64", "percent-encode the base64 of the HMAC") from error
