"""File upload in ARM's form: `storageEndpoints`, `messagingEndpoints`, `enableFileUploadNotifications` of a hub.

Beyond Azure's members the storage endpoint has `relay`. A key is shown as a mask, which may be sent back.
"""

from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.resources.durations import format_duration
from isthmus.resources.file_upload import (
    NOTIFICATION_LOCK_MS_MAX,
    NOTIFICATION_LOCK_MS_MIN,
    NOTIFICATION_TTL_MS_MAX,
    NOTIFICATION_TTL_MS_MIN,
    SAS_TTL_MS_MAX,
    SAS_TTL_MS_MIN,
    FileUploadSettings,
    NotificationSettings,
    StorageEndpoint,
)
from isthmus.resources.hub_identity import HubIdentity
from isthmus.resources.members import Json, bad, boolean, choice, duration_ms, integer, known_members, mapping, text
from isthmus.resources.routing_endpoint import EndpointAuthentication
from isthmus.resources.storage_account import CONTAINER_NAME, MASK, masked, read_account, without_key

DEFAULT_ENDPOINT = "$default"
"""The one storage endpoint of a hub."""

DELIVERY_COUNT_MAX = 100
"""Deliveries of a file notification (Microsoft.Devices/IotHubs, `MessagingEndpointProperties`)."""

_STORAGE_MEMBERS = ("authenticationType", "connectionString", "containerName", "identity", "relay", "sasTtlAsIso8601")
_NOTIFICATION_MEMBERS = ("lockDurationAsIso8601", "maxDeliveryCount", "ttlAsIso8601")


def storage_endpoints_to_arm(settings: FileUploadSettings) -> dict[str, object]:
    """The member `storageEndpoints`."""
    storage = settings.storage
    shown: dict[str, object] = {
        "connectionString": masked(storage.connection_string),
        "containerName": storage.container,
        "sasTtlAsIso8601": format_duration(storage.sas_ttl_ms),
    }
    if storage.configured:
        identity = {"userAssignedIdentity": storage.identity} if storage.identity else None
        shown |= {"authenticationType": storage.authentication.value, "identity": identity, "relay": storage.relay}
    return {DEFAULT_ENDPOINT: shown}


def messaging_endpoints_to_arm(settings: FileUploadSettings) -> dict[str, object]:
    """The member `messagingEndpoints`."""
    notifications = settings.notifications
    shown = {
        "lockDurationAsIso8601": format_duration(notifications.lock_ms),
        "maxDeliveryCount": notifications.max_delivery_count,
        "ttlAsIso8601": format_duration(notifications.ttl_ms),
    }
    return {"fileNotifications": shown}


def with_storage_endpoints(
    present: FileUploadSettings, identity: HubIdentity, value: object, path: str
) -> FileUploadSettings:
    """The settings with another `storageEndpoints`, of a hub that has `identity`; raises HubError ArgumentInvalid."""
    members = _without_nulls(value, path)
    known_members(members, path, (DEFAULT_ENDPOINT,))
    path = f"{path}.{DEFAULT_ENDPOINT}"
    members = _without_nulls(members.get(DEFAULT_ENDPOINT), path)
    known_members(members, path, _STORAGE_MEMBERS)
    storage = _storage(present.storage, members, path)
    if storage.configured:
        _check(storage, identity, path)
    return replace(present, storage=storage)


def with_messaging_endpoints(present: FileUploadSettings, value: object, path: str) -> FileUploadSettings:
    """The settings with another `messagingEndpoints`; raises HubError ArgumentInvalid."""
    members = _without_nulls(value, path)
    known_members(members, path, ("fileNotifications",))
    path = f"{path}.fileNotifications"
    members = _without_nulls(members.get("fileNotifications"), path)
    known_members(members, path, _NOTIFICATION_MEMBERS)
    usual = NotificationSettings()
    notifications = NotificationSettings(
        ttl_ms=_duration(members, "ttlAsIso8601", path, usual.ttl_ms, NOTIFICATION_TTL_MS_MIN, NOTIFICATION_TTL_MS_MAX),
        lock_ms=_duration(
            members, "lockDurationAsIso8601", path, usual.lock_ms, NOTIFICATION_LOCK_MS_MIN, NOTIFICATION_LOCK_MS_MAX
        ),
        max_delivery_count=integer(
            members.get("maxDeliveryCount", usual.max_delivery_count),
            f"{path}.maxDeliveryCount",
            least=1,
            most=DELIVERY_COUNT_MAX,
        ),
    )
    return replace(present, notifications=notifications)


def with_notify(present: FileUploadSettings, value: object, path: str) -> FileUploadSettings:
    """The settings with another `enableFileUploadNotifications`; raises HubError ArgumentInvalid."""
    return replace(present, notify=value is not None and boolean(value, path))


def check_file_upload(settings: FileUploadSettings) -> None:
    """Raises HubError ArgumentInvalid for settings that contradict each other."""
    if settings.notify and not settings.storage.configured:
        message = (
            "properties.enableFileUploadNotifications needs a storage endpoint: properties.storageEndpoints.$default"
        )
        raise HubError(Code.ARGUMENT_INVALID, message)


def _storage(present: StorageEndpoint, members: Json, path: str) -> StorageEndpoint:
    words = tuple(EndpointAuthentication)
    kind = choice(members.get("authenticationType") or EndpointAuthentication.KEY, f"{path}.authenticationType", words)
    given = text(members.get("connectionString", ""), f"{path}.connectionString")
    if present.configured and given == masked(present.connection_string):
        given = present.connection_string
    if kind == EndpointAuthentication.IDENTITY:
        given = without_key(given)
    identity = mapping(members.get("identity", {}), f"{path}.identity")
    known_members(identity, f"{path}.identity", ("userAssignedIdentity",))
    usual = StorageEndpoint()
    sas_ttl_ms = _duration(members, "sasTtlAsIso8601", path, usual.sas_ttl_ms, SAS_TTL_MS_MIN, SAS_TTL_MS_MAX)
    container = text(members.get("containerName", ""), f"{path}.containerName")
    if not given:
        if container and not present.configured:
            raise bad(f"{path}.connectionString", "given where containerName is")
        return StorageEndpoint(sas_ttl_ms=sas_ttl_ms)
    return StorageEndpoint(
        connection_string=given,
        container=container,
        authentication=EndpointAuthentication(kind),
        identity=text(identity.get("userAssignedIdentity") or "", f"{path}.identity.userAssignedIdentity"),
        sas_ttl_ms=sas_ttl_ms,
        relay=boolean(members.get("relay", usual.relay), f"{path}.relay"),
    )


def _check(storage: StorageEndpoint, identity: HubIdentity, path: str) -> None:
    account = read_account(storage.connection_string, f"{path}.connectionString")
    if not CONTAINER_NAME.fullmatch(storage.container):
        raise bad(f"{path}.containerName", "3 to 63 small letters, digits and single dashes")
    if storage.authentication is EndpointAuthentication.KEY:
        if not account.key or account.key == MASK:
            raise bad(f"{path}.connectionString", "one with AccountKey, or authenticationType identityBased")
        if storage.identity:
            raise bad(f"{path}.authenticationType", "identityBased where there is an identity")
    elif storage.identity and identity.find(storage.identity) is None:
        raise HubError(Code.ARGUMENT_INVALID, f"{path}.identity: the hub does not have {storage.identity}")
    elif not storage.identity and not identity.system:
        message = f"{path}.authenticationType: the hub has no identity of its own; iot hub identity assign gives it one"
        raise HubError(Code.ARGUMENT_INVALID, message)


def _duration(members: Json, name: str, path: str, usual: int, least: int, most: int) -> int:
    return duration_ms(members[name], f"{path}.{name}", least=least, most=most) if name in members else usual


def _without_nulls(value: object, path: str) -> Json:
    members = {} if value is None else mapping(value, path)
    return {name: each for name, each in members.items() if each is not None}
