"""Request and response over two links of one session: `$cbs` and `$management`.

The answer leaves on the receiver link whose source is the node, in the session of the request, whatever reply-to says:
one client sends none and another a stale one. Its correlation-id is the request's message-id with the same AMQP type
(AMQP Management; claims-based security for AMQP).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from isthmus.servers.gateway.amqp_contract import Node
from isthmus.wire.amqp import message
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Message, Properties
from isthmus.wire.amqp.values import AmqpValue, Int

ANSWERS_WAITING_MAX: Final = 64
"""Answers kept for a link without credit; the oldest is dropped, and its client hears of a time-out."""


@dataclass(slots=True)
class Answer:
    """What is answered: status, its text, further properties, and a body."""

    status: int
    description: str
    properties: Mapping[str, AmqpValue] = field(default_factory=dict)
    body: AmqpValue = None


class ReplyLink:
    """The link that answers leave on; keeps them while it has no credit."""

    def __init__(self, link: Link, replies: "Replies", node: Node) -> None:
        self._link = link
        self._replies = replies
        self._node = node
        self._waiting: list[bytes] = []
        link.accept()
        replies.links[link.channel, node] = self

    def send(self, encoded: bytes) -> None:
        """Sends an answer, now or when there is credit."""
        self._waiting.append(encoded)
        del self._waiting[:-ANSWERS_WAITING_MAX]
        self._push()

    def transfer(self, transfer: Transfer) -> None:
        """A receiver sends nothing."""

    def disposition(self, disposition: Disposition) -> None:
        """Answers are sent settled."""

    def credit(self, granted: CreditGranted) -> None:
        self._push()
        self._link.drained()

    def writable(self) -> None:
        """Answers are few and small; they wait for credit only."""

    def detached(self) -> None:
        if self._replies.links.get((self._link.channel, self._node)) is self:
            del self._replies.links[self._link.channel, self._node]

    def _push(self) -> None:
        while self._waiting and self._link.sendable:
            self._link.send(self._waiting.pop(0), settled=True)


@dataclass(slots=True)
class Replies:
    """The answer links of one connection, by session and node."""

    links: dict[tuple[int, Node], ReplyLink] = field(default_factory=dict)

    def answer(self, request: Link, node: Node, asked: Message, answer: Answer) -> None:
        """Answers a request that came on a link; without an answer link in its session it is dropped."""
        link = self.links.get((request.channel, node))
        if link is not None:
            link.send(encode_answer(asked, answer))


def encode_answer(asked: Message, answer: Answer) -> bytes:
    """The encoded answer to a request."""
    properties: dict[str, AmqpValue] = {
        "status-code": Int(answer.status),
        "status-description": answer.description,
        **answer.properties,
    }
    return b"".join(
        (
            Properties(correlation_id=asked.properties.message_id).encode(),
            message.application_properties(properties),
            message.value(answer.body),
        )
    )
