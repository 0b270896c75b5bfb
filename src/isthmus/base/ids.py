"""Identifiers: their types, their shapes, and the only source of randomness below the doors."""

import base64
import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import NamedTuple, NewType, Protocol

HubId = NewType("HubId", int)
"""Number of a hub in its data folder: given once, from 1, never used again."""

TrackingId = NewType("TrackingId", str)
"""Names one answer that refused something; the owner finds the reason by it."""

ID_PATTERN = re.compile(r"[A-Za-z0-9\-:.%_*?!(),=@$']{1,128}")
"""Characters of new device and module ids (IoT Hub REST reference, identity registry)."""


PROBE_PREFIX = "~probe-"
"""Begins the names of probes. A tilde is in no id that may be given, so no device is ever called so."""


class DeviceRef(NamedTuple):
    """Names a device, or a module of one, of one hub; `module_id` is empty for the device itself."""

    hub: HubId
    device_id: str
    module_id: str = ""

    @property
    def name(self) -> str:
        """`device` or `device/module`; a slash is in no id."""
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id


class Ids(Protocol):
    """Makes identifiers that nobody can guess and nobody made before."""

    def uuid(self) -> str:
        """A random UUID, lower case with dashes."""

    def key(self) -> str:
        """A base64 symmetric key of 32 random bytes."""

    def tracking_id(self, utc_ms: int) -> TrackingId:
        """A tracking id in Azure's form, `{32 hex}-G:0-TimeStamp:{MM/DD/YYYY HH:MM:SS}`."""


class RandomIds:
    """Identifiers from the operating system's random source."""

    def uuid(self) -> str:
        return str(uuid.uuid4())

    def key(self) -> str:
        return base64.b64encode(secrets.token_bytes(32)).decode()

    def tracking_id(self, utc_ms: int) -> TrackingId:
        moment = datetime.fromtimestamp(utc_ms / 1000, UTC)
        return TrackingId(f"{secrets.token_hex(16)}-G:0-TimeStamp:{moment:%m/%d/%Y %H:%M:%S}")


def random_bytes(count: int) -> bytes:
    """Bytes from the operating system's random source."""
    return secrets.token_bytes(count)


def valid_id(text: str) -> bool:
    """True when `text` may name a new device or module (IoT Hub REST reference, identity registry)."""
    return ID_PATTERN.fullmatch(text) is not None


def is_probe(device_id: str) -> bool:
    """True for the name of a probe, which is in no registry: the hub makes it for a check, for minutes."""
    return device_id.startswith(PROBE_PREFIX)
