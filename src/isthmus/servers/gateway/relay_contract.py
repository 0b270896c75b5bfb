"""Uploads through the hub's own address, as clients of blob storage write them: requests and answers; pure.

Of the Blob service there is what an upload needs: Put Blob for block blobs, Put Block, Put Block List, and Get Blob
Properties (Blob service REST API). Everything else is answered as not implemented, in storage's form of an error. A
header that would change what a request means, and that is not known here, is refused rather than lost.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum, auto
from urllib.parse import unquote
from xml.sax.saxutils import escape

from isthmus.base.clock import iso_utc
from isthmus.base.xml import parse_xml
from isthmus.commands.upload_storage import BlobDescription, BlobFacts, BlobStamp, StorageFault, StorageRefused
from isthmus.resources.file_upload import RELAY_CONTAINER

BODY_BYTES_MAX = 268_435_456
"""One request: as much as clients of storage send in one piece at most, 256 MiB."""

BLOCK_LIST_BYTES_MAX = 8 * 1024 * 1024
"""A block list: 50,000 blocks with ids of the longest kind, tags included."""

BLOCKS_MAX = 50_000
"""Blocks of a blob ("Scalability and performance targets for Blob storage")."""

METADATA_BYTES_MAX = 8 * 1024
"""Names and values of a blob's metadata together ("Set Blob Metadata")."""

XML_TYPE = "application/xml"
METADATA_PREFIX = "x-ms-meta-"

CONTENT_HEADERS = ("Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control")
"""What describes a blob; as `x-ms-blob-…` it counts before the request's own."""

IGNORED = frozenset(
    {"x-ms-version", "x-ms-date", "x-ms-client-request-id", "x-ms-blob-type", "x-ms-return-client-request-id",
     "x-ms-blob-content-md5", "x-ms-useragent", "x-ms-encryption-algorithm"}
    | {f"x-ms-blob-{name.lower()}" for name in CONTENT_HEADERS}
)  # fmt: skip
"""Headers of storage that are known here, or that change nothing: an algorithm of encryption without its key."""

CONDITIONS = frozenset({"if-match", "if-modified-since", "if-unmodified-since"})


class Operation(Enum):
    """What an upload is made of."""

    PUT_BLOB = auto()
    PUT_BLOCK = auto()
    PUT_BLOCK_LIST = auto()
    GET_PROPERTIES = auto()


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """An operation on a blob; `block_id` is what the storage knows a block by."""

    operation: Operation
    description: BlobDescription
    md5: bytes = b""
    block_id: str = ""
    if_absent: bool = False


class RelayError(Exception):
    """An answer in storage's form that is no success; `message` may be read by the peer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


NOT_AUTHENTICATED = (
    403,
    "AuthenticationFailed",
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
    "including the signature.",
)
"""The one answer to whoever may not, whatever the reason."""


def takes(path: str) -> bool:
    """True for a raw path of the container that a hub has for devices."""
    return path.startswith(f"/{RELAY_CONTAINER}/")


def blob_in(path: str) -> str:
    """The blob of such a path, decoded once; empty when it is not UTF-8."""
    try:
        return unquote(path.removeprefix(f"/{RELAY_CONTAINER}/"), errors="strict")
    except UnicodeDecodeError:
        return ""


def read_request(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> RelayRequest:
    """The operation that a request asks for; names of `headers` are in lower case. Raises `RelayError`."""
    operation = _operation(method, query, headers)
    _check_headers(headers)
    return RelayRequest(
        operation,
        _description(headers),
        md5=_digest(headers, "content-md5"),
        block_id=stored_id(query.get("blockid", "")) if operation is Operation.PUT_BLOCK else "",
        if_absent=_if_absent(headers),
    )


def body_limit(operation: Operation) -> int:
    """The most that an operation's body may have."""
    return BLOCK_LIST_BYTES_MAX if operation is Operation.PUT_BLOCK_LIST else BODY_BYTES_MAX


def check_length(length: int | None, operation: Operation) -> int:
    """The length of a body, which has to be said; raises `RelayError`."""
    if length is None:
        raise RelayError(411, "MissingContentLengthHeader", "Content-Length header is required.")
    if length > body_limit(operation):
        raise too_large(operation)
    return length


def too_large(operation: Operation) -> RelayError:
    """The answer to a body that is larger than allowed."""
    message = f"The request body is too large and exceeds the maximum permissible limit of {body_limit(operation)}."
    return RelayError(413, "RequestBodyTooLarge", message)


def stored_id(block_id: str) -> str:
    """What the storage calls a block: a digest, for ids of clients are any bytes, and all of a blob are as long.

    Raises `RelayError` for what is no id.
    """
    try:
        raw = base64.b64decode(block_id, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not 0 < len(raw) <= 64:
        message = "Value for one of the query parameters specified in the request URI is invalid."
        raise RelayError(400, "InvalidQueryParameterValue", message)
    return hashlib.sha256(raw).hexdigest()


def block_list(body: bytes) -> list[str]:
    """What the storage calls the blocks of a list; raises `RelayError`."""
    try:
        root = parse_xml(body)
    except ValueError as error:
        raise _bad_list() from error
    if root.tag != "BlockList" or len(root) > BLOCKS_MAX:
        raise _bad_list()
    if any(each.tag not in ("Latest", "Uncommitted", "Committed") for each in root):
        raise _bad_list()
    return [stored_id((each.text or "").strip()) for each in root]


def written_headers(stamp: BlobStamp) -> dict[str, str]:
    """Headers of an answer that wrote a blob."""
    return {"ETag": stamp.etag, "Last-Modified": http_date(stamp.modified_ms), "x-ms-request-server-encrypted": "true"}


def property_headers(facts: BlobFacts) -> dict[str, str]:
    """Headers that tell what a blob is like."""
    return {**written_headers(facts.stamp), "Content-Length": str(facts.size), "x-ms-blob-type": "BlockBlob"}


def http_date(utc_ms: int) -> str:
    """RFC 9110 §5.6.7."""
    return formatdate(utc_ms / 1000, usegmt=True)


def error_body(error: RelayError, tracking_id: str, utc_ms: int) -> bytes:
    """An error in storage's form ("Status and error codes")."""
    message = f"{error.message}\nRequestId:{tracking_id}\nTime:{iso_utc(utc_ms)}"
    text = f"<Error><Code>{escape(error.code)}</Code><Message>{escape(message)}</Message></Error>"
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>{text}'.encode()


def of_storage(refused: StorageRefused) -> RelayError:
    """What a client is told of the storage's refusal: what it did itself, and nothing of the hub's own affairs."""
    if refused.fault is StorageFault.REQUEST and refused.status:
        return RelayError(refused.status, refused.code, refused.reason)
    return busy()


def busy() -> RelayError:
    """The answer after which clients come again."""
    return RelayError(503, "ServerBusy", "The server is currently unable to receive requests. Please retry.")


def not_implemented() -> RelayError:
    """The answer to what is no part of an upload."""
    return RelayError(501, "NotImplemented", "The requested operation is not implemented on the specified resource.")


def _operation(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    part = query.get("comp", "")
    if method == "HEAD" and not part:
        return Operation.GET_PROPERTIES
    if method == "PUT" and part == "block":
        return Operation.PUT_BLOCK
    if method == "PUT" and part == "blocklist":
        return Operation.PUT_BLOCK_LIST
    if method == "PUT" and not part and headers.get("x-ms-blob-type", "").lower() == "blockblob":
        return Operation.PUT_BLOB
    raise not_implemented()


def _check_headers(headers: Mapping[str, str]) -> None:
    unknown = [
        name
        for name in headers
        if (name.startswith("x-ms-") and name not in IGNORED and not name.startswith(METADATA_PREFIX))
        or name in CONDITIONS
    ]
    if unknown or headers.get("if-none-match", "*") != "*":
        message = f"The header {unknown[0] if unknown else 'If-None-Match'} is not supported here."
        raise RelayError(400, "UnsupportedHeader", message)


def _if_absent(headers: Mapping[str, str]) -> bool:
    return headers.get("if-none-match") == "*"


def _description(headers: Mapping[str, str]) -> BlobDescription:
    said = {name: _said(headers, name) for name in CONTENT_HEADERS}
    metadata = _metadata(headers.items())
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > METADATA_BYTES_MAX:
        raise RelayError(400, "MetadataTooLarge", "The size of the specified metadata exceeds the maximum size.")
    return BlobDescription(
        {name: value for name, value in said.items() if value},
        _digest(headers, "x-ms-blob-content-md5"),
        metadata,
    )


def _said(headers: Mapping[str, str], name: str) -> str:
    return headers.get(f"x-ms-blob-{name.lower()}", "") or headers.get(name.lower(), "")


def _metadata(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name[len(METADATA_PREFIX) :]: value for name, value in headers if name.startswith(METADATA_PREFIX)}


def _digest(headers: Mapping[str, str], name: str) -> bytes:
    text = headers.get(name, "")
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b"?"
    if digest and len(digest) != hashlib.md5(usedforsecurity=False).digest_size:
        raise RelayError(400, "InvalidMd5", "The MD5 value specified in the request is invalid.")
    return digest


def _bad_list() -> RelayError:
    return RelayError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.")
