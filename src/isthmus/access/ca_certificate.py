"""Certificates as the hub reads them: one that an owner registered for his CA, and what a certificate says of itself.

Strangers send certificates, so reading is bounded, and whatever cannot be read is one error. Nothing is fetched: no
address that a certificate names is ever called, and no revocation list is asked for (RFC 5280 §4.2.1.13, §4.2.2.1).
"""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.access.x509 import fingerprint, thumbprints_of

CERTIFICATE_BYTES_MAX = 16_384
"""DER of one certificate; those of devices and authorities have 1 to 3 KB."""

RSA_BITS_MIN = 2_048
RSA_BITS_MAX = 8_192
"""A smaller key of an authority protects nobody; a larger one would let a stranger's connection cost too much."""

NAME_SHOWN_MAX = 160
"""Characters of a subject that are told to the owner."""


class UnreadableCertificateError(ValueError):
    """What should be a certificate is none, or none that could be used; the text says why."""


@dataclass(frozen=True, slots=True)
class CaCertificate:
    """A certificate that devices' certificates may lead up to, by the name that the owner gave it.

    `subject` is the DER of its subject, so that it is found without reading all. Nothing is vouched for before
    `is_verified`. `code` is what a certificate that proves possession of the key must be called, empty while none was
    asked for. `revision` is another one after each change of any certificate of the hub, and makes the etag.
    """

    name: str
    der: bytes = field(repr=False)
    subject: bytes = field(repr=False)
    is_verified: bool
    created_ms: int
    updated_ms: int
    revision: int
    code: str = field(default="", repr=False)

    @property
    def thumbprint(self) -> str:
        """SHA-1 of its DER, upper-case hex."""
        return thumbprints_of(self.der)[0]

    @property
    def fingerprint(self) -> str:
        """`Principal.key_fingerprint` of whoever it vouches for."""
        return fingerprint(thumbprints_of(self.der)[1])


@dataclass(frozen=True, slots=True)
class ReadCertificate:
    """What a certificate says of itself.

    `name` is its subject for the owner's eyes, `common_name` empty unless there is exactly one. `trouble` says what
    keeps it out of any chain, empty for nothing. `signs` and `authenticates` are what it may be used for: to sign
    certificates, to prove a client (RFC 5280 §4.2.1.3, §4.2.1.9, §4.2.1.12).
    """

    certificate: x509.Certificate
    subject: bytes
    issuer: bytes
    name: str
    issuer_name: str
    common_name: str
    not_before_ms: int
    not_after_ms: int
    is_authority: bool
    path_length: int | None
    signs: bool
    authenticates: bool
    trouble: str

    @property
    def is_self_issued(self) -> bool:
        """True when subject and issuer are the same (RFC 5280 §6.1)."""
        return self.subject == self.issuer


def read_certificate(der: bytes) -> ReadCertificate:
    """Reads a certificate (DER); raises UnreadableCertificateError."""
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise UnreadableCertificateError(f"it has {len(der)} bytes, more than {CERTIFICATE_BYTES_MAX}")
    try:
        return _read(x509.load_der_x509_certificate(der))
    except _UNREADABLE as error:
        raise UnreadableCertificateError("it cannot be read as a certificate") from error


def is_signed_by(child: ReadCertificate, issuer: ReadCertificate) -> bool:
    """True when the issuer's key made the child's signature, and the child names it as its issuer; one verification."""
    try:
        child.certificate.verify_directly_issued_by(issuer.certificate)
    except (*_UNREADABLE, InvalidSignature):
        return False
    return True


def key_trouble(certificate: ReadCertificate) -> str:
    """Why nothing is believed that this key signed; empty when it is."""
    try:
        key = certificate.certificate.public_key()
    except _UNREADABLE:
        return "its key is of no kind that is known here"
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return ""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
        return ""
    if isinstance(key, rsa.RSAPublicKey) and RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        return ""
    return f"its key is none of ECDSA P-256, P-384, P-521, Ed25519, Ed448, RSA {RSA_BITS_MIN} to {RSA_BITS_MAX} bits"


_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension),
    x509.UnsupportedGeneralNameType,
)

_UNDERSTOOD = (
    *(x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName),
    *(x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier, x509.CertificatePolicies),
)
"""Extensions that may be critical; any other one that is must keep the certificate out (RFC 5280 §4.2)."""

_GOOD_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_ANY_USE = x509.ObjectIdentifier("2.5.29.37.0")
_CLIENT_USES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, _ANY_USE})


def _read(certificate: x509.Certificate) -> ReadCertificate:
    extensions = {type(each.value): each for each in certificate.extensions}
    values = {kind: each.value for kind, each in extensions.items()}
    basic, usage = values.get(x509.BasicConstraints), values.get(x509.KeyUsage)
    uses = values.get(x509.ExtendedKeyUsage)
    is_authority = isinstance(basic, x509.BasicConstraints) and basic.ca
    uses_client = not isinstance(uses, x509.ExtendedKeyUsage) or not _CLIENT_USES.isdisjoint(uses)
    return ReadCertificate(
        certificate=certificate,
        subject=certificate.subject.public_bytes(),
        issuer=certificate.issuer.public_bytes(),
        name=_shown(certificate.subject),
        issuer_name=_shown(certificate.issuer),
        common_name=_common_name(certificate.subject),
        not_before_ms=int(certificate.not_valid_before_utc.timestamp() * 1000),
        not_after_ms=int(certificate.not_valid_after_utc.timestamp() * 1000),
        is_authority=is_authority,
        path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        signs=is_authority and (not isinstance(usage, x509.KeyUsage) or usage.key_cert_sign),
        authenticates=uses_client
        and (not isinstance(usage, x509.KeyUsage) or usage.digital_signature or usage.key_agreement),
        trouble=_trouble(certificate, list(certificate.extensions)),
    )


def _trouble(certificate: x509.Certificate, extensions: list[x509.Extension[x509.ExtensionType]]) -> str:
    for extension in extensions:
        if isinstance(extension.value, x509.NameConstraints):
            return "it has name constraints, which are not judged here"
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            return f"it has the critical extension {extension.oid.dotted_string}, which is not understood here"
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and not isinstance(algorithm, _GOOD_HASHES):
        # The signature of a root is its own and proves nothing, so its hash does not matter.
        return "" if certificate.subject == certificate.issuer else f"it is signed by {algorithm.name}, which is broken"
    return ""


def _common_name(name: x509.Name) -> str:
    values = [each.value for each in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return values[0] if len(values) == 1 and isinstance(values[0], str) else ""


def _shown(name: x509.Name) -> str:
    """The name as RFC 4514 writes it; strangers choose it, so it is cut and has no control characters."""
    text = name.rfc4514_string()[:NAME_SHOWN_MAX] or "no name"
    return "".join(letter if letter.isprintable() else "?" for letter in text)
