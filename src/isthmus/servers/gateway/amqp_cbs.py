"""`$cbs`: tokens put on a connection that authenticated by nothing else (claims-based security for AMQP)."""

from typing import Final

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.servers.gateway.amqp_links import Pump
from isthmus.servers.gateway.amqp_replies import Answer, Request

OK: Final = Answer(200, "OK")
"""IoT clients take nothing but 200 for a success; the others take any 2xx."""


async def put_token(pump: Pump, request: Request) -> Answer:
    """Answers a put-token; raises HubError. Its `type` is not looked at, since clients name it wrongly."""
    operation, token = request.properties.get("operation"), request.value
    if operation != "put-token" or not isinstance(token, str):
        raise _malformed(str(operation)[:64])
    await pump.put_token(token, str(request.properties.get("name") or ""))
    return OK


def _malformed(what: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The request is not a put-token.",
        Refusal(Hop.CONTRACT, "contract.cbs", what, "Send operation put-token with the token as the body's value."),
    )
