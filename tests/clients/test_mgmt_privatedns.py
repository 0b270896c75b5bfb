"""azure-mgmt-privatedns, unchanged: zones, their links and records, and a private endpoint's zone group."""

from collections.abc import Iterator

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.privatedns import PrivateDnsManagementClient

from clients.managing import GROUP, OPTIONS, SUBSCRIPTION, Bearer, Managing, connecting, make_token, managing, told
from support.loopback import Loopback
from support.server import RunningHub

ZONE = "privatelink.plant.test"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub that is managed over TLS."""
    with Loopback() as loopback:
        folder, address = tmp_path_factory.mktemp("hub"), loopback.take()
        running = RunningHub(folder, address, hostname="hub.plant.test", options=OPTIONS)
        try:
            running.start()
            yield running
            running.stop()
        finally:
            running.kill()


@pytest.fixture(scope="module")
def owner(hub: RunningHub) -> Iterator[Managing]:
    with managing(hub, make_token(hub, "owner")) as clients:
        yield clients


@pytest.fixture
def names(hub: RunningHub) -> Iterator[PrivateDnsManagementClient]:
    """A client whose zone is gone afterwards."""
    with PrivateDnsManagementClient(Bearer(make_token(hub, "names")), SUBSCRIPTION, **connecting(hub)) as client:
        yield client
    hub.isthmus("token", "delete", "--name", "names")


def test_a_zone_its_link_and_its_records(owner: Managing, names: PrivateDnsManagementClient) -> None:
    zone = names.private_zones.begin_create_or_update(GROUP, ZONE, {"location": "global"}).result()
    assert [each.id for each in names.private_zones.list()] == [zone.id]
    network = owner.network.virtual_networks.begin_create_or_update(
        GROUP, "plant", {"location": "local", "properties": {"addressSpace": {"addressPrefixes": ["10.1.0.0/16"]}}}
    ).result()
    link = {"location": "global", "properties": {"virtualNetwork": {"id": network.id}, "registrationEnabled": False}}
    names.virtual_network_links.begin_create_or_update(GROUP, ZONE, "plant", link).result()
    assert [each.virtual_network.id for each in names.virtual_network_links.list(GROUP, ZONE)] == [network.id]
    record = {"properties": {"ttl": 10, "aRecords": [{"ipv4Address": "10.1.0.9"}]}}
    names.record_sets.create_or_update(GROUP, ZONE, "A", "press", record)
    assert names.record_sets.get(GROUP, ZONE, "A", "press").a_records[0].ipv4_address == "10.1.0.9"
    assert {each.name for each in names.record_sets.list(GROUP, ZONE)} == {"@", "press"}
    names.record_sets.delete(GROUP, ZONE, "A", "press")
    assert [each.name for each in names.record_sets.list_by_type(GROUP, ZONE, "A")] == []
    names.virtual_network_links.begin_delete(GROUP, ZONE, "plant").result()
    names.private_zones.begin_delete(GROUP, ZONE).result()
    owner.network.virtual_networks.begin_delete(GROUP, "plant").result()
    with pytest.raises(ResourceNotFoundError):
        names.private_zones.get(GROUP, ZONE)


def test_an_endpoint_s_zone_group_writes_its_record(
    owner: Managing, names: PrivateDnsManagementClient, loopback_address: str
) -> None:
    zone = names.private_zones.begin_create_or_update(GROUP, ZONE, {"location": "global"}).result()
    link = {"privateLinkServiceId": owner.hub_id, "groupIds": ["iotHub"]}
    configuration = {"groupId": "iotHub", "memberName": "iotHub", "privateIPAddress": loopback_address}
    properties = {
        "privateLinkServiceConnections": [{"name": "line", "properties": link}],
        "ipConfigurations": [{"name": "ip", "properties": configuration}],
    }
    owner.network.private_endpoints.begin_create_or_update(
        GROUP, "line", {"location": "local", "properties": properties}
    ).result()
    groups = owner.network.private_dns_zone_groups
    body = {"properties": {"privateDnsZoneConfigs": [{"name": "zone", "properties": {"privateDnsZoneId": zone.id}}]}}
    groups.begin_create_or_update(GROUP, "line", "default", body).result()
    assert [each.name for each in groups.list("line", GROUP)] == ["default"]
    addresses = [each.a_records[0].ipv4_address for each in names.record_sets.list_by_type(GROUP, ZONE, "A")]
    assert addresses == [loopback_address]
    groups.begin_delete(GROUP, "line", "default").result()
    owner.network.private_endpoints.begin_delete(GROUP, "line").result()
    names.private_zones.begin_delete(GROUP, ZONE).result()


def test_one_zone_s_token_does_not_reach_another_network(hub: RunningHub, owner: Managing) -> None:
    network = owner.network.virtual_networks.begin_create_or_update(
        GROUP, "office", {"location": "local", "properties": {"addressSpace": {"addressPrefixes": ["10.2.0.0/16"]}}}
    ).result()
    scope = owner.hub_id.rpartition("/providers/")[0] + f"/providers/Microsoft.Network/privateDnsZones/{ZONE}"
    with PrivateDnsManagementClient(
        Bearer(make_token(hub, "zone", "Contributor", "--scope", scope)), SUBSCRIPTION, **connecting(hub)
    ) as names:
        names.private_zones.begin_create_or_update(GROUP, ZONE, {"location": "global"}).result()
        link = {"location": "global", "properties": {"virtualNetwork": {"id": network.id}}}
        with pytest.raises(HttpResponseError) as refused:
            names.virtual_network_links.begin_create_or_update(GROUP, ZONE, "office", link)
        assert told(refused.value) == (403, "LinkedAuthorizationFailed")
        names.private_zones.begin_delete(GROUP, ZONE).result()
        names.private_zones.begin_delete(GROUP, ZONE).result()
    owner.network.virtual_networks.begin_delete(GROUP, "office").result()
