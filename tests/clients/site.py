"""A site that routes to neighbours of its own: closed to the public, reached by identity, without a key anywhere."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from azure.identity import ClientSecretCredential

from clients.names import resolved
from support.server import RunningHub

DOMAIN: Final = "isthmus.test"
HOST: Final = f"hub.{DOMAIN}"
TENANT: Final = "00000000-0000-0000-0000-000000000000"
ENTITY: Final = "telemetry"
SUBSCRIPTION: Final = "readers"
NOBODY: Final = "203.0.113.7"
"""An address in nobody's use (RFC 5737): with no rule at all a namespace is open, as the real ones are."""


@dataclass(frozen=True)
class Neighbour:
    """A hosted neighbour: where it is reached inside the site, and nowhere else."""

    name: str
    host: str
    resource_id: str
    private_address: str


@dataclass(frozen=True)
class Site:
    """A hub with an identity of its own, and three neighbours with their entities."""

    hub: RunningHub
    events: Neighbour
    bus: Neighbour
    storage: Neighbour
    hub_principal: str
    reader: ClientSecretCredential

    @contextmanager
    def inside(self) -> Iterator[None]:
        """While it lasts, the neighbours' names lead to their private endpoints, as in the site's own network."""
        with ExitStack() as stack:
            for neighbour in (self.events, self.bus, self.storage):
                stack.enter_context(resolved(neighbour.host, neighbour.private_address))
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """While it lasts, the neighbours' names lead to the public door."""
        with ExitStack() as stack:
            for neighbour in (self.events, self.bus, self.storage):
                stack.enter_context(resolved(neighbour.host, self.hub.address))
            yield

    def add_endpoint(self, name: str, kind: str, *options: str) -> None:
        """A routing endpoint with the hub's own identity."""
        command = ("iot", "hub", "message-endpoint", "create", kind, "--en", name, "--identity", "[system]")
        self.hub.isthmus(*command, *options)

    def add_container(self, name: str, encoding: str) -> None:
        """A container, the role for it, and the endpoint of both."""
        self.hub.isthmus("storage", "container", "create", "--account-name", self.storage.name, "-n", name)
        scope = f"{self.storage.resource_id}/blobServices/default/containers/{name}"
        assign(self.hub, self.hub_principal, "Storage Blob Data Contributor", scope)
        uri = f"https://{self.storage.host}"
        options = ("--endpoint-uri", uri, "--container", name, "--encoding", encoding, "-b", "60")
        self.add_endpoint(name, "storage-container", *options)

    def route_all(self, endpoint: str) -> None:
        """Every message of devices goes to the endpoint."""
        self.hub.isthmus(
            "iot", "hub", "message-route", "create", "--rn", endpoint, "-t", "DeviceMessages", "--en", endpoint
        )


def make_site(hub: RunningHub, take_address: Callable[[], str]) -> Site:
    """Builds it on a hub whose token authority is served."""
    principal = hub.json("iot", "hub", "identity", "assign", "--system-assigned", "true")["principalId"]
    reader, reader_principal = _reader(hub)
    events = _namespace(hub, "eventhubs", take_address())
    bus = _namespace(hub, "servicebus", take_address())
    storage = _account(hub, take_address())
    hub.isthmus(
        "eventhubs", "eventhub", "create", "--namespace-name", events.name, "-n", ENTITY, "--partition-count", "4"
    )
    hub.isthmus("servicebus", "queue", "create", "--namespace-name", bus.name, "-n", "orders")
    hub.isthmus("servicebus", "topic", "create", "--namespace-name", bus.name, "-n", "news")
    topic = ("--namespace-name", bus.name, "--topic-name", "news")
    hub.isthmus("servicebus", "topic", "subscription", "create", *topic, "-n", SUBSCRIPTION)
    assign(hub, principal, "Azure Event Hubs Data Sender", f"{events.resource_id}/eventhubs/{ENTITY}")
    assign(hub, principal, "Azure Service Bus Data Sender", f"{bus.resource_id}/queues/orders")
    assign(hub, principal, "Azure Service Bus Data Sender", f"{bus.resource_id}/topics/news")
    assign(hub, reader_principal, "Azure Event Hubs Data Receiver", events.resource_id)
    assign(hub, reader_principal, "Azure Service Bus Data Receiver", bus.resource_id)
    assign(hub, reader_principal, "Storage Blob Data Reader", storage.resource_id)
    return Site(hub, events, bus, storage, principal, reader)


def assign(hub: RunningHub, principal: str, role: str, scope: str) -> None:
    """Gives a principal a role at a scope."""
    hub.isthmus("role", "assignment", "create", "--assignee-object-id", principal, "--role", role, "--scope", scope)


def _reader(hub: RunningHub) -> tuple[ClientSecretCredential, str]:
    made: Any = hub.json("identity", "create", "-n", "reader")
    secret = hub.json("identity", "secret", "create", "-n", "reader")["secretText"]
    credential = ClientSecretCredential(
        TENANT,
        made["clientId"],
        secret,
        authority=f"https://{hub.address}",
        disable_instance_discovery=True,
        connection_verify=str(hub.ca),
        retry_total=0,
    )
    return credential, made["principalId"]


def _namespace(hub: RunningHub, words: str, address: str) -> Neighbour:
    name = f"{words}-{uuid.uuid4().hex[:6]}"
    made = hub.json(words, "namespace", "create", "-n", name, "--disable-local-auth", "true")
    hub.isthmus(
        *(words, "namespace", "network-rule-set", "update", "-n", name),
        *("--default-action", "deny", "--ip-rules", NOBODY, "--enable-trusted-service-access", "true"),
    )
    neighbour = Neighbour(name, f"{name}.servicebus.{DOMAIN}", made["id"], address)
    _private_endpoint(hub, neighbour, "namespace")
    return neighbour


def _account(hub: RunningHub, address: str) -> Neighbour:
    name = f"store{uuid.uuid4().hex[:6]}"
    made = hub.json(
        *("storage", "account", "create", "-n", name, "--default-action", "deny", "--bypass", "AzureServices"),
        *("--allow-shared-key-access", "false"),
    )
    neighbour = Neighbour(name, f"{name}.blob.{DOMAIN}", made["id"], address)
    _private_endpoint(hub, neighbour, "blob")
    return neighbour


def _private_endpoint(hub: RunningHub, neighbour: Neighbour, group: str) -> None:
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", neighbour.name, "--connection-name", neighbour.name),
        *("--private-connection-resource-id", neighbour.resource_id, "--group-id", group),
        *("--ip-config", f"name={neighbour.name}", f"group-id={group}", f"member-name={group}"),
        f"private-ip-address={neighbour.private_address}",
    )
