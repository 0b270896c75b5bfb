"""Files of a data folder: replaced as a whole, and sealed where they hold a private key.

What seals a file is bound to its name but not to its folder: a data folder may be moved, and a root that was offline
comes back from anywhere.
"""

import os
import secrets
from pathlib import Path

from isthmus.base.errors import ConfigurationError
from isthmus.base.sealing import Sealer, Unsealable, is_sealed


def read_sealed(path: Path, sealer: Sealer) -> bytes | None:
    """The plain content of a file with a private key; None when it is not there.

    A plain one is taken as it is, and sealed by the next start: whoever can put it there could replace its sealed
    neighbour, too. Raises `ConfigurationError` when it may not be read, or no key opens it.
    """
    try:
        content = path.read_bytes()
        return sealer.open(_place(path), content) if is_sealed(content) else content
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}): give its owner the right to.") from error
    except Unsealable as error:
        raise ConfigurationError(
            f"{path} cannot be opened, for {error}: restore it, or give the key that sealed it."
        ) from error


def write_sealed(path: Path, content: bytes, sealer: Sealer) -> None:
    """Replaces a file with a private key (0600) as a whole; raises `ConfigurationError`."""
    write_atomically(path, sealer.seal(_place(path), content), 0o600)


def reseal_file(path: Path, sealer: Sealer) -> bool:
    """Seals a file by the key that seals now; False when it was so already, or is not there."""
    content = read_sealed(path, sealer)
    if content is None or sealer.is_current(path.read_bytes()):
        return False
    write_sealed(path, content, sealer)
    return True


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


def _place(path: Path) -> bytes:
    return b"file\0" + path.name.encode()
