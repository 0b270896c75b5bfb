"""What a target's refusal means: which of the things that must be right is not.

Storage tells network from role by its error code ("Blob service error codes"); Event Hubs and Service Bus answer both
with the same condition, and only the text differs ("Troubleshoot connectivity issues", "Unauthorized access").
"""

import re
from typing import Final

from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError
from azure.eventhub.exceptions import AuthenticationError, EventHubError
from azure.servicebus.exceptions import (
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
)

from isthmus.routing.sink import FailureKind, SinkFailure

REASON_CHARACTERS_MAX: Final = 512
"""A target's answer as it is kept; what lies behind is of no use to an owner."""

_STORAGE_CODES: Final = {
    "AuthorizationFailure": FailureKind.NETWORK,
    "AuthorizationPermissionMismatch": FailureKind.ROLE,
    "InsufficientAccountPermissions": FailureKind.ROLE,
    "ContainerNotFound": FailureKind.NOT_FOUND,
    "ResourceNotFound": FailureKind.NOT_FOUND,
    "ContainerDisabled": FailureKind.NOT_FOUND,
    "InvalidAuthenticationInfo": FailureKind.AUTHENTICATION,
}
_STORAGE_STATUSES: Final = {
    401: FailureKind.AUTHENTICATION,
    403: FailureKind.AUTHENTICATION,
    404: FailureKind.NOT_FOUND,
}
"""What a code of storage means that is not listed: a token or a signature that does not hold."""

_TEXTS: Final = (
    ("ip has been prevented", FailureKind.NETWORK),
    ("claim(s) are required", FailureKind.ROLE),
    ("could not be found", FailureKind.NOT_FOUND),
    ("token authentication failed", FailureKind.AUTHENTICATION),
)
_AUTHENTICATION: Final = (AuthenticationError, ServiceBusAuthenticationError, ServiceBusAuthorizationError)
_NOTHING_SAID: Final = "Service Bus has encountered an error"
_APPENDED: Final = re.compile(r"\n(?:RequestId:|Error: )|\sError (?:condition|Description):")
_PREPENDED: Final = re.compile(r"^(?:CBS Token|Management) \w+ failed\.\s+Status code: \d+,?\s+Description: [\"']?")
"""What the clients put behind and before a target's words."""

_STATUS: Final = re.compile(r"Token authentication failed\.\s+Status code: (\d+)")
_CONDITION: Final = re.compile(r"(?:Error condition: |^)((?:amqp|com\.microsoft)[:\w-]*[\w])", re.MULTILINE)


def failure_of(error: Exception, delivered: int = 0) -> SinkFailure:
    """What an exception of an official client means; a `SinkFailure` among its causes is it already."""
    known = _known(error)
    if known is not None:
        return SinkFailure(known.kind, known.reason, known.code, delivered)
    if isinstance(error, HttpResponseError):
        return SinkFailure(_storage_kind(error), reason_of(error), storage_code(error), delivered)
    if isinstance(error, (EventHubError, ServiceBusError)):
        return SinkFailure(_messaging_kind(error), reason_of(error), _condition(error), delivered)
    return SinkFailure(FailureKind.TRANSIENT, reason_of(error), type(error).__name__, delivered)


def storage_code(error: AzureError) -> str:
    """The error code of storage, or the HTTP status where there is none."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or getattr(error, "status_code", "") or type(error).__name__)


def reason_of(error: Exception) -> str:
    """The target's words without what clients put around them, such as their own code, request ids and traces."""
    told = _APPENDED.split(_words(error).strip(), maxsplit=1)[0]
    reason = " ".join(_PREPENDED.sub("", told).split())
    if not reason:
        return "No answer came in time" if isinstance(error, TimeoutError) else type(error).__name__
    return reason[:REASON_CHARACTERS_MAX]


def _storage_kind(error: HttpResponseError) -> FailureKind:
    status = error.status_code or 0
    return _STORAGE_CODES.get(storage_code(error)) or _STORAGE_STATUSES.get(status, FailureKind.TRANSIENT)


def _messaging_kind(error: Exception) -> FailureKind:
    words = _words(error).lower()
    for text, kind in _TEXTS:
        if text in words:
            return kind
    if isinstance(error, (MessagingEntityNotFoundError, MessagingEntityDisabledError)):
        return FailureKind.NOT_FOUND
    condition = _condition(error)
    if condition.endswith("not-found"):
        return FailureKind.NOT_FOUND
    if isinstance(error, _AUTHENTICATION) or condition.endswith(("unauthorized-access", "auth-failed")):
        return FailureKind.AUTHENTICATION
    return FailureKind.TRANSIENT


def _condition(error: Exception) -> str:
    """The status that refused a token, the AMQP condition as far as the client kept it, or its exception's name."""
    words = _words(error)
    if (status := _STATUS.search(words)) is not None:
        return status[1]
    found = _CONDITION.search(words) or _CONDITION.search(str(error))
    if found is not None:
        return found[1]
    kept = getattr(error, "error", None)
    return kept if isinstance(kept, str) and kept else type(error).__name__


def _words(error: Exception) -> str:
    """What an exception says; that of Service Bus keeps some of a target's words only in the exception within it."""
    inner = getattr(error, "inner_exception", None) if isinstance(error, ServiceBusError) else None
    told = str(getattr(error, "message", "") or error or "")
    return str(inner) if inner is not None and _NOTHING_SAID in told else told


def _known(error: BaseException) -> SinkFailure | None:
    seen: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if isinstance(seen, SinkFailure):
            return seen
        if seen is None:
            return None
        inner = seen.inner_exception if isinstance(seen, ServiceRequestError) else None
        seen = seen.__cause__ or inner or seen.__context__
    return None


_CAUSES_MAX: Final = 8
"""Exceptions within exceptions that are looked through; clients wrap three deep."""
