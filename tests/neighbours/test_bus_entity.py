"""The record of an entity: its names, its stored form, its limits, and what holds for its messages."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.neighbours.bus_arm import apply_members, members_of
from isthmus.neighbours.bus_durations import FOREVER, format_bus_duration, parse_bus_duration
from isthmus.neighbours.bus_entity import (
    DELIVERY_COUNT_MAX,
    LOCK_MS_MAX,
    LOCK_MS_MIN,
    MEGABYTES,
    Entity,
    EntityKind,
    check_entity,
    check_name,
    decode_entity,
    encode_entity,
    new_entity,
    put_rule,
    queue_policy,
    remove_rule,
)
from isthmus.neighbours.bus_rules import DEFAULT_RULE, Facts, FilterKind, Rule
from isthmus.neighbours.event_hub import EntityStatus
from isthmus.queues import NO_LIMIT, Outcome

NAMESPACE = HubId(7)


def entity(kind: EntityKind = EntityKind.QUEUE) -> Entity:
    topic = "t" if kind is EntityKind.SUBSCRIPTION else ""
    return replace(new_entity(NAMESPACE, kind, "orders", topic=topic, now_ms=5), number=HubId(9))


@pytest.mark.parametrize("name", ["a", "a/b", "orders-1.x_y-z", "x" * 260])
def test_names_that_queues_may_have(name: str) -> None:
    check_name(EntityKind.QUEUE, name)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "$a", "a b", "x" * 261, "t/Subscriptions/s", "ü", "a~b"])
def test_names_that_queues_may_not_have(name: str) -> None:
    with pytest.raises(HubError) as refused:
        check_name(EntityKind.QUEUE, name)
    assert refused.value.code is Code.ARGUMENT_INVALID


def test_a_subscription_has_a_shorter_name_and_begins_with_everything() -> None:
    with pytest.raises(HubError):
        check_name(EntityKind.SUBSCRIPTION, "x" * 51)
    with pytest.raises(HubError):
        check_name(EntityKind.SUBSCRIPTION, "a/b")
    made = entity(EntityKind.SUBSCRIPTION)
    assert made.path == "t/Subscriptions/orders"
    assert [rule.name for rule in made.rules] == [DEFAULT_RULE]


def test_the_stored_form_gives_back_what_it_was_made_of() -> None:
    wanted = Facts(label="hot", properties={"line": 1, "text": "x", "on": True, "none": None, "x": 0.5})
    full = put_rule(entity(EntityKind.SUBSCRIPTION), Rule("r", FilterKind.CORRELATION, wanted, 4))
    assert decode_entity(encode_entity(full), 3) == replace(full, revision=3)


def test_a_rule_takes_the_place_of_one_of_its_name_and_keeps_its_birth() -> None:
    one = put_rule(entity(EntityKind.SUBSCRIPTION), Rule("hot", created_ms=1))
    two = put_rule(one, Rule("HOT", FilterKind.FALSE, created_ms=2))
    assert two.rule("hot") == Rule("hot", FilterKind.FALSE, created_ms=1)
    assert [rule.name for rule in remove_rule(two, "Hot").rules] == [DEFAULT_RULE]
    with pytest.raises(HubError) as refused:
        remove_rule(one, "cold")
    assert refused.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    "changed",
    [
        {"lock_ms": LOCK_MS_MIN - 1},
        {"lock_ms": LOCK_MS_MAX + 1},
        {"ttl_ms": 999},
        {"max_delivery_count": 0},
        {"max_delivery_count": DELIVERY_COUNT_MAX + 1},
        {"max_megabytes": 1},
        {"user_metadata": "x" * 1025},
    ],
)
def test_numbers_that_cannot_be(changed: dict[str, int]) -> None:
    with pytest.raises(HubError) as refused:
        check_entity(replace(entity(), **changed))  # type: ignore[arg-type]
    assert refused.value.code is Code.ARGUMENT_INVALID


def test_what_expires_is_a_dead_letter_only_where_the_entity_says_so() -> None:
    plain, keeps = queue_policy(entity()), queue_policy(replace(entity(), dead_letters_expired=True))
    assert plain.dead_letter is not None
    assert keeps.dead_letter is not None
    assert keeps.dead_letter.outcomes - plain.dead_letter.outcomes == {Outcome.EXPIRED}
    assert plain.dead_letter.policy.ttl_ms == NO_LIMIT
    assert queue_policy(entity(EntityKind.TOPIC)).dead_letter is None


ENTITIES = st.builds(
    lambda kind, status, lock, ttl, count, size, expired, metadata: replace(
        entity(kind),
        status=status,
        ttl_ms=ttl,
        user_metadata=metadata,
        **(
            {}
            if kind is EntityKind.TOPIC
            else {"lock_ms": lock, "max_delivery_count": count, "dead_letters_expired": expired}
        ),
        **({} if kind is EntityKind.SUBSCRIPTION else {"max_megabytes": size}),
    ),
    st.sampled_from(EntityKind),
    st.sampled_from(EntityStatus),
    st.integers(5, 300).map(lambda seconds: seconds * 1000),
    st.integers(1, 10**8).map(lambda seconds: seconds * 1000) | st.just(NO_LIMIT),
    st.integers(1, DELIVERY_COUNT_MAX),
    st.sampled_from(MEGABYTES),
    st.booleans(),
    st.text(max_size=20),
)


@given(ENTITIES)
def test_what_is_told_of_an_entity_makes_the_same_entity(told: Entity) -> None:
    assert apply_members(entity(told.kind), members_of(told)) == told


@pytest.mark.parametrize(
    "members",
    [
        {"requiresSession": True},
        {"requiresDuplicateDetection": True},
        {"enablePartitioning": True},
        {"forwardTo": "other"},
        {"forwardDeadLetteredMessagesTo": "other"},
        {"autoDeleteOnIdle": "PT5M"},
    ],
)
def test_what_is_not_offered_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(HubError) as refused:
        apply_members(entity(), members)
    assert refused.value.code is Code.NOT_IMPLEMENTED


@pytest.mark.parametrize("members", [{"lockDuration": "soon"}, {"lockDuration": 5}, {"status": "Asleep"}, {"what": 1}])
def test_what_makes_no_sense_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(HubError) as refused:
        apply_members(entity(), members)
    assert refused.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT30S", 30_000),
        ("PT0.2S", 200),
        ("PT0.2000000S", 200),
        ("P1DT1H", 90_000_000),
        ("P1M", 30 * 86_400_000),
        ("P10675199DT2H48M5.4775807S", NO_LIMIT),
        ("P29247Y1M14DT2H48M5.477581S", NO_LIMIT),
        ("PT", None),
        ("P", None),
        ("1h", None),
    ],
)
def test_durations_in_all_their_forms(text: str, milliseconds: int | None) -> None:
    assert parse_bus_duration(text) == milliseconds


def test_no_end_is_told_as_the_longest_duration() -> None:
    assert format_bus_duration(NO_LIMIT) == FOREVER
