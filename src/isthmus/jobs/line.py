"""The lines of `devices.txt`: an identity with its twin, as jobs write and read it.

The form is that of "Import and export IoT Hub device identities in bulk" (`ExportImportDevice`): one JSON object a
line, UTF-8, LF or CRLF. A module is a line of its own; its `managedBy`, which the documented form has no member for, is
written too. Names of members and modes are read in any case, as .NET's readers do.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.devices.events import wire_properties
from isthmus.devices.given_twin import GivenTwin, parse_given_twin
from isthmus.devices.identity import Authentication, AuthenticationType, Identity, SymmetricKey
from isthmus.devices.twin import JsonObject, Twin

LINE_BYTES_MAX = 1_048_576
"""A line: a twin at all its limits with metadata, escaped, and room. A longer one is an error of that line."""

LINE_IN_ERROR_MAX = 512
"""Characters of a line in an error about it."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some editors begin a file with it (RFC 3629 §6)."""


class ImportMode(StrEnum):
    """What becomes of an identity that a line names ("Import modes")."""

    CREATE_OR_UPDATE = "createOrUpdate"
    CREATE = "create"
    UPDATE = "update"
    UPDATE_IF_MATCH = "updateIfMatchETag"
    CREATE_OR_UPDATE_IF_MATCH = "createOrUpdateIfMatchETag"
    DELETE = "delete"
    DELETE_IF_MATCH = "deleteIfMatchETag"
    UPDATE_TWIN = "updateTwin"
    UPDATE_TWIN_IF_MATCH = "updateTwinIfMatchETag"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was understood; `body` has the members of an identity as a client gives them."""

    device_id: str
    module_id: str
    mode: ImportMode
    etag: str | None
    twin_etag: str | None
    twin: GivenTwin
    body: JsonObject


@dataclass(frozen=True, slots=True)
class LineError:
    """What the error log says of a line; the ids are empty where the line did not tell."""

    code: Code
    reason: str
    device_id: str = ""
    module_id: str = ""


_MEMBERS = (
    "id", "moduleId", "eTag", "importMode", "status", "statusReason", "authentication", "twinETag", "tags",
    "properties", "capabilities", "deviceScope", "parentScopes", "managedBy",
)  # fmt: skip
_KNOWN = {name.lower(): name for name in _MEMBERS}
_MODES = {mode.value.lower(): mode for mode in ImportMode}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def read_line(text: bytes) -> Line | LineError:
    """The identity of a line, without its line end; what is wrong with it otherwise."""
    if len(text) > LINE_BYTES_MAX:
        return LineError(
            Code.DESERIALIZATION_ERROR, f"Invalid device format: a line has at most {LINE_BYTES_MAX} bytes"
        )
    try:
        found = _decode(text)
    except NOT_JSON as error:
        return _malformed(text, str(error))
    return read_item(found, text)


def read_item(found: object, text: bytes) -> Line | LineError:
    """The identity of a line whose JSON was read already; `text` is what an error may show of it."""
    if not isinstance(found, dict):
        return _malformed(text, "It is not a JSON object")
    members: JsonObject = {_KNOWN.get(str(name).lower(), str(name)): value for name, value in found.items()}
    device_id, module_id = members.get("id"), members.get("moduleId")
    if not isinstance(device_id, str) or not device_id:
        return _malformed(text, "It has no id")
    if module_id is not None and not isinstance(module_id, str):
        return _malformed(text, "moduleId must be a string")
    try:
        return _line(device_id, module_id or "", members)
    except HubError as error:
        return LineError(error.code, error.message, device_id, module_id or "")


def write_line(identity: Identity, twin: Twin, *, exclude_keys: bool) -> bytes:
    """The line of an identity, its line end included; excluded keys are null."""
    line: JsonObject = {"id": identity.device_id}
    if identity.module_id:
        line["moduleId"] = identity.module_id
    line |= {
        "eTag": identity.etag,
        "status": identity.status,
        "statusReason": identity.status_reason,
        "authentication": _authentication(identity, exclude_keys=exclude_keys),
    }
    if _has_data(twin):
        line |= {"twinETag": twin.etag, "tags": twin.tags, "properties": wire_properties(twin)}
    line |= {
        "capabilities": identity.capabilities,
        "deviceScope": identity.device_scope or None,
        "parentScopes": identity.parent_scopes,
    }
    if identity.managed_by is not None:
        line["managedBy"] = identity.managed_by
    return _encode(line) + b"\n"


def write_error(error: LineError) -> bytes:
    """The line of `importErrors.log`, its line end included; the code is a number there."""
    line: JsonObject = {"errorCode": error.code.number, "errorStatus": error.reason}
    if error.device_id:
        line["deviceId"] = error.device_id
    if error.module_id:
        line["moduleId"] = error.module_id
    return _encode(line) + b"\n"


def _line(device_id: str, module_id: str, members: JsonObject) -> Line:
    return Line(
        device_id,
        module_id,
        _mode(members.get("importMode")),
        _text(members, "eTag"),
        _text(members, "twinETag"),
        parse_given_twin(members.get("tags"), members.get("properties")),
        members,
    )


def _mode(value: object) -> ImportMode:
    if value is None:
        return ImportMode.CREATE_OR_UPDATE
    mode = _MODES.get(value.lower()) if isinstance(value, str) else None
    if mode is None:
        raise HubError(Code.ARGUMENT_INVALID, f"importMode must be one of {', '.join(ImportMode)}")
    return mode


def _text(members: JsonObject, name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise HubError(Code.ARGUMENT_INVALID, f"{name} must be a string")
    return value or None


def _malformed(text: bytes, reason: str) -> LineError:
    shown = text.decode(errors="replace")[:LINE_IN_ERROR_MAX]
    return LineError(Code.DESERIALIZATION_ERROR, f"Invalid device format in line: {shown}. {reason}")


def _authentication(identity: Identity, *, exclude_keys: bool) -> Authentication:
    kept = identity.authentication
    if exclude_keys and kept.type is AuthenticationType.SAS:
        return msgspec.structs.replace(kept, symmetric_key=SymmetricKey())
    return kept


def _has_data(twin: Twin) -> bool:
    """False for a twin as it was born, which a line leaves out."""
    return bool(twin.tags) or twin.version > 1 or twin.desired_version > 1 or twin.reported_version > 1
