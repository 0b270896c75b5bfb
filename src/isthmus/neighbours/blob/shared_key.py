"""Shared Key: the text that a request's signature is over ("Authorize with Shared Key").

The service sorts `x-ms-` headers by a culture's rules, in which a dash weighs next to nothing; some clients do so,
others sort by bytes. Both are right as far as their own signature is concerned, so both texts are tried.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

from isthmus.base.sas_token import decode_key, hmac_sha256

PREFIX = "SharedKey "

SKEW_SECONDS = 900
"""How far the date of a signed request may be from now."""

_SIGNED_HEADERS = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SharedKey:
    """What an Authorization header says: whose key, and the signature."""

    account: str
    signature: bytes = field(repr=False)


def parse_shared_key(text: str) -> SharedKey | None:
    """Reads an Authorization header; None when it is no Shared Key."""
    if not text.startswith(PREFIX):
        return None
    account, separator, signature = text[len(PREFIX) :].strip().partition(":")
    decoded = decode_signature(signature)
    return SharedKey(account, decoded) if separator and decoded else None


def decode_signature(text: str) -> bytes:
    """The bytes of a signature; none for what is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def signed_texts(
    verb: str, headers: Mapping[str, str], account: str, raw_path: str, query: Mapping[str, str]
) -> tuple[str, ...]:
    """The texts that a client may have signed; names of `headers` and `query` are in small letters."""
    plain = {name: headers.get(name, "") for name in _SIGNED_HEADERS}
    if plain["content-length"] == "0":
        plain["content-length"] = ""
    if "x-ms-date" in headers:
        plain["date"] = ""
    above = "\n".join((verb, *plain.values()))
    resource = f"/{account}{raw_path or '/'}" + "".join(f"\n{name}:{query[name]}" for name in sorted(query))
    names = [name for name in headers if name.startswith("x-ms-")]
    orders = dict.fromkeys((tuple(sorted(names, key=_weight)), tuple(sorted(names))))
    return tuple(
        f"{above}\n" + "".join(f"{name}:{headers[name].strip()}\n" for name in order) + resource for order in orders
    )


def is_recent(headers: Mapping[str, str], now_ms: int) -> bool:
    """True when the request's date is of now, so that nobody can repeat it for long."""
    try:
        said = parsedate_to_datetime(headers.get("x-ms-date") or headers.get("date", ""))
        seconds = (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return False
    return abs(now_ms / 1000 - seconds) <= SKEW_SECONDS


def signing_key(texts: Sequence[str], signature: bytes, keys: Sequence[str]) -> int | None:
    """The place of the key whose signature it is; None for none. Every key and text is tried, whatever fits."""
    found: int | None = None
    for place, key in enumerate(keys):
        key_bytes = decode_key(key)
        for text in texts:
            expected = hmac_sha256(key_bytes or b"\0", text.encode("utf-8", "surrogateescape"))
            if hmac.compare_digest(expected, signature) and key_bytes is not None and found is None:
                found = place
    return found


def _weight(name: str) -> tuple[str, str]:
    """Letters and digits first, without dashes; of names that are the same then, the one with the later dash."""
    shape = "".join("2" if character == "-" else "1" for character in name)
    return name.replace("-", "").replace("_", "!"), shape
