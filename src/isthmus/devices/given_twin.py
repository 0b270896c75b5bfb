"""A twin that is written as a whole document, metadata included, as an import does it.

Sections that are given replace the present ones. Metadata that comes with a section is taken where it says something of
a member that is there; everything else is stamped with the present moment. A twin of an identity that was just created
keeps the version its document had, so that a device that moves with its twin finds the version it knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from isthmus.base.clock import parse_iso_ms
from isthmus.base.errors import Code, HubError
from isthmus.devices.twin import (
    INTEGER_MAX,
    PROPERTIES_SIZE_MAX,
    TAGS_SIZE_MAX,
    JsonObject,
    Properties,
    Stamp,
    Twin,
    apply_patch,
    check_size,
    client_section,
)

LAST_UPDATED = "$lastUpdated"
LAST_UPDATED_VERSION = "$lastUpdatedVersion"


@dataclass(frozen=True, slots=True)
class GivenSection:
    """Properties with the metadata and the version they came with, None where they came without."""

    values: JsonObject
    metadata: Mapping[str, object] | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class GivenTwin:
    """The sections of a document; None for one that is not in it."""

    tags: JsonObject | None = None
    desired: GivenSection | None = None
    reported: GivenSection | None = None

    @property
    def is_empty(self) -> bool:
        """True when the document has no twin."""
        return self.tags is None and self.desired is None and self.reported is None


def parse_given_twin(tags: object, properties: object) -> GivenTwin:
    """The twin of a document's `tags` and `properties`; raises `ARGUMENT_INVALID` where a twin's limits are broken."""
    below = {} if properties is None else properties
    if not isinstance(below, dict):
        raise HubError(Code.ARGUMENT_INVALID, "properties must be a JSON object")
    given = GivenTwin(
        tags=None if tags is None else client_section(tags, "tags"),
        desired=_section(below.get("desired"), "properties.desired"),
        reported=_section(below.get("reported"), "properties.reported"),
    )
    check_size(given.tags, TAGS_SIZE_MAX, "tags")
    return given


def given_applied(twin: Twin, given: GivenTwin, last_updated: str, *, is_new: bool) -> Twin:
    """The twin with the sections of the document; `is_new` for one whose identity was made by the same document."""
    tags, _ = apply_patch({}, {}, given.tags or {}, Stamp(last_updated))
    desired, desired_metadata, desired_version = twin.properties.desired, twin.metadata.desired, twin.desired_version
    if given.desired is not None:
        desired_version = _version(desired_version, given.desired, is_new=is_new)
        desired, desired_metadata = _written(given.desired, Stamp(last_updated, desired_version))
    reported, reported_metadata = twin.properties.reported, twin.metadata.reported
    reported_version = twin.reported_version
    if given.reported is not None:
        reported_version = _version(reported_version, given.reported, is_new=is_new)
        reported, reported_metadata = _written(given.reported, Stamp(last_updated))
    counted = given.tags is not None or given.desired is not None
    return msgspec.structs.replace(
        twin,
        tags=twin.tags if given.tags is None else tags,
        properties=Properties(desired, reported),
        metadata=Properties(desired_metadata, reported_metadata),
        version=twin.version + counted,
        etag_number=twin.etag_number + counted,
        desired_version=desired_version,
        reported_version=reported_version,
    )


def _section(value: object, name: str) -> GivenSection | None:
    if value is None:
        return None
    values = client_section(value, name)
    check_size(values, PROPERTIES_SIZE_MAX, name)
    whole = value if isinstance(value, dict) else {}
    metadata, version = whole.get("$metadata"), whole.get("$version")
    return GivenSection(
        values,
        metadata if isinstance(metadata, dict) else None,
        version if type(version) is int and 1 <= version <= INTEGER_MAX else None,
    )


def _version(present: int, given: GivenSection, *, is_new: bool) -> int:
    return given.version or present if is_new else present + 1


def _written(given: GivenSection, stamp: Stamp) -> tuple[JsonObject, JsonObject]:
    values, metadata = apply_patch({}, {}, given.values, stamp)
    return values, metadata if given.metadata is None else _restamped(metadata, given.metadata, stamp)


def _restamped(nodes: JsonObject, given: Mapping[str, object], stamp: Stamp) -> JsonObject:
    """The metadata of a section's members, with what the document says of them."""
    restamped: JsonObject = {}
    for name, node in nodes.items():
        there = given.get(name)
        if isinstance(node, dict) and isinstance(there, dict):
            restamped[name] = _restamped(node, there, stamp)
        else:
            restamped[name] = node
    moment, version = given.get(LAST_UPDATED), given.get(LAST_UPDATED_VERSION)
    if isinstance(moment, str) and parse_iso_ms(moment) is not None:
        restamped[LAST_UPDATED] = moment
    if stamp.version is not None and type(version) is int and 0 <= version <= INTEGER_MAX:
        restamped[LAST_UPDATED_VERSION] = version
    return restamped
