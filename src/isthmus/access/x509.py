"""Certificates proved by thumbprint: a small pure function of the leaf's DER bytes.

An identity of type `selfSigned` names up to two thumbprints, SHA-1 (40 hex digits) or SHA-256 (64); neither the chain
nor the dates are looked at (IoT Hub developer guide, "Authenticate with X.509 certificates").
"""

import hashlib
import hmac
import re
from collections.abc import Sequence

THUMBPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
"""A thumbprint in normal form."""

_SEPARATORS = re.compile(r"[:\s-]")

DUMMY_THUMBPRINT = "0" * 64
"""Is compared where there is no thumbprint, so that a stranger cannot tell by the work that is done."""


def normal_thumbprint(text: str) -> str:
    """Upper-case hex without colons, dashes and blanks; other text is kept as it is and matches nothing."""
    return _SEPARATORS.sub("", text).upper()


def thumbprints_of(leaf: bytes) -> tuple[str, str]:
    """SHA-1 and SHA-256 of a certificate's DER, in normal form."""
    sha1 = hashlib.sha1(leaf, usedforsecurity=False).hexdigest()
    return sha1.upper(), hashlib.sha256(leaf).hexdigest().upper()


def matching_thumbprint(leaf: bytes, configured: Sequence[str]) -> str | None:
    """The configured thumbprint (normal form) that the certificate has, or None; each is compared with both hashes."""
    shown = thumbprints_of(leaf)
    found: str | None = None
    for text in configured:
        wanted = normal_thumbprint(text)
        usable = THUMBPRINT.fullmatch(wanted) is not None
        compared = wanted if usable else DUMMY_THUMBPRINT
        same = [hmac.compare_digest(compared, thumbprint) for thumbprint in shown]
        if usable and any(same) and found is None:
            found = wanted
    return found


def fingerprint(secret: str) -> str:
    """The first 16 hex digits of the SHA-256 of a key's or thumbprint's text: tells credentials apart, reveals none."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]
