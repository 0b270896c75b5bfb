"""What the documented answers of targets mean, as their official clients raise them."""

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.eventhub.exceptions import AuthenticationError, ConnectError, ConnectionLostError, OperationTimeoutError
from azure.servicebus.exceptions import (
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
)

from isthmus.routing.sink import FailureKind, SinkFailure
from isthmus.sinks.failures import REASON_CHARACTERS_MAX, failure_of

SEND_CLAIM = (
    "Unauthorized access. 'Send' claim(s) are required to perform this operation. Resource: 'sb://ns.servicebus."
    "windows.net/entity'. TrackingId:0, SystemTracker:gateway5, Timestamp:2026-01-01T00:00:00"
)
ADDRESS = (
    "Ip has been prevented to connect to the endpoint. For more information see: address. TrackingId:0, "
    "SystemTracker:AmqpGatewayProvider, Timestamp:2026-01-01T00:00:00"
)
NOT_FOUND = "The messaging entity 'sb://ns.servicebus.windows.net/entity' could not be found. TrackingId:0"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AuthorizationFailure", FailureKind.NETWORK),
        (403, "AuthorizationPermissionMismatch", FailureKind.ROLE),
        (403, "AuthenticationFailed", FailureKind.AUTHENTICATION),
        (403, "KeyBasedAuthenticationNotPermitted", FailureKind.AUTHENTICATION),
        (401, "InvalidAuthenticationInfo", FailureKind.AUTHENTICATION),
        (401, "NoAuthenticationInformation", FailureKind.AUTHENTICATION),
        (404, "ContainerNotFound", FailureKind.NOT_FOUND),
        (404, "ResourceNotFound", FailureKind.NOT_FOUND),
        (409, "ContainerBeingDeleted", FailureKind.TRANSIENT),
        (412, "AppendPositionConditionNotMet", FailureKind.TRANSIENT),
        (503, "ServerBusy", FailureKind.TRANSIENT),
        (500, "InternalError", FailureKind.TRANSIENT),
    ],
)
def test_answers_of_storage(status: int, code: str, kind: FailureKind) -> None:
    failure = failure_of(storage_error(status, code))
    assert (failure.kind, failure.code, failure.reason) == (kind, code, "This request is not authorized.")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AuthenticationError(SEND_CLAIM), FailureKind.ROLE),
        (AuthenticationError(ADDRESS), FailureKind.NETWORK),
        (ConnectError(ADDRESS), FailureKind.NETWORK),
        (AuthenticationError("CBS Token authentication failed. Status code: 401"), FailureKind.AUTHENTICATION),
        (ConnectionLostError(NOT_FOUND), FailureKind.NOT_FOUND),
        (ConnectionLostError("Connection lost"), FailureKind.TRANSIENT),
        (OperationTimeoutError("Timed out"), FailureKind.TRANSIENT),
        (ServiceBusAuthorizationError(message=SEND_CLAIM), FailureKind.ROLE),
        (ServiceBusAuthorizationError(message=ADDRESS), FailureKind.NETWORK),
        (ServiceBusAuthenticationError(message="CBS Token authentication failed."), FailureKind.AUTHENTICATION),
        (MessagingEntityNotFoundError(message=NOT_FOUND), FailureKind.NOT_FOUND),
        (ServiceBusConnectionError(message="Connection lost"), FailureKind.TRANSIENT),
    ],
)
def test_answers_of_event_hubs_and_service_bus(error: Exception, kind: FailureKind) -> None:
    assert failure_of(error).kind is kind


def test_a_condition_is_the_code() -> None:
    error = ServiceBusAuthorizationError(message=SEND_CLAIM, condition=b"amqp:unauthorized-access")
    assert failure_of(error).code == "amqp:unauthorized-access"
    assert failure_of(ConnectError("x")).code == "ConnectError"


def test_a_failure_of_the_way_out_stays_itself_whoever_wrapped_it() -> None:
    inner = SinkFailure(FailureKind.OUTBOUND, "not listed", "outbound")
    wrapped = ServiceRequestError("request failed", error=inner)
    failure = failure_of(wrapped, delivered=3)
    assert (failure.kind, failure.reason, failure.code, failure.delivered) == (
        FailureKind.OUTBOUND,
        "not listed",
        "outbound",
        3,
    )


def test_a_reason_is_the_target_s_words_once() -> None:
    error = ServiceBusAuthorizationError(message=f"{SEND_CLAIM} Error condition: amqp:unauthorized-access.")
    assert failure_of(error).reason == SEND_CLAIM


def test_a_target_that_does_not_answer_in_time_is_told_as_that() -> None:
    failure = failure_of(TimeoutError())
    assert (failure.kind, failure.code, failure.reason) == (
        FailureKind.TRANSIENT,
        "TimeoutError",
        "No answer came in time",
    )


def test_what_the_client_of_service_bus_hides_is_found() -> None:
    inner = Exception(f"CBS Token authentication failed.\nStatus code: 401\nDescription: {ADDRESS}")
    hidden = ServiceBusConnectionError(message=None, error=inner, condition=b"amqp:client-error")
    failure = failure_of(hidden)
    assert (failure.kind, failure.code, failure.reason) == (FailureKind.NETWORK, "401", ADDRESS)


def test_a_reason_is_of_bounded_length_and_one_line() -> None:
    reason = failure_of(ConnectError("x\ny" * 1_000)).reason
    assert len(reason) <= REASON_CHARACTERS_MAX
    assert "\n" not in reason


def storage_error(status: int, code: str) -> HttpResponseError:
    error = HttpResponseError(f"This request is not authorized.\nRequestId:0\nTime:0\nErrorCode:{code}")
    error.status_code = status
    error.error_code = code
    return error
