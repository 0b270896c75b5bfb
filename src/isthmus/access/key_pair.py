"""A certificate with its key in one file: read as a whole, replaced as a whole."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from isthmus.access.files import read_sealed
from isthmus.base.sealing import UNSEALED, Sealer

_KEY_BLOCK = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key; without the key when that lies elsewhere. `issuers` are sent along, but no root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None = field(repr=False)
    issuers: Sequence[x509.Certificate] = ()

    @property
    def pem(self) -> bytes:
        """Key, then certificates, as `ssl.SSLContext.load_cert_chain` takes them."""
        public = b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.issuers))
        if self.key is None:
            return public
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + public


def read_pair(path: Path, sealer: Sealer = UNSEALED) -> KeyPair | None:
    """Certificate and key of a file; None when it is not there, damaged, or the two do not belong together.

    Certificates behind the first are those of its issuers. Raises `ConfigurationError` when it may not be read, or is
    sealed by an unknown key.
    """
    content = read_sealed(path, sealer)
    if content is None:
        return None
    try:
        key = load_pem_private_key(content, password=None)
        certificate, *issuers = x509.load_pem_x509_certificates(_KEY_BLOCK.sub(b"", content))
    except (ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return KeyPair(certificate, key, tuple(issuers))


@contextlib.contextmanager
def lent(pem: bytes) -> Iterator[str]:
    """Lends a file with this content that is in memory only, for OpenSSL, which takes keys from files alone.

    Raises OSError.
    """
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"
