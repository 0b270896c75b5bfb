"""Door policies of a hub: what can be asked for, what only a mistake would ask for, and what is stored."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.network.door_policies import DOOR_POLICIES_MAX, POLICY_DEVICES_MAX, DoorPolicy, TagEquals
from isthmus.network.virtual_networks import NO_FACTS
from isthmus.resources.door_policies import (
    door_policy_to_arm,
    parse_door_policy,
    put_door_policy,
    remove_door_policy,
    require_door_policy,
    tag_conditions,
)
from isthmus.resources.hub import Hub, decode_hub, encode_hub
from resources.world import World, endpoint_body, network_body

PLANT = DoorPolicy("plant", ("private:plant",), device_ids=frozenset({"press"}))


@pytest.fixture
async def world() -> World:
    made = World()
    await made.with_hub("hub")
    await made.networks.put_network("works", network_body("10.1.0.0/16", line="10.1.0.0/24"))
    await made.endpoints.create("plant", endpoint_body(made.hubs.require("hub").resource_id, "10.9.0.7"))
    return made


def hub_of(world: World) -> Hub:
    return world.hubs.require("hub")


@pytest.mark.parametrize(
    ("properties", "policy"),
    [
        ({"deviceIds": ["press"], "doors": ["private:plant"]}, PLANT),
        ({"deviceIds": ["press"], "doors": ["private:plant"], "enabled": "true", "query": ""}, PLANT),
        (
            {"query": "tags.site = 'plant1'", "doors": ["public", "public"]},
            DoorPolicy(
                "plant", ("public",), query="tags.site = 'plant1'", conditions=(TagEquals(("tags", "site"), "plant1"),)
            ),
        ),
        (
            {"sharedAccessPolicy": "service", "doors": ["private"]},
            DoorPolicy("plant", ("private",), shared_access_policy="service"),
        ),
        (
            {"consumerGroup": "$Default", "doors": ["network:works"], "enabled": False},
            DoorPolicy("plant", ("network:works",), consumer_group="$Default", enabled=False),
        ),
    ],
)  # fmt: skip
def test_a_body_makes_a_policy(properties: dict[str, object], policy: DoorPolicy) -> None:
    assert parse_door_policy("plant", {"properties": properties}) == policy


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"doors": ["public"]}, "concerns one of"),
        ({"deviceIds": ["press"], "query": "tags.a = 1", "doors": ["public"]}, "concerns one of"),
        ({"deviceIds": ["press"], "doors": []}, "1 to 32 doors"),
        ({"deviceIds": ["press"]}, "1 to 32 doors"),
        ({"deviceIds": ["press"], "doors": ["public"], "door": "public"}, "door is not known"),
        ({"deviceIds": ["press/vision"], "doors": ["public"]}, "'press/vision' cannot be one"),
        ({"deviceIds": [f"d{n}" for n in range(POLICY_DEVICES_MAX + 1)], "doors": ["public"]}, "tag in common"),
        ({"query": "tags.site > 3", "doors": ["public"]}, "equalities of tags"),
        ({"query": "tags.site = ", "doors": ["public"]}, "not valid"),
    ],
)
def test_a_wrong_body_is_refused(properties: dict[str, object], said: str) -> None:
    with pytest.raises(HubError, match=said) as caught:
        parse_door_policy("plant", {"properties": properties})
    assert caught.value.code is Code.ARGUMENT_INVALID


def test_a_name_is_checked() -> None:
    with pytest.raises(HubError, match="1 to 64"):
        parse_door_policy("a/b", {"properties": {"deviceIds": ["press"], "doors": ["public"]}})


@pytest.mark.parametrize(
    "query",
    [
        "tags.site = 'p' AND tags.line.number = 3",
        "SELECT * FROM devices WHERE tags.site = 'p' AND 3 = tags.line.number",
    ],
)
def test_a_query_is_a_condition_or_a_whole_one(query: str) -> None:
    assert tag_conditions(query) == (TagEquals(("tags", "site"), "p"), TagEquals(("tags", "line", "number"), 3))


@pytest.mark.parametrize(
    "query",
    [
        "properties.reported.site = 'p'",
        "tags.site = 'p' AND deviceId = 'd'",
        "tags = 'p'",
        "SELECT * FROM devices",
        "SELECT * FROM devices.modules WHERE tags.site = 'p'",
        "SELECT tags.site FROM devices WHERE tags.site = 'p'",
        "tags.site = 'p' OR tags.site = 'q'",
        "tags.site = 'p' GROUP BY tags.site",
    ],
)
def test_a_query_asks_for_tags_and_for_nothing_else(query: str) -> None:
    with pytest.raises(HubError) as caught:
        tag_conditions(query)
    assert caught.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize("door", ["public", "private", "private:plant", "network:works", "network:WORKS"])
def test_doors_have_to_be_there(world: World, door: str) -> None:
    policy = DoorPolicy("plant", (door,), device_ids=frozenset({"press"}))
    assert put_door_policy(hub_of(world), policy, world.networks.facts()).door_policies == (policy,)


@pytest.mark.parametrize(
    "policy",
    [
        DoorPolicy("p", ("private:office",), device_ids=frozenset({"press"})),
        DoorPolicy("p", ("network:campus",), device_ids=frozenset({"press"})),
        DoorPolicy("p", ("local",), device_ids=frozenset({"press"})),
        DoorPolicy("p", ("plant",), device_ids=frozenset({"press"})),
        DoorPolicy("p", ("public",), shared_access_policy="nobody"),
        DoorPolicy("p", ("public",), consumer_group="nobody"),
    ],
)
def test_what_is_not_there_is_a_mistake(world: World, policy: DoorPolicy) -> None:
    with pytest.raises(HubError, match="there are: ") as caught:
        put_door_policy(hub_of(world), policy, world.networks.facts())
    assert caught.value.code is Code.ARGUMENT_INVALID


def test_a_policy_is_replaced_under_its_name_and_removed(world: World) -> None:
    facts = world.networks.facts()
    hub = put_door_policy(hub_of(world), PLANT, facts)
    second = DoorPolicy("PLANT", ("public",), device_ids=frozenset({"oven"}))
    hub = put_door_policy(hub, second, facts)
    (kept,) = hub.door_policies
    assert (kept.name, kept.doors) == ("plant", ("public",))
    assert remove_door_policy(hub, "Plant").door_policies == ()


def test_policies_stand_in_the_order_of_their_names(world: World) -> None:
    hub = hub_of(world)
    for name in ("b", "C", "a"):
        hub = put_door_policy(hub, DoorPolicy(name, ("public",), device_ids=frozenset({"press"})), NO_FACTS)
    assert [each.name for each in hub.door_policies] == ["a", "b", "C"]


def test_policies_have_a_limit(world: World) -> None:
    hub = hub_of(world)
    for number in range(DOOR_POLICIES_MAX):
        hub = put_door_policy(hub, DoorPolicy(f"p{number}", ("public",), consumer_group="$Default"), NO_FACTS)
    put_door_policy(hub, DoorPolicy("p7", ("private",), consumer_group="$Default"), NO_FACTS)
    with pytest.raises(HubError) as caught:
        put_door_policy(hub, DoorPolicy("more", ("public",), consumer_group="$Default"), NO_FACTS)
    assert caught.value.code is Code.QUOTA_EXCEEDED


def test_an_unknown_name_hints_at_the_shared_access_policy(world: World) -> None:
    with pytest.raises(HubError, match="isthmus iot hub policy show -n service"):
        require_door_policy(hub_of(world), "service")


def test_a_policy_survives_its_storage_and_tells_itself(world: World) -> None:
    query = parse_door_policy("q", {"properties": {"query": "tags.n = 1.5 AND tags.b = true", "doors": ["public"]}})
    hub = put_door_policy(put_door_policy(hub_of(world), PLANT, NO_FACTS), query, NO_FACTS)
    assert decode_hub(encode_hub(hub), hub.revision) == hub
    told = door_policy_to_arm(hub, require_door_policy(hub, "plant"))
    assert told["id"] == f"{hub.resource_id}/doorPolicies/plant"
    assert told["properties"] == {
        "deviceIds": ["press"],
        "query": "",
        "sharedAccessPolicy": "",
        "consumerGroup": "",
        "doors": ["private:plant"],
        "enabled": True,
    }
    assert parse_door_policy("plant", {"properties": told["properties"]}) == PLANT
