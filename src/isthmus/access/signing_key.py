"""The key that signs the journal's heads: made at the first start, and never replaced by itself."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from isthmus.access.files import make_folder, read_sealed, write_sealed, write_where_different
from isthmus.access.heads import public_pem
from isthmus.base.errors import ConfigurationError
from isthmus.base.sealing import UNSEALED, Sealer


def load_or_create_signing_key(private: Path, public: Path, sealer: Sealer = UNSEALED) -> Ed25519PrivateKey:
    """The key of a data folder; made (0600, sealed) where there is none, its public half written beside it.

    Raises `ConfigurationError` when the file cannot be read or written, or holds something else: a damaged key is not
    replaced, because a new one would make every head that was exported before look forged.
    """
    make_folder(private.parent)
    key = _read(private, sealer)
    if key is None:
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_sealed(private, pem, sealer)
    write_where_different(public, public_pem(key.public_key()), 0o644)
    return key


def _read(path: Path, sealer: Sealer) -> Ed25519PrivateKey | None:
    content = read_sealed(path, sealer)
    if content is None:
        return None
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} holds no key: restore it from a backup, or remove it and begin anew."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} holds a key of another kind than Ed25519: restore it from a backup.")
    return key
