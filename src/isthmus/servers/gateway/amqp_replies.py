"""Request and response over two links of one session: `$cbs` and `$management`.

The answer leaves on the receiver link whose source is the node, in the session of the request, whatever reply-to says:
one client sends none and another a stale one. Its correlation-id is the request's message-id with the same AMQP type
(AMQP Management; claims-based security for AMQP).
"""

from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from isthmus.base.errors import HubError
from isthmus.servers.gateway.amqp_contract import Node
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump, top_up, undecodable
from isthmus.wire.amqp import message
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.events import CreditGranted, Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Message, Properties
from isthmus.wire.amqp.states import ACCEPTED_STATE, Error, Rejected
from isthmus.wire.amqp.values import AmqpValue, Int, Symbol

ANSWERS_WAITING_MAX: Final = 64
"""Answers kept for a link without credit; the oldest is dropped, and its client hears of a time-out."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked; `value` is the body when it is an amqp-value, else None."""

    message_id: AmqpValue
    properties: Mapping[str, AmqpValue]
    value: AmqpValue = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: status, its text, further properties, and a body."""

    status: int
    description: str
    properties: Mapping[str, AmqpValue] = field(default_factory=dict)
    body: AmqpValue = None


Service: TypeAlias = Callable[[Request], Coroutine[Any, Any, Answer]]
"""Answers a request, or raises HubError."""


class RequestLink(LinkHandler):
    """Takes the requests of a node; each is answered, refusals too, on the node's reply link."""

    def __init__(self, link: Link, pump: Pump, replies: "Replies", node: Node, service: Service) -> None:
        self._link = link
        self._pump = pump
        self._replies = replies
        self._node = node
        self._service = service
        link.accept()

    def transfer(self, transfer: Transfer) -> None:
        top_up(self._link)
        try:
            request = decode_request(transfer.payload)
        except HubError as error:
            self._link.settle(transfer.delivery_id, Rejected(self._pump.refused(error)))
            return
        self._link.settle(transfer.delivery_id, ACCEPTED_STATE)
        self._pump.spawn(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self._service(request)
        except HubError as error:
            answer = _refusal(error, self._pump.refused(error), self._node)
        link = self._replies.of(self._link, self._node)
        if link is not None:
            link.send(encode_answer(request, answer))
        self._pump.flush()


class ReplyLink(LinkHandler):
    """The link that answers leave on; keeps them while it has no credit."""

    def __init__(self, link: Link, replies: "Replies", node: Node) -> None:
        self._link = link
        self._replies = replies
        self._node = node
        self._waiting: deque[bytes] = deque(maxlen=ANSWERS_WAITING_MAX)
        link.accept()
        replies.enter(link, node, self)

    def send(self, encoded: bytes) -> None:
        """Sends an answer, now or when there is credit."""
        self._waiting.append(encoded)
        self._push()

    def credit(self, granted: CreditGranted) -> None:
        self._push()
        self._link.drained()

    def detached(self) -> None:
        self._replies.leave(self._link, self._node, self)

    def _push(self) -> None:
        while self._waiting and self._link.sendable:
            self._link.send(self._waiting.popleft(), settled=True)


class Replies:
    """The reply links of one connection, by session and node; of two alike the newer one is meant."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, Node], ReplyLink] = {}

    def enter(self, link: Link, node: Node, reply: ReplyLink) -> None:
        """Sends the answers of a node in this session to a link from now on."""
        self._links[link.channel, node] = reply

    def leave(self, link: Link, node: Node, reply: ReplyLink) -> None:
        """Forgets a link, unless a newer one has taken its place."""
        if self._links.get((link.channel, node)) is reply:
            del self._links[link.channel, node]

    def of(self, request: Link, node: Node) -> ReplyLink | None:
        """Where the answer to a request goes; None when nobody in its session listens, and it is dropped."""
        return self._links.get((request.channel, node))


def decode_request(payload: bytes) -> Request:
    """The request that a message is; raises HubError ARGUMENT_INVALID."""
    try:
        asked = Message(payload)
        return Request(asked.properties.message_id, asked.application_properties, next(iter(asked.values), None))
    except DecodeError as error:
        raise undecodable(error) from error


def encode_answer(request: Request, answer: Answer) -> bytes:
    """The encoded answer to a request."""
    properties: dict[str, AmqpValue] = {
        "status-code": Int(answer.status),
        "status-description": answer.description,
        **answer.properties,
    }
    return b"".join(
        (
            Properties(correlation_id=request.message_id).encode(),
            message.application_properties(properties),
            message.value(answer.body),
        )
    )


def _refusal(error: HubError, told: Error, node: Node) -> Answer:
    """A refusal; `$cbs` tells the status alone, for clients that are told a condition there do not read the status.

    Elsewhere the text is there twice: azure-eventhub for Python reads it under the other name.
    """
    text = told.description or ""
    if node is Node.CBS:
        return Answer(error.code.http_status, text)
    more: dict[str, AmqpValue] = {"error-condition": Symbol(told.condition), "statusDescription": text}
    return Answer(error.code.http_status, text, more)
