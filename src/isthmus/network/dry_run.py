"""Dry runs: who would be refused under other rules, judged by the functions that would refuse him.

A change of rules takes an arrival away when it is admitted before and refused afterwards. What is refused already, for
whatever reason, is not the change's doing. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from isthmus.access.arrivals import Arrival
from isthmus.base.errors import Hop, Refusal
from isthmus.network.admission import Deny, GuardedResource, admit
from isthmus.network.door import LOCAL_DOOR, PUBLIC_DOOR, Door, DoorKind
from isthmus.network.door_policies import Caller, DoorPolicy, wrong_door
from isthmus.network.virtual_networks import NetworkFacts


class BoundResource(GuardedResource, Protocol):
    """A resource with door policies."""

    @property
    def door_policies(self) -> tuple[DoorPolicy, ...]: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What arrivals at a resource are judged by; without a resource nobody is let in."""

    resource: BoundResource | None
    facts: NetworkFacts


def refusal_of(rules: Rules, arrival: Arrival, door: Door, tags: Mapping[str, object]) -> Refusal | None:
    """Why an arrival by a door is refused under these rules, its device's tags being these; None when it is admitted.

    Credentials are taken for good.
    """
    resource = rules.resource
    if resource is None:
        return RESOURCE_GONE
    admission = admit(resource, door=door, address=arrival.address, built_in=arrival.built_in, facts=rules.facts)
    if isinstance(admission, Deny):
        return admission.refusal
    caller = Caller(arrival.device_id, tags, arrival.shared_access_policy, arrival.consumer_group)
    return wrong_door(resource.door_policies, caller, door)


def door_of(label: str, resource_id: str, known: Mapping[str, Door]) -> Door:
    """The door of a label at a resource; `known` are private doors by their labels, others lead nowhere any more."""
    if label in known:
        return known[label]
    kind, _, connection = label.partition(":")
    if kind == DoorKind.PRIVATE.value:
        return Door(DoorKind.PRIVATE, resource_id, connection)
    return LOCAL_DOOR if label == LOCAL_DOOR.label else PUBLIC_DOOR


RESOURCE_GONE = Refusal(Hop.NAME, "name.unknown", "the hub was deleted", "connect to another hub")
"""Why nobody goes on at a resource that is not there any more."""
