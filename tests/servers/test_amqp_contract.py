"""Addresses, filters and claims of readers: pure readings of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.servers.gateway.amqp_contract import (
    READERS_PER_PARTITION_MAX,
    Address,
    Claim,
    Node,
    StartKind,
    StartPosition,
    is_built_in,
    judge_claim,
    parse_address,
    parse_selector,
    partition_number,
)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("$cbs", Node.CBS),
        ("amqps://hub.example.test/$CBS", Node.CBS),
        ("$management", Node.MANAGEMENT),
        ("hub/$management", Node.MANAGEMENT),
        ("/messages/devicebound", Node.DEVICEBOUND),
        ("amqps://hub.example.test:5671/messages/deviceBound", Node.DEVICEBOUND),
        ("/messages/serviceBound/feedback", Node.FEEDBACK),
        ("messages/servicebound/FEEDBACK/", Node.FEEDBACK),
        ("/messages/serviceBound/filenotifications", Node.FILE_NOTIFICATIONS),
        ("/devices/d/messages/events", Node.DEVICE),
        ("/devices/d/modules/m/twin", Node.DEVICE),
        ("hub", Node.EVENT_HUB),
        ("hub/Partitions/1", Node.EVENT_HUB),
        ("", Node.UNKNOWN),
        ("a/b/c", Node.UNKNOWN),
    ],
)
def test_addresses_are_paths_or_uris_in_any_case(text: str, node: Node) -> None:
    assert parse_address(text).node is node


@pytest.mark.parametrize("prefix", ["", "/", "amqps://host/", "sb://host:5671/"])
@pytest.mark.parametrize("words", [("ConsumerGroups", "Partitions"), ("consumergroups", "partitions")])
def test_a_readers_address_keeps_the_case_of_its_names(prefix: str, words: tuple[str, str]) -> None:
    text = f"{prefix}Hub/{words[0]}/%24Default/{words[1]}/3"
    assert parse_address(text) == Address(Node.PARTITION, text, "Hub", "$Default", "3")


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("/messages/events", ""),
        ("amqps://host/messages/events/$management", "/$management"),
        ("messages/events/ConsumerGroups/$Default/Partitions/0", "/ConsumerGroups/$Default/Partitions/0"),
    ],
)
def test_a_redirect_keeps_what_followed(text: str, suffix: str) -> None:
    assert parse_address(text) == Address(Node.EVENTS_REDIRECT, text, suffix=suffix)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp.annotation.x-opt-offset > '-1'", StartPosition(StartKind.OFFSET, -1, inclusive=False)),
        ("amqp.annotation.x-opt-offset >= '512'", StartPosition(StartKind.OFFSET, 512, inclusive=True)),
        ("amqp.annotation.x-opt-offset > '@latest'", StartPosition(StartKind.LATEST, 0, inclusive=False)),
        ("amqp.annotation.x-opt-sequence-number>7", StartPosition(StartKind.SEQUENCE_NUMBER, 7, inclusive=False)),
        ("amqp.annotation.x-opt-enqueued-time >'9'", StartPosition(StartKind.ENQUEUED_TIME, 9, inclusive=False)),
        ("amqp.annotation.x-opt-enqueuedtimeutc > '9'", StartPosition(StartKind.ENQUEUED_TIME, 9, inclusive=False)),
    ],
)
def test_selectors_say_where_to_start(text: str, expected: StartPosition) -> None:
    assert parse_selector(text) == expected


@given(st.text(max_size=80))
def test_any_other_text_is_no_selector(text: str) -> None:
    with pytest.raises(HubError) as caught:
        parse_selector(text)
    assert caught.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize(
    "text", ["x-opt-offset > '@latest", "x-opt-sequence-number > '@latest'", "x-opt-publisher > 'a'"]
)
def test_what_no_key_means_is_refused(text: str) -> None:
    with pytest.raises(HubError):
        parse_selector(f"amqp.annotation.{text} or 1")


@pytest.mark.parametrize(
    ("existing", "epoch", "claim"),
    [
        ([], None, Claim.ATTACH),
        ([], 0, Claim.ATTACH),
        ([None] * (READERS_PER_PARTITION_MAX - 1), None, Claim.ATTACH),
        ([None] * READERS_PER_PARTITION_MAX, None, Claim.FULL),
        ([None] * READERS_PER_PARTITION_MAX, 0, Claim.STEAL),
        ([1], None, Claim.STOLEN),
        ([2], 1, Claim.STOLEN),
        ([2], 2, Claim.STEAL),
        ([2], 3, Claim.STEAL),
    ],
)
def test_the_newest_of_an_equal_or_higher_epoch_owns(
    existing: list[int | None], epoch: int | None, claim: Claim
) -> None:
    assert judge_claim(existing, epoch) is claim


@pytest.mark.parametrize(("text", "valid"), [("0", True), ("3", True), ("4", False), ("-1", False), ("", False)])
def test_partitions_are_numbered_from_zero(text: str, valid: bool) -> None:
    if valid:
        assert partition_number(text, 4) == int(text)
    else:
        with pytest.raises(HubError, match="between 0 and 3"):
            partition_number(text, 4)


@pytest.mark.parametrize(
    ("audience", "expected"),
    [("sb://host/hub", True), ("SB%3a%2f%2fhost", True), ("host", False), ("https://host", False), ("sbx", False)],
)
def test_the_scheme_tells_event_hubs_audiences(audience: str, expected: bool) -> None:
    assert is_built_in(audience) is expected
