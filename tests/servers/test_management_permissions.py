"""What a call asks for, and whether a token may have it: paths, lists, and resources that a body names."""

import msgspec
import pytest

from isthmus.access.roles import Role, segments_of
from isthmus.base.errors import Code, HubError
from isthmus.resources.hub import GROUP_PATH, hub_resource_id
from isthmus.resources.tokens import ManagementToken
from isthmus.servers.management.permissions import asked_by, check_allowed, visible, visible_affected
from isthmus.servers.management.request import Call, Reply, call_of
from servers.management_world import ENDPOINTS, HUB, HUBS

NETWORKS = f"{GROUP_PATH}/providers/Microsoft.Network/virtualNetworks"
PEERING = f"{NETWORKS}/a/virtualNetworkPeerings/p"
DEVICES = "/subscriptions/other/resourceGroups/{}/providers/Microsoft.Devices"


def token(role: Role = Role.CONTRIBUTOR, scope: str = "/") -> ManagementToken:
    return ManagementToken("ops", role, scope, digest="", created_ms=0, expires_ms=1)


@pytest.mark.parametrize(
    ("method", "target", "action", "resource"),
    [
        ("GET", HUB, "microsoft.devices/iothubs/read", HUB),
        ("PATCH", HUB, "microsoft.devices/iothubs/write", HUB),
        ("DELETE", HUB, "microsoft.devices/iothubs/delete", HUB),
        ("GET", HUBS, "microsoft.devices/iothubs/read", GROUP_PATH),
        ("POST", f"{HUB}/listkeys", "microsoft.devices/iothubs/listkeys/action", HUB),
        ("GET", f"{HUB}/IotHubStats", "microsoft.devices/iothubs/iothubstats/read", HUB),
        (
            "PUT",
            f"{HUB}/privateEndpointConnections/c",
            "microsoft.devices/iothubs/privateendpointconnections/write",
            f"{HUB}/privateEndpointConnections/c",
        ),
        ("PUT", DEVICES.format("lab") + "/IotHubs/hub", "microsoft.devices/iothubs/write", HUB),
        (
            "POST",
            "/subscriptions/other/providers/Microsoft.Devices/checkNameAvailability",
            "microsoft.devices/checknameavailability/action",
            "/".join(GROUP_PATH.split("/")[:3]),
        ),
        ("GET", "/providers/Microsoft.Devices/operations", "microsoft.devices/operations/read", "/"),
        ("GET", "/explain?top=5", "isthmus/explain/read", "/"),
        ("POST", "/check/path/hub", "isthmus/check/action", HUB),
        ("PUT", "/tokens/new", "isthmus/tokens/write", "/"),
        ("POST", "/hubs/hub/messages/devicebound", "isthmus/hubs/action", "/"),
    ],
)
def test_a_call_asks_for_an_action_on_what_it_leads_to(method: str, target: str, action: str, resource: str) -> None:
    asked = asked_by(method, call_of(method, target).path)

    assert (asked.action, asked.resource) == (action, segments_of(resource))


def test_an_encoded_slash_does_not_leave_the_scope() -> None:
    call = call_of("GET", f"{HUBS}/other%2F..%2Fhub")

    assert asked_by("GET", call.path).resource[-1] == "other/../hub"
    refused(token(scope=HUB), call, Code.AUTHORIZATION_FAILED)


@pytest.mark.parametrize(
    "target", [f"{HUBS}/hub2", GROUP_PATH + "/providers/Microsoft.Devices/IotHubs2/hub", f"{NETWORKS}/hub", NETWORKS]
)
def test_a_scope_is_not_left(target: str) -> None:
    refused(token(scope=HUB), call_of("GET", target), Code.AUTHORIZATION_FAILED)


@pytest.mark.parametrize("target", [HUB, HUB.upper(), f"{HUB}/privateEndpointConnections", f"{HUB}/skus"])
def test_what_is_below_the_scope_is_in_it(target: str) -> None:
    check_allowed(token(scope=HUB), call_of("GET", target))


def test_a_group_that_does_not_exist_gives_no_way_around_the_scope() -> None:
    refused(token(scope=HUB), call_of("DELETE", DEVICES.format("hub") + "/IotHubs/other"), Code.AUTHORIZATION_FAILED)


@pytest.mark.parametrize(
    "target", [HUBS, f"/subscriptions/{GROUP_PATH.split('/')[2]}/providers/Microsoft.Devices/IotHubs"]
)
def test_a_list_shows_what_is_in_the_scope(target: str) -> None:
    holder, call = token(scope=HUB), call_of("GET", target)
    listed = Reply(value={"value": [{"id": HUB}, {"id": hub_resource_id("hub2")}], "nextLink": "x"})

    shown = visible(holder, check_allowed(holder, call), listed)

    assert shown.value == {"value": [{"id": HUB}]}
    everybody = token()
    assert visible(everybody, check_allowed(everybody, call), listed) is listed


def test_a_bare_list_and_the_list_of_hubs_are_cut_as_well() -> None:
    connection = f"{HUB}/privateEndpointConnections/c"
    holder, call = token(scope=connection), call_of("GET", f"{HUB}/privateEndpointConnections")
    asked = check_allowed(holder, call)
    assert visible(holder, asked, Reply(value=[{"id": connection}, {"id": connection + "2"}, 1])).value == [
        {"id": connection}
    ]
    of_hub = token(scope=HUB)
    asked = check_allowed(of_hub, call_of("GET", "/hubs"))
    assert visible(of_hub, asked, Reply(value=[{"name": "hub"}, {"name": "hub2"}])).value == [{"name": "hub"}]


def test_a_view_above_the_scope_is_not_shown_by_a_scope_that_looks_like_one_of_its_items() -> None:
    holder = token(scope=f"{HUB}/IotHubStats/x")
    asked = check_allowed(holder, call_of("GET", f"{HUB}/IotHubStats"))

    assert visible(holder, asked, Reply(value={"totalDeviceCount": 7})).value == {"value": []}


def test_an_endpoint_is_approved_at_once_only_by_who_may_approve() -> None:
    links = [{"name": "c", "properties": {"privateLinkServiceId": HUB, "groupIds": ["iotHub"]}}]
    at_once = put(f"{ENDPOINTS}/plant", {"privateLinkServiceConnections": links})
    by_hand = put(f"{ENDPOINTS}/plant", {"manualPrivateLinkServiceConnections": links})
    holder = token(scope=f"{ENDPOINTS}/plant")

    check_allowed(token(), at_once)
    check_allowed(holder, by_hand)
    refused(holder, at_once, Code.LINKED_AUTHORIZATION_FAILED)


@pytest.mark.parametrize(
    "remote",
    [
        f"{NETWORKS}/b",
        f"{NETWORKS}/a/virtualNetworks/b",
        f"{NETWORKS}/a/subnets/s/virtualNetworks/b",
        f"/x{NETWORKS}/a",
        f"{GROUP_PATH}/providers/Microsoft.Other/virtualNetworks/a",
    ],
)
def test_a_named_resource_must_be_in_the_scope_in_the_one_form_it_can_have(remote: str) -> None:
    holder = token(scope=f"{NETWORKS}/a")

    check_allowed(holder, put(PEERING, {"remoteVirtualNetwork": {"id": f"{NETWORKS}/A"}}))
    refused(holder, put(PEERING, {"remoteVirtualNetwork": {"id": remote}}), Code.LINKED_AUTHORIZATION_FAILED)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"properties": 1}', b'{"properties": {"subnet": {"id": 7}}}'])
def test_a_body_that_names_nothing_is_the_resource_s_to_refuse(body: bytes) -> None:
    check_allowed(token(scope=ENDPOINTS + "/plant"), call_of("PUT", f"{ENDPOINTS}/plant", body=body))


def put(target: str, properties: object) -> Call:
    return call_of("PUT", target, body=msgspec.json.encode({"properties": properties}))


def refused(holder: ManagementToken, call: Call, code: Code) -> None:
    with pytest.raises(HubError) as error:
        check_allowed(holder, call)
    assert error.value.code is code


def test_a_dry_run_tells_a_token_of_the_hubs_in_its_scope_only() -> None:
    affected = [{"hub": "hub", "device": "a"}, {"hub": "hub2", "device": "b"}]
    reply = Reply(value={"dryRun": True, "affected": affected, "affectedTotal": 2})

    for scope, seen in (("/", affected), (GROUP_PATH, affected), (HUB, affected[:1]), (f"{NETWORKS}/a", [])):
        assert visible_affected(token(scope=scope), reply).value == {
            "dryRun": True,
            "affected": seen,
            "affectedTotal": 2,
        }
    assert visible_affected(token(), Reply(204)) == Reply(204)
