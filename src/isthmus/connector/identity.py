"""The connector's key and certificate: made here, read here; pure but for the key's randomness."""

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

RENEWAL_SHARE = 2 / 3
"""Of a certificate's life: then a third is left for a hub that is away."""

_URI = re.compile(r"isthmus:connector:(?P<name>[A-Za-z0-9_.-]{1,64}):(?P<link>[0-9]{1,10})")


class IdentityError(Exception):
    """A key or certificate cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Certified:
    """What the connector's certificate says of it."""

    name: str
    link_id: int
    not_after_ms: int


def new_key() -> str:
    """A new private key (ECDSA P-256), PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def certificate_request(key_pem: str, name: str) -> str:
    """A certificate request for the key (PKCS #10), PEM."""
    key = load_pem_private_key(key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def certified(key_pem: str, certificate_pem: str) -> Certified:
    """What the first certificate of a chain says; raises `IdentityError` when it is no connector's or not the key's."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate_pem.encode())
        key = load_pem_private_key(key_pem.encode(), None)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise IdentityError("the key or the certificate is damaged") from error
    if _public(key.public_key()) != _public(leaf.public_key()):
        raise IdentityError("the certificate is another key's")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    found = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if found is None:
        raise IdentityError("the certificate is not a connector's")
    return Certified(found["name"], int(found["link"]), int(leaf.not_valid_after_utc.timestamp() * 1_000))


def renewal_due_ms(obtained_ms: int, not_after_ms: int) -> int:
    """When to ask for the next certificate; both times in milliseconds since 1970."""
    return obtained_ms + int((not_after_ms - obtained_ms) * RENEWAL_SHARE)


def _public(key: object) -> bytes:
    public_bytes = getattr(key, "public_bytes", None)
    if public_bytes is None:
        raise IdentityError("the key is of a kind that signs nothing")
    encoded: bytes = public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
