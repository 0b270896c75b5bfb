"""Where the documents of an identity stand in the state."""

from isthmus.base.ids import DeviceRef
from isthmus.base.state import Key


def identity_key(ref: DeviceRef) -> Key:
    return Key("identity", ref.hub, ref.name)


def twin_key(ref: DeviceRef) -> Key:
    return Key("twin", ref.hub, ref.name)


def presence_key(ref: DeviceRef) -> Key:
    return Key("presence", ref.hub, ref.name)


def session_key(ref: DeviceRef) -> Key:
    return Key("session", ref.hub, ref.name)


def ref_of(key: Key) -> DeviceRef:
    """The device or module that a document belongs to; no id contains a slash."""
    device_id, _, module_id = key.name.partition("/")
    return DeviceRef(key.hub, device_id, module_id)
