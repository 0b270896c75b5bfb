"""Neighbours of the lab's hub, by the command line: closed, private, reached by the hub's own identity and roles."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from isthmus.lab.declare import SUBNET, Say
from isthmus.lab.plan import NeighbourKind, NeighbourPlan, Plan, RoutePlan

GROUPS: Mapping[NeighbourKind, str] = MappingProxyType(
    {NeighbourKind.STORAGE: "blob", NeighbourKind.EVENT_HUBS: "namespace", NeighbourKind.SERVICE_BUS: "namespace"}
)

ROLES: Mapping[NeighbourKind, str] = MappingProxyType(
    {
        NeighbourKind.STORAGE: "Storage Blob Data Contributor",
        NeighbourKind.EVENT_HUBS: "Azure Event Hubs Data Sender",
        NeighbourKind.SERVICE_BUS: "Azure Service Bus Data Sender",
    }
)
"""What the hub needs to write ("IoT Hub support for managed identities")."""

READER_ROLES: Mapping[NeighbourKind, str] = MappingProxyType(
    {
        NeighbourKind.STORAGE: "Storage Blob Data Reader",
        NeighbourKind.EVENT_HUBS: "Azure Event Hubs Data Receiver",
        NeighbourKind.SERVICE_BUS: "Azure Service Bus Data Receiver",
    }
)
"""What whoever reads them needs."""

Command = tuple[str, ...]


class NeighbourDeclaration:
    """Tells a running hub's server about one lab's neighbours, and the first hub about its ways to them."""

    def __init__(self, plan: Plan, run: Callable[..., Any], say: Say) -> None:
        self._plan = plan
        self._run = run
        self._say = say
        self._ids: dict[str, str] = {}

    def declare(self) -> None:
        """Makes all of it; without effect where the plan has no neighbours."""
        if not self._plan.neighbours:
            return
        for name, neighbour in self._plan.neighbours.items():
            self._make(name, neighbour)
        hub = self._plan.hub.first
        self._run("iot", "hub", "identity", "assign", "-n", hub, "--system-assigned")
        principal = self._run("iot", "hub", "identity", "show", "-n", hub)["principalId"]
        for name, neighbour in self._plan.neighbours.items():
            self._allow(principal, ROLES[neighbour.kind], name)
        self._route(hub)
        self._take_files(hub)
        for host, names in self._plan.readers.items():
            reader = self._run("identity", "create", "-n", host)["principalId"]
            for name in names:
                self._allow(reader, READER_ROLES[self._plan.neighbours[name].kind], name)
            self._say(f"programs on {host} read {', '.join(names)} by an identity of their place, without a secret")

    def _allow(self, principal: str, role: str, neighbour: str) -> None:
        self._run(
            *("role", "assignment", "create", "--assignee-object-id", principal),
            *("--assignee-principal-type", "ServicePrincipal", "--role", role, "--scope", self._ids[neighbour]),
        )

    def _make(self, name: str, neighbour: NeighbourPlan) -> None:
        for command in closed(name, neighbour):
            made = self._run(*command)
            self._ids.setdefault(name, made["id"])
        self._run(
            *("network", "private-endpoint", "create", "-n", name, "--connection-name", name),
            *("--private-connection-resource-id", self._ids[name], "--group-id", GROUPS[neighbour.kind]),
            *("--vnet-name", neighbour.network, "--subnet", SUBNET),
            *("--ip-config", f"name={name}", f"group-id={GROUPS[neighbour.kind]}"),
            *(f"member-name={GROUPS[neighbour.kind]}", f"private-ip-address={neighbour.endpoint}"),
        )
        for command in contents(name, neighbour):
            self._run(*command)
        held = ", ".join(neighbour.entities)
        self._say(f"{self._plan.host_name_of_neighbour(name)} at {neighbour.endpoint}, closed to the public: {held}")

    def _route(self, hub: str) -> None:
        for number, route in enumerate(self._plan.routes, 1):
            endpoint = f"to-{route.neighbour}-{number}"
            self._run(*endpoint_command(self._plan, hub, endpoint, route))
            self._run(
                *("iot", "hub", "message-route", "create", "-n", hub, "--route-name", f"route-{number}"),
                *("--endpoint-name", endpoint, "--source-type", "DeviceMessages", "--condition", "true"),
            )
            self._say(f"what devices send also goes to {route.to}, by the hub's identity")
        if self._plan.routes:
            # With routes of its own a hub gives its built-in endpoint only what one of them names.
            self._run(
                *("iot", "hub", "message-route", "create", "-n", hub, "--route-name", "built-in"),
                *("--endpoint-name", "events", "--source-type", "DeviceMessages", "--condition", "true"),
            )

    def _take_files(self, hub: str) -> None:
        uploads = self._plan.uploads
        if uploads is None:
            return
        account, _, container = uploads.to.partition("/")
        host = self._plan.host_name_of_neighbour(account)
        self._run(
            *("iot", "hub", "update", "-n", hub, "--fileupload-storage-container-name", container),
            *("--fileupload-storage-connectionstring", f"AccountName={account};BlobEndpoint=https://{host}/"),
            *("--fileupload-storage-auth-type", "identityBased"),
            *("--fileupload-storage-identity", "[system]", "--fileupload-notifications", "true"),
            *(("--fileupload-relay", "true") if uploads.relay else ()),
        )
        self._say(f"files of devices go to {uploads.to}{', by way of the hub' if uploads.relay else ''}")


def closed(name: str, neighbour: NeighbourPlan) -> Iterator[Command]:
    """The commands that make a neighbour, closed to all but private endpoints and hubs that it trusts."""
    if neighbour.kind is NeighbourKind.STORAGE:
        yield (
            *("storage", "account", "create", "-n", name, "--public-network-access", "Disabled"),
            *("--default-action", "Deny", "--bypass", "AzureServices"),
        )
        return
    group = neighbour.kind.value
    yield (group, "namespace", "create", "-n", name, "--public-network-access", "Disabled")
    yield (
        *(group, "namespace", "network-rule-set", "update", "--namespace-name", name),
        *("--public-network-access", "Disabled", "--enable-trusted-service-access", "true"),
    )


def contents(name: str, neighbour: NeighbourPlan) -> Iterator[Command]:
    """The commands that make what a neighbour holds."""
    for container in neighbour.containers:
        yield ("storage", "container", "create", "-n", container, "--account-name", name)
    for hub in neighbour.eventhubs:
        yield ("eventhubs", "eventhub", "create", "--namespace-name", name, "-n", hub, "--partition-count", "4")
    for queue in neighbour.queues:
        yield ("servicebus", "queue", "create", "--namespace-name", name, "-n", queue)
    for topic in neighbour.topics:
        yield ("servicebus", "topic", "create", "--namespace-name", name, "-n", topic)
        yield (
            *("servicebus", "topic", "subscription", "create", "--namespace-name", name),
            *("--topic-name", topic, "-n", "all"),
        )


def endpoint_command(plan: Plan, hub: str, endpoint: str, route: RoutePlan) -> Command:
    """The command that makes the endpoint of a route, reached by the hub's own identity."""
    neighbour, host = plan.neighbours[route.neighbour], plan.host_name_of_neighbour(route.neighbour)
    create = ("iot", "hub", "message-endpoint", "create")
    common = ("-n", hub, "--endpoint-name", endpoint, "--identity", "[system]")
    if neighbour.kind is NeighbourKind.STORAGE:
        return (
            *(*create, "storage-container", *common, "--endpoint-uri", f"https://{host}"),
            *("--container-name", route.entity, "--encoding", route.encoding, "--batch-frequency", "60"),
        )
    kind = "eventhub"
    if neighbour.kind is NeighbourKind.SERVICE_BUS:
        kind = "servicebus-queue" if route.entity in neighbour.queues else "servicebus-topic"
    return (*create, kind, *common, "--endpoint-uri", f"sb://{host}", "--entity-path", route.entity)
