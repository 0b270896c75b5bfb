"""A device on HTTPS: one message to the cloud, and the answer that it is stored."""

from http import HTTPStatus

from isthmus.base.clock import Clock
from isthmus.paths.errand import Errand, Station
from isthmus.paths.steps import Met, Steps, Trouble
from isthmus.paths.talk import Talk

API_VERSION = "2021-04-12"
HEAD_BYTES_MAX = 16_384


async def https(errand: Errand, talk: Talk, steps: Steps, clock: Clock) -> None:
    """Sends a message and hears that it is durable; raises `Ended`."""
    status = await steps.take(Station.PROTOCOL, _answered(errand, talk))
    await steps.take(Station.AUTHENTICATION, _let_in(status))
    await steps.take(Station.MESSAGE, _stored(status))


async def _answered(errand: Errand, talk: Talk) -> Met[int]:
    body = b"{}"
    lines = (
        f"POST /devices/{errand.device_id}/messages/events?api-version={API_VERSION} HTTP/1.1",
        f"Host: {errand.host_name}",
        f"Authorization: {errand.token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    talk.send("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)
    head = b""
    while b"\r\n" not in head:
        if len(head) > HEAD_BYTES_MAX:
            raise Trouble("the answer has no status line")
        head += await talk.read()
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise Trouble("what answers is no HTTP/1.1")
    return Met(int(words[1]), f"status {int(words[1])}")


async def _let_in(status: int) -> Met[None]:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Trouble(f"status {status}, {HTTPStatus(status).phrase.lower()}")
    return Met(None)


async def _stored(status: int) -> Met[None]:
    if status != HTTPStatus.NO_CONTENT:
        raise Trouble(f"status {status} to a message")
    return Met(None, "status 204 once the message was stored")
