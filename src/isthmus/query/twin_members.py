"""What can be asked about twins: their members as services read them, and where these stand in the joined view.

A condition sees what `SELECT *` shows. Where the stored form differs from that (the versions and metadata of properties
stand apart, scopes that nobody gave are stored empty), the difference is said here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from isthmus.base.etags import twin_etag
from isthmus.base.filters import UNDEFINED, Applied, Constant, Field, Filter, Given, Path
from isthmus.query.where import Member, Vocabulary

NAMES: Mapping[str, str] = MappingProxyType(
    {
        name.lower(): name
        for name in (
            "deviceId", "moduleId", "etag", "deviceEtag", "status", "statusReason", "statusUpdateTime",
            "connectionState", "lastActivityTime", "cloudToDeviceMessageCount", "authenticationType", "x509Thumbprint",
            "modelId", "version", "tags", "properties", "capabilities", "deviceScope", "parentScopes", "configurations",
        )
    }
    | {"id": "deviceId"}
)  # fmt: skip
"""Members of a twin as rows spell them, whatever the case in the query."""

SECTIONS = ("desired", "reported")


def twin_path(segments: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path as twins spell it: the names of the hub's own members are taken in any case."""
    root, *below = segments
    name = NAMES.get(str(root).lower(), root)
    if name == "properties" and below and str(below[0]).lower() in SECTIONS:
        below[0] = str(below[0]).lower()
    return (name, *below)


def _stands_at(*stored: str) -> Member:
    return lambda below: Field((*stored, *below))


def _properties(below: Path) -> Filter:
    """Each section has its version and metadata, which are stored beside it."""
    match twin_path(("properties", *below))[1:]:
        case ("desired" | "reported" as section, "$version"):
            return Field((f"{section}Version",))
        case ("desired" | "reported", "$version", *_):
            return Constant(UNDEFINED)
        case ("desired" | "reported" as section, "$metadata", *rest):
            return Field(("metadata", section, *rest))
        case path:
            return Field(("properties", *path))


def _etag(below: Path) -> Filter:
    return _nothing(below) if below else Applied("twin etag", _as_etag, (Field(("etagNumber",)),))


def _as_etag(number: object) -> object:
    return twin_etag(number) if isinstance(number, int) and number >= 0 else UNDEFINED


def _given(stored: str) -> Member:
    return lambda below: Given(Field((stored, *below)))


def _parent_scopes(below: Path) -> Filter:
    """Shown where there are any, and of an edge device always."""
    scopes = Field(("parentScopes",))
    is_edge = Field(("capabilities", "iotEdge"))
    return Applied("parent scopes", _shown_scopes, (scopes, is_edge, Field(("parentScopes", *below))))


def _shown_scopes(scopes: object, is_edge: object, value: object) -> object:
    return value if scopes or is_edge is True else UNDEFINED


def _nothing(below: Path) -> Filter:
    return Constant(UNDEFINED)


_OF_BOTH: Mapping[str, Member | None] = MappingProxyType(
    {
        "deviceid": _stands_at("deviceId"),
        "id": _stands_at("deviceId"),
        "moduleid": _nothing,
        "etag": _etag,
        "deviceetag": _stands_at("etag"),
        "status": _stands_at("status"),
        "statusreason": _given("statusReason"),
        "statusupdatetime": _stands_at("statusUpdatedTime"),
        "connectionstate": _stands_at("connectionState"),
        "lastactivitytime": _stands_at("lastActivityTime"),
        "cloudtodevicemessagecount": None,
        "authenticationtype": _stands_at("authentication", "type"),
        "x509thumbprint": _stands_at("authentication", "x509Thumbprint"),
        "modelid": _stands_at("modelId"),
        "version": _stands_at("version"),
        "tags": _stands_at("tags"),
        "properties": _properties,
        "configurations": _stands_at("configurations"),
        "capabilities": _stands_at("capabilities"),
        "devicescope": _given("deviceScope"),
        "parentscopes": _parent_scopes,
    }
)

DEVICES = Vocabulary("devices", _OF_BOTH)
MODULES = Vocabulary("modules", MappingProxyType({**_OF_BOTH, "moduleid": _stands_at("moduleId")}))
