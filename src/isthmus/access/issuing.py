"""What every certificate that is issued here has in common."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.access.key_pair import KeyPair
from isthmus.base.clock import Clock

BACKDATED_DAYS = 2
"""Certificates are valid from before they are made: clocks of devices are wrong, most often behind."""

Purpose = x509.ObjectIdentifier
SERVER: Purpose = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT: Purpose = ExtendedKeyUsageOID.CLIENT_AUTH


def new_certificate(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, start: datetime.datetime
) -> x509.CertificateBuilder:
    """A certificate that has begun: names, a random serial number, the beginning of its validity, its key's name."""
    begun = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number()).not_valid_before(start)
    return begun.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def leaf(
    authority: KeyPair,
    subject: x509.Name,
    names: list[x509.GeneralName],
    key: CertificatePublicKeyTypes,
    *,
    purpose: Purpose,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.Certificate:
    """A certificate of an end entity, valid no longer than its authority, whose key must be at hand."""
    assert authority.key is not None, "the authority's key is offline"
    issuer = authority.certificate
    built = new_certificate(subject, issuer.subject, key, start).not_valid_after(min(end, issuer.not_valid_after_utc))
    built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    built = built.add_extension(key_usage(digital_signature=True), critical=True)
    built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    built = built.add_extension(issuer_key(issuer), critical=False)
    return built.sign(authority.key, hashes.SHA256())


def issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Which key signs what this authority issues (RFC 5280 §4.2.1.1)."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def subject_of(common_name: str) -> x509.Name:
    """A name of one part; X.520 allows 64 characters, and the names that count are the alternative ones."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    """What a key may do (RFC 5280 §4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def validity(clock: Clock, days: int) -> tuple[datetime.datetime, datetime.datetime]:
    """Beginning and end of so many days from `BACKDATED_DAYS` ago."""
    start = now(clock) - datetime.timedelta(days=BACKDATED_DAYS)
    return start, start + datetime.timedelta(days=days)


def now(clock: Clock) -> datetime.datetime:
    """This second."""
    return datetime.datetime.fromtimestamp(clock.utc_ms() // 1000, datetime.UTC)


def days_left(certificate: x509.Certificate, clock: Clock) -> float:
    """Until it expires; negative afterwards."""
    return (certificate.not_valid_after_utc - now(clock)) / datetime.timedelta(days=1)
