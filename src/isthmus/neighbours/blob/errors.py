"""Refusals in the Blob service's words ("Blob service error codes"): a name, an HTTP status and a sentence.

A neighbour keeps the texts of the real service, which say more than a hub's do. Why somebody was refused at the door
stands besides in `refusal`, for the owner only.
"""

from collections.abc import Mapping
from enum import Enum

from isthmus.base.errors import Code, HubError, Refusal


class StorageCode(Enum):
    """Name on the wire (`x-ms-error-code` and `<Code>`), HTTP status, and the sentence of `<Message>`."""

    APPEND_POSITION = (
        "AppendPositionConditionNotMet",
        412,
        "The append position condition specified was not met.",
    )
    AUTHENTICATION_FAILED = (
        "AuthenticationFailed",
        403,
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
        "including the signature.",
    )
    AUTHORIZATION_FAILURE = (
        "AuthorizationFailure",
        403,
        "This request is not authorized to perform this operation.",
    )
    PERMISSION_MISMATCH = (
        "AuthorizationPermissionMismatch",
        403,
        "This request is not authorized to perform this operation using this permission.",
    )
    PROTOCOL_MISMATCH = (
        "AuthorizationProtocolMismatch",
        403,
        "This request is not authorized to perform this operation using this protocol.",
    )
    RESOURCE_TYPE_MISMATCH = (
        "AuthorizationResourceTypeMismatch",
        403,
        "This request is not authorized to perform this operation using this resource type.",
    )
    SERVICE_MISMATCH = (
        "AuthorizationServiceMismatch",
        403,
        "This request is not authorized to perform this operation using this service.",
    )
    SOURCE_IP_MISMATCH = (
        "AuthorizationSourceIPMismatch",
        403,
        "This request is not authorized to perform this operation using this source IP.",
    )
    BLOB_ALREADY_EXISTS = ("BlobAlreadyExists", 409, "The specified blob already exists.")
    BLOB_NOT_FOUND = ("BlobNotFound", 404, "The specified blob does not exist.")
    BLOCK_COUNT = (
        "BlockCountExceedsLimit",
        409,
        "The committed block count cannot exceed the maximum limit of 50,000 blocks.",
    )
    BLOCK_LIST_TOO_LONG = ("BlockListTooLong", 400, "The block list may not contain more than 50,000 blocks.")
    CANNOT_VERIFY_COPY_SOURCE = ("CannotVerifyCopySource", 404, "The specified blob does not exist.")
    CONDITION_NOT_MET = (
        "ConditionNotMet",
        412,
        "The condition specified using HTTP conditional header(s) is not met.",
    )
    CONTAINER_ALREADY_EXISTS = ("ContainerAlreadyExists", 409, "The specified container already exists.")
    CONTAINER_NOT_FOUND = ("ContainerNotFound", 404, "The specified container does not exist.")
    INTERNAL_ERROR = ("InternalError", 500, "The server encountered an internal error. Please retry the request.")
    INVALID_AUTHENTICATION_INFO = (
        "InvalidAuthenticationInfo",
        401,
        "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
    )
    INVALID_BLOB_TYPE = ("InvalidBlobType", 409, "The blob type is invalid for this operation.")
    INVALID_BLOCK_ID = (
        "InvalidBlockId",
        400,
        "The specified block ID is invalid. The block ID must be Base64-encoded.",
    )
    INVALID_BLOB_OR_BLOCK = ("InvalidBlobOrBlock", 400, "The specified blob or block content is invalid.")
    INVALID_BLOCK_LIST = ("InvalidBlockList", 400, "The specified block list is invalid.")
    INVALID_HEADER = ("InvalidHeaderValue", 400, "The value for one of the HTTP headers is not in the correct format.")
    INVALID_INPUT = ("InvalidInput", 400, "One of the request inputs is not valid.")
    OUT_OF_RANGE = ("OutOfRangeInput", 400, "One of the request inputs is out of range.")
    INVALID_MD5 = ("InvalidMd5", 400, "The MD5 value specified in the request is invalid.")
    INVALID_METADATA = ("InvalidMetadata", 400, "The metadata specified is invalid. It has characters not permitted.")
    INVALID_QUERY = (
        "InvalidQueryParameterValue",
        400,
        "Value for one of the query parameters specified in the request URI is invalid.",
    )
    INVALID_RANGE = ("InvalidRange", 416, "The range specified is invalid for the current size of the resource.")
    INVALID_RESOURCE_NAME = (
        "InvalidResourceName",
        400,
        "The specified resource name contains invalid characters.",
    )
    INVALID_URI = ("InvalidUri", 400, "The requested URI does not represent any resource on the server.")
    INVALID_XML = ("InvalidXmlDocument", 400, "XML specified is not syntactically valid.")
    KEYS_NOT_PERMITTED = (
        "KeyBasedAuthenticationNotPermitted",
        403,
        "Key based authentication is not permitted on this storage account.",
    )
    LEASE_NOT_PRESENT_BLOB = (
        "LeaseNotPresentWithBlobOperation",
        412,
        "There is currently no lease on the blob.",
    )
    LEASE_NOT_PRESENT_CONTAINER = (
        "LeaseNotPresentWithContainerOperation",
        412,
        "There is currently no lease on the container.",
    )
    MAX_BLOB_SIZE = ("MaxBlobSizeConditionNotMet", 412, "The max blob size condition specified was not met.")
    MD5_MISMATCH = (
        "Md5Mismatch",
        400,
        "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
    )
    METADATA_TOO_LARGE = (
        "MetadataTooLarge",
        400,
        "The metadata specified exceeds the maximum permissible limit.",
    )
    MISSING_CONTENT_LENGTH = ("MissingContentLengthHeader", 411, "Content-Length HTTP header is missing.")
    MISSING_HEADER = (
        "MissingRequiredHeader",
        400,
        "An HTTP header that's mandatory for this request is not specified.",
    )
    NO_AUTHENTICATION = (
        "NoAuthenticationInformation",
        401,
        "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
    )
    NOT_IMPLEMENTED = ("NotImplemented", 501, "The requested operation is not implemented on the specified resource.")
    OPERATION_TIMED_OUT = (
        "OperationTimedOut",
        408,
        "The body of the request did not arrive within the permitted time.",
    )
    PUBLIC_ACCESS = (
        "PublicAccessNotPermitted",
        409,
        "Public access is not permitted on this storage account.",
    )
    REQUEST_BODY_TOO_LARGE = (
        "RequestBodyTooLarge",
        413,
        "The request body is too large and exceeds the maximum permissible limit.",
    )
    SERVER_BUSY = ("ServerBusy", 503, "The server is currently unable to receive requests. Please retry your request.")
    UNAUTHORIZED_OVERWRITE = (
        "UnauthorizedBlobOverwrite",
        403,
        "This request is not authorized to perform blob overwrites.",
    )
    UNSUPPORTED_VERB = (
        "UnsupportedHttpVerb",
        405,
        "The resource doesn't support specified Http Verb.",
    )
    UNCOMMITTED_BLOCKS = (
        "BlockCountExceedsLimit",
        409,
        "The uncommitted block count cannot exceed the maximum limit of 100,000 blocks.",
    )

    def __init__(self, wire_name: str, status: int, message: str) -> None:
        self.wire_name = wire_name
        self.status = status
        self.message = message


class StorageError(HubError):
    """The Blob service says no; `details` are further elements of the answer's XML, `refusal` is for the owner only."""

    def __init__(
        self,
        storage_code: StorageCode,
        *,
        details: Mapping[str, str] | None = None,
        refusal: Refusal | None = None,
        message: str = "",
    ) -> None:
        super().__init__(_code_like(storage_code.status), message or storage_code.message, refusal)
        self.storage_code = storage_code
        self.details = dict(details or {})


def header_error(header: str, value: str) -> StorageError:
    """The refusal of a header's value."""
    return StorageError(StorageCode.INVALID_HEADER, details={"HeaderName": header, "HeaderValue": value[:256]})


def query_error(name: str, value: str, reason: str) -> StorageError:
    """The refusal of a query parameter's value."""
    details = {"QueryParameterName": name, "QueryParameterValue": value[:256], "Reason": reason}
    return StorageError(StorageCode.INVALID_QUERY, details=details)


def missing_header(header: str) -> StorageError:
    """The refusal of a request without a header that it needs."""
    return StorageError(StorageCode.MISSING_HEADER, details={"HeaderName": header})


def _code_like(status: int) -> Code:
    """The code of the catalogue for whoever knows only that one, such as the journal."""
    return _CODES.get(status, Code.GENERIC_BAD_REQUEST)


_CODES: Mapping[int, Code] = {
    401: Code.UNAUTHORIZED_ACCESS,
    403: Code.AUTHORIZATION_FAILED,
    404: Code.RESOURCE_NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    409: Code.CONFLICT,
    412: Code.PRECONDITION_FAILED,
    413: Code.ENTITY_TOO_LARGE,
    500: Code.SERVER_ERROR,
    501: Code.NOT_IMPLEMENTED,
    503: Code.SERVER_BUSY,
}
