"""azure-mgmt-network with azure-mgmt-iothub, unchanged: a private endpoint's whole life while a device is connected."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from clients.devices import client_of, connected, make_device
from clients.managing import GROUP, MANAGEMENT_OPTIONS, PORT, Managing, make_token, managing, told
from clients.names import resolved
from support.server import ISTHMUS, RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS
CUT_SECONDS = 1.0


@pytest.fixture
def line(owner: Managing) -> Iterator[Any]:
    """A subnet that all loopback addresses are in."""
    networks = owner.network.virtual_networks
    networks.begin_create_or_update(GROUP, "plant", network("127.0.0.0/8")).result()
    made = owner.network.subnets.begin_create_or_update(
        GROUP, "plant", "line", {"properties": {"addressPrefix": "127.0.0.0/8"}}
    ).result()
    yield made
    for endpoint in owner.network.private_endpoints.list(GROUP):
        owner.network.private_endpoints.begin_delete(GROUP, endpoint.name).result()
    networks.begin_delete(GROUP, "plant").result()


def test_a_private_endpoint_is_asked_for_approved_used_rejected_and_deleted(
    hub: RunningHub, owner: Managing, line: Any, loopback_address: str
) -> None:
    endpoints, connections = owner.network.private_endpoints, owner.iothub.private_endpoint_connections
    asked = endpoints.begin_create_or_update(
        GROUP, "press-hall", endpoint(owner, line.id, loopback_address, manual=True)
    ).result()
    assert status_on(asked) == "Pending"
    assert asked.properties.custom_dns_configs[0].ip_addresses == [loopback_address]
    (connection,) = connections.list(GROUP, owner.hub_name)
    assert connection.properties.private_endpoint.id == asked.id
    assert connection.properties.private_link_service_connection_state.description == "please"
    make_device(hub, "press")
    with resolved(hub.host_name, loopback_address):
        with pytest.raises(Exception, match=r"."):
            sign_in(hub)
        assert decide(owner, connection, "Approved") == "Approved"
        assert status_on(endpoints.get(GROUP, "press-hall")) == "Approved"
        cut_by(hub, "press", lambda: decide(owner, connection, "Rejected"))
        with pytest.raises(Exception, match=r"."):
            sign_in(hub)
    with pytest.raises(HttpResponseError) as back:
        decide(owner, connection, "Approved")
    assert told(back.value) == (409, "OperationNotAllowedInCurrentState")
    endpoints.begin_delete(GROUP, "press-hall").result()
    assert connections.list(GROUP, owner.hub_name) == []
    with pytest.raises(ResourceNotFoundError):
        endpoints.get(GROUP, "press-hall")


def test_closing_the_public_side_leaves_the_private_one(
    hub: RunningHub, owner: Managing, line: Any, loopback_address: str
) -> None:
    owner.network.private_endpoints.begin_create_or_update(
        GROUP, "press-hall", endpoint(owner, line.id, loopback_address)
    ).result()
    with connected(hub, "outside", connection_retry=False) as outside:
        cut = threading.Event()
        outside.on_connection_state_change = lambda: cut.set() if not outside.connected else None
        with resolved(hub.host_name, loopback_address), connected(hub, "inside") as inside:
            set_public(owner, "Disabled")
            assert cut.wait(CUT_SECONDS)
            inside.send_message("still here")
            set_public(owner, "Enabled")


def test_the_hub_s_owner_takes_a_connection_away(
    hub: RunningHub, owner: Managing, line: Any, loopback_address: str
) -> None:
    endpoints, connections = owner.network.private_endpoints, owner.iothub.private_endpoint_connections
    made = endpoints.begin_create_or_update(GROUP, "press-hall", endpoint(owner, line.id, loopback_address)).result()
    assert status_on(made) == "Approved"
    assert [each.name for each in endpoints.list_by_subscription()] == ["press-hall"]
    made.tags = {"hall": "3"}
    tagged = endpoints.begin_create_or_update(GROUP, "press-hall", made).result()
    assert (tagged.tags, status_on(tagged)) == ({"hall": "3"}, "Approved")
    (connection,) = connections.list(GROUP, owner.hub_name)
    assert connections.get(GROUP, owner.hub_name, connection.name).id == connection.id
    shown = owner.iothub.iot_hub_resource.get(GROUP, owner.hub_name)
    put = owner.iothub.iot_hub_resource.begin_create_or_update(GROUP, owner.hub_name, shown, if_match=shown.etag)
    assert put.result().properties.private_endpoint_connections[0].id == connection.id
    make_device(hub, "taken")
    with resolved(hub.host_name, loopback_address):
        cut_by(hub, "taken", lambda: connections.begin_delete(GROUP, owner.hub_name, connection.name).result())
    assert status_on(endpoints.get(GROUP, "press-hall")) == "Disconnected"


def test_an_approver_approves_and_a_consumer_asks(
    hub: RunningHub, owner: Managing, line: Any, loopback_address: str
) -> None:
    group = owner.hub_id.rpartition("/providers/")[0]
    consumer = make_token(
        hub, "consumer", "Contributor", "--scope", f"{group}/providers/Microsoft.Network/privateEndpoints/lab"
    )
    approver = make_token(hub, "approver", "Network approver", "--scope", owner.hub_id)
    by_address = endpoint(owner, "", loopback_address, manual=True)
    with managing(hub, consumer) as asking, managing(hub, approver) as deciding:
        with pytest.raises(HttpResponseError) as at_once:
            asking.network.private_endpoints.begin_create_or_update(GROUP, "lab", endpoint(owner, "", loopback_address))
        assert told(at_once.value) == (403, "LinkedAuthorizationFailed")
        with pytest.raises(HttpResponseError) as subnet:
            asking.network.private_endpoints.begin_create_or_update(
                GROUP, "lab", endpoint(owner, line.id, loopback_address, manual=True)
            )
        assert told(subnet.value) == (403, "LinkedAuthorizationFailed")
        asking.network.private_endpoints.begin_create_or_update(GROUP, "lab", by_address).result()
        with pytest.raises(HttpResponseError) as other:
            asking.network.private_endpoints.begin_create_or_update(GROUP, "other", by_address)
        assert told(other.value) == (403, "AuthorizationFailed")
        (connection,) = deciding.iothub.private_endpoint_connections.list(GROUP, owner.hub_name)
        with pytest.raises(HttpResponseError) as deciding_alone:
            decide(asking, connection, "Approved")
        assert told(deciding_alone.value) == (403, "AuthorizationFailed")
        assert decide(deciding, connection, "Approved") == "Approved"
        asking.network.private_endpoints.begin_delete(GROUP, "lab").result()
    assert {"token:consumer", "token:approver"} <= {each["principal"] for each in hub.json("explain", "--all")}


def test_the_command_line_approves_from_elsewhere(
    hub: RunningHub, owner: Managing, line: Any, loopback_address: str, tmp_path: Path
) -> None:
    owner.network.private_endpoints.begin_create_or_update(
        GROUP, "late", endpoint(owner, line.id, loopback_address, manual=True)
    ).result()
    approver = make_token(hub, "elsewhere", "Network approver", "--scope", owner.hub_id)
    login = tmp_path / "login"
    login.write_text(f"Management=https://{hub.address}:{PORT};Token={approver}")
    decided = elsewhere(hub, login, "network", "private-endpoint-connection", "approve", "--name", "late")
    assert decided["properties"]["privateLinkServiceConnectionState"]["status"] == "Approved"
    (shown,) = elsewhere(hub, login, "network", "private-endpoint-connection", "list")
    assert shown["id"] == decided["id"]
    refused = elsewhere(hub, login, "iot", "hub", "update", "--set", "tags.a=b", code=1)
    assert "does not have authorization" in refused
    assert "does not have authorization" in elsewhere(hub, login, "token", "create", "--name", "more", code=1)


def test_networks_subnets_peerings_and_sites(owner: Managing) -> None:
    networks, subnets = owner.network.virtual_networks, owner.network.subnets
    peerings, gateways = owner.network.virtual_network_peerings, owner.network.local_network_gateways
    for name, prefix in (("west", "10.1.0.0/16"), ("east", "10.2.0.0/16")):
        assert networks.begin_create_or_update(GROUP, name, network(prefix)).result().name == name
    assert (
        {each.name for each in networks.list(GROUP)} == {each.name for each in networks.list_all()} == {"west", "east"}
    )
    subnets.begin_create_or_update(GROUP, "west", "a", {"properties": {"addressPrefix": "10.1.1.0/24"}}).result()
    assert [each.name for each in subnets.list(GROUP, "west")] == ["a"]
    states = [peer(owner, *pair) for pair in (("west", "east"), ("east", "west"))]
    assert states == ["Initiated", "Connected"]
    assert peerings.get(GROUP, "west", "west-east").properties.peering_state == "Connected"
    shown = networks.get(GROUP, "west")
    shown.tags = {"hall": "3"}
    again = networks.begin_create_or_update(GROUP, "west", shown).result()
    assert again.tags == {"hall": "3"}
    assert networks.update_tags(GROUP, "west", {"tags": {"hall": "4"}}).tags == {"hall": "4"}
    assert [each.name for each in again.properties.subnets] == ["a"]
    assert [each.name for each in again.properties.virtual_network_peerings] == ["west-east"]
    site = {
        "location": "local",
        "properties": {
            "localNetworkAddressSpace": {"addressPrefixes": ["10.9.0.0/16"]},
            "gatewayIpAddress": "192.0.2.1",
            "virtualNetwork": {"id": shown.id},
        },
    }
    gateways.begin_create_or_update(GROUP, "works", site).result()
    gateways.begin_create_or_update(GROUP, "works", gateways.get(GROUP, "works")).result()
    assert [each.properties.gateway_ip_address for each in gateways.list(GROUP)] == ["192.0.2.1"]
    assert gateways.update_tags(GROUP, "works", {"tags": {"a": "b"}}).tags == {"a": "b"}
    gateways.begin_delete(GROUP, "works").result()
    peerings.begin_delete(GROUP, "west", "west-east").result()
    assert peerings.get(GROUP, "east", "east-west").properties.peering_state == "Disconnected"
    subnets.begin_delete(GROUP, "west", "a").result()
    for name in ("west", "east"):
        networks.begin_delete(GROUP, name).result()
    with pytest.raises(ResourceNotFoundError):
        networks.get(GROUP, "west")


def test_what_can_be_connected_is_told(owner: Managing) -> None:
    types = owner.network.available_private_endpoint_types
    assert [each.resource_name for each in types.list("local")] == ["Microsoft.Devices/IotHubs"]
    assert len(list(types.list_by_resource_group("local", GROUP))) == 1
    with pytest.raises(HttpResponseError) as refused:
        list(owner.network.network_security_groups.list(GROUP))
    assert told(refused.value) == (501, "NotImplemented")


def elsewhere(hub: RunningHub, login: Path, *words: str, code: int = 0) -> Any:
    """Runs a command that has no data folder and the login; what it printed, or its complaint."""
    done = subprocess.run(
        [str(ISTHMUS), *words, "--login", f"@{login}", "--output", "json"],
        cwd=login.parent,
        env={"SSL_CERT_FILE": str(hub.ca), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def network(prefix: str) -> dict[str, Any]:
    return {"location": "local", "properties": {"addressSpace": {"addressPrefixes": [prefix]}}}


def peer(owner: Managing, one: str, other: str) -> str:
    """The state of the first one's side, once it is made."""
    remote = owner.network.virtual_networks.get(GROUP, other).id
    made = owner.network.virtual_network_peerings.begin_create_or_update(
        GROUP, one, f"{one}-{other}", {"properties": {"remoteVirtualNetwork": {"id": remote}}}
    ).result()
    return str(made.properties.peering_state.value)


def endpoint(owner: Managing, subnet: str, address: str, *, manual: bool = False) -> dict[str, Any]:
    link = {"privateLinkServiceId": owner.hub_id, "groupIds": ["iotHub"], "requestMessage": "please"}
    configuration = {"groupId": "iotHub", "memberName": "iotHub", "privateIPAddress": address}
    side = "manualPrivateLinkServiceConnections" if manual else "privateLinkServiceConnections"
    properties: dict[str, Any] = {
        side: [{"name": "link", "properties": link}],
        "ipConfigurations": [{"name": "ip", "properties": configuration}],
    }
    if subnet:
        properties["subnet"] = {"id": subnet}
    return {"location": "local", "properties": properties}


def status_on(shown: Any) -> str:
    """The state that the endpoint's own record tells."""
    properties = shown.properties
    links = properties.private_link_service_connections or properties.manual_private_link_service_connections
    return str(links[0].properties.private_link_service_connection_state.status)


def decide(clients: Managing, connection: Any, status: str) -> str:
    """The state after the decision."""
    connection.properties.private_link_service_connection_state.status = status
    decided = clients.iothub.private_endpoint_connections.begin_update(
        GROUP, clients.hub_name, connection.name, connection
    ).result()
    return str(decided.properties.private_link_service_connection_state.status)


def set_public(owner: Managing, word: str) -> None:
    hubs = owner.iothub.iot_hub_resource
    shown = hubs.get(GROUP, owner.hub_name)
    shown.properties.public_network_access = word
    hubs.begin_create_or_update(GROUP, owner.hub_name, shown, if_match=shown.etag).result()


def cut_by(hub: RunningHub, device_id: str, act: Callable[[], object]) -> None:
    """A device is connected and sends; what is done cuts it within the second."""
    with connected(hub, device_id, create=False, connection_retry=False) as device:
        device.send_message("before")
        cut = threading.Event()
        device.on_connection_state_change = lambda: cut.set() if not device.connected else None
        act()
        assert cut.wait(CUT_SECONDS)


def sign_in(hub: RunningHub, device_id: str = "press") -> None:
    device = client_of(hub, hub.device_connection_string(device_id), connection_retry=False)
    try:
        device.connect()
    finally:
        device.shutdown()
