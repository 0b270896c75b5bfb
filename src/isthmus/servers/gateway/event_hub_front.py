"""The HTTPS face of Event Hubs namespaces: sending, one event or a batch a request; reading goes by AMQP only.

An answer 201 follows when all of it is durable. Refusals are XML, with the texts and codes of the real service.
"""

import logging
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from isthmus.access.access_tokens import is_bearer
from isthmus.access.authenticate import require_permission
from isthmus.access.refusals import unauthorized
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.limits import LOG_BACKLOG_BYTES_MAX
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.amqp_tokens import Need, at_part
from isthmus.servers.gateway.awaited_commit import AwaitedCommit
from isthmus.servers.gateway.bus_atom import error_document
from isthmus.servers.gateway.event_hub_contract import EventHubAddress
from isthmus.servers.gateway.event_hub_intake import ENDPOINTS
from isthmus.servers.gateway.event_hub_nodes import EventHubNodes, need_of
from isthmus.servers.gateway.event_hub_rest import address_of, message_of
from isthmus.servers.gateway.gate import Admitted, Gate
from isthmus.servers.gateway.hosted_event import Sender, take
from isthmus.servers.gateway.http_app import HttpPeer, JournaledOnce, raw_path
from isthmus.servers.gateway.http_body import read_body
from isthmus.servers.gateway.namespace_refusals import IP_PREVENTED_LONG, key_refused, link_refused, token_refused
from isthmus.servers.gateway.plane import Plane
from isthmus.telemetry.ports import Log
from isthmus.wire.amqp.limits import MESSAGE_BYTES_MAX

XML: Final = "application/xml; charset=utf-8"

logger = logging.getLogger(__name__)


class EventHubFront:
    """Implements `NeighbourFront` for Event Hubs namespaces."""

    def __init__(self, gate: Gate, nodes: EventHubNodes, log: Log, clock: Clock) -> None:
        self._gate = gate
        self._nodes = nodes
        self._log = log
        self._clock = clock
        self._arrivals = JournaledOnce(gate, clock)

    async def handle(self, request: web.BaseRequest, connection: HttpPeer, neighbour: Guarded) -> web.StreamResponse:
        """Answers a request; never raises but for cancellation, which follows when the peer has gone."""
        try:
            await self._send(request, connection, neighbour)
        except HubError as error:
            return self._refused(connection, neighbour, error)
        except Exception:
            logger.exception("a request to an Event Hubs namespace failed", extra={"namespace": neighbour.name})
            detail = "The server was unable to process the request; please retry the operation."
            return web.Response(status=500, body=error_document(500, detail), headers={"Content-Type": XML})
        return web.Response(status=201)

    async def _send(self, request: web.BaseRequest, connection: HttpPeer, neighbour: Guarded) -> None:
        segments = [unquote(segment) for segment in raw_path(request).split("/") if segment]
        address = address_of(segments)
        token = request.headers.get("Authorization", "")
        if is_bearer(token):
            await self._gate.prepare(token)
        admitted = self._admit(connection, neighbour, token, address.entity if address is not None else "")
        self._arrivals.note(connection, admitted)
        if address is None or request.method != "POST":
            raise _not_offered(f"{request.method} {request.raw_path}")
        _require(admitted, address, neighbour)
        body = await read_body(request, _check_size)
        destination = self._nodes.destination(neighbour, address)
        sender = Sender(admitted.principal.label, connection.door.label, address.publisher)
        encoded = message_of(body, request.headers.get("Content-Type", ""), request.headers.get("BrokerProperties", ""))
        sent = take(*encoded, sender)
        if self._log.backlog_bytes > LOG_BACKLOG_BYTES_MAX:
            refusal = Refusal(Hop.LIMIT, "limit.backlog", f"{self._log.backlog_bytes} bytes", "Send again later.")
            raise HubError(Code.SERVER_BUSY, "The server is busy. Please try again later.", refusal)
        partition = destination.partition_for(sent.partition_key, address.publisher)
        commit = AwaitedCommit(len(sent.events))
        self._log.append_all(partition, ENDPOINTS, sent.events, self._clock.utc_ms(), commit, 0)
        await commit.durable()

    def _admit(self, connection: HttpPeer, neighbour: Guarded, token: str, entity: str) -> Admitted:
        audience = f"https://{neighbour.host_name}/{entity}"
        return self._gate.namespace(connection, neighbour, token, audience, self._nodes.policies(neighbour, audience))

    def _refused(self, connection: HttpPeer, neighbour: Guarded, refused: HubError) -> web.Response:
        error = key_refused(refused, neighbour)
        tracking_id = self._gate.refused(connection, Plane.HTTPS, neighbour.name, "", error)
        rule = error.refusal.rule if error.refusal is not None else ""
        said = IP_PREVENTED_LONG if rule.startswith("network.") else token_refused(error).message
        status = error.code.http_status
        document = error_document(status, f"{said} TrackingId:{tracking_id}")
        return web.Response(status=status, body=document, headers={"Content-Type": XML})


def _require(admitted: Admitted, address: EventHubAddress, neighbour: Guarded) -> None:
    """Raises HubError unless the credential covers the address and may send there."""
    need = need_of(address, neighbour)
    assert need is not None, "sending needs a right"
    try:
        if not admitted.covers(need.path):
            raise unauthorized("auth.scope", _covered(admitted), f"use a token whose sr covers {need.path}")
        require_permission(at_part(admitted.principal, need.part), need.right, need.data_action)
    except HubError as error:
        raise link_refused(error, need.right, _resource(need, neighbour)) from error


def _covered(admitted: Admitted) -> str:
    return f"a token for {'/'.join(admitted.scope) or 'the namespace'}"


def _resource(need: Need, neighbour: Guarded) -> str:
    return f"sb://{neighbour.host_name}/{need.path.lower()}"


def _check_size(size: int) -> None:
    if size > MESSAGE_BYTES_MAX:
        refusal = Refusal(Hop.LIMIT, "limit.message-size", f"more than {MESSAGE_BYTES_MAX} bytes", "send less at once")
        raise HubError(Code.ENTITY_TOO_LARGE, f"The body must not be larger than {MESSAGE_BYTES_MAX} bytes", refusal)


def _not_offered(what: str) -> HubError:
    remedy = "POST to /{event hub}/messages, or use AMQP"
    refusal = Refusal(Hop.CONTRACT, "contract.not-implemented", what[:200], remedy)
    return HubError(Code.NOT_IMPLEMENTED, "This is not offered over HTTPS here.", refusal)
