"""The error catalogue: one code per refusal, one message for the peer, one explanation for the owner.

A `HubError` is raised where a rule says no. Its `code` and `message` go to the peer in the peer's protocol's words; its
`refusal`, when there is one, goes to the journal only, where `explain` finds it. Each wire maps codes in one table of
its own. Names and numbers are those of the IoT Hub error code reference; codes of Azure Resource Manager, which has
names only, carry their status and three zeros.
"""

from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import Final

import msgspec

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not JSON of the wanted form: text and depth have errors of their own."""


class Code(Enum):
    """Name on the wire, number on the wire; the HTTP status is the number's first three digits."""

    GENERIC_BAD_REQUEST = ("GenericBadRequest", 400000)
    INVALID_PROTOCOL_VERSION = ("InvalidProtocolVersion", 400001)
    INVALID_OPERATION = ("InvalidOperation", 400003)
    ARGUMENT_INVALID = ("ArgumentInvalid", 400004)
    ARGUMENT_NULL = ("ArgumentNull", 400005)
    FORMAT_ERROR = ("IotHubFormatError", 400006)
    BLOB_CONTAINER_VALIDATION = ("BlobContainerValidationError", 400008)
    DEFINED_MULTIPLE_TIMES = ("DeviceDefinedMultipleTimes", 400011)
    DESERIALIZATION_ERROR = ("DeserializationError", 400012)
    NO_STORAGE_ENDPOINT = ("DefaultStorageEndpointNotConfigured", 400014)
    INVALID_CORRELATION_ID = ("InvalidFileUploadCorrelationId", 400015)
    EXPIRED_CORRELATION_ID = ("ExpiredFileUploadCorrelationId", 400016)
    INVALID_STORAGE_ENDPOINT = ("InvalidStorageEndpoint", 400017)
    INVALID_COMPLETION_STATUS = ("InvalidFileUploadCompletionStatus", 400019)
    INVALID_STORAGE_OR_BLOB = ("InvalidStorageEndpointOrBlob", 400020)
    MANAGED_IDENTITY_NOT_ENABLED = ("ManagedIdentityNotEnabled", 400032)
    INVALID_POLICY_KEY = ("InvalidPolicyKey", 400035)
    INVALID_TARGET_CONDITION = ("InvalidConfigurationTargetCondition", 400401)
    INVALID_CONFIGURATION_CONTENT = ("InvalidConfigurationContent", 400402)
    IMMUTABLE_CONTENT = ("CannotModifyImmutableConfigurationContent", 400403)
    INVALID_METRICS_QUERY = ("InvalidConfigurationCustomMetricsQuery", 400404)
    INVALID_JSON_PATCH = ("InvalidDigitalTwinJsonPatch", 400505)
    INVALID_TWIN_PAYLOAD = ("InvalidDigitalTwinPayload", 400506)
    INVALID_TWIN_PATCH = ("InvalidDigitalTwinPatch", 400507)
    INVALID_PATCH_PATH = ("InvalidDigitalTwinPatchPath", 400508)
    HUB_NOT_FOUND = ("IotHubNotFound", 401001)
    UNAUTHORIZED_ACCESS = ("IotHubUnauthorizedAccess", 401002)
    UNAUTHORIZED = ("IotHubUnauthorized", 401003)
    SYSTEM_MODULE = ("SystemModuleModifyUnauthorizedAccess", 401100)
    QUOTA_EXCEEDED = ("IotHubQuotaExceeded", 403002)
    JOB_QUOTA_EXCEEDED = ("JobQuotaExceeded", 403003)
    QUEUE_DEPTH_EXCEEDED = ("DeviceMaximumQueueDepthExceeded", 403004)
    UPLOADS_EXCEEDED = ("DeviceMaximumActiveFileUploadLimitExceeded", 403006)
    INVALID_EXPIRY = ("InvalidMessageExpiryTime", 403009)
    DEVICE_DISABLED = ("DeviceDisabled", 403012)
    IN_FLIGHT_METHODS_EXCEEDED = ("DeviceMaximumInflightMethodExceeded", 403800)
    NOT_FOUND = ("GenericNotFound", 404000)
    DEVICE_NOT_FOUND = ("DeviceNotFound", 404001)
    JOB_NOT_FOUND = ("JobNotFound", 404002)
    AMQP_ADDRESS_NOT_FOUND = ("AmqpAddressNotFound", 404006)
    CERTIFICATE_NOT_FOUND = ("CertificateNotFound", 404008)
    MODULE_NOT_FOUND = ("ModuleNotFound", 404010)
    DEVICE_NOT_ONLINE = ("DeviceNotOnline", 404103)
    DEVICE_CONNECTION_CLOSED = ("DeviceConnectionClosedRemotely", 404104)
    CONFIGURATION_NOT_FOUND = ("ConfigurationNotFound", 404301)
    METHOD_NOT_ALLOWED = ("GenericMethodNotAllowed", 405000)
    INVALID_TRANSITION = ("OperationNotAllowedInCurrentState", 405102)
    CONFLICT = ("GenericConflict", 409000)
    DEVICE_ALREADY_EXISTS = ("DeviceAlreadyExists", 409001)
    LINK_CREATION_CONFLICT = ("LinkCreationConflict", 409002)
    JOB_ALREADY_EXISTS = ("JobAlreadyExists", 409104)
    MODULE_ALREADY_EXISTS = ("ModuleAlreadyExistsOnDevice", 409301)
    CONFIGURATION_ALREADY_EXISTS = ("ConfigurationAlreadyExists", 409401)
    APPLYING_IN_PROGRESS = ("ApplyConfigurationAlreadyInProgressOnDevice", 409402)
    PRECONDITION_FAILED = ("PreconditionFailed", 412001)
    MESSAGE_LOCK_LOST = ("DeviceMessageLockLost", 412002)
    ENTITY_TOO_LARGE = ("GenericRequestEntityTooLarge", 413000)
    MESSAGE_TOO_LARGE = ("MessageTooLarge", 413001)
    TOO_MANY_DEVICES = ("TooManyDevices", 413002)
    TOO_MANY_MODULES = ("TooManyModulesOnDevice", 413003)
    TOO_MANY_CONFIGURATIONS = ("ConfigurationCountLimitExceeded", 413101)
    UNSUPPORTED_MEDIA_TYPE = ("GenericUnsupportedMediaType", 415000)
    THROTTLED = ("ThrottlingException", 429001)
    THROTTLE_BACKLOG = ("ThrottleBacklogLimitExceeded", 429002)
    ACTIVE_JOBS_EXCEEDED = ("ThrottlingMaxActiveJobCountExceeded", 429004)
    DEVICE_THROTTLED = ("DeviceThrottlingLimitExceeded", 429005)
    SERVER_ERROR = ("ServerError", 500001)
    NOT_IMPLEMENTED = ("NotImplemented", 501000)
    BAD_DEVICE_RESPONSE = ("InvalidResponseWhileProxying", 502101)
    SERVICE_UNAVAILABLE = ("ServiceUnavailable", 503001)
    SERVER_BUSY = ("ServerBusy", 503005)
    GATEWAY_TIMEOUT = ("GatewayTimeout", 504101)
    MISSING_API_VERSION = ("MissingApiVersionParameter", 400000)
    INVALID_API_VERSION = ("InvalidApiVersionParameter", 400000)
    INVALID_TOKEN = ("InvalidAuthenticationToken", 401000)
    AUTHORIZATION_FAILED = ("AuthorizationFailed", 403000)
    LINKED_AUTHORIZATION_FAILED = ("LinkedAuthorizationFailed", 403000)
    RESOURCE_NOT_FOUND = ("ResourceNotFound", 404000)
    PRINCIPAL_NOT_FOUND = ("PrincipalNotFound", 400000)
    ROLE_DEFINITION_NOT_FOUND = ("RoleDefinitionDoesNotExist", 404000)
    ROLE_ASSIGNMENT_EXISTS = ("RoleAssignmentExists", 409000)

    def __init__(self, wire_name: str, number: int) -> None:
        self.wire_name = wire_name
        self.number = number

    @property
    def http_status(self) -> int:
        """The HTTP status that carries this code."""
        return self.number // 1000


class Hop(Enum):
    """The station on the way in that said no, in the order a socket meets them (ARCHITECTURE.md, "The front door").

    The last one is on the way out: what the hub asked another service for.
    """

    SOCKET = "socket"
    TLS = "tls"
    NAME = "name"
    NETWORK = "network"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    CONTRACT = "contract"
    LIMIT = "limit"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was refused, for the owner only: never sent to the peer.

    `rule` is a stable dotted name (`network.public-access`, `auth.signature`, `auth.expired`, `auth.unknown-device`,
    `auth.disabled`, `auth.right`, `name.mismatch`, `limit.message-size`, `contract.topic`, …); `value` is what failed,
    never a secret; `remedy` is the smallest change that would let it pass, as a sentence or a command.
    """

    hop: Hop
    rule: str
    value: str
    remedy: str


class HubError(Exception):
    """A rule said no; `message` may be read by the peer, `refusal` may not."""

    def __init__(self, code: Code, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.refusal = refusal


class ThrottledError(HubError):
    """A rate was exceeded; after `retry_after_seconds`, a whole number and at least 1, the same would pass."""

    def __init__(self, code: Code, operation: str, seconds: float, refusal: Refusal) -> None:
        self.retry_after_seconds = max(1, ceil(seconds))
        told = f"The request has been throttled. Wait {self.retry_after_seconds} seconds and try again."
        super().__init__(code, f"{told} Operation type: {operation}", refusal)


class ConfigurationError(Exception):
    """The configuration or the machine does not let the server do what it was asked; one sentence with the remedy."""
