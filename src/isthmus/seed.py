"""The seed file: devices, twins and rules that a hub begins with, for continuous integration and for the desk.

TOML, every key optional::

    [hub]
    public_network_access = false

    [[hubs]]
    name = "second"

    [[devices]]
    id = "press-1"
    primary_key = "…"            # base64; both keys are made when neither is given
    secondary_key = "…"
    enabled = true
    modules = ["vision"]
    tags = { hall = 2 }
    desired = { interval = 5 }

    [[private_endpoints]]
    name = "plant"
    address = "127.0.0.2"
    approved = true

Applying a seed twice changes nothing that is already there.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from isthmus.base.errors import ConfigurationError
from isthmus.base.toml import parse_toml


class SeedHubRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of the first hub."""

    public_network_access: bool = True


class SeedHub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A further hub of the same process."""

    name: str
    hostname: str = ""


class SeedDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device with its modules and the first contents of its twin."""

    id: str
    primary_key: str = ""
    secondary_key: str = ""
    enabled: bool = True
    hub: str = ""
    modules: tuple[str, ...] = ()
    tags: dict[str, Any] = {}
    desired: dict[str, Any] = {}


class SeedPrivateEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A private endpoint of the bind kind: an address on this machine."""

    name: str
    address: str
    approved: bool = True
    hub: str = ""


class Seed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A seed file, read."""

    hub: SeedHubRules = SeedHubRules()
    hubs: tuple[SeedHub, ...] = ()
    devices: tuple[SeedDevice, ...] = ()
    private_endpoints: tuple[SeedPrivateEndpoint, ...] = ()


def load_seed(path: str) -> Seed:
    """Reads a seed file; raises `ConfigurationError` in one sentence, naming the key that is wrong."""
    try:
        seed = msgspec.convert(parse_toml(Path(path).read_text()), Seed)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"The seed file {path} cannot be read: {reason}.") from error
    except ValueError as error:
        raise ConfigurationError(f"The seed file {path} is not valid TOML: {error}.") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The seed file {path} is not valid: {error}.") from error
    _check_single(path, "device", [f"{device.id} of {device.hub}".removesuffix(" of ") for device in seed.devices])
    _check_single(path, "hub", [hub.name.lower() for hub in seed.hubs])
    _check_single(path, "private endpoint", [endpoint.name.lower() for endpoint in seed.private_endpoints])
    return seed


def _check_single(path: str, kind: str, names: Sequence[str]) -> None:
    """One of two entries of the same name would be forgotten without a word."""
    double = next((name for name, count in Counter(names).items() if count > 1), None)
    if double is not None:
        raise ConfigurationError(f"The seed file {path} has the {kind} {double} twice.")
