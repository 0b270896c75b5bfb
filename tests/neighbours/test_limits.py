"""Limits of what is hosted beside a hub: what is at the limit is taken, and one more is refused.

The numbers stand here once more, so that whoever raises a limit is asked whether he meant to.
"""

import base64
from collections.abc import Callable
from dataclasses import replace

import pytest

from isthmus.base.clock import iso_utc
from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.neighbours.blob.block_list import parse_block_id
from isthmus.neighbours.blob.errors import StorageError
from isthmus.neighbours.blob.forms import parse_key_info, parse_policies
from isthmus.neighbours.blob.headers import metadata_of, settings_of
from isthmus.neighbours.blob.query import parse_query
from isthmus.neighbours.blob.sas import parse_sas
from isthmus.neighbours.bus_entity import EntityKind, check_entity, new_entity
from isthmus.neighbours.event_hub import EventHub
from isthmus.neighbours.event_hub_arm import apply_body
from isthmus.neighbours.neighbour import Neighbour
from isthmus.neighbours.storage_arm import apply_account
from isthmus.resources.guarded import ResourceKind

NOW_MS = 1_767_225_600_000
HOUSED = EventHub(HubId(7), HubId(2), "telemetry", partitions=4, created_ms=1_000, updated_ms=2_001)
SIGNED = {"sv": "2020-02-10", "sr": "b", "sp": "r", "se": "2030-01-01T00:00:00Z", "sig": f"{'A' * 43}="}
ACCOUNT = Neighbour(HubId(3), ResourceKind.STORAGE, "store", "store.blob.isthmus.test", 0)


def bus_metadata(length: int) -> object:
    entity = new_entity(HubId(1), EntityKind.QUEUE, "q", now_ms=0)
    return check_entity(replace(entity, user_metadata="m" * length))


def event_hub_metadata(length: int) -> object:
    return apply_body(HOUSED, {"properties": {"userMetadata": "m" * length}}, is_new=True)


def event_hub_hours(hours: int) -> object:
    retention = {"cleanupPolicy": "Delete", "retentionTimeInHours": hours}
    return apply_body(HOUSED, {"properties": {"retentionDescription": retention}}, is_new=True)


def event_hub_days(days: int) -> object:
    return apply_body(HOUSED, {"properties": {"messageRetentionInDays": days}}, is_new=True)


def resource_rules(count: int) -> object:
    rules = [{"resourceId": f"/subscriptions/s/r{number}"} for number in range(count)]
    return apply_account(ACCOUNT, {"properties": {"networkAcls": {"resourceAccessRules": rules}}})


def block_id(length: int) -> object:
    return parse_block_id(base64.b64encode(bytes(length)).decode())


def policy_id(length: int) -> object:
    return parse_policies(_policies("i" * length))


def policies(count: int) -> object:
    return parse_policies(_policies(*(f"i{number}" for number in range(count))))


def metadata(size: int) -> object:
    return metadata_of({"x-ms-meta-a": "v" * (size - 1)})


def content_header(length: int) -> object:
    return settings_of({"x-ms-blob-content-type": "t" * length})


def parameters(count: int) -> object:
    return parse_query("&".join(f"p{number}=1" for number in range(count)))


def delegation_seconds(seconds: int) -> object:
    ends = iso_utc(NOW_MS + seconds * 1000)
    return parse_key_info(f"<KeyInfo><Expiry>{ends}</Expiry></KeyInfo>".encode(), NOW_MS)


def signature_field(length: int) -> object:
    """The field is text of any kind; a signature that is none is refused at another place."""
    return parse_sas({**SIGNED, "rscc": "x" * length})


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (bus_metadata, 1_024),
        (event_hub_metadata, 1_024),
        (event_hub_hours, 2_160),
        (event_hub_days, 90),
        (resource_rules, 200),
        (block_id, 64),
        (policy_id, 64),
        (policies, 5),
        (metadata, 8_192),
        (content_header, 1_024),
        (parameters, 64),
        (delegation_seconds, 604_800),
        (signature_field, 2_048),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_at_the_limit_and_one_above(make: Callable[[int], object], most: int) -> None:
    make(most)
    with pytest.raises((HubError, StorageError)):
        make(most + 1)


def _policies(*ids: str) -> bytes:
    entries = "".join(f"<SignedIdentifier><Id>{each}</Id></SignedIdentifier>" for each in ids)
    return f"<SignedIdentifiers>{entries}</SignedIdentifiers>".encode()
