"""Twins: the document, its limits, and one pure function that applies a patch in either direction.

Theory of operation. A twin has three trees: `tags`, `desired` and `reported`. Each properties tree carries its own
version and a metadata tree of the same shape, whose nodes say when (`$lastUpdated`) and, for desired properties, in
which version (`$lastUpdatedVersion`) a member was last written. A patch is a JSON merge patch (RFC 7396): an object
merges, `null` removes, everything else, arrays included, replaces. Whatever a patch touches is stamped, together with
all nodes above it; an array has one metadata node. `apply_patch` does this for a service that writes desired
properties and for a device that writes reported ones alike; `replace` writes a whole section.

Members of a section's root that belong to the hub (`$metadata`, `$version`) are ignored on input: clients send whole
twins back. Limits are those of the IoT Hub developer guide, "Device twins" and "IoT Hub quotas and throttling".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from isthmus.base.clock import NEVER
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag

JsonObject = dict[str, object]
"""A JSON object; its values are JSON values."""

TAGS_SIZE_MAX = 8 * 1024
PROPERTIES_SIZE_MAX = 32 * 1024
"""Sizes of the sections by the guide's formula (`section_size`), the hub's own members excluded."""

KEY_BYTES_MAX = 1024
VALUE_BYTES_MAX = 4 * 1024
"""A string, or an array as a whole, which is one value."""

DEPTH_MAX = 10
"""Objects and arrays inside one another below a section's root."""

INTEGER_MIN = -4_503_599_627_370_496
INTEGER_MAX = 4_503_599_627_370_495

NAME_IN_ERROR_MAX = 200
"""Characters of a member's path in an error message; keys may be long."""

HUB_MEMBERS = frozenset(("$metadata", "$version"))

_FORBIDDEN_IN_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f.$ ]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Properties(msgspec.Struct, frozen=True, rename="camel"):
    """One tree for the service's wishes and one for the device's facts, or the metadata of both."""

    desired: JsonObject
    reported: JsonObject


class Twin(msgspec.Struct, frozen=True, rename="camel"):
    """A twin as stored. `version` and `etag_number` count changes of tags and desired properties.

    `configurations` are the statuses of the configurations that it is a target of, by their ids, and `configured` is
    what they have put into it; both are unset where there were never any.
    """

    tags: JsonObject
    properties: Properties
    metadata: Properties
    version: int
    etag_number: int
    desired_version: int
    reported_version: int
    model_id: str = ""
    configurations: dict[str, dict[str, str]] | msgspec.UnsetType = msgspec.UNSET
    configured: JsonObject | msgspec.UnsetType = msgspec.UNSET

    @property
    def etag(self) -> str:
        return twin_etag(self.etag_number)


@dataclass(frozen=True, slots=True)
class Stamp:
    """When something is written, and in which version where the section's metadata says so."""

    last_updated: str
    version: int | None = None

    def node(self) -> JsonObject:
        """A metadata node without members."""
        if self.version is None:
            return {"$lastUpdated": self.last_updated}
        return {"$lastUpdated": self.last_updated, "$lastUpdatedVersion": self.version}


@dataclass(frozen=True, slots=True)
class TwinBody:
    """The sections that a service gave in a PATCH or PUT; None for one it did not mention."""

    tags: JsonObject | None
    desired: JsonObject | None


encode_twin = msgspec.json.Encoder().encode
"""The stored form of a `Twin`."""

decode_twin = msgspec.json.Decoder(Twin).decode
"""The `Twin` of a stored document."""


def new_twin() -> Twin:
    """The twin of an identity that was just created."""
    never = Stamp(NEVER)
    return Twin(
        tags={},
        properties=Properties({}, {}),
        metadata=Properties(never.node(), never.node()),
        version=1,
        etag_number=1,
        desired_version=1,
        reported_version=1,
    )


def parse_twin_body(body: object) -> TwinBody:
    """The sections of a service's PATCH or PUT body, without the members that are the hub's to set."""
    whole = _as_object(body, "twin")
    properties = whole.get("properties")
    desired = None if properties is None else _as_object(properties, "properties").get("desired")
    tags = whole.get("tags")
    return TwinBody(
        tags=None if tags is None else client_section(tags, "tags"),
        desired=None if desired is None else client_section(desired, "properties.desired"),
    )


def client_section(value: object, name: str) -> JsonObject:
    """A section as its writer gave it, without the hub's own members; keys, values and depth are checked."""
    section = {key: member for key, member in _as_object(value, name).items() if key not in HUB_MEMBERS}
    _check_members(section, name, depth=0)
    return section


def patched(twin: Twin, body: TwinBody, last_updated: str) -> Twin:
    """The twin after a service's PATCH; the same twin when no section was given."""
    if body.tags is None and body.desired is None:
        return twin
    desired_version = twin.desired_version + (body.desired is not None)
    tags, _ = apply_patch(twin.tags, {}, body.tags or {}, Stamp(last_updated))
    desired, metadata = twin.properties.desired, twin.metadata.desired
    if body.desired is not None:
        desired, metadata = apply_patch(desired, metadata, body.desired, Stamp(last_updated, desired_version))
    check_size(tags, TAGS_SIZE_MAX, "tags")
    check_size(desired, PROPERTIES_SIZE_MAX, "properties.desired")
    return msgspec.structs.replace(
        twin,
        tags=tags,
        properties=Properties(desired, twin.properties.reported),
        metadata=Properties(metadata, twin.metadata.reported),
        version=twin.version + 1,
        etag_number=twin.etag_number + 1,
        desired_version=desired_version,
    )


def replaced(twin: Twin, body: TwinBody, last_updated: str) -> Twin:
    """The twin after a service's PUT: sections that were given are replaced whole, others stay."""
    cleared = msgspec.structs.replace(
        twin,
        tags=twin.tags if body.tags is None else {},
        properties=twin.properties if body.desired is None else Properties({}, twin.properties.reported),
        metadata=twin.metadata if body.desired is None else Properties({}, twin.metadata.reported),
    )
    return patched(cleared, body, last_updated)


def reported_patched(twin: Twin, patch: JsonObject, last_updated: str) -> Twin:
    """The twin after the device's patch of its reported properties; neither etag nor root version moves."""
    values, metadata = apply_patch(twin.properties.reported, twin.metadata.reported, patch, Stamp(last_updated))
    check_size(values, PROPERTIES_SIZE_MAX, "properties.reported")
    return msgspec.structs.replace(
        twin,
        properties=Properties(twin.properties.desired, values),
        metadata=Properties(twin.metadata.desired, metadata),
        reported_version=twin.reported_version + 1,
    )


def apply_patch(
    values: JsonObject, metadata: JsonObject, patch: Mapping[str, object], stamp: Stamp
) -> tuple[JsonObject, JsonObject]:
    """Merges a patch into a tree and stamps what it touched (RFC 7396); the arguments stay as they are."""
    merged, nodes = dict(values), {**metadata, **stamp.node()}
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
            nodes.pop(key, None)
        elif isinstance(change, dict):
            below, below_nodes = _object_at(merged, nodes, key)
            merged[key], nodes[key] = apply_patch(below, below_nodes, change, stamp)
        else:
            merged[key], nodes[key] = change, stamp.node()
    return merged, nodes


def section_size(value: object) -> int:
    """The guide's size of a value: characters of keys and strings without controls, 8 a number, 4 a boolean."""
    match value:
        case dict():
            return sum(len(key) + section_size(member) for key, member in value.items())
        case list():
            return sum(section_size(member) for member in value)
        case str():
            return len(_CONTROL.sub("", value))
        case bool():
            return 4
        case None:
            return 0
        case _:
            return 8


def check_size(value: object, size_max: int, name: str) -> None:
    """Raises `ARGUMENT_INVALID` for a section or value above a size by the guide's formula."""
    if section_size(value) > size_max:
        raise _invalid(name, f"is larger than {size_max} bytes")


def desired_with_version(twin: Twin) -> JsonObject:
    """The desired properties as a device reads them."""
    return {**twin.properties.desired, "$version": twin.desired_version}


def reported_with_version(twin: Twin) -> JsonObject:
    """The reported properties as a device reads them."""
    return {**twin.properties.reported, "$version": twin.reported_version}


def _object_at(values: JsonObject, nodes: JsonObject, key: str) -> tuple[JsonObject, JsonObject]:
    """The object below `key` with its metadata; empty ones where something else or nothing is there."""
    value, node = values.get(key), nodes.get(key)
    if isinstance(value, dict) and isinstance(node, dict):
        return value, node
    return (value, {}) if isinstance(value, dict) else ({}, {})


def _as_object(value: object, name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise _invalid(name, "must be a JSON object")
    return value


def _check_members(members: Mapping[str, object], name: str, *, depth: int) -> None:
    for key, value in members.items():
        if not key or _FORBIDDEN_IN_KEY.search(key) is not None:
            raise _invalid(name, "has a key that is empty or contains a control character, '.', '$' or a space")
        if len(key.encode()) > KEY_BYTES_MAX:
            raise _invalid(name, f"has a key longer than {KEY_BYTES_MAX} bytes")
        _check_value(value, f"{name}.{key}", depth=depth)


def _check_value(value: object, name: str, *, depth: int) -> None:
    match value:
        case dict() | list() if depth == DEPTH_MAX:
            raise _invalid(name, f"is nested deeper than {DEPTH_MAX} levels")
        case dict():
            _check_members(value, name, depth=depth + 1)
        case list():
            for index, member in enumerate(value):
                _check_value(member, f"{name}[{index}]", depth=depth + 1)
            check_size(value, VALUE_BYTES_MAX, name)
        case str() if len(value.encode()) > VALUE_BYTES_MAX:
            raise _invalid(name, f"is longer than {VALUE_BYTES_MAX} bytes")
        case int() if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise _invalid(name, f"is not between {INTEGER_MIN} and {INTEGER_MAX}")


def _invalid(name: str, what: str) -> HubError:
    """The refusal of a member; its name, which the client chose, is shortened."""
    return HubError(Code.ARGUMENT_INVALID, f"{name[:NAME_IN_ERROR_MAX]} {what}")
