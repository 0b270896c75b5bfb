"""Role assignments: what is inherited by whom, in examples and as properties, and the matrix of the data roles."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.access.role_assignments import RoleAssignment, judge, refusal_of
from isthmus.access.role_definitions import DATA_ROLES, find_role

GOLDEN = Path(__file__).parents[1] / "golden" / "data_roles.txt"
WRITE_VARIABLE = "ISTHMUS_WRITE_GOLDEN"

GROUP = "/subscriptions/0/resourceGroups/isthmus"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/plant"
CONTAINER = f"{ACCOUNT}/blobServices/default/containers/raw"
WRITE = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"

SEGMENT = st.text(alphabet="abC1", min_size=1, max_size=3)
PATH = st.lists(SEGMENT, max_size=6)


def assigned(scope: str, role: str = "Storage Blob Data Contributor", principal: str = "p") -> RoleAssignment:
    found = find_role(role)
    assert found is not None
    return RoleAssignment("n", principal, found.guid, scope)


@pytest.mark.parametrize("scope", ["/", "/subscriptions/0", GROUP, GROUP.upper(), ACCOUNT, CONTAINER])
def test_a_role_is_inherited_from_every_scope_above(scope: str) -> None:
    assert judge([assigned(scope)], "P", WRITE, CONTAINER).allowed


@pytest.mark.parametrize("scope", [f"{CONTAINER}2", f"{CONTAINER}/more", ACCOUNT.replace("plant", "pla"), f"{GROUP}x"])
def test_a_role_beside_or_below_is_of_no_use_and_named(scope: str) -> None:
    verdict = judge([assigned(scope)], "p", WRITE, CONTAINER)

    assert not verdict.allowed
    refusal = refusal_of(verdict, "identity:p", WRITE, CONTAINER)
    assert (refusal.rule, scope in refusal.value) == ("auth.role-scope", True)


def test_a_missing_role_is_told_with_what_is_held_and_what_would_do() -> None:
    held = [assigned(GROUP, "Owner"), assigned(GROUP, "Storage Blob Data Contributor", "somebody else")]

    refusal = refusal_of(judge(held, "p", WRITE, CONTAINER), "identity:p", WRITE, CONTAINER)

    assert refusal.rule == "auth.role-missing"
    assert "has Owner at" in refusal.value
    assert f'--assignee-object-id p --role "Storage Blob Data Owner" --scope {CONTAINER}' in refusal.remedy


@given(PATH, PATH)
def test_scopes_are_inherited_by_whole_segments_only(scope: list[str], resource: list[str]) -> None:
    verdict = judge([assigned("/" + "/".join(scope))], "p", WRITE, "/" + "/".join(resource))

    below = [segment.lower() for segment in resource[: len(scope)]] == [segment.lower() for segment in scope]
    assert verdict.allowed is below


@given(st.lists(PATH, max_size=4), PATH, PATH)
def test_what_is_granted_is_granted_below_and_no_further_assignment_takes_it_back(
    scopes: list[list[str]], resource: list[str], below: list[str]
) -> None:
    assignments = [assigned("/" + "/".join(scope)) for scope in scopes]
    path = "/" + "/".join(resource)
    if judge(assignments, "p", WRITE, path).allowed:
        assert judge(assignments, "p", WRITE, "/".join([path, *below])).allowed
        assert judge([assigned("/x", "Reader"), *assignments], "p", WRITE, path).allowed


@pytest.mark.parametrize("role", DATA_ROLES, ids=lambda role: role.name)
def test_a_role_is_found_by_name_guid_and_id(role: object) -> None:
    found = next(each for each in DATA_ROLES if each is role)
    path = f"/subscriptions/0/providers/Microsoft.Authorization/roleDefinitions/{found.guid}"
    for said in (found.name, found.name.lower(), found.guid, found.guid.upper(), path):
        assert find_role(said) is found
    assert find_role(f"{found.name}s") is None


def test_the_data_roles_allow_what_the_matrix_says() -> None:
    matrix = _matrix()
    if os.environ.get(WRITE_VARIABLE):
        GOLDEN.write_text(matrix)

    assert matrix == GOLDEN.read_text(), f"is that meant? then write it anew with {WRITE_VARIABLE}=1"


HUB_ACTIONS = (
    *("devices/read", "devices/write", "devices/delete", "twins/read", "twins/write"),
    *("jobs/read", "jobs/write", "jobs/delete", "cloudToDeviceMessages/send/action"),
    *("cloudToDeviceMessages/feedback/action", "cloudToDeviceMessages/queue/purge/action"),
    *("directMethods/invoke/action", "fileUpload/notifications/action", "statistics/read"),
    *("configurations/read", "configurations/write", "configurations/delete"),
    *("configurations/applyToEdgeDevice/action", "configurations/testQueries/action"),
)
BLOB_ACTIONS = ("read", "write", "delete", "add/action", "move/action", "tags/read")
ACTIONS = (
    *(f"Microsoft.Devices/IotHubs/{action}" for action in HUB_ACTIONS),
    *(f"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/{action}" for action in BLOB_ACTIONS),
    *(f"Microsoft.EventHub/namespaces/messages/{verb}/action" for verb in ("send", "receive")),
    *(f"Microsoft.ServiceBus/namespaces/messages/{verb}/action" for verb in ("send", "receive")),
)


def _matrix() -> str:
    """A paragraph an action: who may."""
    lines = [f"{action}: {', '.join(role.name for role in DATA_ROLES if role.allows(action))}" for action in ACTIONS]
    return "\n".join(lines) + "\n"
