"""How large HTTP requests may be, and their bodies, within their bounds of size and time."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from isthmus.base.errors import Code, Hop, HubError, Refusal

BODY_BYTES_MAX = 512 * 1024
"""A service's body: a twin at all its limits with metadata, or a method's payload in its envelope; more is refused."""

BODY_SECONDS_MAX = 30.0
"""From the request's head to the end of its body; a sender that takes longer is refused."""

HEADERS_MAX = 512
"""Header lines of a request, each up to 8,190 bytes: a device's message has one for each property."""

BODY_VERBS = frozenset(("PUT", "POST", "PATCH"))
"""Requests whose body is read."""


async def read_body(request: web.BaseRequest, check: Callable[[int], None]) -> bytes:
    """The body, empty where the verb has none; `check` raises `HubError` for a size that is too large.

    Raises `GENERIC_BAD_REQUEST` when it takes longer than `BODY_SECONDS_MAX`, is cut off, or is not as it says.
    """
    if request.method not in BODY_VERBS:
        return b""
    check(request.content_length or 0)
    await expect_body(request)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.content.iter_any():
                body += chunk
                check(len(body))
    except TimeoutError:
        value, remedy = f"{BODY_SECONDS_MAX:g} s", "send the body behind its head without pauses"
        refusal = Refusal(Hop.LIMIT, "limit.body-time", value, remedy)
        raise HubError(Code.GENERIC_BAD_REQUEST, f"The body took longer than {value}", refusal) from None
    except (ConnectionError, web.RequestPayloadError) as error:
        raise HubError(Code.GENERIC_BAD_REQUEST, "The body was not received whole") from error
    return bytes(body)


async def expect_body(request: web.BaseRequest) -> None:
    """Tells a client that waits for it to send its body (RFC 9110 §10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # an interim answer is no part of the answer


def check_json_type(request: web.BaseRequest) -> None:
    """JSON, or nothing said; a request without a body may say what it likes."""
    if request.method in BODY_VERBS and request.body_exists and media_type(request) not in ("", "application/json"):
        raise HubError(Code.UNSUPPORTED_MEDIA_TYPE, "The Content-Type must be application/json")


def media_type(request: web.BaseRequest) -> str:
    """The Content-Type in lower case, without parameters; empty when there is none."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def check_request_size(size: int) -> None:
    """Raises `HubError` with the refusal `limit.request-size` when a service's body is too large."""
    if size > BODY_BYTES_MAX:
        message = f"The body must not be larger than {BODY_BYTES_MAX} bytes"
        refusal = Refusal(Hop.LIMIT, "limit.request-size", f"more than {BODY_BYTES_MAX} bytes", "send less at once")
        raise HubError(Code.ENTITY_TOO_LARGE, message, refusal)
