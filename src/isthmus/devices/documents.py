"""Where the documents of an identity stand in the state."""

from isthmus.base.ids import DeviceRef
from isthmus.base.state import Key

ONLINE = "online"
"""The kind of the notes of who is connected."""

DISABLED = "disabled"
"""The kind of the notes of which devices are disabled, so that they can be counted without reading them all."""


def identity_key(ref: DeviceRef) -> Key:
    """The identity, keys included."""
    return Key("identity", ref.hub, _name(ref))


def twin_key(ref: DeviceRef) -> Key:
    """Tags, desired and reported properties, with metadata and counters."""
    return Key("twin", ref.hub, _name(ref))


def presence_key(ref: DeviceRef) -> Key:
    """The connection state and the last activity."""
    return Key("presence", ref.hub, _name(ref))


def online_key(ref: DeviceRef) -> Key:
    """Where it is noted that a device or module is connected; there is no document while it is not."""
    return Key(ONLINE, ref.hub, _name(ref))


def disabled_key(ref: DeviceRef) -> Key:
    """Where it is noted that a device is disabled."""
    return Key(DISABLED, ref.hub, _name(ref))


def session_key(ref: DeviceRef) -> Key:
    """The subscriptions of a kept session."""
    return Key("session", ref.hub, _name(ref))


def ref_of(key: Key) -> DeviceRef:
    """The device or module that a document belongs to."""
    device_id, _, module_id = key.name.partition("/")
    return DeviceRef(key.hub, device_id, module_id)


def _name(ref: DeviceRef) -> str:
    """No id has a slash. One that does, as strangers may write, gets a name that no document has: not a module's."""
    return f"//{ref.name}" if "/" in ref.device_id or "/" in ref.module_id else ref.name
