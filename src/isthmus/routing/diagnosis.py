"""What a failed delivery says of the things that must be right, and what would set it right.

Four switches let a hub through to a closed target: an identity on the hub, an endpoint that uses it, a role for it at
the target, and the target's exception for trusted services ("Egress from IoT Hub to other Azure resources"). A target's
firewall answers alike when it is shown a key and when its exception is off; the endpoint tells which it was.
"""

from dataclasses import dataclass
from enum import StrEnum

from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.sink import FailureKind

ROLES = {
    EndpointKind.STORAGE: "Storage Blob Data Contributor",
    EndpointKind.EVENT_HUB: "Azure Event Hubs Data Sender",
    EndpointKind.QUEUE: "Azure Service Bus Data Sender",
    EndpointKind.TOPIC: "Azure Service Bus Data Sender",
}
"""What a hub needs at a target ("IoT Hub support for managed identities")."""


RULES = {
    FailureKind.TRANSIENT: "egress.transient",
    FailureKind.IDENTITY: "egress.identity",
    FailureKind.ROLE: "egress.role",
    FailureKind.NETWORK: "egress.network",
    FailureKind.NAME: "egress.name",
    FailureKind.NOT_FOUND: "egress.not-found",
    FailureKind.AUTHENTICATION: "egress.authentication",
    FailureKind.OUTBOUND: "egress.outbound",
}
"""What the journal calls a delivery that was refused."""


class Switch(StrEnum):
    """What has to be set right."""

    IDENTITY = "identity"
    AUTHENTICATION_TYPE = "authenticationType"
    ROLE = "role"
    TRUSTED_SERVICES = "trustedServices"
    KEY = "key"
    TOKEN = "token"
    NAME = "name"
    OUTBOUND = "outbound"
    ENTITY = "entity"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The switch that is off, in a sentence, and the smallest change that would help."""

    switch: Switch
    sentence: str
    remedy: str


def diagnose(endpoint: RoutingEndpoint, kind: FailureKind | str) -> Diagnosis:
    """What a failure of this kind means for this endpoint."""
    by_key = endpoint.authentication is EndpointAuthentication.KEY
    match kind:
        case FailureKind.IDENTITY:
            return Diagnosis(
                Switch.IDENTITY,
                "the hub has not the identity that the endpoint uses",
                "isthmus iot hub identity assign",
            )
        case FailureKind.ROLE:
            role = ROLES[endpoint.kind]
            remedy = f'isthmus role assignment create --role "{role}" at the target or above it'
            return Diagnosis(Switch.ROLE, f"the identity lacks the role {role}", remedy)
        case FailureKind.NETWORK if by_key:
            sentence = "the target's network rules refuse the hub, and a key makes no exception: only an identity does"
            remedy = "isthmus iot hub message-endpoint update --identity [system]"
            return Diagnosis(Switch.AUTHENTICATION_TYPE, sentence, remedy)
        case FailureKind.NETWORK if endpoint.identity:
            sentence = "the target's network rules refuse the hub: they trust its own identity only, and not another's"
            remedy = "isthmus iot hub message-endpoint update --identity [system]"
            return Diagnosis(Switch.AUTHENTICATION_TYPE, sentence, remedy)
        case FailureKind.NETWORK:
            sentence = "the target's network rules refuse the hub: their exception for trusted services is off"
            remedy = "let trusted services through at the target (bypass AzureServices, trusted service access)"
            return Diagnosis(Switch.TRUSTED_SERVICES, sentence, remedy)
        case FailureKind.AUTHENTICATION if by_key:
            remedy = "isthmus iot hub message-endpoint update --connection-string with the key that holds now"
            return Diagnosis(Switch.KEY, "the target does not accept the endpoint's key", remedy)
        case FailureKind.AUTHENTICATION:
            remedy = "isthmus iot hub identity show, and who the target takes tokens from"
            return Diagnosis(Switch.TOKEN, "the target does not accept the hub's token", remedy)
        case FailureKind.NAME:
            remedy = "see what the name resolves to here, and [egress] addresses of the configuration"
            return Diagnosis(Switch.NAME, "the target's name leads nowhere that the hub goes", remedy)
        case FailureKind.OUTBOUND:
            remedy = "isthmus iot hub update --add properties.allowedFqdnList NAME"
            return Diagnosis(Switch.OUTBOUND, "the hub's outbound rules do not list the target", remedy)
        case FailureKind.NOT_FOUND:
            remedy = f"make {endpoint.entity} at the target"
            return Diagnosis(Switch.ENTITY, f"the target has no {endpoint.entity}", remedy)
    return Diagnosis(Switch.NONE, "the target does not answer, or not in time", "none: the hub tries again")
