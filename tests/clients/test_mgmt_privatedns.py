"""azure-mgmt-privatedns and the zone groups of azure-mgmt-network, unchanged, over TLS with a token."""

from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from azure.mgmt.privatedns import PrivateDnsManagementClient

from clients.managing import GROUP, MANAGEMENT_OPTIONS, SUBSCRIPTION, Bearer, Managing, connecting, make_token
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
HUB_OPTIONS = MANAGEMENT_OPTIONS
ZONE = "privatelink.isthmus.test"


@pytest.fixture(scope="module")
def client(hub: RunningHub) -> Iterator[PrivateDnsManagementClient]:
    with PrivateDnsManagementClient(Bearer(make_token(hub, "dns")), SUBSCRIPTION, **connecting(hub)) as made:
        yield made


@pytest.fixture
def zone(client: PrivateDnsManagementClient) -> Iterator[Any]:
    """A zone that goes with its links."""
    yield client.private_zones.begin_create_or_update(GROUP, ZONE, {"location": "global"}).result()
    for link in client.virtual_network_links.list(GROUP, ZONE):
        client.virtual_network_links.begin_delete(GROUP, ZONE, link.name).result()
    client.private_zones.begin_delete(GROUP, ZONE).result()


def test_a_zone_is_made_read_tagged_and_deleted(client: PrivateDnsManagementClient, zone: Any) -> None:
    assert (zone.name, zone.location, zone.properties.provisioning_state) == (ZONE, "global", "Succeeded")
    tagged = client.private_zones.begin_update(GROUP, ZONE, {"tags": {"site": "north"}}).result()
    assert tagged.tags == {"site": "north"}
    assert client.private_zones.get(GROUP, ZONE).properties.number_of_record_sets == 1
    assert [each.name for each in client.private_zones.list_by_resource_group(GROUP)] == [ZONE]
    assert [each.name for each in client.private_zones.list()] == [ZONE]
    with pytest.raises(ResourceNotFoundError):
        client.private_zones.get(GROUP, "nowhere.test")


def test_record_sets_are_made_read_changed_and_deleted(client: PrivateDnsManagementClient, zone: Any) -> None:
    sets = client.record_sets
    made = sets.create_or_update(
        GROUP, ZONE, "A", "press", {"properties": {"ttl": 60, "aRecords": [{"ipv4Address": "10.1.0.9"}]}}
    )
    assert (made.properties.fqdn, made.properties.a_records[0].ipv4_address) == (f"press.{ZONE}.", "10.1.0.9")
    changed = sets.update(GROUP, ZONE, "A", "press", {"properties": {"ttl": 5}})
    assert (changed.properties.ttl, changed.properties.a_records[0].ipv4_address) == (5, "10.1.0.9")
    sets.create_or_update(GROUP, ZONE, "CNAME", "alias", {"properties": {"cnameRecord": {"cname": "press.test"}}})
    sets.create_or_update(GROUP, ZONE, "TXT", "note", {"properties": {"txtRecords": [{"value": ["one", "two"]}]}})
    sets.create_or_update(GROUP, ZONE, "AAAA", "press", {"properties": {"aaaaRecords": [{"ipv6Address": "fd00::9"}]}})

    assert sets.get(GROUP, ZONE, "CNAME", "alias").properties.cname_record.cname == "press.test"
    assert sets.get(GROUP, ZONE, "SOA", "@").properties.soa_record.minimum_ttl == 10
    assert {(each.name, each.type.rpartition("/")[2]) for each in sets.list(GROUP, ZONE)} == {
        ("@", "SOA"),
        ("press", "A"),
        ("press", "AAAA"),
        ("alias", "CNAME"),
        ("note", "TXT"),
    }
    assert [each.name for each in sets.list_by_type(GROUP, ZONE, "TXT")] == ["note"]
    sets.delete(GROUP, ZONE, "A", "press")
    with pytest.raises(ResourceNotFoundError):
        sets.get(GROUP, ZONE, "A", "press")


def test_what_was_changed_meanwhile_is_not_overwritten(client: PrivateDnsManagementClient, zone: Any) -> None:
    body: Any = {"properties": {"aRecords": [{"ipv4Address": "10.1.0.9"}]}}
    first = client.record_sets.create_or_update(GROUP, ZONE, "A", "press", body)
    client.record_sets.create_or_update(
        GROUP,
        ZONE,
        "A",
        "press",
        {"properties": {"ttl": 5}},
        etag=first.etag,
        match_condition=MatchConditions.IfNotModified,
    )

    with pytest.raises(ResourceModifiedError):
        client.record_sets.create_or_update(
            GROUP, ZONE, "A", "press", body, etag=first.etag, match_condition=MatchConditions.IfNotModified
        )
    with pytest.raises(HttpResponseError) as caught:
        client.record_sets.create_or_update(GROUP, ZONE, "A", "press", body, match_condition=MatchConditions.IfMissing)
    assert caught.value.status_code == 412


def test_an_endpoint_is_seen_by_name_through_links_and_zone_groups(
    hub: RunningHub, owner: Managing, client: PrivateDnsManagementClient, zone: Any, loopback_address: str
) -> None:
    network = owner.network
    prefix = loopback_address.rpartition(".")[0] + ".0/24"
    subnet = {"name": "line", "properties": {"addressPrefix": prefix}}
    space = {"addressSpace": {"addressPrefixes": [prefix]}, "subnets": [subnet]}
    made = network.virtual_networks.begin_create_or_update(
        GROUP, "plant", {"location": "local", "properties": space}
    ).result()
    link = client.virtual_network_links.begin_create_or_update(
        *(GROUP, ZONE, "here"),
        {"location": "global", "properties": {"virtualNetwork": {"id": made.id}, "registrationEnabled": False}},
    ).result()
    assert link.properties.virtual_network_link_state == "Completed"
    network.private_endpoints.begin_create_or_update(
        GROUP, "pe", endpoint(owner.hub_id, made.subnets[0].id, loopback_address)
    ).result()
    config = {"name": "hub", "properties": {"privateDnsZoneId": zone.id}}
    group = network.private_dns_zone_groups.begin_create_or_update(
        GROUP, "pe", "default", {"properties": {"privateDnsZoneConfigs": [config]}}
    ).result()

    (record,) = group.private_dns_zone_configs[0].record_sets
    assert (record.fqdn, record.ip_addresses) == (f"hub.{ZONE}", [loopback_address])
    assert [each.name for each in network.private_dns_zone_groups.list("pe", GROUP)] == ["default"]
    assert client.record_sets.get(GROUP, ZONE, "A", "hub").properties.a_records[0].ipv4_address == loopback_address
    assert list(network.virtual_networks.get(GROUP, "plant").dhcp_options.dns_servers) == [loopback_address]
    said = dns.query.udp(dns.message.make_query(HUB_HOST, "A"), loopback_address, timeout=10)
    assert said.answer[-1][0].to_text() == loopback_address

    network.private_endpoints.begin_delete(GROUP, "pe").result()
    with pytest.raises(ResourceNotFoundError):
        client.record_sets.get(GROUP, ZONE, "A", "hub")


def test_a_reader_changes_nothing(hub: RunningHub, zone: Any) -> None:
    token = make_token(hub, "reader", "Reader")
    with PrivateDnsManagementClient(Bearer(token), SUBSCRIPTION, **connecting(hub)) as reader:
        assert reader.private_zones.get(GROUP, ZONE).name == ZONE
        with pytest.raises(HttpResponseError) as caught:
            reader.private_zones.begin_delete(GROUP, ZONE)
    assert caught.value.status_code == 403


def endpoint(hub_id: str, subnet_id: str, address: str) -> Any:
    connection = {"name": "pe", "properties": {"privateLinkServiceId": hub_id, "groupIds": ["iotHub"]}}
    configuration = {
        "name": "ip",
        "properties": {"groupId": "iotHub", "memberName": "iotHub", "privateIPAddress": address},
    }
    return {
        "location": "local",
        "properties": {
            "subnet": {"id": subnet_id},
            "privateLinkServiceConnections": [connection],
            "ipConfigurations": [configuration],
        },
    }
