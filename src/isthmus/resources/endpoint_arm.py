"""Routing endpoints in ARM's form, checked when they are saved: names, targets, how the hub proves itself, blobs.

Keys are never shown: a connection string is printed with `****` for them, and one that comes back like that means the
key that there is. Shapes: Microsoft.Devices/IotHubs 2023-06-30, `RoutingEndpoints`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from isthmus.base.errors import Code, HubError
from isthmus.base.hosts import is_loopback
from isthmus.resources.hub import EVENTS_ENDPOINT, Hub
from isthmus.resources.members import Json, bad, choice, integer, items, known_members, mapping, text
from isthmus.resources.routing_endpoint import (
    ENDPOINTS_MAX,
    FILE_NAME_FORMAT,
    BlobEncoding,
    EndpointAuthentication,
    EndpointKind,
    RoutingEndpoint,
    StorageSettings,
)

ENDPOINT_NAME = re.compile(r"[A-Za-z0-9\-._]{1,64}")
"""Microsoft.Devices/IotHubs, `name` of a routing endpoint."""

RESERVED_NAMES = frozenset({EVENTS_ENDPOINT, "filenotifications", "$default", "operationsmonitoringevents"})
"""Names of what every hub has, or had, in small letters."""

CONTAINER_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9](?:-?[a-z0-9])*")
"""Naming and referencing containers, blobs, and metadata."""

ENTITY_NAME_CHARS_MAX = 260
"""A queue or topic; event hubs have 256 ("Azure resource naming rules")."""

FORMAT_PARTS = ("{iothub}", "{partition}", "{YYYY}", "{MM}", "{DD}", "{HH}", "{mm}")
FORMAT_CHARS_MAX = 512
"""Half of what a blob's name may have, the parts' values being longer than their names."""

BATCH_SECONDS = (60, 720)
CHUNK_BYTES = (10_485_760, 524_288_000)
"""Microsoft.Devices/IotHubs, `RoutingStorageContainerProperties`."""

CONNECTION_STRING_CHARS_MAX = 4_096
"""Several times the longest that Azure gives."""

MASK = "****"
_SECRETS = frozenset({"sharedaccesskey", "accountkey", "sharedaccesssignature"})

_COMMON = ("name", "id", "authenticationType", "connectionString", "endpointUri", "identity", "subscriptionId",
           "resourceGroup")  # fmt: skip
_STORAGE = ("containerName", "fileNameFormat", "batchFrequencyInSeconds", "maxChunkSizeInBytes", "encoding")

_ENTITIES: Mapping[EndpointKind, str] = MappingProxyType(
    {EndpointKind.EVENT_HUB: "event hub", EndpointKind.QUEUE: "queue", EndpointKind.TOPIC: "topic"}
)


def endpoints_to_arm(hub: Hub) -> dict[str, object]:
    """The endpoints of a hub as a client reads them, by kind."""
    shown: dict[str, object] = {"cosmosDBSqlContainers": []}
    for kind in sorted(EndpointKind):
        shown[kind.value] = [_to_arm(each) for each in hub.endpoints if each.kind is kind]
    return shown


def with_endpoints(hub: Hub, kind: EndpointKind, value: object, path: str) -> Hub:
    """The hub with the endpoints of a kind that an ARM array says; raises HubError ArgumentInvalid.

    One of a name that is there already is changed and keeps its number; another gets the next one. `guid` of a new one
    is still to be given.
    """
    given = items(value, path)
    last, kept = hub.last_endpoint, [each for each in hub.endpoints if each.kind is not kind]
    for place, each in enumerate(given):
        read = _checked(hub, kind, each, f"{path}[{place}]")
        if not read.number:
            last += 1
            read = replace(read, number=last)
        kept.append(read)
    endpoints = tuple(sorted(kept, key=lambda endpoint: endpoint.number))
    return replace(hub, endpoints=endpoints, last_endpoint=last)


def check_endpoints(hub: Hub) -> None:
    """Raises HubError for endpoints that cannot all be: one name twice, or too many."""
    names = [each.name.lower() for each in hub.endpoints]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise HubError(Code.ARGUMENT_INVALID, f"There are two endpoints {twice}; a name is one endpoint's, of any kind")
    if len(names) > ENDPOINTS_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"A hub has at most {ENDPOINTS_MAX} endpoints beside {EVENTS_ENDPOINT}")


def masked(connection_string: str) -> str:
    """A connection string without its secrets."""
    parts = [part.partition("=") for part in connection_string.split(";")]
    return ";".join(f"{key}{sign}{MASK if key.strip().lower() in _SECRETS else value}" for key, sign, value in parts)


def _to_arm(endpoint: RoutingEndpoint) -> dict[str, object]:
    storage = endpoint.storage
    is_key = endpoint.authentication is EndpointAuthentication.KEY
    shown: dict[str, object] = {
        "name": endpoint.name,
        "id": endpoint.guid,
        "authenticationType": endpoint.authentication.value,
        "connectionString": masked(endpoint.connection_string) if is_key else None,
        "endpointUri": endpoint.endpoint_uri or None,
        "identity": {"userAssignedIdentity": endpoint.identity} if endpoint.identity else None,
        "subscriptionId": endpoint.subscription_id or None,
        "resourceGroup": endpoint.resource_group or None,
    }
    if storage is None:
        return {**shown, "entityPath": endpoint.entity_path or None}
    return {
        **shown,
        "containerName": storage.container,
        "fileNameFormat": storage.file_name_format,
        "batchFrequencyInSeconds": storage.batch_seconds,
        "maxChunkSizeInBytes": storage.chunk_bytes,
        "encoding": storage.encoding.value,
    }


def _checked(hub: Hub, kind: EndpointKind, value: object, path: str) -> RoutingEndpoint:
    members = mapping(value, path)
    known_members(members, path, (*_COMMON, *(_STORAGE if kind is EndpointKind.STORAGE else ("entityPath",))))
    name = _name(members.get("name"), f"{path}.name")
    present = next((each for each in hub.endpoints if each.kind is kind and each.name.lower() == name.lower()), None)
    storage = _storage(members, path, present) if kind is EndpointKind.STORAGE else None
    endpoint = RoutingEndpoint(
        number=present.number if present else 0,
        guid=present.guid if present else "",
        name=present.name if present else name,
        kind=kind,
        authentication=_authentication(members.get("authenticationType"), path, members),
        connection_string=_connection_string(members.get("connectionString"), path, present),
        endpoint_uri=_optional(members, "endpointUri", path),
        entity_path=_optional(members, "entityPath", path),
        identity=_identity(members.get("identity"), f"{path}.identity"),
        storage=storage,
        subscription_id=_optional(members, "subscriptionId", path),
        resource_group=_optional(members, "resourceGroup", path),
    )
    if endpoint.authentication is EndpointAuthentication.KEY:
        _check_key_based(endpoint, path)
    else:
        _check_identity_based(endpoint, path)
        if present is None or _identity_of(present) != _identity_of(endpoint):
            _check_identity(hub, endpoint)
    _check_target(endpoint, path)
    return endpoint


def _check_key_based(endpoint: RoutingEndpoint, path: str) -> None:
    place = f"{path}.connectionString"
    if not endpoint.connection_string:
        raise bad(place, "the target's connection string, as authenticationType is keyBased")
    if endpoint.identity:
        raise bad(f"{path}.identity", "left out with a connection string: only identityBased endpoints have one")
    if endpoint.kind is EndpointKind.STORAGE:
        needed: tuple[str, ...] = ("AccountName", "AccountKey")
    else:
        needed = ("Endpoint", "SharedAccessKeyName", "SharedAccessKey")
        if not endpoint.entity:
            raise bad(place, f"one with EntityPath={{{_ENTITIES[endpoint.kind]}}}")
    missing = [name for name in needed if not endpoint.connection_part(name)]
    if missing:
        raise bad(place, f"one with {', '.join(missing)}")


def _check_identity_based(endpoint: RoutingEndpoint, path: str) -> None:
    if endpoint.connection_string:
        raise bad(f"{path}.connectionString", "left out, as authenticationType is identityBased")
    if not endpoint.endpoint_uri:
        raise bad(f"{path}.endpointUri", "the target's address, as authenticationType is identityBased")
    if not endpoint.entity:
        raise bad(f"{path}.entityPath", f"the name of the {_ENTITIES[endpoint.kind]}")


def _check_identity(hub: Hub, endpoint: RoutingEndpoint) -> None:
    """Only of what is asked for now: an identity that is taken away later shows in the endpoint's health."""
    if endpoint.identity and hub.identity.find(endpoint.identity) is None:
        remedy = f"isthmus iot hub identity assign -n {hub.name} --user-assigned {endpoint.identity}"
        message = f"The hub {hub.name} does not have the identity {endpoint.identity}; first: {remedy}"
        raise HubError(Code.ARGUMENT_INVALID, message)
    if not endpoint.identity and not hub.identity.system:
        remedy = f"isthmus iot hub identity assign -n {hub.name} --system-assigned"
        raise HubError(Code.ARGUMENT_INVALID, f"The hub {hub.name} has no identity of its own; first: {remedy}")


def _check_target(endpoint: RoutingEndpoint, path: str) -> None:
    member = "connectionString" if endpoint.connection_string else "endpointUri"
    scheme, host = endpoint.scheme, endpoint.host
    wanted = "https" if endpoint.kind is EndpointKind.STORAGE else "sb"
    if not host or scheme not in (wanted, "http"):
        raise bad(f"{path}.{member}", f"an address that begins with {wanted}://")
    if scheme == "http" and not (wanted == "https" and is_loopback(host)):
        raise bad(f"{path}.{member}", f"an address that begins with {wanted}://: the hub speaks TLS to every machine")
    if len(endpoint.entity) > ENTITY_NAME_CHARS_MAX:
        raise bad(f"{path}.entityPath", f"at most {ENTITY_NAME_CHARS_MAX} characters")


def _identity_of(endpoint: RoutingEndpoint) -> tuple[EndpointAuthentication, str]:
    return endpoint.authentication, endpoint.identity.lower()


def _name(value: object, path: str) -> str:
    name = text(value, path)
    if not ENDPOINT_NAME.fullmatch(name):
        raise bad(path, "1 to 64 letters, digits, dashes, dots and underscores")
    if name.lower() in RESERVED_NAMES:
        raise bad(path, f"another name: {name} is what every hub has")
    return name


def _authentication(value: object, path: str, members: Json) -> EndpointAuthentication:
    if value is None:
        by_identity = members.get("connectionString") is None and members.get("endpointUri") is not None
        return EndpointAuthentication.IDENTITY if by_identity else EndpointAuthentication.KEY
    return EndpointAuthentication(choice(value, f"{path}.authenticationType", tuple(EndpointAuthentication)))


def _connection_string(value: object, path: str, present: RoutingEndpoint | None) -> str:
    if value is None or value == "":
        return ""
    given = text(value, f"{path}.connectionString").strip().rstrip(";")
    if len(given) > CONNECTION_STRING_CHARS_MAX:
        raise bad(f"{path}.connectionString", f"at most {CONNECTION_STRING_CHARS_MAX} characters")
    if MASK not in given:
        return given
    if present is not None and given == masked(present.connection_string):
        return present.connection_string
    raise bad(f"{path}.connectionString", "one with its key: this one only shows asterisks for it")


def _identity(value: object, path: str) -> str:
    if value is None:
        return ""
    members = mapping(value, path)
    known_members(members, path, ("userAssignedIdentity",))
    return _optional(members, "userAssignedIdentity", path)


def _storage(members: Json, path: str, present: RoutingEndpoint | None) -> StorageSettings:
    container = text(members.get("containerName"), f"{path}.containerName")
    if not CONTAINER_NAME.fullmatch(container):
        raise bad(f"{path}.containerName", "3 to 63 small letters, digits and single dashes between them")
    encoding = members.get("encoding")
    settings = StorageSettings(
        container,
        _file_name_format(members.get("fileNameFormat"), f"{path}.fileNameFormat"),
        _bounded(members, "batchFrequencyInSeconds", path, BATCH_SECONDS, StorageSettings(container).batch_seconds),
        _bounded(members, "maxChunkSizeInBytes", path, CHUNK_BYTES, StorageSettings(container).chunk_bytes),
        BlobEncoding(choice(encoding or BlobEncoding.AVRO, f"{path}.encoding", tuple(BlobEncoding))),
    )
    before = present.storage if present is not None else None
    if before is not None and before.encoding is not settings.encoding:
        message = f"{path}.encoding cannot be changed: delete the endpoint {present and present.name}, and add another"
        raise HubError(Code.ARGUMENT_INVALID, message)
    return settings


def _file_name_format(value: object, path: str) -> str:
    if value is None or value == "":
        return FILE_NAME_FORMAT
    given = text(value, path)
    rest = given
    for part in FORMAT_PARTS:
        rest = rest.replace(part, "", 1)
    plain = "{" not in rest and "}" not in rest and "\\" not in rest and rest.isprintable()
    if len(rest) != len(given) - sum(map(len, FORMAT_PARTS)) or not plain or len(given) > FORMAT_CHARS_MAX:
        raise bad(path, f"at most {FORMAT_CHARS_MAX} characters with each of {' '.join(FORMAT_PARTS)} once")
    if given.startswith("/") or any(step in (".", "..") for step in given.split("/")):
        raise bad(path, "a name that neither begins with a slash nor has . or .. between slashes")
    return given


def _bounded(members: Json, name: str, path: str, bounds: tuple[int, int], usual: int) -> int:
    value = members.get(name)
    return usual if value is None else integer(value, f"{path}.{name}", least=bounds[0], most=bounds[1])


def _optional(members: Json, name: str, path: str) -> str:
    value = members.get(name)
    return "" if value is None else text(value, f"{path}.{name}").strip()
