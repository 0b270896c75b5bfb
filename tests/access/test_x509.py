"""Certificates by thumbprint."""

import hashlib

import pytest

from isthmus.access.x509 import fingerprint, matching_thumbprint, normal_thumbprint, thumbprints_of

LEAF = b"the DER of a certificate"
SHA1 = hashlib.sha1(LEAF).hexdigest()
SHA256 = hashlib.sha256(LEAF).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


def with_colons(text: str) -> str:
    return ":".join(text[place : place + 2] for place in range(0, len(text), 2))


@pytest.mark.parametrize(
    "configured", [SHA1, SHA256, SHA1.upper(), with_colons(SHA256).upper(), with_colons(SHA1).replace(":", "-")]
)
def test_either_hash_in_any_spelling_matches(configured: str) -> None:
    assert matching_thumbprint(LEAF, (OTHER, configured)) == normal_thumbprint(configured)


@pytest.mark.parametrize("configured", [OTHER, "", SHA1[:-1], SHA256 + "00", "0" * 64, "g" * 40])
def test_everything_else_does_not(configured: str) -> None:
    assert matching_thumbprint(LEAF, (configured, "")) is None


def test_both_hashes_are_upper_case_hex() -> None:
    assert thumbprints_of(LEAF) == (SHA1.upper(), SHA256.upper())


def test_a_fingerprint_reveals_nothing_of_the_key() -> None:
    assert fingerprint("key") == hashlib.sha256(b"key").hexdigest()[:16]
