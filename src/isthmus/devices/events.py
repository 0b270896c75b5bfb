"""Events about devices, as outbox rows that commit together with the change they tell of.

Bodies and names are those of the IoT Hub developer guide, "Non-telemetry event schemas".
"""

import msgspec

from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import OutboxEvent
from isthmus.devices.twin import JsonObject, Stamp, Twin, TwinBody, apply_patch
from isthmus.telemetry.message import MessageSource, StateEvent, encode_state_event

_encode = msgspec.json.Encoder().encode


def created(ref: DeviceRef, twin: Twin, utc_ms: int) -> OutboxEvent:
    """An identity was created; the body is its new twin."""
    return _lifecycle(ref, twin, utc_ms, "createDeviceIdentity")


def deleted(ref: DeviceRef, twin: Twin, utc_ms: int) -> OutboxEvent:
    """An identity was deleted; the body is its last twin."""
    return _lifecycle(ref, twin, utc_ms, "deleteDeviceIdentity")


def twin_updated(ref: DeviceRef, twin: Twin, body: TwinBody, stamp: str, utc_ms: int) -> OutboxEvent:
    """A service patched a twin; the event's body holds what it changed, removed members as null."""
    changed: JsonObject = {"version": twin.version}
    if body.tags is not None:
        changed["tags"] = body.tags
    if body.desired is not None:
        changed["properties"] = {
            "desired": _changed_section(body.desired, Stamp(stamp, twin.desired_version), twin.desired_version)
        }
    return _twin_change(ref, changed, utc_ms, "updateTwin")


def twin_reported(ref: DeviceRef, twin: Twin, patch: JsonObject, stamp: str, utc_ms: int) -> OutboxEvent:
    """A device patched its reported properties."""
    section = _changed_section(patch, Stamp(stamp), twin.reported_version)
    changed: JsonObject = {"version": twin.version, "properties": {"reported": section}}
    return _twin_change(ref, changed, utc_ms, "updateTwin")


def twin_replaced(ref: DeviceRef, twin: Twin, utc_ms: int) -> OutboxEvent:
    """A service replaced a twin; the body is the whole of it."""
    return _twin_change(ref, whole_twin(ref, twin), utc_ms, "replaceTwin")


def connection_changed(ref: DeviceRef, *, is_connected: bool, sequence: str, utc_ms: int) -> OutboxEvent:
    """A device connected or disconnected; sequences of a hub rise as strings."""
    return _event(
        ref,
        MessageSource.DEVICE_CONNECTION_STATE,
        "deviceConnected" if is_connected else "deviceDisconnected",
        "deviceConnectionStateNotification",
        {"sequenceNumber": sequence},
        utc_ms,
    )


def job_event(hub: HubId, status: str, body: bytes, utc_ms: int) -> OutboxEvent:
    """A scheduled job came into a state; it is of no single device."""
    event = StateEvent(
        device_id="",
        module_id="",
        source=MessageSource.DEVICE_JOB_LIFECYCLE,
        op_type=status,
        operation_ms=utc_ms,
        body=body,
        schema="deviceJobNotification",
    )
    return OutboxEvent(hub, encode_state_event(event))


def whole_twin(ref: DeviceRef, twin: Twin) -> JsonObject:
    """A twin as events carry it: names, etag, version, sections with metadata."""
    names: JsonObject = {"deviceId": ref.device_id}
    if ref.module_id:
        names["moduleId"] = ref.module_id
    head: JsonObject = {**names, "etag": twin.etag, "version": twin.version}
    if twin.tags:
        head["tags"] = twin.tags
    return {**head, "properties": wire_properties(twin)}


def wire_properties(twin: Twin) -> JsonObject:
    """Both property sections with `$metadata` and `$version`, as services read them."""
    return {
        "desired": {
            **twin.properties.desired,
            "$metadata": twin.metadata.desired,
            "$version": twin.desired_version,
        },
        "reported": {
            **twin.properties.reported,
            "$metadata": twin.metadata.reported,
            "$version": twin.reported_version,
        },
    }


def _changed_section(patch: JsonObject, stamp: Stamp, version: int) -> JsonObject:
    _, metadata = apply_patch({}, {}, patch, stamp)
    return {**patch, "$metadata": metadata, "$version": version}


def _lifecycle(ref: DeviceRef, twin: Twin, utc_ms: int, op_type: str) -> OutboxEvent:
    source = MessageSource.DEVICE_LIFECYCLE
    return _event(ref, source, op_type, "deviceLifecycleNotification", whole_twin(ref, twin), utc_ms)


def _twin_change(ref: DeviceRef, body: JsonObject, utc_ms: int, op_type: str) -> OutboxEvent:
    return _event(ref, MessageSource.TWIN_CHANGES, op_type, "twinChangeNotification", body, utc_ms)


def _event(
    ref: DeviceRef, source: MessageSource, op_type: str, schema: str, body: JsonObject, utc_ms: int
) -> OutboxEvent:
    event = StateEvent(
        device_id=ref.device_id,
        module_id=ref.module_id,
        source=source,
        op_type=op_type,
        operation_ms=utc_ms,
        body=_encode(body),
        schema=schema,
    )
    return OutboxEvent(ref.hub, encode_state_event(event))
