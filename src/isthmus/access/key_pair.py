"""A certificate with its key in one file: read as a whole, replaced as a whole."""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from isthmus.base.errors import ConfigurationError

_KEY_BLOCK = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key; without the key when that lies elsewhere."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None

    @property
    def pem(self) -> bytes:
        """Key, then certificate, as `ssl.SSLContext.load_cert_chain` takes them."""
        public = self.certificate.public_bytes(Encoding.PEM)
        if self.key is None:
            return public
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + public


def read_pair(path: Path) -> KeyPair | None:
    """Certificate and key of a file; None when it is not there, damaged, or the two do not belong together.

    Raises `ConfigurationError` when it may not be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}): give its owner the right to.") from error
    try:
        key = load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(_KEY_BLOCK.sub(b"", content))
    except (ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return KeyPair(certificate, key)


def make_folder(folder: Path) -> None:
    """Makes the folder (0700) where it is missing; raises `ConfigurationError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made ({error.strerror}): choose another folder.") from error


def write_where_different(path: Path, content: bytes, mode: int) -> None:
    """Replaces a file unless it has this content already; raises `ConfigurationError`."""
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content, mode)


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Replaces a file as a whole; the new content is on disk before the name points to it.

    Raises `ConfigurationError`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}): check the folder's rights.") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
