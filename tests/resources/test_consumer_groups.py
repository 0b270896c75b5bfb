"""Consumer groups: names, limits, and the default one that stays."""

import pytest

from devices.fakes import NOW_MS
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.resources.consumer_groups import add_group, find_group, group_to_arm, remove_group
from isthmus.resources.hub import CONSUMER_GROUPS_MAX, Hub

HUB = Hub(HubId(1), "hub", "hub.example.test", 4, NOW_MS)


def test_groups_are_found_without_case_and_keep_the_name_they_were_given() -> None:
    hub = add_group(HUB, "Shift-1")

    assert hub.consumer_groups == ("$Default", "Shift-1")
    assert find_group(hub, "shift-1") == "Shift-1"
    assert find_group(hub, "$default") == "$Default"
    assert find_group(hub, "shift-2") is None


def test_adding_what_is_there_changes_nothing() -> None:
    hub = add_group(HUB, "Shift-1")

    assert add_group(hub, "SHIFT-1") is hub


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "0" * 50])
def test_names_that_may_be(name: str) -> None:
    assert find_group(add_group(HUB, name), name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", ".a", "a b", "a/b", "ä", "0" * 51, "a\n", "$other"])
def test_names_that_may_not_be(name: str) -> None:
    assert refusal_of(lambda: add_group(HUB, name)) is Code.ARGUMENT_INVALID


def test_a_hub_has_a_limited_number_of_groups() -> None:
    hub = HUB
    for number in range(CONSUMER_GROUPS_MAX - 1):
        hub = add_group(hub, f"group-{number}")

    assert refusal_of(lambda: add_group(hub, "one-more")) is Code.QUOTA_EXCEEDED
    assert find_group(add_group(remove_group(hub, "GROUP-0"), "one-more"), "one-more") == "one-more"


def test_the_default_group_stays() -> None:
    assert refusal_of(lambda: remove_group(HUB, "$DEFAULT")) is Code.INVALID_OPERATION


def test_what_is_not_there_is_not_found() -> None:
    assert refusal_of(lambda: remove_group(HUB, "none")) is Code.NOT_FOUND
    assert refusal_of(lambda: group_to_arm(HUB, "none")) is Code.NOT_FOUND


def test_a_group_as_az_shows_it() -> None:
    hub = add_group(HUB, "Shift-1")

    assert group_to_arm(hub, "shift-1") == {
        "id": f"{HUB.resource_id}/eventHubEndpoints/events/ConsumerGroups/Shift-1",
        "name": "Shift-1",
        "type": "Microsoft.Devices/IotHubs/EventHubEndpoints/ConsumerGroups",
        "etag": None,
        "properties": {},
    }


def refusal_of(act: object) -> Code:
    assert callable(act)
    with pytest.raises(HubError) as raised:
        act()
    return raised.value.code
