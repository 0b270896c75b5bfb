"""The authority of connectors: who may dial the link door, by which name, and for how long.

It is not the hub's own CA. That one clients trust, and it vouches for names of servers; this one only the link door
trusts, and it vouches for nobody but connectors. Neither can be used in the other's place.

A connector's certificate names it twice: its common name is the connector's, and its only alternative name is the URI
`isthmus:connector:{name}:{link id}`. The link id is new whenever a connector that was revoked is enrolled again, so
that an old certificate never counts as the new connector's.

Certificates are short-lived. When the authority itself has less than `RENEWAL_DAYS` left, a new one is made at start;
the old one's certificate stays among those that are trusted, so that connectors renew as they always do.
"""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.access.files import make_folder, write_sealed, write_where_different
from isthmus.access.issuing import CLIENT, days_left, key_usage, leaf, new_certificate, now, subject_of, validity
from isthmus.access.key_pair import KeyPair, read_pair
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, ConfigurationError, Hop, HubError, Refusal
from isthmus.base.sealing import UNSEALED, Sealer

AUTHORITY_DAYS = 3_650
"""Ten years; nothing outside the data folder has to be told of a new one."""

RENEWAL_DAYS = 180
"""An authority with less left is replaced at start: servers are restarted at least twice a year."""

BACKDATED_HOURS = 1
"""A connector's certificate is valid from before it is made: its clock may be behind the hub's."""

RSA_BITS_MIN = 2_048
RSA_BITS_MAX = 8_192
"""A larger key would let one request cost the hub more than a hundred others."""

URI_PREFIX = "isthmus:connector:"


@dataclass(frozen=True, slots=True)
class ConnectorIdentity:
    """What a connector's certificate says; `serial` in lower-case hexadecimal."""

    name: str
    link_id: int
    serial: str
    not_after_ms: int


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate that was just issued, as PEM, and what it says."""

    pem: str
    identity: ConnectorIdentity


class ConnectorAuthority:
    """The authority of a data folder. Making it reads and writes files; issuing takes a millisecond and no file."""

    def __init__(self, folder: Path, pair: KeyPair, clock: Clock) -> None:
        self._folder = folder
        self._pair = pair
        self._clock = clock

    @classmethod
    def load_or_create(cls, folder: Path, clock: Clock, sealer: Sealer = UNSEALED) -> "ConnectorAuthority":
        """Loads the authority of `folder`, or makes one; raises `ConfigurationError` when a file cannot be used."""
        make_folder(folder)
        path = folder / _AUTHORITY_FILE
        pair = read_pair(path, sealer)
        if pair is None and path.exists():
            raise ConfigurationError(
                f"{path} is damaged: restore it from a backup, or remove it and enrol all connectors anew."
            )
        trusted = _still_trusted(folder / _TRUST_FILE, clock)
        if pair is None or days_left(pair.certificate, clock) < RENEWAL_DAYS:
            pair = _make_authority(clock)
            write_sealed(path, pair.pem, sealer)
        own = pair.certificate.public_bytes(Encoding.PEM)
        older = [pem for pem in trusted if pem != own]
        write_where_different(folder / _TRUST_FILE, b"".join([own, *older]), 0o644)
        return cls(folder, pair, clock)

    @property
    def trust_path(self) -> Path:
        """The certificates (PEM) that a connector's is verified against."""
        return self._folder / _TRUST_FILE

    def issue(self, csr_pem: str, name: str, link_id: int, hours: float) -> IssuedCertificate:
        """A connector's certificate for the key of a request (PKCS #10); nothing else of the request is taken over.

        Raises HubError ArgumentInvalid with rule `link.request`.
        """
        key = _key_of(csr_pem)
        present = now(self._clock)
        uri = x509.UniformResourceIdentifier(f"{URI_PREFIX}{name}:{link_id}")
        certificate = leaf(
            self._pair,
            subject_of(name),
            [uri],
            key,
            purpose=CLIENT,
            start=present - datetime.timedelta(hours=BACKDATED_HOURS),
            end=present + datetime.timedelta(seconds=round(hours * 3_600)),
        )
        identity = identity_of(certificate)
        assert identity is not None
        return IssuedCertificate(certificate.public_bytes(Encoding.PEM).decode(), identity)


def identity_in(der: bytes) -> ConnectorIdentity | None:
    """What a certificate (DER) that the authority's signature was found on says; None when it is no connector's."""
    return identity_of(x509.load_der_x509_certificate(der))


def identity_of(certificate: x509.Certificate) -> ConnectorIdentity | None:
    """As `identity_in`."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    found = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if found is None:
        return None
    not_after_ms = int(certificate.not_valid_after_utc.timestamp() * 1_000)
    return ConnectorIdentity(found["name"], int(found["link"]), f"{certificate.serial_number:x}", not_after_ms)


_AUTHORITY_FILE = "connector-authority.pem"
_TRUST_FILE = "connector-ca.pem"
_URI = re.compile(re.escape(URI_PREFIX) + r"(?P<name>[A-Za-z0-9_.-]{1,64}):(?P<link>[0-9]{1,10})")

_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


def _make_authority(clock: Clock) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    start, end = validity(clock, AUTHORITY_DAYS)
    # Its number makes the name unique, so that certificates of two authorities are never taken for each other's.
    subject = subject_of(f"Isthmus connector CA {x509.random_serial_number():x}")
    built = new_certificate(subject, subject, key.public_key(), start).not_valid_after(end)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    built = built.add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    return KeyPair(built.sign(key, hashes.SHA256()), key)


def _still_trusted(path: Path, clock: Clock) -> list[bytes]:
    """The certificates of a trust file that have not expired, as PEM; none where there is no usable file."""
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []
    return [each.public_bytes(Encoding.PEM) for each in certificates if days_left(each, clock) > 0]


def _key_of(csr_pem: str) -> _PublicKey:
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        signed = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, UnicodeError) as error:
        raise _refused("it is no certificate request in PEM") from error
    if not signed:
        raise _refused("its signature is not its key's")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        return key
    raise _refused("its key is none of ECDSA P-256 or P-384, Ed25519, RSA with 2,048 to 8,192 bits")


def _refused(what: str) -> HubError:
    refusal = Refusal(Hop.CONTRACT, "link.request", what, "let the connector make its key and request itself")
    return HubError(Code.ARGUMENT_INVALID, f"The certificate request cannot be granted: {what}", refusal)
