"""Changes of a hub that come in ARM's form.

A change is a merge: the patch is laid over the present form (null puts a member back to its default, and switches the
fallback route off; tags are replaced), and what differs afterwards must be a member that can be set. So a whole form
that was printed, edited and sent back works as well as a fragment, also where a client has left out what is read-only
or a key that it was not shown. A member that is unknown or not offered is refused by its name, and so is a read-only
one, save what the server alone knows in a whole body, which is passed over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules, checked_ip_rule, checked_rules
from isthmus.resources.arm import connection_to_arm, hub_to_arm
from isthmus.resources.endpoint_arm import with_endpoints
from isthmus.resources.enrichments import checked_enrichments
from isthmus.resources.file_upload_arm import (
    check_file_upload,
    with_messaging_endpoints,
    with_notify,
    with_storage_endpoints,
)
from isthmus.resources.hub import FALLBACK_ROUTE, UNITS_MAX, CloudToDeviceSettings, FeedbackSettings, Hub, SkuName
from isthmus.resources.hub_identity import with_identity
from isthmus.resources.members import (
    Json,
    bad,
    boolean,
    choice,
    duration_ms,
    integer,
    items,
    known_members,
    mapping,
    tags_of,
    text,
)
from isthmus.resources.outbound import checked_names
from isthmus.resources.routes import check_routing, checked_fallback, checked_routes, route_to_arm
from isthmus.resources.routing_endpoint import EndpointKind
from isthmus.resources.shared_access_policies import with_policies

DELIVERY_COUNT_MAX = 100
"""Deliveries of a cloud-to-device or feedback message (Microsoft.Devices/IotHubs)."""

TTL_MS_MIN = 60_000
TTL_MS_MAX = 172_800_000
"""Life of a cloud-to-device or feedback message ("Cloud-to-device configuration options")."""

LOCK_MS_MIN = 5_000
LOCK_MS_MAX = 300_000
"""Lock of a feedback message ("Cloud-to-device configuration options")."""

Path = tuple[str, ...]
Setter = Callable[[Hub, object, str], Hub]


def apply_patch(hub: Hub, patch: Json) -> Hub:
    """The hub with an ARM body merged in.

    Raises HubError ArgumentInvalid for an unknown or read-only member or a bad value, NotImplemented for a member that
    is not offered, PreconditionFailed when the body carries another etag.
    """
    return _applied(hub, patch, frozenset())


def _applied(hub: Hub, patch: Json, passed_over: frozenset[Path]) -> Hub:
    present = hub_to_arm(hub)
    wanted = dict(mapping(merged(present, patch), "the body"))
    if "tags" in patch:
        wanted["tags"] = patch["tags"]
    if "identity" in patch:
        wanted["identity"] = patch["identity"]
    changed = hub
    for path, value in differences(present, wanted):
        setter = _SETTERS.get(path)
        if path in passed_over or (setter is None and value is None and _is_known(path, present)):
            # What cannot be set has its default always, and null asks for that.
            continue
        if setter is None:
            raise _refused(path, present)
        changed = setter(changed, value, ".".join(path))
    check_file_upload(changed.file_upload)
    check_routing(changed)
    return changed


def apply_body(hub: Hub, body: Json) -> Hub:
    """As `apply_patch`, for a whole body (PUT): what it leaves out goes back to its default.

    A body without `routing` asks for that of a new hub; one that has it without a fallback route switches that off
    (Microsoft.Devices/IotHubs, `RoutingProperties`). Only what opens doors and `identity` stay as they are when left
    out: a client that does not know them must not open the door, nor end an identity for ever.
    """
    members = mapping(body.get("properties") or {}, "properties")
    if members.get("routing") is None:
        body = {**body, "properties": {**members, "routing": {"fallbackRoute": route_to_arm(FALLBACK_ROUTE)}}}
    whole: object = body
    for path in _SETTERS:
        if path not in _KEPT:
            whole = _with_default(whole, path)
    return _applied(hub, mapping(whole, "the body"), _SERVERS_OWN)


def merged(present: object, patch: object) -> object:
    """JSON merge (RFC 7396), but a null stays, so that it can be told from a member that was never named."""
    if not isinstance(patch, Mapping) or not isinstance(present, Mapping):
        return patch
    return {**present, **{name: merged(present.get(name), value) for name, value in patch.items()}}


def differences(present: Json, wanted: Json, above: Path = ()) -> Iterator[tuple[Path, object]]:
    """Path and new value of each member that differs; members that are set as a whole are told as a whole."""
    for name, want in wanted.items():
        path = (*above, name)
        have = present.get(name)
        if name in present and have == want:
            continue
        if isinstance(have, Mapping) and isinstance(want, Mapping) and path not in _SETTERS:
            yield from differences(have, want, path)
        else:
            yield path, want


def _with_default(body: object, path: Path) -> object:
    """The body with null where it leaves out the member at `path`."""
    members = {} if body is None else mapping(body, "the body")
    if len(path) == 1:
        return {path[0]: None, **members}
    return {**members, path[0]: _with_default(members.get(path[0]), path[1:])}


def _set_tags(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, tags=tags_of(value))


def _set_identity(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, identity=with_identity(hub.identity, value, path))


def _set_public_network_access(hub: Hub, value: object, path: str) -> Hub:
    enabled = value is None or choice(value, path, ("Enabled", "Disabled")) == "Enabled"
    return replace(hub, public_network_access=enabled)


def _set_rules(hub: Hub, value: object, path: str) -> Hub:
    if value is None:
        return replace(hub, rules=None)
    members = mapping(value, path)
    known_members(members, path, ("defaultAction", "applyToBuiltInEventHubEndpoint", "ipRules"))
    action = choice(members.get("defaultAction") or "Deny", f"{path}.defaultAction", ("Deny", "Allow"))
    covers = boolean(members.get("applyToBuiltInEventHubEndpoint"), f"{path}.applyToBuiltInEventHubEndpoint")
    if "ipRules" not in members:
        raise bad(f"{path}.ipRules", "an array")
    rules = tuple(_ip_rule(each, f"{path}.ipRules") for each in items(members["ipRules"], f"{path}.ipRules"))
    return replace(hub, rules=checked_rules(NetworkRules(DefaultAction(action), covers, rules)))


def _set_classic_rules(hub: Hub, value: object, path: str) -> Hub:
    if value is None or value == []:
        return hub
    message = f"{path}, the classic rules, cannot be set: they are retired. Use properties.networkRuleSets instead"
    raise HubError(Code.NOT_IMPLEMENTED, message)


def _set_size(hub: Hub, value: object, path: str) -> Hub:
    name = hub.sku.name if value is None else SkuName(choice(value, path, tuple(SkuName)))
    return replace(hub, sku=replace(hub.sku, name=name))


def _set_units(hub: Hub, value: object, path: str) -> Hub:
    units = hub.sku.units if value is None else integer(value, path, least=1, most=UNITS_MAX)
    return replace(hub, sku=replace(hub.sku, units=units))


def _set_policies(hub: Hub, value: object, path: str) -> Hub:
    """Without a list the policies stay: nobody means to lock everybody out by leaving something out."""
    return hub if value is None else replace(hub, policies=with_policies(hub.policies, value, path))


def _set_policy_keys(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, local_auth=replace(hub.local_auth, policies=not _is_on(value, path)))


def _set_device_keys(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, local_auth=replace(hub.local_auth, devices=not _is_on(value, path)))


def _set_module_keys(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, local_auth=replace(hub.local_auth, modules=not _is_on(value, path)))


def _is_on(value: object, path: str) -> bool:
    return value is not None and boolean(value, path)


def _keep_connections(hub: Hub, value: object, path: str) -> Hub:
    """Lets pass the connections that there are, also without what is read-only in them."""
    present = [connection_to_arm(hub, each) for each in hub.connections]
    if value is not None and not _echoes(present, value):
        raise HubError(Code.ARGUMENT_INVALID, f"{path} is read-only: {_DECIDE_CONNECTIONS}")
    return hub


def _echoes(present: Sequence[object], value: object) -> bool:
    """True when an array says of each thing in turn nothing but what is so."""
    if not isinstance(value, list) or len(value) != len(present):
        return False
    return all(merged(have, _told(want)) == have for have, want in zip(present, value, strict=True))


def _told(value: object) -> object:
    """The value without members that are null."""
    if isinstance(value, Mapping):
        return {name: _told(each) for name, each in value.items() if each is not None}
    return value


def _ip_rule(value: object, path: str) -> IpRule:
    members = mapping(value, path)
    known_members(members, path, ("action", "filterName", "ipMask"))
    choice(members.get("action", "Allow"), f"{path}.action", ("Allow",))
    name = text(members.get("filterName"), f"{path}.filterName")
    return checked_ip_rule(name, text(members.get("ipMask"), f"{path}.ipMask"))


def _set_endpoints(kind: EndpointKind) -> Setter:
    return lambda hub, value, path: with_endpoints(hub, kind, value, path)


def _set_other_endpoints(hub: Hub, value: object, path: str) -> Hub:
    if items(value, path):
        raise HubError(Code.NOT_IMPLEMENTED, f"{path}: this hub does not deliver to Cosmos DB")
    return hub


def _set_enrichments(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, enrichments=checked_enrichments(value, path))


def _set_restriction(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, restrict_outbound=value is not None and boolean(value, path))


def _set_allowed_names(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, allowed_fqdns=checked_names(items(value, path), path))


def _set_routes(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, routes=checked_routes(value, path))


def _set_fallback(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, fallback_route=checked_fallback(value, path))


def _set_cloud_to_device(hub: Hub, value: object, path: str) -> Hub:
    members = _without_nulls(value, path)
    known_members(members, path, ("defaultTtlAsIso8601", "feedback", "maxDeliveryCount"))
    usual = CloudToDeviceSettings()
    settings = CloudToDeviceSettings(
        default_ttl_ms=_ttl(members, "defaultTtlAsIso8601", path, usual.default_ttl_ms),
        max_delivery_count=_deliveries(members, path, usual.max_delivery_count),
        feedback=_feedback(members.get("feedback"), f"{path}.feedback"),
    )
    return replace(hub, cloud_to_device=settings)


def _set_storage(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, file_upload=with_storage_endpoints(hub.file_upload, hub.identity, value, path))


def _set_messaging(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, file_upload=with_messaging_endpoints(hub.file_upload, value, path))


def _set_notify(hub: Hub, value: object, path: str) -> Hub:
    return replace(hub, file_upload=with_notify(hub.file_upload, value, path))


def _feedback(value: object, path: str) -> FeedbackSettings:
    members = _without_nulls(value, path)
    known_members(members, path, ("lockDurationAsIso8601", "maxDeliveryCount", "ttlAsIso8601"))
    usual = FeedbackSettings()
    lock_ms = usual.lock_ms
    if "lockDurationAsIso8601" in members:
        lock = members["lockDurationAsIso8601"]
        lock_ms = duration_ms(lock, f"{path}.lockDurationAsIso8601", least=LOCK_MS_MIN, most=LOCK_MS_MAX)
    return FeedbackSettings(
        ttl_ms=_ttl(members, "ttlAsIso8601", path, usual.ttl_ms),
        lock_ms=lock_ms,
        max_delivery_count=_deliveries(members, path, usual.max_delivery_count),
    )


def _without_nulls(value: object, path: str) -> Json:
    members = {} if value is None else mapping(value, path)
    return {name: each for name, each in members.items() if each is not None}


def _ttl(members: Json, name: str, path: str, usual: int) -> int:
    if name not in members:
        return usual
    return duration_ms(members[name], f"{path}.{name}", least=TTL_MS_MIN, most=TTL_MS_MAX)


def _deliveries(members: Json, path: str, usual: int) -> int:
    count = members.get("maxDeliveryCount", usual)
    return integer(count, f"{path}.maxDeliveryCount", least=1, most=DELIVERY_COUNT_MAX)


def _refused(path: Path, present: Json) -> HubError:
    name = ".".join(path)
    if path == ("etag",):
        return HubError(Code.PRECONDITION_FAILED, "The hub was changed since this body was read: its etag is another")
    if path in _READ_ONLY:
        return HubError(Code.ARGUMENT_INVALID, f"{name} is read-only{_READ_ONLY[path]}")
    if _is_known(path, present):
        return HubError(Code.NOT_IMPLEMENTED, f"{name} cannot be changed: this hub does not offer it")
    return HubError(Code.ARGUMENT_INVALID, f"{name} is not a member of a hub")


def _is_known(path: Path, present: Json) -> bool:
    inner: object = present
    for name in path:
        if not isinstance(inner, Mapping) or name not in inner:
            return False
        inner = inner[name]
    return True


_SETTERS: Mapping[Path, Setter] = {
    ("tags",): _set_tags,
    ("identity",): _set_identity,
    ("properties", "publicNetworkAccess"): _set_public_network_access,
    ("properties", "networkRuleSets"): _set_rules,
    ("properties", "ipFilterRules"): _set_classic_rules,
    ("properties", "routing", "endpoints", "cosmosDBSqlContainers"): _set_other_endpoints,
    **{("properties", "routing", "endpoints", kind.value): _set_endpoints(kind) for kind in sorted(EndpointKind)},
    ("properties", "routing", "enrichments"): _set_enrichments,
    ("properties", "restrictOutboundNetworkAccess"): _set_restriction,
    ("properties", "allowedFqdnList"): _set_allowed_names,
    ("properties", "routing", "routes"): _set_routes,
    ("properties", "routing", "fallbackRoute"): _set_fallback,
    ("properties", "cloudToDevice"): _set_cloud_to_device,
    ("properties", "storageEndpoints"): _set_storage,
    ("properties", "messagingEndpoints"): _set_messaging,
    ("properties", "enableFileUploadNotifications"): _set_notify,
    ("properties", "authorizationPolicies"): _set_policies,
    ("properties", "disableLocalAuth"): _set_policy_keys,
    ("properties", "disableDeviceSAS"): _set_device_keys,
    ("properties", "disableModuleSAS"): _set_module_keys,
    ("properties", "privateEndpointConnections"): _keep_connections,
    ("sku", "name"): _set_size,
    ("sku", "capacity"): _set_units,
}

_KEPT: frozenset[Path] = frozenset(
    {
        ("properties", "publicNetworkAccess"),
        ("properties", "disableLocalAuth"),
        ("properties", "disableDeviceSAS"),
        ("properties", "disableModuleSAS"),
        ("identity",),
    }
)
"""Members that a whole body may leave out without setting them back."""

_DECIDE_CONNECTIONS = "use network private-endpoint-connection approve, reject or delete"

_SERVERS_OWN: frozenset[Path] = frozenset(
    {
        ("resourcegroup",),
        ("subscriptionid",),
        ("systemData",),
        ("sku", "tier"),
        ("properties", "locations"),
        ("properties", "provisioningState"),
        ("properties", "state"),
        ("properties", "eventHubEndpoints", "events", "endpoint"),
        ("properties", "eventHubEndpoints", "events", "path"),
        ("properties", "eventHubEndpoints", "events", "partitionIds"),
    }
)
"""Read-only members that a client sends back as it once read them, and that nobody could mean to change."""

_READ_ONLY: Mapping[Path, str] = {
    ("id",): "",
    ("name",): "",
    ("type",): "",
    ("location",): "",
    ("resourcegroup",): "",
    ("subscriptionid",): "",
    ("sku", "tier"): "",
    ("properties", "hostName"): "",
    ("properties", "locations"): "",
    ("properties", "provisioningState"): "",
    ("properties", "state"): "",
    ("properties", "eventHubEndpoints", "events", "endpoint"): "",
    ("properties", "eventHubEndpoints", "events", "path"): "",
    ("properties", "eventHubEndpoints", "events", "partitionIds"): "",
    ("properties", "eventHubEndpoints", "events", "partitionCount"): ": it counts when the hub is made",
}
