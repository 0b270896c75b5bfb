"""Door policies: whom they concern, which doors they open, and that several of them only take away."""

from collections.abc import Mapping
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Hop
from isthmus.network.door import LOCAL_DOOR, PUBLIC_DOOR, Door, DoorKind
from isthmus.network.door_policies import Caller, DoorPolicy, TagEquals, ask_for_tags, wrong_door

PLANT = Door(DoorKind.PRIVATE, "/hubs/hub", "plant.3f2a", "works")
OFFICE = Door(DoorKind.PRIVATE, "/hubs/hub", "office.77aa", "campus")
BARE = Door(DoorKind.PRIVATE, "/hubs/hub", "bare.0001")
SITE_1 = (TagEquals(("tags", "site"), "plant1"),)


def policy(*doors: str, name: str = "bound", enabled: bool = True) -> DoorPolicy:
    return DoorPolicy(name, doors, device_ids=frozenset({"press"}), enabled=enabled)


PRESS = Caller("press")


@pytest.mark.parametrize(
    ("doors", "opened"),
    [
        (("public",), [PUBLIC_DOOR]),
        (("Public",), [PUBLIC_DOOR]),
        (("private",), [PLANT, OFFICE, BARE]),
        (("private:plant",), [PLANT]),
        (("private:PLANT",), [PLANT]),
        (("private:plant.3f2a",), [PLANT]),
        (("private:plant.ffff",), []),
        (("network:works",), [PLANT]),
        (("network:Works", "public"), [PLANT, PUBLIC_DOOR]),
        (("network:",), []),
        (("private:",), []),
    ],
)
def test_a_policy_names_doors(doors: tuple[str, ...], opened: list[Door]) -> None:
    every = [PUBLIC_DOOR, PLANT, OFFICE, BARE]
    assert [door for door in every if wrong_door([policy(*doors)], PRESS, door) is None] == [
        door for door in every if door in opened
    ]


@pytest.mark.parametrize(
    ("bound", "caller", "concerned"),
    [
        (DoorPolicy("p", (), device_ids=frozenset({"press"})), Caller("press"), True),
        (DoorPolicy("p", (), device_ids=frozenset({"press"})), Caller("Press"), False),
        (DoorPolicy("p", (), device_ids=frozenset({"press"})), Caller(), False),
        (DoorPolicy("p", (), conditions=SITE_1), Caller("oven", {"site": "plant1"}), True),
        (DoorPolicy("p", (), conditions=SITE_1), Caller("oven", {"site": "plant2"}), False),
        (DoorPolicy("p", (), conditions=SITE_1), Caller("oven"), False),
        (DoorPolicy("p", (), conditions=SITE_1), Caller("", {"site": "plant1"}), False),
        (DoorPolicy("p", (), shared_access_policy="service"), Caller(shared_access_policy="service"), True),
        (DoorPolicy("p", (), shared_access_policy="device"), Caller("press", {}, "device"), True),
        (DoorPolicy("p", (), shared_access_policy="service"), Caller(), False),
        (DoorPolicy("p", (), consumer_group="Billing"), Caller(consumer_group="billing"), True),
        (DoorPolicy("p", (), consumer_group="Billing"), Caller(consumer_group="$Default"), False),
        (DoorPolicy("p", (), device_ids=frozenset({"press"}), enabled=False), Caller("press"), False),
        (DoorPolicy("p", (), conditions=SITE_1, enabled=False), Caller("oven", {"site": "plant1"}), False),
    ],
)
def test_a_policy_concerns_its_subject(bound: DoorPolicy, caller: Caller, concerned: bool) -> None:
    assert bound.concerns(caller) is concerned
    assert (wrong_door([bound], caller, PUBLIC_DOOR) is not None) is concerned


def test_the_owners_door_is_closed_by_no_policy() -> None:
    assert wrong_door([policy("private")], PRESS, LOCAL_DOOR) is None


def test_a_refusal_names_the_policy_the_door_used_and_the_doors_open() -> None:
    refusal = wrong_door([policy("private:plant", "network:campus", name="floor")], PRESS, PUBLIC_DOOR)
    assert refusal is not None
    assert (refusal.hop, refusal.rule) == (Hop.AUTHORIZATION, "policy.wrong-door")
    assert refusal.value == "floor opens private:plant, network:campus for the device press, who came by public"
    assert refusal.remedy == (
        "connect by private:plant, network:campus, or: isthmus policy update -n floor "
        "--doors private:plant network:campus public"
    )


def test_the_remedy_at_a_private_door_names_the_endpoint() -> None:
    refusal = wrong_door([policy("public")], PRESS, PLANT)
    assert refusal is not None
    assert refusal.value.endswith("who came by private:plant.3f2a in the network works")
    assert refusal.remedy.endswith("--doors public private:plant")


def test_only_enabled_queries_ask_for_tags() -> None:
    assert ask_for_tags([policy("public"), DoorPolicy("q", (), conditions=SITE_1)])
    assert not ask_for_tags([policy("public"), DoorPolicy("q", (), conditions=SITE_1, enabled=False)])


doors = st.sampled_from([PUBLIC_DOOR, PLANT, OFFICE, BARE])
names = st.sampled_from(["public", "private", "private:plant", "private:office", "network:works", "network:campus"])
tags: st.SearchStrategy[Mapping[str, object]] = st.sampled_from([{}, {"site": "plant1"}, {"site": "plant2"}])
callers = st.builds(
    Caller,
    st.sampled_from(["", "press", "oven"]),
    tags,
    st.sampled_from(["", "service", "device"]),
    st.sampled_from(["", "$Default", "billing"]),
)
subjects = st.sampled_from(
    [
        {"device_ids": frozenset({"press"})},
        {"conditions": SITE_1},
        {"shared_access_policy": "service"},
        {"consumer_group": "billing"},
    ]
)
policies = st.lists(
    st.builds(
        lambda opened, subject, enabled: DoorPolicy("p", tuple(opened), enabled=enabled, **subject),
        st.lists(names, min_size=1, max_size=3),
        subjects,
        st.booleans(),
    ),
    max_size=4,
)


@given(policies, callers, doors)
def test_all_policies_that_concern_a_caller_have_to_allow(bound: list[DoorPolicy], caller: Caller, door: Door) -> None:
    expected = all(each.opens(door) for each in bound if each.concerns(caller))
    assert (wrong_door(bound, caller, door) is None) is expected


@given(policies, callers, doors)
def test_a_further_policy_only_takes_away(bound: list[DoorPolicy], caller: Caller, door: Door) -> None:
    if wrong_door(bound, caller, door) is None:
        for fewer in combinations(bound, max(0, len(bound) - 1)):
            assert wrong_door(fewer, caller, door) is None
