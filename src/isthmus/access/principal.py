"""Who asks, and by what right: principals, rights, shared access policies."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from isthmus.access.role_assignments import RoleAssignment


class Right(StrEnum):
    """Rights of a shared access policy, in the order in which Azure joins them: a hub's, then a namespace's."""

    REGISTRY_READ = "RegistryRead"
    REGISTRY_WRITE = "RegistryWrite"
    SERVICE_CONNECT = "ServiceConnect"
    DEVICE_CONNECT = "DeviceConnect"
    LISTEN = "Listen"
    MANAGE = "Manage"
    SEND = "Send"


NAMESPACE_RIGHTS = frozenset({Right.LISTEN, Right.MANAGE, Right.SEND})
HUB_RIGHTS = frozenset(Right) - NAMESPACE_RIGHTS


class PrincipalKind(Enum):
    """What proved itself."""

    DEVICE = "device"
    MODULE = "module"
    POLICY = "policy"
    OWNER = "owner"
    IDENTITY = "identity"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class SharedAccessPolicy:
    """A named key pair with rights of a hub, a namespace or one of its entities."""

    name: str
    rights: frozenset[Right]
    primary_key: str = field(repr=False)
    secondary_key: str = field(repr=False)

    @property
    def keys(self) -> tuple[str, str]:
        return (self.primary_key, self.secondary_key)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who was authenticated, how, and until when.

    `name` is `device`, `device/module`, the policy's name, an identity's object id, or `uid:N` for the local owner.
    `scope` and `type` are the words of `iothub-connection-auth-method`. `expires_s` is Unix seconds, 0 for never.
    `key_fingerprint` is the first 16 hex digits of the SHA-256 of the key (or configured thumbprint) that was used: a
    key change cuts the sessions whose key is gone. With `by_authority` it is that of the hub's CA certificate which
    vouched. An identity has no rights but `assignments`, which are judged at
    `resource_id`. `acts_for` is the ARM id of the hub whose own identity it is, what firewalls may trust; else empty.
    """

    kind: PrincipalKind
    name: str
    rights: frozenset[Right]
    scope: str
    type: str
    key_fingerprint: str = ""
    expires_s: int = 0
    assignments: tuple[RoleAssignment, ...] = ()
    resource_id: str = ""
    acts_for: str = ""
    by_authority: bool = False

    @property
    def label(self) -> str:
        """`device:dev1`, `policy:service`, … as logs, journal and records carry it."""
        return f"{self.kind.value}:{self.name}"
