"""Refusals as HTTP answers: the two envelopes of the real service, headers included.

Shape A carries the code's name and the message joined by a semicolon; clients split at semicolons, so there is no other
one in it. Shape B, of direct methods, carries a JSON text with the code's number.
"""

from enum import Enum, auto

import msgspec

from isthmus.base.clock import iso_utc
from isthmus.base.errors import HubError
from isthmus.base.ids import TrackingId
from isthmus.commands.methods import DeviceNotOnlineError
from isthmus.servers.gateway.http_message import JSON_TYPE, Reply

ERROR_HEADER = "iothub-errorcode"

MESSAGE_CHARACTERS_MAX = 1024
"""Of a message in an answer; it may repeat what the client wrote."""

_encode = msgspec.json.Encoder().encode


class Envelope(Enum):
    """Which of the two shapes an operation's refusals have."""

    A = auto()
    B = auto()


def refusal_reply(error: HubError, tracking_id: TrackingId, *, envelope: Envelope, utc_ms: int) -> Reply:
    """The answer for a refusal; the owner finds the reason by the tracking id."""
    body = _shape_a(error, tracking_id) if envelope is Envelope.A else _shape_b(error, tracking_id, utc_ms)
    headers = {"Content-Type": JSON_TYPE, ERROR_HEADER: error.code.wire_name}
    return Reply(error.code.http_status, _encode(body), headers)


def _shape_a(error: HubError, tracking_id: TrackingId) -> dict[str, str]:
    message = _shortened(error.message).replace(";", ",")
    return {
        "Message": f"ErrorCode:{error.code.wire_name};{message}",
        "ExceptionMessage": f"Tracking ID:{tracking_id}",
    }


def _shape_b(error: HubError, tracking_id: TrackingId, utc_ms: int) -> dict[str, str]:
    inner = {
        "errorCode": error.code.number,
        "trackingId": tracking_id,
        "message": _shortened(error.message),
        "info": _info(error),
        "timestampUtc": iso_utc(utc_ms),
    }
    return {"Message": _encode(inner).decode(), "ExceptionMessage": ""}


def _info(error: HubError) -> dict[str, str]:
    if not isinstance(error, DeviceNotOnlineError):
        return {}
    minutes, seconds = divmod(error.waited_seconds, 60)
    return {"timeout": f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"}


def _shortened(message: str) -> str:
    return message[:MESSAGE_CHARACTERS_MAX]
