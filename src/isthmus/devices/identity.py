"""Identities of devices and modules: their stored form and the pure rules for making and changing them.

The stored form is the REST form (IoT Hub REST reference, "Device" and "Module"), so that queries see the members that
clients know. Members that clients may set arrive as an `IdentityBody`, in which an absent member and `null` mean the
same.
"""

import base64
import binascii
import re
from enum import StrEnum

import msgspec

from isthmus.base.clock import NEVER, iso_utc, ticks
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import identity_etag
from isthmus.base.ids import DeviceRef, Ids, valid_id

KEY_BYTES_MIN = 16
KEY_BYTES_MAX = 64
"""Decoded length of a symmetric key (`SecurityConstants` of the C# service SDK)."""

STATUS_REASON_CHARACTERS_MAX = 128
"""IoT Hub developer guide, "Device identity properties"."""

SYSTEM_MODULES = ("$edgeAgent", "$edgeHub")
"""Modules that come and go with the edge capability; nobody else may touch them."""

THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}")
"""SHA-1 or SHA-256 in hexadecimal digits, separators removed."""


class Status(StrEnum):
    """Whether a device may connect."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class AuthenticationType(StrEnum):
    """How an identity proves itself."""

    SAS = "sas"
    SELF_SIGNED = "selfSigned"
    CERTIFICATE_AUTHORITY = "certificateAuthority"
    NONE = "none"


class SymmetricKey(msgspec.Struct, frozen=True, rename="camel"):
    """A pair of base64 keys; its repr does not show them."""

    primary_key: str | None = None
    secondary_key: str | None = None

    def __repr__(self) -> str:
        return "SymmetricKey(...)"


class Thumbprints(msgspec.Struct, frozen=True, rename="camel"):
    """SHA-1 or SHA-256 of the client certificate, as the client wrote them."""

    primary_thumbprint: str | None = None
    secondary_thumbprint: str | None = None


class Authentication(msgspec.Struct, frozen=True, rename="camel"):
    """The way an identity proves itself, with what is needed to check the proof."""

    symmetric_key: SymmetricKey = SymmetricKey()
    x509_thumbprint: Thumbprints = Thumbprints()
    type: AuthenticationType = AuthenticationType.SAS


class Capabilities(msgspec.Struct, frozen=True, rename="camel"):
    """What a device may be; an edge device is a gateway for others."""

    iot_edge: bool = False


class Identity(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of the identity registry; `module_id` is empty for a device."""

    device_id: str
    module_id: str
    generation_id: str
    etag: str
    status: Status
    status_reason: str | None
    status_updated_time: str
    authentication: Authentication
    capabilities: Capabilities
    device_scope: str
    parent_scopes: tuple[str, ...]
    managed_by: str | None

    @property
    def enabled(self) -> bool:
        return self.status is Status.ENABLED

    @property
    def authentication_type(self) -> AuthenticationType:
        return self.authentication.type

    @property
    def primary_key(self) -> str | None:
        return self.authentication.symmetric_key.primary_key

    @property
    def secondary_key(self) -> str | None:
        return self.authentication.symmetric_key.secondary_key

    @property
    def primary_thumbprint(self) -> str | None:
        return self.authentication.x509_thumbprint.primary_thumbprint

    @property
    def secondary_thumbprint(self) -> str | None:
        return self.authentication.x509_thumbprint.secondary_thumbprint

    @property
    def iot_edge(self) -> bool:
        return self.capabilities.iot_edge


class AuthenticationBody(msgspec.Struct, frozen=True, rename="camel"):
    """What a client says about authentication."""

    symmetric_key: SymmetricKey | None = None
    x509_thumbprint: Thumbprints | None = None
    type: str | None = None


class CapabilitiesBody(msgspec.Struct, frozen=True, rename="camel"):
    """What a client says about capabilities."""

    iot_edge: bool | None = None


class IdentityBody(msgspec.Struct, frozen=True, rename="camel"):
    """The members of an identity that a client may set; others are ignored."""

    device_id: str | None = None
    module_id: str | None = None
    status: str | None = None
    status_reason: str | None = None
    authentication: AuthenticationBody | None = None
    capabilities: CapabilitiesBody | None = None
    device_scope: str | None = None
    parent_scopes: tuple[str, ...] | None = None
    managed_by: str | None = None


encode_identity = msgspec.json.Encoder().encode
"""The stored form of an `Identity`."""

decode_identity = msgspec.json.Decoder(Identity).decode
"""The `Identity` of a stored document."""


def parse_identity(ref: DeviceRef, body: object) -> IdentityBody:
    """The client's members of a PUT body for `ref`; raises `ARGUMENT_INVALID` where a rule is broken."""
    try:
        parsed = msgspec.convert(body, IdentityBody)
    except msgspec.ValidationError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"The identity is not valid: {error}") from error
    _check_names(ref, parsed)
    if parsed.status_reason is not None and len(parsed.status_reason) > STATUS_REASON_CHARACTERS_MAX:
        raise HubError(
            Code.ARGUMENT_INVALID, f"statusReason must not be longer than {STATUS_REASON_CHARACTERS_MAX} characters"
        )
    return parsed


def new_identity(ref: DeviceRef, body: IdentityBody, ids: Ids, utc_ms: int) -> Identity:
    """The identity that is created from what the client gave; keys nobody gave are made."""
    generation_id = _generation_id(ids, utc_ms)
    identity = Identity(
        device_id=ref.device_id,
        module_id=ref.module_id,
        generation_id=generation_id,
        etag=_first_etag(generation_id),
        status=_status(body, module=bool(ref.module_id)),
        status_reason=body.status_reason,
        status_updated_time=NEVER,
        authentication=_authentication(body.authentication, None, ids),
        capabilities=_capabilities(body, module=bool(ref.module_id)),
        device_scope="",
        parent_scopes=(),
        managed_by=body.managed_by,
    )
    return _scoped(identity, body)


def changed_identity(current: Identity, body: IdentityBody, ids: Ids, utc_ms: int) -> Identity:
    """`current` with what the client gave; what proves an identity stays as it is where the client says nothing."""
    status = _status(body, module=bool(current.module_id))
    changed = msgspec.structs.replace(
        current,
        etag=_next_etag(current.etag),
        status=status,
        status_reason=body.status_reason,
        status_updated_time=current.status_updated_time if status is current.status else iso_utc(utc_ms),
        authentication=_authentication(body.authentication, current.authentication, ids),
        capabilities=_capabilities(body, module=bool(current.module_id)),
        device_scope=current.device_scope if current.iot_edge else "",
        managed_by=body.managed_by,
    )
    return _scoped(changed, body)


def system_module(ref: DeviceRef, ids: Ids, utc_ms: int) -> Identity:
    """The system module `ref` of an edge device: the runtime proves itself through the device, so it has no key."""
    body = IdentityBody(authentication=AuthenticationBody(type=AuthenticationType.NONE), managed_by="iotEdge")
    return new_identity(ref, body, ids, utc_ms)


def _check_names(ref: DeviceRef, body: IdentityBody) -> None:
    if not valid_id(ref.device_id) or (ref.module_id and not valid_id(ref.module_id)):
        raise HubError(Code.ARGUMENT_INVALID, "The id is empty, longer than 128 characters or has forbidden ones")
    if body.device_id is not None and body.device_id != ref.device_id:
        raise HubError(Code.ARGUMENT_INVALID, "deviceId differs from the id in the path")
    if ref.module_id and body.module_id is not None and body.module_id != ref.module_id:
        raise HubError(Code.ARGUMENT_INVALID, "moduleId differs from the id in the path")


def _status(body: IdentityBody, *, module: bool) -> Status:
    """A module cannot be disabled by itself (IoT Hub developer guide, "Module identity properties")."""
    if module or body.status is None:
        return Status.ENABLED
    try:
        return Status(body.status.lower())
    except ValueError:
        raise HubError(Code.ARGUMENT_INVALID, "status must be enabled or disabled") from None


def _capabilities(body: IdentityBody, *, module: bool) -> Capabilities:
    asked = body.capabilities is not None and bool(body.capabilities.iot_edge)
    return Capabilities(iot_edge=asked and not module)


def _authentication(body: AuthenticationBody | None, kept: Authentication | None, ids: Ids) -> Authentication:
    if body is None and kept is not None:
        return kept
    given = body or AuthenticationBody()
    match _authentication_type(given):
        case AuthenticationType.SAS:
            return Authentication(symmetric_key=_keys(given.symmetric_key, kept, ids))
        case AuthenticationType.SELF_SIGNED:
            return Authentication(
                x509_thumbprint=_thumbprints(given.x509_thumbprint), type=AuthenticationType.SELF_SIGNED
            )
        case kind:
            return Authentication(type=kind)


def _authentication_type(body: AuthenticationBody) -> AuthenticationType:
    """The type asked for; a thumbprint without a type means a self-signed certificate, as in older API versions."""
    if body.type is None:
        has_thumbprint = body.x509_thumbprint is not None and bool(body.x509_thumbprint.primary_thumbprint)
        return AuthenticationType.SELF_SIGNED if has_thumbprint else AuthenticationType.SAS
    for kind in AuthenticationType:
        if kind.value.lower() == body.type.lower():
            return kind
    raise HubError(Code.ARGUMENT_INVALID, "authentication.type must be sas, selfSigned, certificateAuthority or none")


def _keys(given: SymmetricKey | None, kept: Authentication | None, ids: Ids) -> SymmetricKey:
    """The keys given; the present ones when none is given; new ones when there are none either."""
    primary, secondary = (given.primary_key, given.secondary_key) if given else (None, None)
    if not primary and not secondary:
        if kept is not None and kept.symmetric_key.primary_key:
            return kept.symmetric_key
        return SymmetricKey(primary_key=ids.key(), secondary_key=ids.key())
    if not primary or not secondary:
        raise HubError(Code.ARGUMENT_INVALID, "primaryKey and secondaryKey must be given together")
    for key in (primary, secondary):
        _check_key(key)
    return SymmetricKey(primary_key=primary, secondary_key=secondary)


def _check_key(key: str) -> None:
    try:
        length = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        raise HubError(Code.ARGUMENT_INVALID, "A symmetric key must be base64") from None
    if not KEY_BYTES_MIN <= length <= KEY_BYTES_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"A symmetric key must have {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")


def _thumbprints(given: Thumbprints | None) -> Thumbprints:
    if given is None or not given.primary_thumbprint:
        raise HubError(Code.ARGUMENT_INVALID, "selfSigned needs x509Thumbprint.primaryThumbprint")
    for thumbprint in (given.primary_thumbprint, given.secondary_thumbprint or given.primary_thumbprint):
        if THUMBPRINT.fullmatch(re.sub(r"[:\s-]", "", thumbprint)) is None:
            raise HubError(Code.ARGUMENT_INVALID, "A thumbprint must have 40 or 64 hexadecimal digits")
    return Thumbprints(given.primary_thumbprint, given.secondary_thumbprint or None)


def _scoped(identity: Identity, body: IdentityBody) -> Identity:
    """Sets the scopes (IoT Edge documentation, "Parent and child relationships"): an edge device's own is fixed."""
    parents = body.parent_scopes or ()
    if len(parents) > 1:
        raise HubError(Code.ARGUMENT_INVALID, "parentScopes must not name more than one scope")
    if identity.module_id:
        return identity
    if identity.iot_edge:
        made = f"ms-azure-iot-edge://{identity.device_id}-{identity.generation_id}"
        own = identity.device_scope or body.device_scope or made
        return msgspec.structs.replace(identity, device_scope=own, parent_scopes=parents)
    scope = body.device_scope or "".join(parents)
    return msgspec.structs.replace(identity, device_scope=scope, parent_scopes=parents or ((scope,) if scope else ()))


def _generation_id(ids: Ids, utc_ms: int) -> str:
    """.NET ticks, of which the clock gives the milliseconds and chance the rest: no two creations share one."""
    return str(ticks(utc_ms) + int(ids.uuid()[:8], 16) % 10_000)


def _first_etag(generation_id: str) -> str:
    """An etag of this creation only, so that one of an earlier identity of that name does not match."""
    return identity_etag(int(generation_id) % 1_000_000_000)


def _next_etag(etag: str) -> str:
    return identity_etag(int(base64.b64decode(etag)) + 1)
