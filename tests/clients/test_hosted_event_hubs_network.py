"""The firewall and the private doors of a hosted Event Hubs namespace, in the words of the real service."""

from collections.abc import Iterator

import pytest
from azure.eventhub import EventData, EventHubProducerClient
from azure.eventhub.exceptions import EventHubError

from clients.hosted import Namespace, namespace
from clients.names import resolved
from clients.reading import EventCollector
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
ENTITY = "telemetry"
PREVENTED = "Ip has been prevented to connect to the endpoint"
RULES = ("eventhubs", "namespace", "network-rule-set")


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    """A namespace with an event hub of one partition."""
    with namespace(hub, "eventhubs") as made:
        made.make("eventhub", "create", "-n", ENTITY, "--partition-count", "1")
        yield made


def send(plant: Namespace, body: str = "x") -> None:
    """Sends an event as a client does that tries once."""
    client = EventHubProducerClient.from_connection_string(
        plant.connection_string(ENTITY), connection_verify=str(plant.hub.ca), retry_total=0
    )
    with client:
        client.send_event(EventData(body))


def refused(plant: Namespace) -> str:
    """The rule by which the newest refusal came, after one with the documented text."""
    with pytest.raises(EventHubError, match=PREVENTED):
        send(plant)
    told = plant.hub.json("explain", "--top", "1")[0]
    assert told["hub"] == plant.name
    return str(told["rule"])


def test_ip_rules_bite_once_there_is_one(plant: Namespace) -> None:
    plant.hub.json(*RULES, "update", "-n", plant.name, "--default-action", "Deny")
    send(plant)
    plant.hub.json(*RULES, "ip-rule", "add", "-n", plant.name, "--ip-rule", "ip-address=198.51.100.0/24 action=Allow")
    assert refused(plant) == "network.ip-rule"
    plant.hub.json(*RULES, "ip-rule", "add", "-n", plant.name, "--ip-rule", "ip-address=127.0.0.0/8", "action=Allow")
    send(plant)
    shown = plant.hub.json(*RULES, "show", "--namespace-name", plant.name)
    assert [rule["ipMask"] for rule in shown["ipRules"]] == ["198.51.100.0/24", "127.0.0.0/8"]
    plant.hub.json(*RULES, "ip-rule", "remove", "-n", plant.name, "--ip-rule", "ip-address=127.0.0.0/8")
    assert refused(plant) == "network.ip-rule"


def test_closing_the_public_side_cuts_and_a_private_endpoint_leads_in(plant: Namespace, loopback_address: str) -> None:
    reader = EventCollector(plant.connection_string(ENTITY), str(plant.hub.ca), retry_total=0)
    send(plant, "before")
    reader.wait(lambda event: event.body_as_str() == "before")
    plant.hub.json(*RULES, "update", "-n", plant.name, "--public-network-access", "Disabled")
    reader.wait_for_error()
    reader.close()
    assert refused(plant) == "network.public-access"
    endpoint = ("network", "private-endpoint")
    name = f"to-{plant.name}"
    plant.hub.json(
        *(*endpoint, "create", "-n", name, "--connection-name", name, "--group-id", "namespace"),
        *("--private-connection-resource-id", plant.resource_id, "--manual-request", "true"),
        *("--ip-config", f"private-ip-address={loopback_address}", "group-id=namespace", "member-name=namespace"),
    )
    with resolved(plant.host, loopback_address):
        assert refused(plant) == "network.private-endpoint-pending"
        connections = ("eventhubs", "namespace", "private-endpoint-connection")
        (made,) = plant.hub.json(*connections, "list", "--namespace-name", plant.name)
        plant.hub.json(*connections, "approve", "-n", made["name"], "--namespace-name", plant.name)
        send(plant, "inside")
        inside = EventCollector(plant.connection_string(ENTITY), str(plant.hub.ca))
        inside.wait(lambda event: event.body_as_str() == "inside")
        inside.close()
        typed = ("network", "private-endpoint-connection", "reject", "-n", made["name"], "--resource-name", plant.name)
        plant.hub.json(*typed, "--type", "Microsoft.EventHub/namespaces")
        assert refused(plant) == "network.private-endpoint-rejected"
    plant.hub.isthmus(*endpoint, "delete", "-n", name)


def test_a_private_door_leads_to_its_own_namespace_only(
    hub: RunningHub, plant: Namespace, loopback_address: str
) -> None:
    name = f"to-{plant.name}"
    hub.json(
        *("network", "private-endpoint", "create", "-n", name, "--connection-name", name, "--group-id", "namespace"),
        *("--private-connection-resource-id", plant.resource_id),
        *("--ip-config", f"private-ip-address={loopback_address}"),
        *("group-id=namespace", "member-name=namespace"),
    )
    with namespace(hub, "eventhubs") as other:
        other.make("eventhub", "create", "-n", ENTITY)
        with resolved(other.host, loopback_address):
            assert refused(other) == "network.wrong-door"
    hub.isthmus("network", "private-endpoint", "delete", "-n", name)


def test_the_flag_for_trusted_services_lets_no_key_past_the_firewall(plant: Namespace) -> None:
    plant.hub.json(*RULES, "update", "-n", plant.name, "--default-action", "Deny", "--ip-rules", "198.51.100.1")
    plant.hub.json(*RULES, "update", "-n", plant.name, "--enable-trusted-service-access", "true")
    assert plant.hub.json(*RULES, "show", "-n", plant.name)["trustedServiceAccessEnabled"] is True
    assert refused(plant) == "network.ip-rule"


def test_a_deleted_namespace_ends_its_connections_and_leaves_no_name(hub: RunningHub) -> None:
    with namespace(hub, "eventhubs") as gone:
        gone.make("eventhub", "create", "-n", ENTITY)
        string = gone.connection_string(ENTITY)
        reader = EventCollector(string, str(hub.ca), retry_total=0)
        send(gone)
        reader.wait(lambda event: True)
        hub.isthmus("eventhubs", "namespace", "delete", "-n", gone.name)
        reader.wait_for_error()
        reader.close()
        client = EventHubProducerClient.from_connection_string(string, connection_verify=str(hub.ca), retry_total=0)
        with client, pytest.raises(EventHubError):
            client.send_event(EventData("x"))
        assert hub.json("eventhubs", "namespace", "exists", "-n", gone.name)["nameAvailable"] is True
