"""The four switches of an endpoint: of a target that is hosted here, and of one elsewhere; pure."""

from dataclasses import replace

import pytest

from isthmus.access.role_assignments import RoleAssignment
from isthmus.access.role_definitions import find_role
from isthmus.base.ids import HubId
from isthmus.neighbours.neighbour import Neighbour
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.hub import GROUP_PATH, Hub
from isthmus.resources.hub_identity import AttachedIdentity, HubIdentity
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint, StorageSettings
from isthmus.routing.diagnosis import ROLES, Switch
from isthmus.routing.sink import FailureKind
from isthmus.servers.management.endpoint_switches import TARGETS, Setting, State, entity_scope, settings_of

PRINCIPAL = "0b52f2c7-3a0e-4a39-9a3b-5f0d3f7d2c11"
PLANT = f"{GROUP_PATH}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/plant"
HUB = Hub(HubId(1), "hub", "hub.example.test", 4, 0, identity=HubIdentity(system=True, principal_id=PRINCIPAL))
KINDS = {
    EndpointKind.STORAGE: ResourceKind.STORAGE,
    EndpointKind.EVENT_HUB: ResourceKind.EVENT_HUBS,
    EndpointKind.QUEUE: ResourceKind.SERVICE_BUS,
    EndpointKind.TOPIC: ResourceKind.SERVICE_BUS,
}


def endpoint_of(kind: EndpointKind, **changed: object) -> RoutingEndpoint:
    storage = StorageSettings("box") if kind is EndpointKind.STORAGE else None
    entity = "" if storage is not None else "box"
    by = EndpointAuthentication.IDENTITY
    uri = "https://there.example.test"
    made = RoutingEndpoint(2, "g", "out", kind, by, endpoint_uri=uri, entity_path=entity, storage=storage)
    return replace(made, **changed)  # type: ignore[arg-type]


def target_of(kind: EndpointKind, *, trusts: bool = True) -> Neighbour:
    return Neighbour(HubId(7), KINDS[kind], "there", "there.example.test", 0, trusted_services=trusts)


def holding(role: str, scope: str, principal: str = PRINCIPAL) -> list[RoleAssignment]:
    found = find_role(role)
    assert found is not None
    return [RoleAssignment("n", principal, found.guid, scope)]


def states(settings: tuple[Setting, ...]) -> dict[Switch, State]:
    return {setting.switch: setting.state for setting in settings}


@pytest.mark.parametrize("kind", list(EndpointKind))
def test_all_four_are_on_with_the_role_that_the_kind_of_target_needs(kind: EndpointKind) -> None:
    endpoint, target = endpoint_of(kind), target_of(kind)
    roles = holding(ROLES[kind], entity_scope(endpoint, target))
    settings = tuple(settings_of(HUB, endpoint, target, lambda _: roles, None))
    assert states(settings) == dict.fromkeys(
        (Switch.IDENTITY, Switch.AUTHENTICATION_TYPE, Switch.TRUSTED_SERVICES, Switch.ROLE), State.ON
    )
    assert TARGETS[kind].action.startswith(KINDS[kind].value.partition("/")[0])


@pytest.mark.parametrize("kind", list(EndpointKind))
def test_each_is_off_with_what_sets_it_right(kind: EndpointKind) -> None:
    bare = replace(HUB, identity=HubIdentity())
    endpoint = endpoint_of(kind, authentication=EndpointAuthentication.KEY)
    settings = tuple(settings_of(bare, endpoint, target_of(kind, trusts=False), lambda _: (), FailureKind.NETWORK))
    assert set(states(settings).values()) == {State.OFF}
    remedies = {setting.switch: setting.remedy for setting in settings}
    assert remedies[Switch.IDENTITY] == "isthmus iot hub identity assign -n hub --system-assigned"
    assert "message-endpoint update" in remedies[Switch.AUTHENTICATION_TYPE]
    assert f'--role "{ROLES[kind]}" --scope {entity_scope(endpoint, target_of(kind))}' in remedies[Switch.ROLE]
    assert remedies[Switch.TRUSTED_SERVICES].startswith(f"isthmus {KINDS[kind].command.split()[0]}")


def test_a_role_at_the_group_covers_and_one_beside_does_not() -> None:
    endpoint, target = endpoint_of(EndpointKind.QUEUE), target_of(EndpointKind.QUEUE)
    above = holding(ROLES[EndpointKind.QUEUE], GROUP_PATH)
    assert states(tuple(settings_of(HUB, endpoint, target, lambda _: above, None)))[Switch.ROLE] is State.ON
    beside = holding(ROLES[EndpointKind.QUEUE], f"{target.resource_id}/queues/box-2")
    role = settings_of(HUB, endpoint, target, lambda _: beside, FailureKind.ROLE)[3]
    assert (role.state, "does not cover" in role.value) == (State.OFF, True)
    receiver = holding("Azure Service Bus Data Receiver", GROUP_PATH)
    role = settings_of(HUB, endpoint, target, lambda _: receiver, FailureKind.ROLE)[3]
    assert (role.state, "Azure Service Bus Data Receiver at" in role.value) == (State.OFF, True)


def test_an_attached_identity_has_its_own_roles_and_no_exception_of_its_own() -> None:
    attached = AttachedIdentity(PLANT, "11111111-3a0e-4a39-9a3b-5f0d3f7d2c11", "c")
    hub = replace(HUB, identity=HubIdentity(system=True, principal_id=PRINCIPAL, attached=(attached,)))
    endpoint, target = endpoint_of(EndpointKind.EVENT_HUB, identity=PLANT), target_of(EndpointKind.EVENT_HUB)
    asked: list[str] = []

    def roles(principal: str) -> list[RoleAssignment]:
        asked.append(principal)
        return holding(ROLES[EndpointKind.EVENT_HUB], target.resource_id, principal)

    settings = tuple(settings_of(hub, endpoint, target, roles, FailureKind.NETWORK))
    assert (asked, states(settings)[Switch.ROLE]) == ([attached.principal_id], State.ON)
    assert "its own identity only" in settings[2].value
    away = settings_of(HUB, endpoint, target, roles, FailureKind.IDENTITY)[0]
    assert (away.state, away.remedy.endswith(f"--user-assigned {PLANT}")) == (State.OFF, True)


@pytest.mark.parametrize(
    ("failure", "trusted", "role"),
    [
        (None, State.UNKNOWN, State.ON),
        (FailureKind.ROLE, State.UNKNOWN, State.OFF),
        (FailureKind.NETWORK, State.OFF, State.UNKNOWN),
        (FailureKind.TRANSIENT, State.UNKNOWN, State.UNKNOWN),
    ],
)
def test_of_a_target_elsewhere_only_its_answer_is_known(
    failure: FailureKind | None, trusted: State, role: State
) -> None:
    found = states(tuple(settings_of(HUB, endpoint_of(EndpointKind.TOPIC), None, lambda _: (), failure)))
    assert (found[Switch.TRUSTED_SERVICES], found[Switch.ROLE]) == (trusted, role)
