"""The hub's record: nothing is lost when stored, names are judged, keys are random and never shown."""

from dataclasses import replace

import pytest

from devices.fakes import CountedIds
from isthmus.access.principal import Right
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.network.private_endpoints import ConnectionStatus, PrivateEndpointConnection
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules
from isthmus.resources.hub import (
    CloudToDeviceSettings,
    FeedbackSettings,
    Hub,
    Route,
    RouteSource,
    check_hub_name,
    decode_hub,
    default_policies,
    encode_hub,
    host_name_of,
    hub_name_of,
)

HUB = Hub(HubId(1), "hub", "hub.example.test", 4, 5)
FULL = replace(
    HUB,
    aliases=("plant.example.test",),
    public_network_access=False,
    rules=NetworkRules(DefaultAction.ALLOW, apply_to_built_in=True, ip_rules=(IpRule("a", "10.0.0.0/8"),)),
    connections=(PrivateEndpointConnection("c", ConnectionStatus.REJECTED, "no", "id", "::1"),),
    policies=default_policies(CountedIds()),
    routes=(Route("r", RouteSource.TWIN_CHANGES, enabled=False),),
    cloud_to_device=CloudToDeviceSettings(1, 2, FeedbackSettings(3, 4, 5)),
    location="plant",
    tags={"a": "b"},
    revision=7,
)


@pytest.mark.parametrize("hub", [HUB, FULL])
def test_the_stored_form_loses_nothing(hub: Hub) -> None:
    assert decode_hub(encode_hub(hub), hub.revision) == hub


def test_the_stored_form_is_always_the_same() -> None:
    assert encode_hub(decode_hub(encode_hub(FULL), 9)) == encode_hub(FULL)


def test_a_hub_written_by_the_first_version_is_read() -> None:
    body = b'{"number":1,"name":"hub","host_name":"hub.example.test","partitions":4,"created_ms":5,"later":1}'
    assert decode_hub(body, 0) == HUB


def test_default_policies_have_their_rights_and_keys_of_their_own() -> None:
    policies = default_policies(CountedIds())
    rights = {policy.name: {right.value for right in policy.rights} for policy in policies}
    assert rights == {
        "iothubowner": {"RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect"},
        "service": {"ServiceConnect"},
        "device": {"DeviceConnect"},
        "registryRead": {"RegistryRead"},
        "registryReadWrite": {"RegistryRead", "RegistryWrite"},
    }
    assert len({key for policy in policies for key in policy.keys}) == 10
    assert Right.SERVICE_CONNECT not in policies[3].rights


def test_keys_are_not_shown() -> None:
    keys = [key for policy in FULL.policies for key in policy.keys]
    assert not any(key in repr(FULL) for key in keys)


@pytest.mark.parametrize("name", ["hub", "h-1", "Hub2", "1a2", "a" * 50])
def test_good_names(name: str) -> None:
    check_hub_name(name)


@pytest.mark.parametrize("name", ["", "a", "ab", "-hub", "hub-", "123", "a.b", "a" * 51, "hüb", "hub\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(HubError) as caught:
        check_hub_name(name)
    assert caught.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize(
    ("host_name", "name"),
    [("Hub.example.test:8883", "hub"), ("localhost", "localhost"), ("10.0.0.7", "isthmus"), ("::1", "isthmus")],
)
def test_the_first_hubs_name_comes_from_its_host_name(host_name: str, name: str) -> None:
    assert hub_name_of(host_name) == name


@pytest.mark.parametrize(
    ("sibling", "host_name"),
    [("hub.example.test", "second.example.test"), ("localhost", "second.localhost"), ("10.0.0.7", "second.localhost")],
)
def test_another_hub_gets_the_same_domain(sibling: str, host_name: str) -> None:
    assert host_name_of("Second", sibling) == host_name
