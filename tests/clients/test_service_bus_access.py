"""Who is let in to a hosted Service Bus namespace: keys, roles, the firewall and its exception, private endpoints."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusAuthenticationError, ServiceBusAuthorizationError, ServiceBusError
from azure.servicebus.management import ServiceBusAdministrationClient

from clients.bus_clients import bearer_client, client, receive, texts
from clients.hosted import Namespace, namespace
from clients.names import resolved
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
HUB_SETTINGS = "[authority]\nenabled = true\n"
TENANT = "00000000-0000-0000-0000-000000000000"
SENDER = "Azure Service Bus Data Sender"
RECEIVER = "Azure Service Bus Data Receiver"
OWNER = "Azure Service Bus Data Owner"
QUEUE = "orders"
PREVENTED = "Ip has been prevented to connect to the endpoint"
REFUSED = (ServiceBusError, ServiceBusAuthorizationError)


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    with namespace(hub, "servicebus") as made:
        made.make("queue", "create", "-n", QUEUE)
        yield made


def send(bus: ServiceBusClient, text: str = "x") -> None:
    with bus, bus.get_queue_sender(QUEUE) as sender:
        sender.send_messages(ServiceBusMessage(text))


def read(bus: ServiceBusClient) -> list[str]:
    with bus, bus.get_queue_receiver(QUEUE) as receiver:
        return texts(receive(receiver, 1))


def reason(bus: ServiceBusClient) -> str:
    """What a client is told when its token is refused; the SDK keeps the words in the error below its own."""
    with pytest.raises(ServiceBusAuthenticationError) as refused:
        send(bus)
    return str(refused.value.inner_exception)


def last_rule(plant: Namespace) -> str:
    return str(plant.hub.json("explain", "--top", "1")[0]["rule"])


def test_rules_of_the_queue_let_in_for_what_they_say(plant: Namespace) -> None:
    rules = ("queue", "authorization-rule", "create", "--queue-name", QUEUE)
    plant.make(*rules, "-n", "sends", "--rights", "Send")
    plant.make(*rules, "-n", "listens", "--rights", "Listen")
    sends, listens = (plant.connection_string(QUEUE, policy) for policy in ("sends", "listens"))
    send(client(plant, sends))
    with pytest.raises(ServiceBusAuthorizationError, match=r"'Send' claim\(s\) are required"):
        send(client(plant, listens))
    assert last_rule(plant) == "auth.right"
    with pytest.raises(ServiceBusAuthorizationError, match=r"'Listen' claim\(s\) are required"):
        read(client(plant, sends))
    assert read(client(plant, listens)) == ["x"]


def test_a_wrong_key_and_a_renewed_one_are_refused(plant: Namespace) -> None:
    good = plant.connection_string(QUEUE)
    with pytest.raises(REFUSED):
        send(client(plant, good.replace("AccessKey=", "AccessKey=AAAA")))
    send(client(plant, good))
    keys = ("namespace", "authorization-rule", "keys", "renew", "-n", "RootManageSharedAccessKey")
    plant.make(*keys, "--key", "PrimaryKey")
    with pytest.raises(REFUSED):
        send(client(plant, good))
    send(client(plant))


@pytest.fixture
def credential(hub: RunningHub) -> Iterator[tuple[ClientSecretCredential, str]]:
    """A stock credential of an identity, and its object id."""
    made = hub.json("identity", "create", "-n", "sends")
    secret = hub.json("identity", "secret", "create", "-n", "sends")["secretText"]
    yield (
        ClientSecretCredential(
            TENANT,
            made["clientId"],
            secret,
            authority=f"https://{hub.address}",
            disable_instance_discovery=True,
            connection_verify=str(hub.ca),
            retry_total=0,
        ),
        made["principalId"],
    )
    hub.isthmus("identity", "delete", "-n", "sends")


def assign(plant: Namespace, principal: str, role: str, scope: str) -> None:
    who = ("--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal")
    plant.hub.json("role", "assignment", "create", *who, "--role", role, "--scope", scope)


def test_a_stock_credential_needs_a_role_that_covers(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    queue = f"{plant.resource_id}/queues/{QUEUE}"
    with pytest.raises(ServiceBusAuthorizationError, match=r"'Send' claim\(s\) are required"):
        send(bearer_client(plant, shown))
    assert last_rule(plant) == "auth.role-missing"
    assign(plant, principal, SENDER, f"{plant.resource_id}/queues/other")
    with pytest.raises(ServiceBusAuthorizationError):
        send(bearer_client(plant, shown))
    assert last_rule(plant) == "auth.role-scope"
    assign(plant, principal, SENDER, queue)
    send(bearer_client(plant, shown), "allowed")
    with pytest.raises(ServiceBusAuthorizationError, match=r"'Listen' claim\(s\) are required"):
        read(bearer_client(plant, shown))
    assign(plant, principal, RECEIVER, plant.resource_id)
    assert read(bearer_client(plant, shown)) == ["allowed"]


def test_an_identity_manages_entities_by_the_owners_role(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    options = {"connection_verify": str(plant.hub.ca), "retry_total": 0}
    with ServiceBusAdministrationClient(plant.host, shown, **options) as manager:
        assign(plant, principal, SENDER, plant.resource_id)
        with pytest.raises(ClientAuthenticationError, match=r"'Manage' claim\(s\) are required"):
            manager.create_queue("made")
        assign(plant, principal, OWNER, plant.resource_id)
        assert manager.create_queue("made").name == "made"
        assert {each.name for each in manager.list_queues()} == {QUEUE, "made"}


def test_a_token_for_something_else_is_no_token(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    assign(plant, principal, SENDER, plant.resource_id)

    class ForStorage:
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return shown.get_token("https://storage.azure.com/.default")

    with pytest.raises(REFUSED):
        send(bearer_client(plant, ForStorage()))
    assert last_rule(plant) == "auth.bearer-audience"


def test_local_auth_switched_off_leaves_identities_only(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    assign(plant, principal, SENDER, plant.resource_id)
    plant.hub.json("servicebus", "namespace", "update", "-n", plant.name, "--disable-local-auth", "true")
    with pytest.raises(REFUSED):
        send(client(plant))
    send(bearer_client(plant, shown))


def test_a_closed_namespace_tells_the_address_whatever_the_key(plant: Namespace) -> None:
    close(plant)
    for string in (plant.connection_string(), plant.connection_string().replace("AccessKey=", "AccessKey=AAAA")):
        assert PREVENTED in reason(client(plant, string))
        assert last_rule(plant) == "network.public-access"
    plant.make("namespace", "network-rule-set", "update", "--public-network-access", "Enabled")
    send(client(plant))


def test_the_flag_for_trusted_services_lets_no_key_and_no_other_identity_past_the_firewall(
    plant: Namespace, credential: tuple[ClientSecretCredential, str]
) -> None:
    shown, principal = credential
    assign(plant, principal, SENDER, plant.resource_id)
    close(plant)
    plant.make("namespace", "network-rule-set", "update", "--enable-trusted-service-access", "true")
    for bus in (client(plant), bearer_client(plant, shown)):
        assert PREVENTED in reason(bus)


def close(plant: Namespace) -> None:
    """Lets in nobody by the public door."""
    plant.make("namespace", "network-rule-set", "update", "--public-network-access", "Disabled")


def test_a_private_endpoint_leads_in_past_a_closed_door(plant: Namespace, loopback_address: str) -> None:
    close(plant)
    plant.hub.json(
        *("network", "private-endpoint", "create", "-n", "inside", "--connection-name", "inside"),
        *("--private-connection-resource-id", plant.resource_id, "--group-id", "namespace"),
        *("--ip-config", f"private-ip-address={loopback_address}", "group-id=namespace", "member-name=namespace"),
    )
    with resolved(plant.host, loopback_address):
        send(client(plant), "from inside")
        assert read(client(plant)) == ["from inside"]
    plant.hub.isthmus("network", "private-endpoint", "delete", "-n", "inside")


def test_a_renewed_key_of_the_queue_cuts_its_session_and_spares_others(plant: Namespace) -> None:
    plant.make("queue", "authorization-rule", "create", "--queue-name", QUEUE, "-n", "own", "--rights", "Send")
    renew = ("queue", "authorization-rule", "keys", "renew", "--queue-name", QUEUE, "-n", "own", "--key", "PrimaryKey")
    own, root = client(plant, plant.connection_string(QUEUE, "own")), client(plant)
    with own, root, own.get_queue_sender(QUEUE) as cut, root.get_queue_sender(QUEUE) as spared:
        for sender in (cut, spared):
            sender.send_messages(ServiceBusMessage("before"))
        plant.make(*renew)
        spared.send_messages(ServiceBusMessage("after"))
        with pytest.raises(ServiceBusError):
            cut.send_messages(ServiceBusMessage("x"))
