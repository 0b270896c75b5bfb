"""Where a process looks for its sealing keys, and what the owner is told of them."""

import os
from pathlib import Path

from isthmus.access.sealed_folder import KEY_VARIABLE, KeySources, new_key, open_sealed_folder, write_key
from isthmus.config import SealingSettings


def server_sources(settings: SealingSettings) -> KeySources:
    """The configured files and the environment; processes that are started from here do not inherit a key."""
    sources = KeySources(settings.key_file, settings.previous_key_file, dict(os.environ))
    os.environ.pop(KEY_VARIABLE, None)
    return sources


def command_sources() -> KeySources:
    """The environment alone, for commands that do not know the server's configuration."""
    return KeySources(environment=dict(os.environ))


def create_sealing_key(path: Path) -> dict[str, object]:
    """Writes a new key file (0600) and tells its id; raises `ConfigurationError`, also where there is a file."""
    key = new_key()
    write_key(path, key)
    return {"keyId": key.key_id, "keyFile": str(path.absolute())}


def shown_sealing(data: Path) -> dict[str, object]:
    """By which key a data folder is sealed, and where that was found; raises `ConfigurationError`."""
    opened = open_sealed_folder(data, command_sources(), reading=True)
    return {"keyId": opened.record.key_id, "place": opened.place, "stillSealedBy": list(opened.record.opens)}
