"""A neighbour as a resource: its record, its stored form and the pure rules of its names.

The stored form is JSON with the field names of this file; a field is only ever added, with a default.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import msgspec

from isthmus.access.local_auth import ALL_KEYS, LocalAuth
from isthmus.access.principal import NAMESPACE_RIGHTS, SharedAccessPolicy
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag
from isthmus.base.hosts import is_address
from isthmus.base.ids import HubId, Ids
from isthmus.network.door_policies import DoorPolicy
from isthmus.network.private_endpoints import PrivateEndpointConnection
from isthmus.network.rules import DefaultAction, NetworkRules
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.hub import GROUP_PATH, LOCATION

NAMESPACES = frozenset({ResourceKind.EVENT_HUBS, ResourceKind.SERVICE_BUS})
"""Kinds that share one domain, and so their names."""

ROOT_POLICY = "RootManageSharedAccessKey"
"""The policy that every namespace begins with ("Authorizing access using Shared Access Signatures")."""

NAMES: Mapping[ResourceKind, re.Pattern[str]] = MappingProxyType(
    {
        ResourceKind.EVENT_HUBS: re.compile(r"[A-Za-z][A-Za-z0-9-]{4,48}[A-Za-z0-9]"),
        ResourceKind.SERVICE_BUS: re.compile(r"[A-Za-z][A-Za-z0-9-]{4,48}[A-Za-z0-9]"),
        ResourceKind.STORAGE: re.compile(r"[a-z0-9]{3,24}"),
    }
)
"""Names of neighbours ("Naming rules and restrictions for Azure resources")."""

_SAID = MappingProxyType(
    {
        ResourceKind.EVENT_HUBS: "6 to 50 letters, digits and inner dashes, beginning with a letter",
        ResourceKind.SERVICE_BUS: "6 to 50 letters, digits and inner dashes, beginning with a letter",
        ResourceKind.STORAGE: "3 to 24 small letters and digits",
    }
)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One neighbour; a snapshot that never changes. `revision` is the state's, and makes the etag.

    `host_name` is in normal form. `network_rules` is None when no rule set was ever given. `trusted_services` lets hubs
    of this installation past the firewall by their own identities, as `resource_rules` do for the hubs of ARM ids,
    which may end in `*`. Namespaces have `policies`, storage accounts `account_keys`, in base64. `local_auth`
    says which keys are taken. `created_ms` is milliseconds since the epoch.
    """

    number: HubId
    kind: ResourceKind
    name: str
    host_name: str
    created_ms: int
    aliases: tuple[str, ...] = ()
    public_network_access: bool = True
    network_rules: NetworkRules | None = None
    trusted_services: bool = False
    resource_rules: tuple[str, ...] = ()
    connections: tuple[PrivateEndpointConnection, ...] = ()
    policies: tuple[SharedAccessPolicy, ...] = ()
    account_keys: tuple[str, ...] = ()
    local_auth: LocalAuth = ALL_KEYS
    location: str = LOCATION
    tags: dict[str, str] = field(default_factory=dict)
    sku: str = "Standard"
    revision: int = 0

    @property
    def group(self) -> str:
        """Its group of commands."""
        return self.kind.command

    @property
    def resource_id(self) -> str:
        """The ARM id; compared without case."""
        return neighbour_resource_id(self.kind, self.name)

    @property
    def etag(self) -> str:
        return twin_etag(self.revision)

    @property
    def hosts(self) -> tuple[str, ...]:
        """All names, in normal form."""
        return (self.host_name, *self.aliases)

    @property
    def rules(self) -> NetworkRules | None:
        """The rules in force: those of a namespace only bite when there is at least one ("IP firewall rules")."""
        rules = self.network_rules
        if rules is not None and self.kind in NAMESPACES and not rules.ip_rules:
            return replace(rules, default_action=DefaultAction.ALLOW)
        return rules

    @property
    def door_policies(self) -> tuple[DoorPolicy, ...]:
        """Neighbours have none."""
        return ()

    def trusts(self, acts_for: str) -> bool:
        """True when its firewall lets in a hub of that ARM id by its identity alone."""
        return self.trusted_services or any(_names(rule, acts_for) for rule in self.resource_rules)

    def policy(self, name: str) -> SharedAccessPolicy | None:
        """The policy of that name, or None."""
        return next((policy for policy in self.policies if policy.name == name), None)


def neighbour_resource_id(kind: ResourceKind, name: str) -> str:
    """The ARM id of the neighbour of that kind and name."""
    return f"{GROUP_PATH}/providers/{kind.value}/{name}"


def neighbour_host(kind: ResourceKind, name: str, hub_host: str) -> str:
    """The host name of a neighbour beside a hub of that host name: in its domain, `localhost` where it has none."""
    domain = "" if is_address(hub_host) else hub_host.partition(".")[2]
    service = "servicebus" if kind in NAMESPACES else "blob"
    return f"{name.lower()}.{service}.{domain or 'localhost'}"


def check_name(kind: ResourceKind, name: str) -> None:
    """Raises HubError ArgumentInvalid when a neighbour of that kind cannot have the name."""
    if not NAMES[kind].fullmatch(name):
        raise HubError(Code.ARGUMENT_INVALID, f"A name has {_SAID[kind]}; {name!r} is none")


def with_first_keys(neighbour: Neighbour, ids: Ids) -> Neighbour:
    """A new neighbour with its keys, random ones."""
    if neighbour.kind in NAMESPACES:
        root = SharedAccessPolicy(ROOT_POLICY, NAMESPACE_RIGHTS, ids.key(), ids.key())
        return replace(neighbour, policies=(root,))
    return replace(neighbour, account_keys=(account_key(ids), account_key(ids)))


def account_key(ids: Ids) -> str:
    """A random key of a storage account, 64 bytes in base64."""
    return base64.b64encode(base64.b64decode(ids.key()) + base64.b64decode(ids.key())).decode()


def encode_neighbour(neighbour: Neighbour) -> bytes:
    """The stored form; the revision is the store's and stays out."""
    return msgspec.json.encode(replace(neighbour, revision=0), order="deterministic")


def decode_neighbour(body: bytes, revision: int) -> Neighbour:
    """The neighbour of a stored form; raises `msgspec.DecodeError` on damage."""
    return replace(msgspec.json.decode(body, type=Neighbour), revision=revision)


def _names(rule: str, resource_id: str) -> bool:
    """True when a resource instance rule names the ARM id: in full, or with `*` for whatever follows."""
    wanted, named = resource_id.lower(), rule.lower()
    if named.endswith("/*"):
        return wanted.startswith(named[:-1])
    return wanted == named
