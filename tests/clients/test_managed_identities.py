"""Managed identities and roles by the command line, by azure-mgmt-iothub unchanged, and in ARM's paths over TLS."""

import json
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.iothub.models import ArmIdentity, ArmUserIdentity

from clients.managing import GROUP, MANAGEMENT_OPTIONS, PORT, Managing, make_token, managing
from support.server import RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS
SENDER = "Azure Event Hubs Data Sender"


@pytest.fixture
def owner(hub: RunningHub) -> Iterator[Managing]:
    name = f"owner-{uuid.uuid4().hex[:8]}"
    with managing(hub, make_token(hub, name)) as clients:
        yield clients


def test_a_hub_is_given_identities_and_keeps_them_through_a_power_cut(hub: RunningHub) -> None:
    plant = hub.json("identity", "create", "-n", "plant", "--tags", "site=north")
    assert (plant["type"], plant["tags"]) == ("Microsoft.ManagedIdentity/userAssignedIdentities", {"site": "north"})
    given = hub.json("iot", "hub", "identity", "assign", "--system-assigned", "--user-assigned", plant["id"])
    assert given["type"] == "SystemAssigned, UserAssigned"
    assert given["userAssignedIdentities"][plant["id"]]["principalId"] == plant["principalId"]

    hub.restart()

    assert hub.json("iot", "hub", "identity", "show") == given
    assert hub.json("iot", "hub", "show")["identity"] == given
    assert "is given to the hub" in hub.isthmus("identity", "delete", "-n", "plant", code=1)
    left = hub.json("iot", "hub", "identity", "remove", "--user-assigned", plant["id"])
    assert (left["type"], left["principalId"]) == ("SystemAssigned", given["principalId"])
    assert [each["name"] for each in hub.json("identity", "list")] == ["plant"]
    hub.isthmus("identity", "delete", "-n", "plant")
    assert hub.json("identity", "list") == []
    assert hub.json("iot", "hub", "identity", "remove", "--system-assigned") == {"type": "None"}


def test_roles_are_assigned_listed_and_taken_away(hub: RunningHub) -> None:
    hub_id = hub.json("iot", "hub", "show")["id"]
    group = hub_id.partition("/providers")[0]
    given = hub.json("iot", "hub", "identity", "assign", "--system-assigned", "--role", SENDER, "--scopes", group)
    principal = given["principalId"]
    who = ("--assignee-object-id", principal)
    reader = ("--role", "IoT Hub Data Reader", "--scope", hub_id)
    made = hub.json("role", "assignment", "create", *who, *reader)
    assert (made["roleDefinitionName"], made["scope"]) == ("IoT Hub Data Reader", hub_id)
    assert hub.json("role", "assignment", "create", *who, *reader) == made

    listed = hub.json("role", "assignment", "list", *who)
    assert {(each["roleDefinitionName"], each["scope"]) for each in listed} == {
        (SENDER, group),
        ("IoT Hub Data Reader", hub_id),
    }
    at_hub = ("role", "assignment", "list", "--scope", hub_id)
    assert [each["name"] for each in hub.json(*at_hub)] == [made["name"]]
    assert len(hub.json(*at_hub, "--include-inherited")) == 2
    hub.isthmus("role", "assignment", "delete", *who, *reader)
    assert hub.json(*at_hub) == []
    hub.isthmus(
        "role", "assignment", "delete", "--ids", *(each["id"] for each in hub.json("role", "assignment", "list"))
    )
    assert hub.json("role", "assignment", "list") == []
    stranger = ("role", "assignment", "create", "--assignee-object-id", str(uuid.uuid4()), *reader)
    assert "does not exist here" in hub.isthmus(*stranger, code=1)
    assert hub.json(*stranger, "--assignee-principal-type", "ServicePrincipal")["principalType"] == "ServicePrincipal"
    definition = hub.json("role", "definition", "list", "--name", SENDER)
    assert definition[0]["permissions"][0]["dataActions"] == ["Microsoft.EventHub/*/send/action"]
    hub.isthmus("iot", "hub", "identity", "remove", "--system-assigned")


def test_the_stock_management_client_gives_and_takes_identities(hub: RunningHub, owner: Managing) -> None:
    plant = hub.json("identity", "create", "-n", "stock")
    hubs = owner.iothub.iot_hub_resource
    body = hubs.get(GROUP, owner.hub_name)
    body.identity = ArmIdentity(
        type="SystemAssigned, UserAssigned", user_assigned_identities={plant["id"]: ArmUserIdentity()}
    )
    given = hubs.begin_create_or_update(GROUP, owner.hub_name, body).result().identity
    assert given.user_assigned_identities[plant["id"]].client_id == plant["clientId"]
    assert given.principal_id

    body = hubs.get(GROUP, owner.hub_name)
    body.identity = None
    assert hubs.begin_create_or_update(GROUP, owner.hub_name, body).result().identity.principal_id == given.principal_id
    body = hubs.get(GROUP, owner.hub_name)
    body.identity = ArmIdentity(type="None")
    assert hubs.begin_create_or_update(GROUP, owner.hub_name, body).result().identity.type == "None"


def test_whoever_manages_one_hub_cannot_give_it_an_identity_or_a_role_from_outside(
    hub: RunningHub, owner: Managing
) -> None:
    plant = hub.json("identity", "create", "-n", "linked")
    token = make_token(hub, "of-the-hub", "Contributor", "--scope", owner.hub_id)
    with managing(hub, token) as own:
        with pytest.raises(HttpResponseError) as caught:
            own.iothub.iot_hub_resource.begin_create_or_update(
                GROUP,
                owner.hub_name,
                {"identity": {"type": "UserAssigned", "userAssignedIdentities": {plant["id"]: {}}}},
            )
        assert caught.value.error is not None
        assert caught.value.error.code == "LinkedAuthorizationFailed"
    path = f"{owner.hub_id}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    assert ask(hub, token, "PUT", path, {})[:2] == (403, "AuthorizationFailed")
    narrow = make_token(hub, "owner-of-the-hub", "Owner", "--scope", owner.hub_id)
    group = owner.hub_id.partition("/providers")[0]
    above = f"{group}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    assert ask(hub, narrow, "PUT", above, {})[:2] == (403, "AuthorizationFailed")


def test_arm_paths_of_roles_answer_as_azure_does(hub: RunningHub, owner: Managing) -> None:
    token, principal, name = make_token(hub, "roles"), str(uuid.uuid4()), str(uuid.uuid4())
    below = "/providers/Microsoft.Authorization"
    named = "?$filter=roleName%20eq%20'IoT%20Hub%20Data%20Contributor'"
    [definition] = ask(hub, token, "GET", f"/subscriptions/{uuid.UUID(int=0)}{below}/roleDefinitions{named}")[2][
        "value"
    ]
    path = f"{owner.hub_id}{below}/roleAssignments/{name}"
    properties = {"roleDefinitionId": definition["id"], "principalId": principal, "principalType": "ServicePrincipal"}
    assert ask(hub, token, "PUT", path, {"properties": properties})[0] == 201
    assert ask(hub, token, "PUT", path, {"properties": properties})[0] == 200
    other = f"{owner.hub_id}{below}/roleAssignments/{uuid.uuid4()}"
    assert ask(hub, token, "PUT", other, {"properties": properties})[:2] == (409, "RoleAssignmentExists")
    unknown = {"properties": {**properties, "principalType": None, "principalId": str(uuid.uuid4())}}
    assert ask(hub, token, "PUT", other, unknown)[:2] == (400, "PrincipalNotFound")
    shown = ask(hub, token, "GET", path)[2]
    assert (shown["properties"]["scope"], shown["properties"]["principalId"]) == (owner.hub_id, principal)
    filtered = f"{owner.hub_id}{below}/roleAssignments?$filter=atScope()%20and%20assignedTo('{principal}')"
    assert [each["name"] for each in ask(hub, token, "GET", filtered)[2]["value"]] == [name]
    assert ask(hub, token, "DELETE", path)[0] == 200
    assert ask(hub, token, "DELETE", path)[0] == 204
    told = hub.json("explain", "--all")
    assert any("role IoT Hub Data Contributor assigned" in str(each) for each in told)


def ask(hub: RunningHub, token: str, method: str, path: str, body: Any = None) -> tuple[int, str, Any]:
    """Status, error code and JSON of a call over TLS."""
    separator = "&" if "?" in path else "?"
    request = urllib.request.Request(
        f"https://{hub.address}:{PORT}{path}{separator}api-version=2022-04-01",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=hub.ca)) as answer:
            text = answer.read()
            return answer.status, "", json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        told = json.loads(error.read())
        return error.code, told["error"]["code"], told
