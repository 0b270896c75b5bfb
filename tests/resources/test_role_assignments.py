"""Role assignments as resources: kept, refused twice, and gone when deleted."""

import uuid
from typing import Any

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.resources import role_assignments
from isthmus.resources.hub import GROUP_PATH, hub_resource_id
from isthmus.resources.role_assignments import RoleAssignments, assignment_to_arm

HUB = hub_resource_id("hub")
WHO = str(uuid.uuid4())
READ = "Microsoft.Devices/IotHubs/devices/read"


def body(role: str = "IoT Hub Data Reader", **more: Any) -> dict[str, Any]:
    return {"properties": {"roleDefinitionId": role, "principalId": WHO, "principalType": "ServicePrincipal", **more}}


async def assign(roles: RoleAssignments, scope: str = HUB, given: dict[str, Any] | None = None, name: str = "") -> Any:
    known = given or body()
    made, is_new = await roles.create(name or str(uuid.uuid4()), scope, known, who="uid:0", knows=lambda _: False)
    return made, is_new


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


@pytest.fixture
def roles(state: MemoryState) -> RoleAssignments:
    return RoleAssignments(state, SystemClock())


async def test_an_assignment_holds_after_a_restart_until_it_is_deleted(
    state: MemoryState, roles: RoleAssignments
) -> None:
    made, is_new = await assign(roles, GROUP_PATH)
    assert is_new
    again = RoleAssignments(state, SystemClock())
    await again.load()
    assert again.judge(WHO, READ, HUB).allowed_by == made
    told: list[str] = []

    async def listener() -> None:
        told.append("lost")

    again.on_loss(listener)
    await again.delete(made.name)
    assert (again.judge(WHO, READ, HUB).allowed, told) == (False, ["lost"])


async def test_the_same_again_is_no_second_one_and_under_another_name_a_conflict(roles: RoleAssignments) -> None:
    made, _ = await assign(roles)
    assert await assign(roles, HUB.upper().replace("/SUBSCRIPTIONS", "/subscriptions"), name=made.name) == (made, False)
    with pytest.raises(HubError) as caught:
        await assign(roles)
    assert caught.value.code is Code.ROLE_ASSIGNMENT_EXISTS
    assert assignment_to_arm(made)["id"] == f"{HUB}/providers/Microsoft.Authorization/roleAssignments/{made.name}"


@pytest.mark.parametrize(
    ("scope", "given", "code"),
    [
        ("/subscriptions/another", body(), Code.ARGUMENT_INVALID),
        (HUB, body("Fool"), Code.ROLE_DEFINITION_NOT_FOUND),
        (HUB, body(principalId="me"), Code.ARGUMENT_INVALID),
        (HUB, body(principalType=None), Code.PRINCIPAL_NOT_FOUND),
        (HUB, body(condition="x"), Code.NOT_IMPLEMENTED),
        (HUB, body(surprise=1), Code.ARGUMENT_INVALID),
    ],
)
async def test_what_cannot_hold_is_refused(roles: RoleAssignments, scope: str, given: Any, code: Code) -> None:
    with pytest.raises(HubError) as caught:
        await assign(roles, scope, given)
    assert caught.value.code is code
    assert roles.all() == ()


async def test_lists_see_above_and_below(roles: RoleAssignments) -> None:
    above, _ = await assign(roles, GROUP_PATH)
    at, _ = await assign(roles, HUB)
    beside, _ = await assign(roles, f"{HUB}2")
    assert set(roles.at(HUB)) == {above, at}
    assert set(roles.below(HUB)) == {at}
    assert set(roles.below("/")) == {above, at, beside}


async def test_assignments_are_bounded(roles: RoleAssignments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_assignments, "ASSIGNMENTS_MAX", 1)
    await assign(roles)
    with pytest.raises(HubError) as refused:
        await assign(roles, GROUP_PATH)
    assert refused.value.code is Code.QUOTA_EXCEEDED
