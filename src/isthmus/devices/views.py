"""What services read: identities and twins in their REST form (IoT Hub REST reference, "Device", "Module", "Twin")."""

import msgspec

from isthmus.devices.events import wire_properties
from isthmus.devices.identity import Identity
from isthmus.devices.registry import Registered
from isthmus.devices.twin import JsonObject
from isthmus.devices.twins import TwinView


def identity_to_wire(registered: Registered, queued: int) -> JsonObject:
    """A device or module; `queued` is the number of its cloud-to-device messages."""
    identity = registered.identity
    if identity.module_id:
        return _module_to_wire(registered, queued)
    presence = registered.presence
    return {
        "deviceId": identity.device_id,
        "generationId": identity.generation_id,
        "etag": identity.etag,
        "connectionState": presence.connection_state,
        "status": identity.status,
        "statusReason": identity.status_reason,
        "connectionStateUpdatedTime": presence.connection_state_updated_time,
        "statusUpdatedTime": identity.status_updated_time,
        "lastActivityTime": presence.last_activity_time,
        "cloudToDeviceMessageCount": queued,
        "authentication": _builtins(identity.authentication),
        "capabilities": _builtins(identity.capabilities),
        **_scopes(identity),
    }


def twin_to_wire(view: TwinView, queued: int, *, with_model_id: bool) -> JsonObject:
    """A twin; `modelId` is told to API versions that know it."""
    identity, twin, presence = view.identity, view.twin, view.presence
    head: JsonObject = {"deviceId": identity.device_id}
    if identity.module_id:
        head["moduleId"] = identity.module_id
    head |= {
        "etag": twin.etag,
        "deviceEtag": identity.etag,
        "status": identity.status,
    }
    if identity.status_reason is not None:
        head["statusReason"] = identity.status_reason
    head |= {
        "statusUpdateTime": identity.status_updated_time,
        "connectionState": presence.connection_state,
        "lastActivityTime": presence.last_activity_time,
        "cloudToDeviceMessageCount": queued,
        "authenticationType": identity.authentication_type,
        "x509Thumbprint": _builtins(identity.authentication.x509_thumbprint),
    }
    if with_model_id:
        head["modelId"] = twin.model_id
    head |= {"version": twin.version, "tags": twin.tags, "properties": wire_properties(twin)}
    if twin.configurations is not msgspec.UNSET:
        head["configurations"] = twin.configurations
    return {**head, "capabilities": _builtins(identity.capabilities), **_scopes(identity)}


def _module_to_wire(registered: Registered, queued: int) -> JsonObject:
    identity, presence = registered.identity, registered.presence
    return {
        "moduleId": identity.module_id,
        "managedBy": identity.managed_by,
        "deviceId": identity.device_id,
        "generationId": identity.generation_id,
        "etag": identity.etag,
        "connectionState": presence.connection_state,
        "connectionStateUpdatedTime": presence.connection_state_updated_time,
        "lastActivityTime": presence.last_activity_time,
        "cloudToDeviceMessageCount": queued,
        "authentication": _builtins(identity.authentication),
    }


def _scopes(identity: Identity) -> JsonObject:
    """Scopes where there are any; an edge device without a parent has an empty array."""
    scopes: JsonObject = {"deviceScope": identity.device_scope} if identity.device_scope else {}
    if identity.parent_scopes or identity.iot_edge:
        scopes["parentScopes"] = identity.parent_scopes
    return scopes


def _builtins(value: msgspec.Struct) -> object:
    return msgspec.to_builtins(value)
