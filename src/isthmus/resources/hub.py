"""The hub as a resource: its record, its stored form and the pure rules of its names.

The stored form is JSON with the field names of this file; a field is only ever added, with a default, so that a data
folder of any released version opens in the next.
"""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum

import msgspec

from isthmus.access.ca_certificate import CaCertificate
from isthmus.access.local_auth import ALL_KEYS, LocalAuth
from isthmus.access.principal import HUB_RIGHTS, Right, SharedAccessPolicy
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag
from isthmus.base.hosts import is_address, normal_host
from isthmus.base.ids import HubId, Ids
from isthmus.base.places import RESOURCE_GROUP, SUBSCRIPTION
from isthmus.network.door_policies import DoorPolicy
from isthmus.network.private_endpoints import PrivateEndpointConnection
from isthmus.network.rules import NetworkRules
from isthmus.resources.enrichments import Enrichment
from isthmus.resources.file_upload import NO_UPLOADS, FileUploadSettings
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.hub_identity import NO_IDENTITY, HubIdentity
from isthmus.resources.routing_endpoint import BUILT_IN_NUMBER, RoutingEndpoint

GROUP_PATH = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}"
"""Where all resources of an installation live, unless said otherwise."""

LOCATION = "local"
"""The region of resources that are given none."""

PARTITIONS_MAX = 32
"""Partitions of the built-in endpoint ("IoT Hub quotas and throttling")."""

ROUTES_MAX = 100
"""Routes of a hub ("IoT Hub quotas and throttling")."""

HUB_NAME = re.compile(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{2,49}[A-Za-z0-9]")
"""Microsoft.Devices/IotHubs, parameter `resourceName`."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
"""RFC 1123 §2.1, in normal form."""

NAME_OF_NAMELESS = "isthmus"
"""The name of a hub whose host name is a bare address."""


class RouteSource(StrEnum):
    """Message sources that a route can name; those of features that are not there yet are refused."""

    DEVICE_MESSAGES = "DeviceMessages"
    TWIN_CHANGES = "TwinChangeEvents"
    DEVICE_LIFECYCLE = "DeviceLifecycleEvents"
    DEVICE_CONNECTION_STATE = "DeviceConnectionStateEvents"
    DEVICE_JOB_LIFECYCLE = "DeviceJobLifecycleEvents"


DEFAULT_CONSUMER_GROUP = "$Default"
"""The consumer group every built-in endpoint has; it cannot be deleted."""

CONSUMER_GROUPS_MAX = 20
"""Consumer groups of a hub, the default one included ("IoT Hub quotas and throttling")."""

EVENTS_ENDPOINT = "events"
"""The built-in endpoint's name."""


@dataclass(frozen=True, slots=True)
class Route:
    """Sends the messages of one source that fulfil a condition to endpoints."""

    name: str
    source: RouteSource
    endpoint_names: tuple[str, ...] = (EVENTS_ENDPOINT,)
    enabled: bool = True
    condition: str = "true"


FALLBACK_ROUTE = Route("$fallback", RouteSource.DEVICE_MESSAGES)
"""Takes device messages that no enabled route took."""


class SkuName(StrEnum):
    """Sizes of a hub."""

    F1 = "F1"
    S1 = "S1"
    S2 = "S2"
    S3 = "S3"
    B1 = "B1"
    B2 = "B2"
    B3 = "B3"


UNITS_MAX = 200
"""Units of a size (Microsoft.Devices/IotHubs, `sku.capacity`)."""

_TIERS = {"F": "Free", "S": "Standard", "B": "Basic"}


@dataclass(frozen=True, slots=True)
class Sku:
    """Size and units of a hub; its rates depend on them where the throttle profile is `sku`, and nothing else does."""

    name: SkuName = SkuName.S1
    units: int = 1

    @property
    def tier(self) -> str:
        """The family of the size."""
        return _TIERS[self.name[0]]


@dataclass(frozen=True, slots=True)
class FeedbackSettings:
    """What holds for feedback messages."""

    ttl_ms: int = 3_600_000
    lock_ms: int = 60_000
    max_delivery_count: int = 10


@dataclass(frozen=True, slots=True)
class CloudToDeviceSettings:
    """What holds for cloud-to-device messages."""

    default_ttl_ms: int = 3_600_000
    max_delivery_count: int = 10
    feedback: FeedbackSettings = FeedbackSettings()


@dataclass(frozen=True, slots=True)
class Hub:
    """One hub; a snapshot that never changes. `revision` is the state's, and makes the etag.

    `host_name` is in normal form (lower case, no port); `aliases` are other names of the same hub, in normal form.
    `rules` is None when no network rule set was ever given. `created_ms` is milliseconds since the epoch.
    `last_endpoint` is the highest number that a routing endpoint was ever given. With `restrict_outbound` nothing
    leaves the hub but to the names of `allowed_fqdns`, in normal form. `last_certificate` counts the changes of
    `certificates`.
    """

    number: HubId
    name: str
    host_name: str
    partitions: int
    created_ms: int
    aliases: tuple[str, ...] = ()
    public_network_access: bool = True
    rules: NetworkRules | None = None
    connections: tuple[PrivateEndpointConnection, ...] = ()
    policies: tuple[SharedAccessPolicy, ...] = ()
    routes: tuple[Route, ...] = ()
    fallback_route: Route = FALLBACK_ROUTE
    cloud_to_device: CloudToDeviceSettings = CloudToDeviceSettings()
    retention_days: int = 1
    consumer_groups: tuple[str, ...] = (DEFAULT_CONSUMER_GROUP,)
    location: str = LOCATION
    tags: dict[str, str] = field(default_factory=dict)
    door_policies: tuple[DoorPolicy, ...] = ()
    sku: Sku = Sku()
    identity: HubIdentity = NO_IDENTITY
    file_upload: FileUploadSettings = NO_UPLOADS
    endpoints: tuple[RoutingEndpoint, ...] = ()
    last_endpoint: int = BUILT_IN_NUMBER
    enrichments: tuple[Enrichment, ...] = ()
    restrict_outbound: bool = False
    allowed_fqdns: tuple[str, ...] = ()
    local_auth: LocalAuth = ALL_KEYS
    certificates: tuple[CaCertificate, ...] = ()
    last_certificate: int = 0
    revision: int = 0

    @property
    def kind(self) -> ResourceKind:
        """What it is."""
        return ResourceKind.HUB

    @property
    def group(self) -> str:
        """Its group of commands."""
        return self.kind.command

    @property
    def resource_id(self) -> str:
        """The ARM id; compared without case."""
        return hub_resource_id(self.name)

    @property
    def etag(self) -> str:
        return twin_etag(self.revision)

    @property
    def hosts(self) -> tuple[str, ...]:
        """All names of the hub, in normal form."""
        return (self.host_name, *self.aliases)

    def endpoint(self, name: str) -> RoutingEndpoint | None:
        """The routing endpoint of the hub's own of that name, compared without case."""
        return next((each for each in self.endpoints if each.name.lower() == name.lower()), None)

    def policy(self, name: str) -> SharedAccessPolicy | None:
        """The policy of that name, or None."""
        return next((policy for policy in self.policies if policy.name == name), None)

    def trusts(self, acts_for: str) -> bool:
        """True when its firewall lets in a hub of that ARM id by its identity alone; hubs trust nobody so."""
        return False


def hub_resource_id(name: str) -> str:
    """The ARM id of the hub of that name."""
    return f"{GROUP_PATH}/providers/Microsoft.Devices/IotHubs/{name}"


def encode_hub(hub: Hub) -> bytes:
    """The stored form; the revision is the store's and stays out."""
    return msgspec.json.encode(replace(hub, revision=0), order="deterministic")


def decode_hub(body: bytes, revision: int) -> Hub:
    """The hub of a stored form; raises `msgspec.DecodeError` on damage."""
    return replace(msgspec.json.decode(body, type=Hub), revision=revision)


def default_policies(ids: Ids) -> tuple[SharedAccessPolicy, ...]:
    """The five policies every hub begins with, with random keys (IoT Hub developer guide, "Access control")."""
    rights: dict[str, frozenset[Right]] = {
        "iothubowner": HUB_RIGHTS,
        "service": frozenset({Right.SERVICE_CONNECT}),
        "device": frozenset({Right.DEVICE_CONNECT}),
        "registryRead": frozenset({Right.REGISTRY_READ}),
        "registryReadWrite": frozenset({Right.REGISTRY_READ, Right.REGISTRY_WRITE}),
    }
    return tuple(SharedAccessPolicy(name, granted, ids.key(), ids.key()) for name, granted in rights.items())


def hub_name_of(host_name: str) -> str:
    """The hub's name in `{hub}.{domain}`, a single label's own, or `isthmus` for a bare address."""
    host = normal_host(host_name)
    return NAME_OF_NAMELESS if is_address(host) else host.partition(".")[0]


def host_name_of(name: str, sibling: str) -> str:
    """The host name of another hub beside the one of host name `sibling`.

    The same domain; `{name}.localhost` beside a hub that has none, for every CA of ours may vouch for that (RFC 6761).
    """
    domain = "" if is_address(sibling) else sibling.partition(".")[2]
    return f"{name.lower()}.{domain or 'localhost'}"


def check_hub_name(name: str) -> None:
    """Raises HubError ArgumentInvalid when a hub cannot have that name."""
    if not HUB_NAME.fullmatch(name):
        message = f"A hub's name has 3 to 50 letters, digits and inner dashes and is not a number; {name!r} is not one"
        raise HubError(Code.ARGUMENT_INVALID, message)


def check_host_name(host: str) -> None:
    """Raises HubError ArgumentInvalid when a hub cannot have that host name (normal form)."""
    if not is_address(host) and not HOST_NAME.fullmatch(host):
        raise HubError(
            Code.ARGUMENT_INVALID, f"A hub's host name is {{hub}}.{{domain}} or an address; {host!r} is none"
        )
