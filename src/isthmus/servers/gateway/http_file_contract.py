"""What a device's requests about files mean, and what is answered; pure (IoT Hub REST reference, "Device").

An upload through the hub itself has an address of the hub's own, signed with the upload's secret over what it opens:
the query looks like that of storage, because clients of storage take what they know of it and drop the rest; the
upload is named by `si`, where storage has the name of an access policy.
"""

from collections.abc import Mapping

import msgspec

from isthmus.base.errors import NOT_JSON, Code, Hop, HubError, Refusal
from isthmus.commands.file_uploads import Opened
from isthmus.commands.relay_signature import signed_query


class _File(msgspec.Struct):
    blob_name: str = msgspec.field(name="blobName")


class _End(msgspec.Struct):
    """What clients say of an upload that ended; status and description are their own words, checked and passed over."""

    is_success: bool = msgspec.field(name="isSuccess")
    correlation_id: str = msgspec.field(name="correlationId", default="")
    status_code: int | None = msgspec.field(name="statusCode", default=None)
    status_description: str | None = msgspec.field(name="statusDescription", default=None)


def file_name(body: bytes) -> str:
    """What the device calls its file; raises HubError DESERIALIZATION_ERROR."""
    try:
        return msgspec.json.decode(body, type=_File).blob_name
    except NOT_JSON as error:
        raise HubError(Code.DESERIALIZATION_ERROR, "The body does not name a blob", _bad_body(error)) from error


def upload_end(body: bytes, in_path: str) -> tuple[str, bool]:
    """The correlation id, which older clients have in the path, and whether the upload succeeded.

    Raises HubError INVALID_COMPLETION_STATUS.
    """
    try:
        end = msgspec.json.decode(body, type=_End)
    except NOT_JSON as error:
        message = "The body does not say how the upload ended"
        raise HubError(Code.INVALID_COMPLETION_STATUS, message, _bad_body(error)) from error
    return in_path or end.correlation_id, end.is_success


def upload_answer(opened: Opened, host: str) -> Mapping[str, str]:
    """Where the file goes: to the account, or to the hub by the name that the device called."""
    relayed = not opened.place
    query = signed_query(opened.upload) if relayed else opened.signature
    return {
        "correlationId": opened.correlation_id,
        "hostName": host if relayed else opened.place,
        "containerName": opened.container,
        "blobName": opened.upload.blob,
        "sasToken": f"?{query}",
    }


def _bad_body(error: Exception) -> Refusal:
    return Refusal(
        Hop.CONTRACT, "contract.file-upload", str(error)[:200], "Send the body that the documentation gives."
    )
