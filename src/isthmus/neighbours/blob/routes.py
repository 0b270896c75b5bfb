"""Which operation a request is, and what it takes to be allowed it.

Pure. An operation is named by the verb, `restype` and `comp`, and for PUT of a blob by two headers. What is not in the
table, and headers that ask for what is not offered, are answered 501: nothing is taken for done that is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from isthmus.neighbours.blob.errors import StorageCode, StorageError, header_error, missing_header
from isthmus.neighbours.blob.names import Target

CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
BLOBS = f"{CONTAINERS}/blobs"
DELEGATE = "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"


class Operation(Enum):
    """What the service does."""

    LIST_CONTAINERS = auto()
    GET_SERVICE_PROPERTIES = auto()
    GET_ACCOUNT_INFORMATION = auto()
    GET_USER_DELEGATION_KEY = auto()
    CREATE_CONTAINER = auto()
    DELETE_CONTAINER = auto()
    GET_CONTAINER = auto()
    SET_CONTAINER_METADATA = auto()
    GET_CONTAINER_ACL = auto()
    SET_CONTAINER_ACL = auto()
    LIST_BLOBS = auto()
    PUT_BLOCK_BLOB = auto()
    PUT_APPEND_BLOB = auto()
    COPY_BLOB = auto()
    PUT_BLOCK = auto()
    PUT_BLOCK_LIST = auto()
    GET_BLOCK_LIST = auto()
    APPEND_BLOCK = auto()
    GET_BLOB = auto()
    GET_BLOB_PROPERTIES = auto()
    GET_BLOB_METADATA = auto()
    SET_BLOB_METADATA = auto()
    SET_BLOB_PROPERTIES = auto()
    DELETE_BLOB = auto()


class Scope(Enum):
    """What an operation is of, by the letter that an account SAS has for it."""

    SERVICE = "s"
    CONTAINER = "c"
    OBJECT = "o"


@dataclass(frozen=True, slots=True)
class Need:
    """What an operation asks of whoever wants it done.

    `letters` are permissions of a SAS, one of which is enough; none when no SAS will do. `actions` are of roles, one of
    which is enough; none when no role will do. `by_service_sas` when a service or user delegation SAS may do.
    """

    scope: Scope
    letters: str
    actions: tuple[str, ...]
    by_service_sas: bool = True


NEEDS: Mapping[Operation, Need] = {
    Operation.LIST_CONTAINERS: Need(Scope.SERVICE, "l", (f"{CONTAINERS}/read",), by_service_sas=False),
    Operation.GET_SERVICE_PROPERTIES: Need(
        Scope.SERVICE, "r", ("Microsoft.Storage/storageAccounts/blobServices/read",), by_service_sas=False
    ),
    Operation.GET_ACCOUNT_INFORMATION: Need(Scope.SERVICE, "rwdlacup", (f"{CONTAINERS}/read", f"{BLOBS}/read")),
    Operation.GET_USER_DELEGATION_KEY: Need(Scope.SERVICE, "", (DELEGATE,), by_service_sas=False),
    Operation.CREATE_CONTAINER: Need(Scope.CONTAINER, "cw", (f"{CONTAINERS}/write",), by_service_sas=False),
    Operation.DELETE_CONTAINER: Need(Scope.CONTAINER, "d", (f"{CONTAINERS}/delete",), by_service_sas=False),
    Operation.GET_CONTAINER: Need(Scope.CONTAINER, "r", (f"{CONTAINERS}/read",), by_service_sas=False),
    Operation.SET_CONTAINER_METADATA: Need(Scope.CONTAINER, "w", (f"{CONTAINERS}/write",), by_service_sas=False),
    Operation.GET_CONTAINER_ACL: Need(Scope.CONTAINER, "", (f"{CONTAINERS}/getAcl/action",), by_service_sas=False),
    Operation.SET_CONTAINER_ACL: Need(Scope.CONTAINER, "", (f"{CONTAINERS}/setAcl/action",), by_service_sas=False),
    Operation.LIST_BLOBS: Need(Scope.CONTAINER, "l", (f"{BLOBS}/read",)),
    Operation.PUT_BLOCK_BLOB: Need(Scope.OBJECT, "cw", (f"{BLOBS}/write", f"{BLOBS}/add/action")),
    Operation.PUT_APPEND_BLOB: Need(Scope.OBJECT, "cw", (f"{BLOBS}/write", f"{BLOBS}/add/action")),
    Operation.COPY_BLOB: Need(Scope.OBJECT, "cw", (f"{BLOBS}/write", f"{BLOBS}/add/action")),
    Operation.PUT_BLOCK: Need(Scope.OBJECT, "cw", (f"{BLOBS}/write",)),
    Operation.PUT_BLOCK_LIST: Need(Scope.OBJECT, "cw", (f"{BLOBS}/write",)),
    Operation.GET_BLOCK_LIST: Need(Scope.OBJECT, "r", (f"{BLOBS}/read",)),
    Operation.APPEND_BLOCK: Need(Scope.OBJECT, "aw", (f"{BLOBS}/write", f"{BLOBS}/add/action")),
    Operation.GET_BLOB: Need(Scope.OBJECT, "r", (f"{BLOBS}/read",)),
    Operation.GET_BLOB_PROPERTIES: Need(Scope.OBJECT, "r", (f"{BLOBS}/read",)),
    Operation.GET_BLOB_METADATA: Need(Scope.OBJECT, "r", (f"{BLOBS}/read",)),
    Operation.SET_BLOB_METADATA: Need(Scope.OBJECT, "w", (f"{BLOBS}/write",)),
    Operation.SET_BLOB_PROPERTIES: Need(Scope.OBJECT, "w", (f"{BLOBS}/write",)),
    Operation.DELETE_BLOB: Need(Scope.OBJECT, "d", (f"{BLOBS}/delete",)),
}

CREATE_ONLY = frozenset({Operation.PUT_BLOCK_BLOB, Operation.PUT_APPEND_BLOB, Operation.COPY_BLOB,
                         Operation.PUT_BLOCK_LIST})  # fmt: skip
"""Operations that a right to create allows while there is no such blob yet, and a right to write always."""


def find_operation(verb: str, target: Target, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    """The operation; names of `headers` and `query` are in small letters. Raises StorageError."""
    comp, restype = query.get("comp", "").lower(), query.get("restype", "").lower()
    if restype == "account":
        return _known(_ACCOUNT_INFORMATION, verb, comp)
    if not target.container:
        return _known(_SERVICE if restype in ("", "service") else {}, verb, f"{restype}/{comp}")
    if not target.blob:
        return _known(_CONTAINER if restype == "container" else {}, verb, comp)
    _check_offered(query, headers)
    if verb == "PUT" and not comp:
        return _put(headers)
    if comp in ("block", "appendblock") and "x-ms-copy-source" in headers:
        raise StorageError(StorageCode.NOT_IMPLEMENTED)
    return _known(_BLOB, verb, comp)


def _known(table: Mapping[tuple[str, str], Operation], verb: str, what: str) -> Operation:
    found = table.get((verb, what))
    if found is not None:
        return found
    if verb not in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"):
        raise StorageError(StorageCode.UNSUPPORTED_VERB)
    raise StorageError(StorageCode.NOT_IMPLEMENTED)


def _put(headers: Mapping[str, str]) -> Operation:
    kind = headers.get("x-ms-blob-type", "")
    if "x-ms-copy-source" in headers:
        if kind or headers.get("x-ms-requires-sync", "").lower() == "true":
            raise StorageError(StorageCode.NOT_IMPLEMENTED)
        return Operation.COPY_BLOB
    if not kind:
        raise missing_header("x-ms-blob-type")
    if kind == "PageBlob":
        raise StorageError(StorageCode.NOT_IMPLEMENTED)
    if kind not in _KINDS:
        raise header_error("x-ms-blob-type", kind)
    return _KINDS[kind]


def _check_offered(query: Mapping[str, str], headers: Mapping[str, str]) -> None:
    """Raises StorageError for what a request asks besides and that nobody does."""
    if any(query.get(name) for name in _PARAMETERS_REFUSED):
        raise StorageError(StorageCode.NOT_IMPLEMENTED)
    asked = next((name for name in _HEADERS_REFUSED if headers.get(name)), "")
    if asked or headers.get("x-ms-access-tier", "Hot") not in ("", "Hot"):
        raise StorageError(StorageCode.NOT_IMPLEMENTED, details={"HeaderName": asked or "x-ms-access-tier"})


_KINDS = {"BlockBlob": Operation.PUT_BLOCK_BLOB, "AppendBlob": Operation.PUT_APPEND_BLOB}

_PARAMETERS_REFUSED = ("snapshot", "versionid", "deletetype")

_HEADERS_REFUSED = (
    "x-ms-encryption-key", "x-ms-encryption-key-sha256", "x-ms-encryption-algorithm", "x-ms-encryption-scope",
    "x-ms-if-tags", "x-ms-tags", "x-ms-structured-body", "x-ms-content-crc64", "x-ms-range-get-content-crc64",
    "x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode", "x-ms-legal-hold", "x-ms-seal-blob",
    "x-ms-expiry-option", "x-ms-source-if-tags",
)  # fmt: skip

_ACCOUNT_INFORMATION = {
    ("GET", "properties"): Operation.GET_ACCOUNT_INFORMATION,
    ("HEAD", "properties"): Operation.GET_ACCOUNT_INFORMATION,
}

_SERVICE = {
    ("GET", "/list"): Operation.LIST_CONTAINERS,
    ("GET", "service/properties"): Operation.GET_SERVICE_PROPERTIES,
    ("POST", "service/userdelegationkey"): Operation.GET_USER_DELEGATION_KEY,
}

_CONTAINER = {
    ("PUT", ""): Operation.CREATE_CONTAINER,
    ("DELETE", ""): Operation.DELETE_CONTAINER,
    ("GET", ""): Operation.GET_CONTAINER,
    ("HEAD", ""): Operation.GET_CONTAINER,
    ("GET", "metadata"): Operation.GET_CONTAINER,
    ("HEAD", "metadata"): Operation.GET_CONTAINER,
    ("PUT", "metadata"): Operation.SET_CONTAINER_METADATA,
    ("GET", "acl"): Operation.GET_CONTAINER_ACL,
    ("HEAD", "acl"): Operation.GET_CONTAINER_ACL,
    ("PUT", "acl"): Operation.SET_CONTAINER_ACL,
    ("GET", "list"): Operation.LIST_BLOBS,
}

_BLOB = {
    ("GET", ""): Operation.GET_BLOB,
    ("HEAD", ""): Operation.GET_BLOB_PROPERTIES,
    ("DELETE", ""): Operation.DELETE_BLOB,
    ("GET", "metadata"): Operation.GET_BLOB_METADATA,
    ("HEAD", "metadata"): Operation.GET_BLOB_METADATA,
    ("PUT", "metadata"): Operation.SET_BLOB_METADATA,
    ("PUT", "properties"): Operation.SET_BLOB_PROPERTIES,
    ("PUT", "block"): Operation.PUT_BLOCK,
    ("PUT", "blocklist"): Operation.PUT_BLOCK_LIST,
    ("GET", "blocklist"): Operation.GET_BLOCK_LIST,
    ("PUT", "appendblock"): Operation.APPEND_BLOCK,
}
