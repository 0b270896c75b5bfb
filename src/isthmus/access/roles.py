"""Roles of management: which actions each allows, and over what.

These are roles of tokens, on the management plane; what identities may do with data is in `role_definitions`.

An action ends in a verb: `read`, `write` (make or change), `delete`, or a word of its own before `action`; patterns are
as in `actions`, and what `not_actions` names is taken away from the same role. A scope is the path of a resource or of
a group of them; it covers itself and everything below it, segment by segment ("Scope for Azure RBAC"). Owner,
Contributor and Reader mean what they mean on Azure; the network approver decides about private endpoint connections and
changes nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from isthmus.access.actions import matches

Segments = tuple[str, ...]
"""A path's segments in small letters; empty for everything there is."""

CONNECTABLE = (
    "Microsoft.Devices/IotHubs",
    "Microsoft.EventHub/namespaces",
    "Microsoft.ServiceBus/namespaces",
    "Microsoft.Storage/storageAccounts",
)
"""Kinds of resources that private endpoints can lead to."""

APPROVE = "privateEndpointConnectionsApproval/action"
"""Who holds it at a resource, behind its kind, may make private endpoints to it that are approved at once."""


class Role(StrEnum):
    """What a token may do within its scope."""

    OWNER = "Owner"
    CONTRIBUTOR = "Contributor"
    READER = "Reader"
    NETWORK_APPROVER = "Network approver"


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """Actions that a role allows, and those of them that it does not."""

    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()


ROLES: Mapping[Role, RoleDefinition] = MappingProxyType(
    {
        Role.OWNER: RoleDefinition(("*",)),
        Role.CONTRIBUTOR: RoleDefinition(
            ("*",),
            (
                "Isthmus/tokens/write",
                "Isthmus/tokens/delete",
                "Isthmus/audit/action",
                "Isthmus/authority/action",
                "Microsoft.Authorization/*/write",
                "Microsoft.Authorization/*/delete",
                "Microsoft.ManagedIdentity/userAssignedIdentities/secrets/write",
            ),
        ),
        Role.READER: RoleDefinition(("*/read",)),
        Role.NETWORK_APPROVER: RoleDefinition(
            (
                "Isthmus/hubs/read",
                *(f"{kind}/read" for kind in CONNECTABLE),
                *(f"{kind}/privateLinkResources/read" for kind in CONNECTABLE),
                *(f"{kind}/privateEndpointConnections/*" for kind in CONNECTABLE),
                *(f"{kind}/{APPROVE}" for kind in CONNECTABLE),
                "Microsoft.Network/privateEndpoints/read",
            )
        ),
    }
)


def allows(role: Role, action: str) -> bool:
    """True when the role allows the action."""
    definition = ROLES[role]
    return matches(definition.actions, action) and not matches(definition.not_actions, action)


def segments_of(path: str) -> Segments:
    """The segments of a path, in small letters."""
    return tuple(segment for segment in path.lower().split("/") if segment)


def covers(scope: Segments, resource: Segments) -> bool:
    """True when the resource is the scope or lies below it."""
    return resource[: len(scope)] == scope
