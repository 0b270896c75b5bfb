"""The HTTP face of storage accounts: a request is let in, carried out and answered in the Blob service's words.

A request under way is a session in the index: a change of rules, keys or roles that takes its right away cancels it.
What it had committed stays. Refusals at the door are journaled with a tracking id, which is the request id of the
answer; what is asked in vain of somebody who may ask, such as a blob that is not there, is not.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from isthmus.access.journal import Decision, Verdict
from isthmus.base.clock import Clock
from isthmus.base.errors import Hop, HubError
from isthmus.base.ids import Ids
from isthmus.base.state import StateClosed
from isthmus.neighbours.blob.blob import http_date
from isthmus.neighbours.blob.conditions import NotModifiedError
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.forms import error_document
from isthmus.neighbours.blob.headers import VERSION
from isthmus.neighbours.blob.ports import BlobStore
from isthmus.neighbours.blob.query import parse_query
from isthmus.neighbours.blob.routes import Operation
from isthmus.neighbours.blob.sas import as_storage
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.blob_access import Asked, BlobAccess, Let
from isthmus.servers.gateway.blob_containers import ContainerOperations
from isthmus.servers.gateway.blob_message import STALL_SECONDS_MAX, BlobCall, BlobReply, Body
from isthmus.servers.gateway.blob_reads import ReadOperations
from isthmus.servers.gateway.blob_writes import WriteOperations
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.http_app import HttpPeer, HttpSession, JournaledOnce, raw_path, raw_query
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import SessionIndex

SERVER = "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0"
"""The Server header of an answer by the service itself."""

FIREWALL_SERVER = "Microsoft-HTTPAPI/2.0"
"""The Server header of an answer by the firewall in front of it."""

JOURNALED_HOPS = frozenset({Hop.NAME, Hop.NETWORK, Hop.AUTHENTICATION, Hop.AUTHORIZATION, Hop.CONTRACT})

NOTED: Mapping[Operation, tuple[Verdict, str]] = {
    Operation.CREATE_CONTAINER: (Verdict.CHANGED, "container created:"),
    Operation.DELETE_CONTAINER: (Verdict.CHANGED, "container deleted:"),
    Operation.SET_CONTAINER_ACL: (Verdict.CHANGED, "stored access policies written:"),
    Operation.GET_USER_DELEGATION_KEY: (Verdict.READ, "user delegation key given"),
}
"""Operations that stand in the journal."""

logger = logging.getLogger(__name__)

_NOT_MODIFIED = {"x-ms-error-code": StorageCode.CONDITION_NOT_MET.wire_name}


class BlobFront:
    """Implements `NeighbourFront` for storage accounts."""

    def __init__(
        self,
        gate: Gate,
        access: BlobAccess,
        store: BlobStore,
        sessions: SessionIndex,
        clock: Clock,
        ids: Ids,
        *,
        authorization_uri: Callable[[], str] = lambda: "",
    ) -> None:
        """`authorization_uri` gives where a client without a token is told to ask for one."""
        self._gate = gate
        self._access = access
        self._sessions = sessions
        self._clock = clock
        self._ids = ids
        self._authorization_uri = authorization_uri
        self._arrivals = JournaledOnce(gate, clock)
        self._handlers = {
            **ContainerOperations(store, ids).handlers,
            **ReadOperations(store).handlers,
            **WriteOperations(store, ids).handlers,
        }

    async def handle(self, request: web.BaseRequest, connection: HttpPeer, neighbour: Guarded) -> web.StreamResponse:
        """Answers a request; never raises but for cancellation, which follows when the peer has gone."""
        visit = _Visit(connection, neighbour)
        answer = _Answer(request, self._ids.uuid(), self._clock.utc_ms())
        try:
            return await self._answered(request, visit, answer)
        except NotModifiedError:
            return await answer.send(BlobReply(304, _NOT_MODIFIED))
        except StorageError as error:
            return await self._refused(visit, answer, error)
        except HubError as error:
            return await self._refused(visit, answer, StorageError(StorageCode.SERVER_BUSY, refusal=error.refusal))
        except asyncio.CancelledError:
            if visit.session is None or visit.session.lost is None:
                raise
            visit.session.outlive_cut()
            return await self._refused(visit, answer, as_storage(visit.session.lost), close=True)
        except (ConnectionError, TimeoutError, web.RequestPayloadError) as gone:
            answer.hang_up()
            raise asyncio.CancelledError from gone
        except Exception as error:
            logger.exception("a blob request failed", extra={"account": neighbour.name})
            busy = isinstance(error, StateClosed | OSError)
            code = StorageCode.SERVER_BUSY if busy else StorageCode.INTERNAL_ERROR
            return await self._refused(visit, answer, StorageError(code), close=True)
        finally:
            if visit.session is not None:
                self._sessions.remove(visit.session)

    async def _answered(self, request: web.BaseRequest, visit: "_Visit", answer: "_Answer") -> web.StreamResponse:
        asked = _asked(request)
        let = visit.let = await self._access.admit(visit.connection, visit.neighbour, asked)
        answer.version = asked.version
        self._arrivals.note(visit.connection, let.admitted)
        visit.session = HttpSession(let.account.number, let.admitted.principal, visit.connection)
        self._sessions.add(visit.session)
        if let.operation in NOTED:
            self._gate.require_room()
        reply = await self._handlers[let.operation](self._call(request, let, asked, answer))
        if let.operation in NOTED:
            self._note(visit, let)
        return await answer.send(reply)

    def _note(self, visit: "_Visit", let: Let) -> None:
        """Journals what administers an account, and the giving away of keys; blobs are daily work."""
        verdict, what = NOTED[let.operation]
        detail = f"{what} {let.target.container}".strip()
        principal = let.admitted.principal.label
        self._gate.done(
            visit.connection, Plane.HTTPS, Decision(verdict, hub=let.account.name, principal=principal, detail=detail)
        )

    def _call(self, request: web.BaseRequest, let: Let, asked: Asked, answer: "_Answer") -> BlobCall:
        return BlobCall(
            let=let,
            headers=asked.headers,
            said=dict(request.headers),
            query=asked.query,
            body=Body(request, request.content_length),
            endpoint=f"https://{request.headers.get('Host', let.account.host_name)}/",
            version=answer.version,
            utc_ms=answer.utc_ms,
        )

    async def _refused(
        self, visit: "_Visit", answer: "_Answer", error: StorageError, *, close: bool = False
    ) -> web.StreamResponse:
        if error.refusal is not None and error.refusal.hop in JOURNALED_HOPS:
            principal = visit.let.admitted.principal.label if visit.let is not None else ""
            answer.request_id = self._gate.refused(
                visit.connection, Plane.HTTPS, visit.neighbour.name, "", error, principal=principal
            )
        headers = {"Content-Type": "application/xml", "x-ms-error-code": error.storage_code.wire_name}
        if error.storage_code.status == 401:
            challenge = f"Bearer authorization_uri={self._authorization_uri()} resource_id=https://storage.azure.com"
            headers["WWW-Authenticate"] = challenge
        answer.by_firewall = error.refusal is not None and error.refusal.hop is Hop.NETWORK
        body = error_document(error, answer.request_id, answer.utc_ms)
        return await answer.send(BlobReply(error.storage_code.status, headers, body), close=close)


@dataclass(slots=True)
class _Visit:
    """What is known so far of a request."""

    connection: HttpPeer
    neighbour: Guarded
    let: Let | None = None
    session: HttpSession | None = None


class _Answer:
    """The answer to one request, begun at most once."""

    def __init__(self, request: web.BaseRequest, request_id: str, utc_ms: int) -> None:
        self._request = request
        self.request_id = request_id
        self.utc_ms = utc_ms
        self.version = VERSION
        self.by_firewall = False
        self._begun = False

    async def send(self, reply: BlobReply, *, close: bool = False) -> web.StreamResponse:
        """Sends headers and content; one that has begun already cannot be taken back, and its connection ends."""
        if self._begun:
            self.hang_up()
            raise asyncio.CancelledError
        response = web.StreamResponse(status=reply.status, headers={**self._own_headers(), **reply.headers})
        length = len(reply.body) if reply.length is None else reply.length
        if reply.status not in (204, 304):
            response.content_length = length
        if close or not self._request.content.is_eof():
            response.force_close()
        try:
            await response.prepare(self._request)
            self._begun = True
            await self._write(response, reply)
        finally:
            if reply.stream is not None:
                await reply.stream.aclose()
            if reply.held is not None:
                await reply.held.aclose()
        return response

    def hang_up(self) -> None:
        """Ends the connection: what was begun can be neither finished nor taken back."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _write(self, response: web.StreamResponse, reply: BlobReply) -> None:
        if self._request.method != "HEAD":
            if reply.body:
                await response.write(reply.body)
            if reply.stream is not None:
                async for piece in reply.stream:
                    async with asyncio.timeout(STALL_SECONDS_MAX):
                        await response.write(piece)
        await response.write_eof()

    def _own_headers(self) -> dict[str, str]:
        headers = {
            "Server": FIREWALL_SERVER if self.by_firewall else SERVER,
            "Date": http_date(self.utc_ms),
            "x-ms-request-id": self.request_id,
        }
        if not self.by_firewall:
            headers["x-ms-version"] = self.version
        client = self._request.headers.get("x-ms-client-request-id", "")
        if client and len(client) <= 1024:
            headers["x-ms-client-request-id"] = client
        return headers


def _asked(request: web.BaseRequest) -> Asked:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    try:
        query, fault = parse_query(raw_query(request)), None
    except StorageError as error:
        query, fault = {}, error
    return Asked(request.method, raw_path(request), query, headers, fault)
