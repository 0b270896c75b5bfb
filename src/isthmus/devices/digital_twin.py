"""A twin as a digital twin: properties of a model's interface and of its components, told and patched; pure.

A property has what the device has reported as its value, and in the metadata beside it what is desired of it and how
far the device has taken that. A device acknowledges a desired value by reporting `{"value", "ac", "av", "ad"}`. A
component is a member whose object says `"__t": "c"` (IoT Plug and Play documentation, "Conventions", and "Digital
twins"). Models are not looked at: what a twin holds says what is a component.
"""

from collections.abc import Mapping, Sequence

from isthmus.base.errors import Code, HubError
from isthmus.devices.differences import difference
from isthmus.devices.twin import JsonObject, Twin

OPERATIONS_MAX = 100
"""Operations of one patch: more than a model's interface has properties that may be written."""

MARK = "__t"
COMPONENT = "c"
"""The member and its value by which an object is a component."""

_ACKNOWLEDGED = {"ac": "ackCode", "av": "ackVersion", "ad": "ackDescription"}
_WRITES = ("add", "replace")


def digital_twin(device_id: str, twin: Twin) -> JsonObject:
    """The digital twin of a device as services read it."""
    desired, reported = twin.properties.desired, twin.properties.reported
    wished, told = twin.metadata.desired, twin.metadata.reported
    components = [name for name in _names(desired, reported) if _is_component(twin, name)]
    values, metadata = _folded(_without(desired, components), _without(reported, components), wished, told)
    folded: JsonObject = {"$dtId": device_id, **values}
    for name in components:
        below = (_object(section.get(name)) for section in (desired, reported, wished, told))
        inner, inner_metadata = _folded(*below)
        folded[name] = {**inner, "$metadata": inner_metadata}
    return {**folded, "$metadata": {"$model": twin.model_id, **metadata}}


def desired_of(twin: Twin, operations: object) -> JsonObject:
    """The merge patch of desired properties that a JSON Patch (RFC 6902) of the digital twin means.

    Raises `INVALID_JSON_PATCH` for what is none, `INVALID_TWIN_PAYLOAD` for a value, `INVALID_PATCH_PATH` for a path,
    and `INVALID_TWIN_PATCH` for one that leads to nothing.
    """
    if not isinstance(operations, Sequence) or isinstance(operations, str) or not operations:
        raise HubError(Code.INVALID_JSON_PATCH, "The patch must be an array of operations")
    if len(operations) > OPERATIONS_MAX:
        raise HubError(Code.INVALID_JSON_PATCH, f"A patch has at most {OPERATIONS_MAX} operations")
    desired = twin.properties.desired
    for operation in operations:
        desired = _applied(twin, desired, operation)
    return difference(twin.properties.desired, desired)


def _applied(twin: Twin, desired: JsonObject, operation: object) -> JsonObject:
    if not isinstance(operation, Mapping) or operation.get("op") not in (*_WRITES, "remove"):
        raise HubError(Code.INVALID_JSON_PATCH, "An operation must be add, replace or remove")
    name, *below = _members(operation.get("path"))
    if operation["op"] == "remove":
        return _removed(desired, [name, *below])
    if "value" not in operation:
        raise HubError(Code.INVALID_JSON_PATCH, "An operation that writes needs a value")
    value = operation["value"]
    if operation["op"] == "replace" and not _has(desired, [name, *below]):
        _require(twin.properties.reported, [name, *below])
    if not below:
        return {**desired, name: _written(value, is_component=_is_component(twin, name))}
    if not _is_component(twin, name) and (name in desired or name in twin.properties.reported):
        raise HubError(Code.INVALID_PATCH_PATH, "The path leads into a property that is no component")
    component = {MARK: COMPONENT, **_object(desired.get(name)), below[0]: _written(value, is_component=False)}
    return {**desired, name: component}


def _written(value: object, *, is_component: bool) -> object:
    """A value; one with `$metadata` is a whole component."""
    if value is None:
        raise HubError(Code.INVALID_TWIN_PAYLOAD, "A property cannot be null")
    if not isinstance(value, Mapping):
        if is_component:
            raise HubError(Code.INVALID_TWIN_PAYLOAD, "A component must be an object")
        return value
    members = {name: each for name, each in value.items() if name != "$metadata"}
    return {MARK: COMPONENT, **members} if is_component or "$metadata" in value else members


def _members(path: object) -> list[str]:
    """The property, or the component and its property, of a JSON pointer (RFC 6901)."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise HubError(Code.INVALID_PATCH_PATH, "The path must be a JSON pointer")
    members = [each.replace("~1", "/").replace("~0", "~") for each in path[1:].split("/")]
    if not 1 <= len(members) <= 2 or any(not each or each.startswith("$") or each == MARK for each in members):
        raise HubError(Code.INVALID_PATCH_PATH, "The path must name a property, or a component and its property")
    return members


def _removed(desired: JsonObject, members: Sequence[str]) -> JsonObject:
    _require(desired, members)
    name, *below = members
    if not below:
        return _without(desired, members)
    return {**desired, name: _without(_object(desired[name]), below)}


def _require(section: JsonObject, members: Sequence[str]) -> None:
    if not _has(section, members):
        raise HubError(Code.INVALID_TWIN_PATCH, "The path leads to nothing")


def _has(section: JsonObject, members: Sequence[str]) -> bool:
    name, *below = members
    return name in section and (not below or below[0] in _object(section[name]))


def _folded(
    desired: JsonObject, reported: JsonObject, wished: JsonObject, told: JsonObject
) -> tuple[JsonObject, JsonObject]:
    """The values of an interface's properties, and their metadata."""
    values: JsonObject = {}
    metadata: JsonObject = {}
    for name in _names(desired, reported):
        if name == MARK:
            continue
        facts: JsonObject = {}
        when = _object(told.get(name)) if name in reported else _object(wished.get(name))
        if name in desired:
            facts["desiredValue"] = desired[name]
            facts["desiredVersion"] = _object(wished.get(name)).get("$lastUpdatedVersion")
        if name in reported:
            acknowledged = _acknowledged(reported[name])
            values[name] = acknowledged.get("value") if acknowledged else reported[name]
            facts |= {_ACKNOWLEDGED[each]: acknowledged[each] for each in _ACKNOWLEDGED if each in acknowledged}
        metadata[name] = {**facts, "lastUpdateTime": when.get("$lastUpdated")}
    return values, metadata


def _acknowledged(value: object) -> JsonObject:
    """The members of an acknowledgement; nothing for a plain value."""
    return value if isinstance(value, dict) and {"value", "ac", "av"} <= value.keys() else {}


def _is_component(twin: Twin, name: str) -> bool:
    sections = (twin.properties.desired, twin.properties.reported)
    return any(_object(section.get(name)).get(MARK) == COMPONENT for section in sections)


def _names(*sections: JsonObject) -> list[str]:
    return list(dict.fromkeys(name for section in sections for name in section))


def _without(section: JsonObject, names: Sequence[str]) -> JsonObject:
    return {name: value for name, value in section.items() if name not in names}


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
