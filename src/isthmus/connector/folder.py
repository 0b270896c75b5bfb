"""The connector's folder: its key with its certificate, the hub's CA, and where the hub is.

The folder has mode 0700. `identity.pem` holds key and certificate chain and is replaced in one step, so that a crash
leaves the old pair or the new one; `hub.json` says which hub it belongs to, with the hub's CA. `hub.json` is written
first: where `identity.pem` is, a connector is enrolled. One process at a time uses a folder.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from isthmus.base.errors import ConfigurationError
from isthmus.connector.dialling import Target
from isthmus.connector.identity import Certified, IdentityError, certified

IDENTITY_FILE = "identity.pem"
HUB_FILE = "hub.json"
LOCK_FILE = "lock"

_KEY_END = "-----END PRIVATE KEY-----\n"


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """Which hub the connector belongs to; `obtained_ms` is when it got its certificate."""

    version: int = 1
    hubs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    tls_name: str
    network: str
    ca_pem: str
    obtained_ms: int

    def renewed(self, ca_pem: str, obtained_ms: int) -> "Enrolled":
        """The same with a later certificate; an empty `ca_pem` leaves the authorities as they are."""
        return msgspec.structs.replace(self, ca_pem=ca_pem or self.ca_pem, obtained_ms=obtained_ms)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Key, certificate and hub of an enrolled connector; `path` is the PEM file of the first two."""

    path: Path
    certified: Certified
    enrolled: Enrolled

    @property
    def targets(self) -> tuple[Target, ...]:
        """Where the hub is dialled, in the order in which it is tried."""
        return tuple(target_of(hub, self.enrolled.tls_name) for hub in self.enrolled.hubs)


def target_of(hub: str, tls_name: str) -> Target:
    """The target of `host:port`; raises `ConfigurationError` for anything else."""
    host, _, port = hub.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise ConfigurationError(f"{hub} is not HOST:PORT, where the hub was said to be.")
    return Target(host.removeprefix("[").removesuffix("]"), int(port), tls_name)


class Folder:
    """A connector's folder, held by this process; use `held`. Its methods read and write files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Identity | None:
        """The identity, None when the connector was never enrolled; raises `ConfigurationError` for damaged files."""
        identity = self._path / IDENTITY_FILE
        hub = self._path / HUB_FILE
        try:
            text = identity.read_text()
            enrolled = msgspec.json.decode(hub.read_bytes(), type=Enrolled)
            key, end, chain = text.partition(_KEY_END)
            return Identity(path=identity, certified=certified(key + end, chain), enrolled=enrolled)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}.") from error
        except (msgspec.DecodeError, IdentityError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"The files in {self._path} are damaged ({error}): empty the folder and enrol the connector anew."
            ) from error

    def store(self, key_pem: str, certificate_pem: str, enrolled: Enrolled) -> Identity:
        """Stores an identity durably; raises `IdentityError` when it is none, OSError when it cannot."""
        said = certified(key_pem, certificate_pem)
        _write(self._path / HUB_FILE, msgspec.json.format(msgspec.json.encode(enrolled), indent=2))
        _write(self._path / IDENTITY_FILE, (key_pem + certificate_pem).encode())
        return Identity(path=self._path / IDENTITY_FILE, certified=said, enrolled=enrolled)


@contextlib.contextmanager
def held(path: Path) -> Iterator[Folder]:
    """The folder, made where there is none, for this process alone; raises `ConfigurationError` where that fails."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"The folder {path} cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(f"A connector runs on {path} already: stop it first.") from None
        yield Folder(path)
    finally:
        os.close(lock)


def _write(path: Path, content: bytes) -> None:
    """Replaces a file in one step that outlives a power cut; mode 0600."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
