"""The authority of connectors: whom its certificates name, what it refuses to sign, and how it is replaced."""

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from access.test_certificates import Later
from isthmus.access.connector_authority import (
    AUTHORITY_DAYS,
    RENEWAL_DAYS,
    ConnectorAuthority,
    identity_in,
)
from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigurationError, HubError

CLOCK = SystemClock()
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def request(key: CertificateIssuerPrivateKeyTypes = EC_KEY, name: str = "whatever") -> str:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def test_a_certificate_names_the_connector_and_its_link(tmp_path: Path) -> None:
    issued = ConnectorAuthority.load_or_create(tmp_path, CLOCK).issue(request(), "plant-a", 0x0600_0123, 24)

    certificate = x509.load_pem_x509_certificate(issued.pem.encode())
    assert certificate.subject.rfc4514_string() == "CN=plant-a"
    assert certificate.public_key() == EC_KEY.public_key()
    assert identity_in(certificate.public_bytes(Encoding.DER)) == issued.identity
    assert (issued.identity.name, issued.identity.link_id) == ("plant-a", 0x0600_0123)
    assert abs(issued.identity.not_after_ms - CLOCK.utc_ms() - 24 * 3_600_000) < 5_000


def test_it_is_for_clients_and_signs_nothing(tmp_path: Path) -> None:
    issued = ConnectorAuthority.load_or_create(tmp_path, CLOCK).issue(request(), "plant-a", 1, 24)

    extensions = x509.load_pem_x509_certificate(issued.pem.encode()).extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65_537, 2_048),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_keys_of_other_kinds_are_signed(tmp_path: Path, key: CertificateIssuerPrivateKeyTypes) -> None:
    issued = ConnectorAuthority.load_or_create(tmp_path, CLOCK).issue(request(key), "plant-a", 1, 24)

    assert x509.load_pem_x509_certificate(issued.pem.encode()).public_key() == key.public_key()


@pytest.mark.parametrize(
    "csr",
    [
        "",
        "hello",
        request()[:200],
        request(ec.generate_private_key(ec.SECP224R1())),
        request(rsa.generate_private_key(65_537, 1_024)),
        request(dsa.generate_private_key(2_048)),
    ],
    ids=["nothing", "a word", "cut", "P-224", "short RSA", "DSA"],
)
def test_what_it_does_not_sign_is_refused(tmp_path: Path, csr: str) -> None:
    authority = ConnectorAuthority.load_or_create(tmp_path, CLOCK)

    with pytest.raises(HubError) as refused:
        authority.issue(csr, "plant-a", 1, 24)
    assert refused.value.refusal is not None
    assert refused.value.refusal.rule == "link.request"


def test_a_request_with_anothers_signature_is_refused(tmp_path: Path) -> None:
    der = bytearray(ssl.PEM_cert_to_DER_cert(_as_certificate(request())))
    der[-1] ^= 1
    changed = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()

    with pytest.raises(HubError, match="signature"):
        ConnectorAuthority.load_or_create(tmp_path, CLOCK).issue(changed, "plant-a", 1, 24)


def test_the_authority_is_made_once_and_its_key_is_the_owners(tmp_path: Path) -> None:
    first = ConnectorAuthority.load_or_create(tmp_path, CLOCK)
    trusted = first.trust_path.read_bytes()

    assert ConnectorAuthority.load_or_create(tmp_path, CLOCK).trust_path.read_bytes() == trusted
    assert stat.S_IMODE((tmp_path / "connector-authority.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in trusted


def test_an_authority_is_replaced_in_time_and_trusted_as_long_as_it_lasts(tmp_path: Path) -> None:
    ConnectorAuthority.load_or_create(tmp_path, CLOCK)
    old = x509.load_pem_x509_certificate((tmp_path / "connector-ca.pem").read_bytes())

    soon = ConnectorAuthority.load_or_create(tmp_path, Later(AUTHORITY_DAYS - RENEWAL_DAYS + 1))
    new, kept = x509.load_pem_x509_certificates(soon.trust_path.read_bytes())
    assert kept == old
    assert new != old

    late = ConnectorAuthority.load_or_create(tmp_path, Later(AUTHORITY_DAYS + 1))
    assert x509.load_pem_x509_certificates(late.trust_path.read_bytes()) == [new]


def test_a_damaged_authority_is_not_replaced(tmp_path: Path) -> None:
    ConnectorAuthority.load_or_create(tmp_path, CLOCK)
    (tmp_path / "connector-authority.pem").write_text("damaged")

    with pytest.raises(ConfigurationError, match="damaged"):
        ConnectorAuthority.load_or_create(tmp_path, CLOCK)


def test_no_other_certificate_is_a_connectors(tmp_path: Path) -> None:
    ConnectorAuthority.load_or_create(tmp_path, CLOCK)
    authority = x509.load_pem_x509_certificate((tmp_path / "connector-ca.pem").read_bytes())

    assert identity_in(authority.public_bytes(Encoding.DER)) is None


def _as_certificate(csr: str) -> str:
    return csr.replace("CERTIFICATE REQUEST", "CERTIFICATE")
