"""Further documents of the service: errors, user delegation keys, stored access policies, properties."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from isthmus.base.clock import iso_utc, parse_iso_ms
from isthmus.neighbours.blob.blob import StoredPolicy
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.headers import iso_seconds
from isthmus.neighbours.blob.sas import DELEGATION_SECONDS_MAX, DelegationKey
from isthmus.neighbours.blob.xml import DECLARATION, child_text, document, element, parent, parse_xml

POLICIES_MAX = 5
"""Stored access policies of a container ("Define a stored access policy")."""

POLICY_ID_CHARACTERS_MAX = 64
"""Of a stored access policy's id."""

FORM_BYTES_MAX = 64 * 1024
"""Of a document that a request brings, other than a block list."""


def error_document(error: StorageError, request_id: str, utc_ms: int) -> bytes:
    """The answer of a refusal; its message ends with the request's id and the time."""
    message = f"{error.message}\nRequestId:{request_id}\nTime:{iso_utc(utc_ms)}"
    children = (
        element("Code", error.storage_code.wire_name),
        element("Message", message),
        *(element(name, text) for name, text in error.details.items()),
    )
    return f"\ufeff{DECLARATION}{parent('Error', children)}".encode()


def parse_key_info(body: bytes, now_ms: int) -> tuple[str, str, str]:
    """Start, expiry and delegated tenant of a wanted key, as they were written; raises StorageError."""
    root = parse_xml(body)
    start, expiry = child_text(root, "Start"), child_text(root, "Expiry")
    start_ms, expiry_ms = parse_iso_ms(start) if start else now_ms, parse_iso_ms(expiry)
    if root.tag != "KeyInfo" or start_ms is None or expiry_ms is None:
        raise StorageError(StorageCode.INVALID_XML)
    if not now_ms < expiry_ms or not 0 < expiry_ms - max(start_ms, now_ms) <= DELEGATION_SECONDS_MAX * 1000:
        raise StorageError(
            StorageCode.INVALID_INPUT, details={"Reason": "A key holds for at most 7 days from now, and ends later."}
        )
    return iso_seconds(start_ms), iso_seconds(expiry_ms), child_text(root, "DelegatedUserTid")


def key_document(key: DelegationKey, value: str) -> bytes:
    """The answer of Get User Delegation Key."""
    fields = [
        ("SignedOid", key.object_id),
        ("SignedTid", key.tenant_id),
        ("SignedStart", key.start),
        ("SignedExpiry", key.expiry),
        ("SignedService", key.service),
        ("SignedVersion", key.version),
    ]
    if key.delegated_tenant_id:
        fields.append(("SignedDelegatedUserTid", key.delegated_tenant_id))
    fields.append(("Value", value))
    return document(parent("UserDelegationKey", (element(name, text) for name, text in fields)))


def parse_policies(body: bytes) -> tuple[StoredPolicy, ...]:
    """The policies that a container shall have; raises StorageError InvalidXmlDocument, InvalidInput."""
    if not body:
        return ()
    root = parse_xml(body)
    if root.tag != "SignedIdentifiers":
        raise StorageError(StorageCode.INVALID_XML)
    policies = tuple(_policy(each) for each in root)
    ids = [policy.policy_id for policy in policies]
    if len(ids) > POLICIES_MAX or len(set(ids)) < len(ids):
        raise StorageError(StorageCode.INVALID_INPUT)
    return policies


def policies_document(policies: Sequence[StoredPolicy]) -> bytes:
    """The answer of Get Container ACL."""
    return document(parent("SignedIdentifiers", (_policy_element(policy) for policy in policies)))


def properties_document() -> bytes:
    """The answer of Get Blob Service Properties: everything that can be switched is off."""
    metrics = (element("Version", "1.0"), element("Enabled", "false"), _NO_RETENTION)
    logging = (
        element("Version", "1.0"),
        *(element(name, "false") for name in ("Delete", "Read", "Write")),
        _NO_RETENTION,
    )
    return document(
        parent(
            "StorageServiceProperties",
            (
                parent("Logging", logging),
                parent("HourMetrics", metrics),
                parent("MinuteMetrics", metrics),
                element("Cors"),
                parent("DeleteRetentionPolicy", (element("Enabled", "false"),)),
                parent("StaticWebsite", (element("Enabled", "false"),)),
            ),
        )
    )


def _policy(each: Element) -> StoredPolicy:
    policy_id, access = child_text(each, "Id"), each.find("AccessPolicy")
    times = [child_text(access, name) if access is not None else "" for name in ("Start", "Expiry")]
    permission = child_text(access, "Permission") if access is not None else ""
    bad_time = any(time and parse_iso_ms(time) is None for time in times)
    if each.tag != "SignedIdentifier" or not 0 < len(policy_id) <= POLICY_ID_CHARACTERS_MAX or bad_time:
        raise StorageError(StorageCode.INVALID_XML)
    return StoredPolicy(policy_id, times[0], times[1], permission)


def _policy_element(policy: StoredPolicy) -> str:
    access = (("Start", policy.start), ("Expiry", policy.expiry), ("Permission", policy.permission))
    inner = parent("AccessPolicy", (element(name, text) for name, text in access if text))
    return parent("SignedIdentifier", (element("Id", policy.policy_id), inner))


_NO_RETENTION = parent("RetentionPolicy", (element("Enabled", "false"),))
