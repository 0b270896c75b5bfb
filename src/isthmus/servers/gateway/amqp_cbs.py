"""`$cbs`: tokens put on a connection that authenticated by nothing else (claims-based security for AMQP)."""

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.servers.gateway.amqp_contract import Node
from isthmus.servers.gateway.amqp_links import Pump
from isthmus.servers.gateway.amqp_replies import Answer
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.limits import LINK_CREDIT
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Message
from isthmus.wire.amqp.states import ACCEPTED_STATE

OK = Answer(200, "OK")
"""IoT clients take nothing but 200 for a success; the others take any 2xx."""


class CbsReceiver:
    """Takes put-token requests."""

    def __init__(self, link: Link, pump: Pump) -> None:
        self._link = link
        self._pump = pump
        link.accept()

    def transfer(self, transfer: Transfer) -> None:
        self._link.settle(transfer.delivery_id, ACCEPTED_STATE)
        self._link.grant(LINK_CREDIT)
        self._pump.spawn(self._judge(transfer.payload))

    def disposition(self, disposition: Disposition) -> None:
        """A sender of requests settles nothing here."""

    def credit(self, granted: CreditGranted) -> None:
        """Credit is ours to give on this link."""

    def writable(self) -> None:
        """Nothing is sent on this link."""

    def detached(self) -> None:
        """The proofs stay: they are the connection's."""

    async def _judge(self, payload: bytes) -> None:
        try:
            asked = Message(payload)
            token, audience = _put_token(asked)
        except (DecodeError, HubError) as error:
            self._pump.refused(error if isinstance(error, HubError) else _malformed(error.description))
            return
        answer = await self._answer(token, audience)
        self._pump.replies.answer(self._link, Node.CBS, asked, answer)
        self._pump.flush()

    async def _answer(self, token: str, audience: str) -> Answer:
        try:
            await self._pump.put_token(token, audience)
        except HubError as error:
            told = self._pump.refused(error)
            return Answer(error.code.http_status, told.description or "")
        return OK


def _put_token(asked: Message) -> tuple[str, str]:
    """Token and audience of a put-token; `type` is not looked at, since clients name it wrongly."""
    properties = asked.application_properties
    values = asked.values
    token = values[0] if values else None
    if properties.get("operation") != "put-token" or not isinstance(token, str):
        raise _malformed(str(properties.get("operation"))[:64])
    return token, str(properties.get("name") or "")


def _malformed(what: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The request is not a put-token.",
        Refusal(Hop.CONTRACT, "contract.cbs", what, "Send operation put-token with the token as the body's value."),
    )
