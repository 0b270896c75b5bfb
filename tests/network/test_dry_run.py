"""Dry runs, the pure part: an arrival judged under any rules, and the door that a label meant."""

from dataclasses import dataclass

from isthmus.access.arrivals import Arrival
from isthmus.access.journal import BUILT_IN, asked_of_group
from isthmus.network.door import LOCAL_DOOR, PUBLIC_DOOR, Door, DoorKind
from isthmus.network.door_policies import DoorPolicy
from isthmus.network.dry_run import Rules, door_of, refusal_of
from isthmus.network.private_endpoints import PrivateEndpointConnection
from isthmus.network.rules import NetworkRules
from isthmus.network.virtual_networks import NO_FACTS

HUB_ID = "/hubs/hub"
PLANT = Door(DoorKind.PRIVATE, HUB_ID, "plant.1", "works")


@dataclass(frozen=True)
class Bound:
    """A resource without endpoints."""

    name: str = "hub"
    group: str = "iot hub"
    resource_id: str = HUB_ID
    public_network_access: bool = True
    rules: NetworkRules | None = None
    connections: tuple[PrivateEndpointConnection, ...] = ()
    door_policies: tuple[DoorPolicy, ...] = ()


PRESS = Arrival("press/vision", "module:press/vision", "10.0.0.7", "public", "mqtt")


def rule(resource: Bound | None, arrival: Arrival = PRESS, door: Door = PUBLIC_DOOR) -> str:
    refusal = refusal_of(Rules(resource, NO_FACTS), arrival, door, {"site": "plant1"})
    return "" if refusal is None else refusal.rule


def test_admission_is_asked_first_then_the_policies() -> None:
    bound = DoorPolicy("p", ("private",), device_ids=frozenset({"press"}))
    assert rule(Bound()) == ""
    assert rule(Bound(door_policies=(bound,))) == "policy.wrong-door"
    assert rule(Bound(public_network_access=False, door_policies=(bound,))) == "network.public-access"
    assert rule(None) == "name.unknown"


def test_readers_are_judged_as_such() -> None:
    group = DoorPolicy("p", ("private",), consumer_group="billing")
    policy = DoorPolicy("p", ("private",), shared_access_policy="service")
    sparing = NetworkRules(apply_to_built_in=False)
    reader = Arrival("", "policy:service", "10.0.0.7", "public", "amqp", asked_of_group("billing"))
    other = Arrival("", "policy:service", "10.0.0.7", "public", "amqp", BUILT_IN)
    assert [rule(Bound(door_policies=(group,)), each) for each in (reader, other)] == ["policy.wrong-door", ""]
    assert [rule(Bound(door_policies=(policy,)), each) for each in (reader, other)] == ["policy.wrong-door"] * 2
    assert [rule(Bound(rules=sparing), each) for each in (reader, other, PRESS)] == ["", "", "network.ip-rule"]


def test_a_label_means_the_door_that_is_known_or_one_that_leads_nowhere() -> None:
    known = {PLANT.label: PLANT}
    assert door_of("public", HUB_ID, known) is PUBLIC_DOOR
    assert door_of("local", HUB_ID, known) is LOCAL_DOOR
    assert door_of("private:plant.1", HUB_ID, known) is PLANT
    assert door_of("private:gone.2", HUB_ID, known) == Door(DoorKind.PRIVATE, HUB_ID, "gone.2")
    gone = door_of("private:gone.2", HUB_ID, known)
    assert rule(Bound(), PRESS, gone) == "network.private-endpoint-disconnected"
