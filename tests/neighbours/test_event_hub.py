"""The record of a hosted event hub: names, groups, retention, and its stored form."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.neighbours.event_hub import (
    CONSUMER_GROUPS_MAX,
    HOUR_MS,
    EntityStatus,
    EventHub,
    check_event_hub_name,
    decode_event_hub,
    encode_event_hub,
    put_group,
    remove_group,
)
from isthmus.neighbours.event_hub_arm import apply_body, event_hub_to_arm, group_to_arm

TELEMETRY = EventHub(HubId(7), HubId(2), "telemetry", partitions=4, created_ms=1_000, updated_ms=2_001)


def test_the_stored_form_is_the_whole_record_less_its_revision() -> None:
    event_hub = put_group(TELEMETRY, "second", user_metadata="m", now_ms=5)
    assert decode_event_hub(encode_event_hub(event_hub), 3).revision == 3
    assert decode_event_hub(encode_event_hub(event_hub), 0) == event_hub


@pytest.mark.parametrize("name", ["a", "A.b-c_1", "x" * 256])
def test_good_names(name: str) -> None:
    check_event_hub_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a.", "a/b", "a b", "x" * 257, "ü"])
def test_bad_names(name: str) -> None:
    with pytest.raises(HubError, match="1 to 256"):
        check_event_hub_name(name)


def test_groups_are_found_without_case_and_the_default_one_stays() -> None:
    event_hub = put_group(TELEMETRY, "Second", user_metadata="", now_ms=5)
    assert put_group(event_hub, "second", user_metadata="", now_ms=6) is event_hub
    changed = put_group(event_hub, "second", user_metadata="new", now_ms=6)
    group = changed.group("SECOND")
    assert group is not None
    assert (group.name, group.user_metadata, group.created_ms, group.updated_ms) == ("Second", "new", 5, 6)
    assert remove_group(changed, "second") == TELEMETRY
    with pytest.raises(HubError, match="cannot be deleted"):
        remove_group(changed, "$default")
    with pytest.raises(HubError, match="There is no consumer group"):
        remove_group(TELEMETRY, "second")
    with pytest.raises(HubError, match="1 to 50"):
        put_group(TELEMETRY, "a/b", user_metadata="", now_ms=0)


def test_groups_have_a_limit() -> None:
    event_hub = TELEMETRY
    for number in range(CONSUMER_GROUPS_MAX - 1):
        event_hub = put_group(event_hub, f"g{number}", user_metadata="", now_ms=0)
    with pytest.raises(HubError) as refused:
        put_group(event_hub, "one-more", user_metadata="", now_ms=0)
    assert refused.value.code is Code.QUOTA_EXCEEDED


def test_a_body_sets_what_it_says_and_the_rest_goes_back() -> None:
    body = {
        "properties": {
            "partitionCount": 2,
            "retentionDescription": {"cleanupPolicy": "Delete", "retentionTimeInHours": 3},
            "status": "SendDisabled",
            "userMetadata": "of mine",
        }
    }
    made = apply_body(TELEMETRY, body, is_new=True)
    assert (made.partitions, made.retention_hours, made.status) == (2, 3, EntityStatus.SEND_DISABLED)
    assert made.kept_since_ms(10 * HOUR_MS) == 7 * HOUR_MS
    again = apply_body(made, {}, is_new=False)
    assert (again.partitions, again.retention_hours, again.user_metadata) == (2, 168, "")
    assert apply_body(made, {"properties": {"messageRetentionInDays": "2"}}, is_new=False).retention_hours == 48
    assert apply_body(made, event_hub_to_arm(made, "", ""), is_new=False) == made


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"partitionCount": 0}, Code.ARGUMENT_INVALID),
        ({"partitionCount": 8}, Code.INVALID_OPERATION),
        ({"messageRetentionInDays": 91}, Code.ARGUMENT_INVALID),
        ({"retentionDescription": {"cleanupPolicy": "Compact"}}, Code.NOT_IMPLEMENTED),
        ({"captureDescription": {"enabled": True}}, Code.NOT_IMPLEMENTED),
        ({"status": "Sleeping"}, Code.ARGUMENT_INVALID),
        ({"userMetadata": "x" * 1_025}, Code.ARGUMENT_INVALID),
        ({"unknown": 1}, Code.ARGUMENT_INVALID),
        ([], Code.ARGUMENT_INVALID),
    ],
)
def test_what_cannot_be_is_refused(properties: object, code: Code) -> None:
    with pytest.raises(HubError) as refused:
        apply_body(TELEMETRY, {"properties": properties or [1]}, is_new=False)
    assert refused.value.code is code


def test_arm_form() -> None:
    shown = event_hub_to_arm(TELEMETRY, "/ns", "local")
    assert shown["id"] == "/ns/eventhubs/telemetry"
    assert shown["properties"] == {
        "partitionCount": 4,
        "partitionIds": ["0", "1", "2", "3"],
        "messageRetentionInDays": 7,
        "retentionDescription": {"cleanupPolicy": "Delete", "retentionTimeInHours": 168},
        "status": "Active",
        "userMetadata": None,
        "createdAt": "1970-01-01T00:00:01.0000000Z",
        "updatedAt": "1970-01-01T00:00:02.0010000Z",
    }
    assert group_to_arm(TELEMETRY.groups[0], "/ns/eventhubs/telemetry", "local")["name"] == "$Default"


@pytest.mark.parametrize(
    ("status", "sends", "receives"),
    [
        (EntityStatus.ACTIVE, True, True),
        (EntityStatus.DISABLED, False, False),
        (EntityStatus.SEND_DISABLED, False, True),
        (EntityStatus.RECEIVE_DISABLED, True, False),
    ],
)
def test_what_a_status_lets_in(status: EntityStatus, sends: bool, receives: bool) -> None:
    assert (status.sends, status.receives) == (sends, receives)
