"""The four switches that let a hub write to a closed target, and how each of them is set; pure.

A hub gets past a target's firewall by who it is: it must have an identity, the endpoint must use it, the identity must
hold a role that covers the entity, and the target must let trusted services through ("IoT Hub support for virtual
networks with Private Link and Managed Identity", egress). Of a target that is hosted here all four are known. Of one
elsewhere, the last two are known by what it answers only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from isthmus.access.role_assignments import RoleAssignment, judge
from isthmus.resources.guarded import Guarded
from isthmus.resources.hub import Hub
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.diagnosis import ROLES, Switch
from isthmus.routing.sink import FailureKind

ASSIGN_IDENTITY = "isthmus iot hub identity assign -n {hub} {which}"


class State(StrEnum):
    """How a switch is set."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Setting:
    """One switch: how it is set, by what that is known, and the command that sets it right when it is off."""

    switch: Switch
    state: State
    value: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """As its reader sees it."""
        return {"switch": self.switch.value, "state": self.state.value, "value": self.value, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class TargetKind:
    """What is particular to targets of a kind: an entity's id below its account or namespace, and what a write needs.

    `scope` is what SDKs ask a token for, `port` where they connect.
    """

    entity: str
    action: str
    scope: str
    port: int


_WORDS = MappingProxyType(
    {
        EndpointKind.EVENT_HUB: "eventhub",
        EndpointKind.QUEUE: "servicebus-queue",
        EndpointKind.TOPIC: "servicebus-topic",
        EndpointKind.STORAGE: "storage-container",
    }
)
"""Kinds as the command line writes them."""

_SENDING = "namespaces/messages/send/action"
TARGETS: Mapping[EndpointKind, TargetKind] = MappingProxyType(
    {
        EndpointKind.STORAGE: TargetKind(
            "blobServices/default/containers",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
            "https://storage.azure.com/.default",
            443,
        ),
        EndpointKind.EVENT_HUB: TargetKind(
            "eventhubs", f"Microsoft.EventHub/{_SENDING}", "https://eventhubs.azure.net//.default", 5671
        ),
        EndpointKind.QUEUE: TargetKind(
            "queues", f"Microsoft.ServiceBus/{_SENDING}", "https://servicebus.azure.net//.default", 5671
        ),
        EndpointKind.TOPIC: TargetKind(
            "topics", f"Microsoft.ServiceBus/{_SENDING}", "https://servicebus.azure.net//.default", 5671
        ),
    }
)


def entity_scope(endpoint: RoutingEndpoint, target: Guarded) -> str:
    """The ARM id of what an endpoint writes to, where its role is looked for."""
    return f"{target.resource_id}/{TARGETS[endpoint.kind].entity}/{endpoint.entity}"


def principal_of(hub: Hub, endpoint: RoutingEndpoint) -> str:
    """Who the hub is, or would be, to the target: its own identity's principal, or an attached one's; empty for nobody.

    An endpoint with a key says nothing of identities; the hub's own is meant then.
    """
    if not endpoint.identity:
        return hub.identity.principal_id if hub.identity.system else ""
    attached = hub.identity.find(endpoint.identity)
    return attached.principal_id if attached is not None else ""


def settings_of(
    hub: Hub,
    endpoint: RoutingEndpoint,
    target: Guarded | None,
    roles: Callable[[str], Iterable[RoleAssignment]],
    failure: FailureKind | None,
) -> Sequence[Setting]:
    """The four switches in the order in which they are needed.

    `target` is what is hosted here, None for one elsewhere; `roles` gives a principal's assignments; `failure` is what
    a trial at the target came to, None when it was written.
    """
    return (
        _identity(hub, endpoint),
        _authentication(hub, endpoint),
        _trusted(hub, endpoint, target, failure),
        _role(hub, endpoint, target, roles, failure),
    )


def _identity(hub: Hub, endpoint: RoutingEndpoint) -> Setting:
    principal = principal_of(hub, endpoint)
    which = f"the identity {endpoint.identity}" if endpoint.identity else "the hub's own identity"
    if principal:
        return Setting(Switch.IDENTITY, State.ON, f"{which}, principal {principal}")
    flags = f"--user-assigned {endpoint.identity}" if endpoint.identity else "--system-assigned"
    remedy = ASSIGN_IDENTITY.format(hub=hub.name, which=flags)
    return Setting(Switch.IDENTITY, State.OFF, f"{hub.name} does not have {which}", remedy)


def _authentication(hub: Hub, endpoint: RoutingEndpoint) -> Setting:
    if endpoint.authentication is EndpointAuthentication.IDENTITY:
        whose = "the hub's own" if not endpoint.identity else endpoint.identity
        return Setting(Switch.AUTHENTICATION_TYPE, State.ON, f"{endpoint.authentication.value}, {whose}")
    value = f"{endpoint.authentication.value}: the hub shows a key, to which no firewall makes an exception"
    return Setting(Switch.AUTHENTICATION_TYPE, State.OFF, value, _by_identity(hub, endpoint))


def _by_identity(hub: Hub, endpoint: RoutingEndpoint) -> str:
    """The command that has an endpoint use the hub's own identity, and leaves where it leads as it is."""
    where = f"--endpoint-uri sb://{endpoint.host} --entity-path {endpoint.entity}"
    if endpoint.storage is not None:
        where = f"--endpoint-uri https://{endpoint.host}"
    named = f"{_WORDS[endpoint.kind]} -n {hub.name} --endpoint-name {endpoint.name}"
    return f"isthmus iot hub message-endpoint update {named} --identity '[system]' {where}"


def _role(
    hub: Hub,
    endpoint: RoutingEndpoint,
    target: Guarded | None,
    roles: Callable[[str], Iterable[RoleAssignment]],
    failure: FailureKind | None,
) -> Setting:
    principal, needed = principal_of(hub, endpoint), ROLES[endpoint.kind]
    if target is None:
        return _role_elsewhere(endpoint, principal, failure)
    scope = entity_scope(endpoint, target)
    remedy = (
        f"isthmus role assignment create --assignee-object-id {principal or 'PRINCIPAL'} "
        f'--role "{needed}" --scope {scope}'
    )
    if not principal:
        return Setting(Switch.ROLE, State.OFF, "there is no identity that could hold it", remedy)
    verdict = judge(roles(principal), principal, TARGETS[endpoint.kind].action, scope)
    if verdict.allowed_by is not None:
        return Setting(Switch.ROLE, State.ON, f"{verdict.allowed_by.role.name} at {verdict.allowed_by.scope}")
    if verdict.elsewhere:
        near = verdict.elsewhere[0]
        value = f"{near.role.name} is held at {near.scope}, which does not cover {scope}"
        return Setting(Switch.ROLE, State.OFF, value, remedy)
    held = ", ".join(dict.fromkeys(each.role.name for each in verdict.held)) or "no role"
    return Setting(Switch.ROLE, State.OFF, f"{held} at {scope}, where {needed} is needed", remedy)


def _role_elsewhere(endpoint: RoutingEndpoint, principal: str, failure: FailureKind | None) -> Setting:
    needed = ROLES[endpoint.kind]
    remedy = f'give {principal or "the identity"} the role "{needed}" at {endpoint.entity} or above it, at the target'
    if failure is FailureKind.ROLE:
        return Setting(Switch.ROLE, State.OFF, f"the target misses the role {needed}", remedy)
    if failure is None and endpoint.authentication is EndpointAuthentication.IDENTITY:
        return Setting(Switch.ROLE, State.ON, f"the target has let {principal} write")
    return Setting(Switch.ROLE, State.UNKNOWN, "the target is not hosted here")


def _trusted(hub: Hub, endpoint: RoutingEndpoint, target: Guarded | None, failure: FailureKind | None) -> Setting:
    by_own = endpoint.authentication is EndpointAuthentication.IDENTITY and not endpoint.identity
    if target is None:
        refused = failure is FailureKind.NETWORK and by_own
        remedy = "let trusted services through at the target (bypass AzureServices, trusted service access)"
        if refused:
            return Setting(Switch.TRUSTED_SERVICES, State.OFF, "the target's firewall refuses the hub", remedy)
        return Setting(Switch.TRUSTED_SERVICES, State.UNKNOWN, "the target is not hosted here")
    if target.trusts(hub.resource_id):
        narrow = "" if not endpoint.identity else ", by its own identity only, which this endpoint does not use"
        return Setting(Switch.TRUSTED_SERVICES, State.ON, f"{target.name} lets the hub through{narrow}")
    remedy = f"isthmus {target.kind.trust_command.format(name=target.name)}"
    return Setting(Switch.TRUSTED_SERVICES, State.OFF, f"{target.name} makes no exception for the hub", remedy)
