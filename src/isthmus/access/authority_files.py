"""The files of the certificate authority: its root, which may be offline, and what issues in its name."""

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.access.files import write_sealed, write_where_different
from isthmus.access.key_pair import KeyPair, read_pair
from isthmus.base.errors import ConfigurationError
from isthmus.base.sealing import Sealer

ROOT_FILE = "root.pem"
ISSUING_FILE = "authority.pem"
PUBLIC_FILE = "ca.pem"


class AuthorityFiles:
    """Reads and writes them; all methods raise `ConfigurationError`."""

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self._folder = folder
        self._sealer = sealer

    @property
    def root(self) -> Path:
        """Where the root lies, or goes back to."""
        return self._folder / ROOT_FILE

    def read(self) -> tuple[KeyPair | None, KeyPair | None]:
        """The root, without its key when it is offline, and the issuing authority; None for what is not there.

        Both are the same where the authority is of an earlier release: it signs itself.
        """
        issuing = self._read(self._folder / ISSUING_FILE)
        if issuing is not None and issuing.certificate.issuer == issuing.certificate.subject:
            return issuing, issuing
        root = self._read(self.root) or self._public()
        if root is None:
            return None, None
        if issuing is not None and not is_issued_by(issuing.certificate, root.certificate):
            if root.key is None:
                raise ConfigurationError(
                    f"{self._folder / ISSUING_FILE} is not of the CA in {PUBLIC_FILE}: put its own back."
                )
            # The root was replaced, and the end came before this one was.
            issuing = None
        if issuing is None and root.key is None and not _may_have_issuing(root.certificate):
            return root, root
        return root, issuing

    def write_root(self, root: KeyPair) -> None:
        write_sealed(self.root, root.pem, self._sealer)

    def write_issuing(self, issuing: KeyPair) -> None:
        write_sealed(self._folder / ISSUING_FILE, issuing.pem, self._sealer)

    def write_public(self, root: x509.Certificate) -> None:
        """The root's certificate, for clients."""
        write_where_different(self._folder / PUBLIC_FILE, root.public_bytes(Encoding.PEM), 0o644)

    def keep_old(self, root: KeyPair) -> None:
        """Keeps a root that is about to be replaced; the new one is written over it first, and last the public half."""
        if root.key is None:
            raise ConfigurationError(
                f"The CA must be replaced and its key is offline: put {self.root} back, or remove"
                f" {self._folder / PUBLIC_FILE} and {self._folder / ISSUING_FILE} to have a new CA made, which clients"
                " must trust anew."
            )
        kept = self._folder / f"authority-until-{root.certificate.serial_number:x}.pem"
        write_sealed(kept, root.pem, self._sealer)

    def _read(self, path: Path) -> KeyPair | None:
        pair = read_pair(path, self._sealer)
        if pair is None and path.exists():
            raise ConfigurationError(
                f"{path} is damaged: restore it from a backup, or remove it and {self._folder / PUBLIC_FILE} to start"
                " anew."
            )
        return pair

    def _public(self) -> KeyPair | None:
        public = self._folder / PUBLIC_FILE
        if not public.exists():
            return None
        try:
            return KeyPair(x509.load_pem_x509_certificate(public.read_bytes()), None)
        except ValueError as error:
            raise ConfigurationError(f"{public} is damaged: remove it to have it made again.") from error


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """True when the issuer's name and key signed the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_have_issuing(root: x509.Certificate) -> bool:
    """False for an authority of an earlier release, below which there is none."""
    length = root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return length is None or length > 0
