"""Twins written as whole documents, with the metadata and versions that come with them."""

import pytest

from isthmus.base.errors import HubError
from isthmus.devices.given_twin import given_applied, parse_given_twin
from isthmus.devices.twin import TwinBody, new_twin, patched

THEN = "2020-02-02T02:02:02.0000000Z"
NOW = "2026-01-01T00:00:00.0000000Z"
DESIRED = {
    "a": {"b": 1},
    "c": 2,
    "$metadata": {
        "$lastUpdated": THEN,
        "$lastUpdatedVersion": 7,
        "a": {"$lastUpdated": THEN, "$lastUpdatedVersion": 6, "b": {"$lastUpdated": "no date", "more": 1}},
        "gone": {"$lastUpdated": THEN},
    },
    "$version": 9,
}


def test_a_new_twin_has_the_versions_and_the_metadata_of_its_document() -> None:
    given = parse_given_twin({"t": 1}, {"desired": DESIRED, "reported": {"r": 1, "$version": 4}})
    twin = given_applied(new_twin(), given, NOW, is_new=True)
    assert (twin.tags, twin.desired_version, twin.reported_version) == ({"t": 1}, 9, 4)
    assert twin.properties.desired == {"a": {"b": 1}, "c": 2}
    assert twin.metadata.desired == {
        "$lastUpdated": THEN,
        "$lastUpdatedVersion": 7,
        "a": {
            "$lastUpdated": THEN,
            "$lastUpdatedVersion": 6,
            "b": {"$lastUpdated": NOW, "$lastUpdatedVersion": 9},
        },
        "c": {"$lastUpdated": NOW, "$lastUpdatedVersion": 9},
    }
    assert twin.metadata.reported == {"$lastUpdated": NOW, "r": {"$lastUpdated": NOW}}


def test_sections_of_a_twin_that_is_there_are_replaced_and_counted_on() -> None:
    before = patched(new_twin(), TwinBody({"t": 1}, {"old": 1}), THEN)
    twin = given_applied(before, parse_given_twin(None, {"desired": DESIRED}), NOW, is_new=False)
    assert (twin.tags, twin.properties.desired) == ({"t": 1}, {"a": {"b": 1}, "c": 2})
    assert (twin.desired_version, twin.version, twin.etag_number) == (3, 3, 3)


def test_reported_properties_alone_move_neither_etag_nor_version() -> None:
    before = new_twin()
    twin = given_applied(before, parse_given_twin(None, {"reported": {"r": 1}}), NOW, is_new=False)
    assert (twin.etag, twin.version, twin.reported_version) == (before.etag, before.version, 2)


def test_a_document_without_a_twin_is_empty() -> None:
    assert parse_given_twin(None, None).is_empty
    assert parse_given_twin(None, {"desired": None}).is_empty
    assert not parse_given_twin({}, None).is_empty


@pytest.mark.parametrize("version", [0, -1, True, "3", 2**60, 1.5])
def test_a_version_that_is_none_is_not_taken(version: object) -> None:
    given = parse_given_twin(None, {"desired": {"$version": version, "$metadata": 7}})
    assert given_applied(new_twin(), given, NOW, is_new=True).desired_version == 1


@pytest.mark.parametrize(
    ("tags", "properties"),
    [
        ({"a": "x" * 9_000}, None),
        (None, {"reported": {f"k{number}": "x" * 4_000 for number in range(9)}}),
        (None, {"desired": {"a b": 1}}),
        (7, None),
        (None, []),
    ],
)
def test_what_no_twin_may_hold_is_refused(tags: object, properties: object) -> None:
    with pytest.raises(HubError):
        parse_given_twin(tags, properties)
