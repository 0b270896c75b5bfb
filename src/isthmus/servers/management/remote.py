"""Management from elsewhere: the HTTP face over TCP and TLS, where a bearer token says who asks (RFC 6750).

Theory of operation. A request passes these stations: the token, the door and the address; what is offered here and the
API's version; the right; and only then the call, which is the local owner's own. Whoever fails at the first station
gets one answer whatever the reason, after the same work, and his connection ends with it: a guess costs a socket of the
budget and a handshake. Whoever was let in once has proved who he is, and keeps his connection.

A connection belongs to the tokens whose requests came by it. When one of them is deleted, the connection is closed; a
request of that token that is under way is cancelled and answered as refused, save the deletion itself. What such a
request had begun to change runs to its end.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from isthmus.access.journal import Decision, Journal, Verdict
from isthmus.base.errors import Code, Hop, HubError
from isthmus.base.ids import Ids, TrackingId
from isthmus.network.door import DoorKind
from isthmus.network.virtual_networks import holds
from isthmus.resources.tokens import ManagementToken, Tokens, untrusted
from isthmus.servers.gateway.connection import Connection
from isthmus.servers.gateway.gate import Peer
from isthmus.servers.gateway.http_app import SERVER
from isthmus.servers.gateway.http_body import read_body
from isthmus.servers.gateway.http_transport import CONNECTION, HttpHandler
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.management.dry_runs import is_dry_run
from isthmus.servers.management.permissions import ARM_ROOTS, check_allowed, visible, visible_affected
from isthmus.servers.management.request import Call, Reply, refused, split_target
from isthmus.servers.management.server import check_body_size

API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-[a-z]+)?", re.IGNORECASE)
"""Clients move theirs several times a year, and the shapes here are the same for all: whatever has the form will do."""

CHALLENGE = 'Bearer realm="isthmus management", error="invalid_token"'
"""RFC 6750 §3; the same for no token at all."""

NO_CONTENT = 204
"""Of a DELETE also for what is not there, so that it can be said twice (Azure Resource Manager's contract)."""

RETRIABLE = frozenset({429, 503})
RETRY_SECONDS = 1
"""What a client is told to wait; it would wait half a minute by itself."""


class Refusals(Protocol):
    """Journals and counts what is refused; the gate does."""

    def refused(
        self, connection: Peer, plane: Plane, hub_name: str, device: str, error: HubError, *, principal: str = ""
    ) -> TrackingId:
        """The name under which the owner finds the reason."""


class Actor(Protocol):
    """Carries calls out; the management API does."""

    async def act(self, call: Call) -> Reply:
        """Raises HubError for a refusal and for whatever failed."""


@dataclass(slots=True)
class _Request:
    """A request under way, the name of its token and of the token that it deletes; `lost` when it is cancelled."""

    task: "asyncio.Task[object]"
    token: str
    deletes: str
    lost: bool = False


@dataclass(slots=True)
class _Live:
    """An open connection, the names of the tokens that came by it, and the request that it carries now."""

    connection: Connection
    tokens: set[str] = field(default_factory=set)
    request: _Request | None = None
    ending: bool = False


class RemoteManagement:
    """Answers operators with a token; `handle` is a handler for `aiohttp.web.Server`. On the event loop only."""

    def __init__(
        self,
        api: Actor,
        tokens: Tokens,
        refusals: Refusals,
        journal: Journal,
        ids: Ids,
        allow: Sequence[str] = (),
    ) -> None:
        """`allow` are the ranges that callers may come from, in CIDR notation; none for any."""
        self._api = api
        self._tokens = tokens
        self._refusals = refusals
        self._journal = journal
        self._ids = ids
        self._allow = tuple(allow)
        self._live: dict[str, _Live] = {}
        tokens.on_delete(self._token_deleted)

    def handler(self, server: web.Server) -> HttpHandler:
        """The pump of one connection, which is known here from its first byte to its last."""
        return _Handler(server, self._live)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request."""
        transport = request.transport
        connection: Connection | None = None if transport is None else transport.get_extra_info(CONNECTION)
        live = None if connection is None else self._live.get(connection.connection_id)
        if live is None:
            return web.Response(status=Code.SERVICE_UNAVAILABLE.http_status)
        try:
            token = self._let_in(live, request.headers.get("Authorization", ""))
        except HubError as error:
            return self._refusal(live, error, "", {"WWW-Authenticate": CHALLENGE})
        return await self._answer(live, token, request)

    def _let_in(self, live: _Live, authorization: str) -> ManagementToken:
        """Whoever shows a good token, at the right door, from an address that may come."""
        connection = live.connection
        scheme, _, shown = authorization.partition(" ")
        try:
            token = self._tokens.verify(shown.strip() if scheme.lower() == "bearer" else "")
        except HubError as error:
            raise error if authorization else untrusted("auth.missing", "no token", "send a bearer token") from error
        if connection.door.kind is not DoorKind.MANAGEMENT:
            value = f"{token.label} came by {connection.door.label}"
            raise untrusted("name.wrong-door", value, "use an address that is no private endpoint's", Hop.NAME)
        if self._allow and not holds(self._allow, connection.peer_address):
            value = f"{token.label} came from {connection.peer_address}, outside management.allow"
            raise untrusted("network.management-allow", value, "add its range to management.allow", Hop.NETWORK)
        connection.made_progress()
        if token.name not in live.tokens:
            live.tokens.add(token.name)
            self._note_entry(live, token)
        return token

    async def _answer(self, live: _Live, token: ManagementToken, request: web.BaseRequest) -> web.Response:
        task: asyncio.Task[object] | None = asyncio.current_task()
        assert task is not None, "a request is handled in a task"
        under_way = live.request = _Request(task, token.name, _deleted_by(request))
        try:
            response = self._response(await self._carried_out(live, token, request), "")
        except HubError as error:
            response = self._refusal(live, error, token.label, hub=_hub_named_in(request))
        except asyncio.CancelledError:
            if not under_way.lost:
                raise
            task.uncancel()
            deleted = untrusted("auth.unknown-token", f"{token.label} was deleted", "isthmus token create")
            response = self._refusal(live, deleted, token.label, {"WWW-Authenticate": CHALLENGE})
        finally:
            live.request = None
        if live.ending:
            response.force_close()
        return response

    async def _carried_out(self, live: _Live, token: ManagementToken, request: web.BaseRequest) -> Reply:
        path, query = split_target(request.raw_path)
        _check_offered(path, query)
        call = Call(
            request.method,
            path,
            query,
            body=await read_body(request, check_body_size),
            if_match=request.headers.get("If-Match"),
            if_none_match=request.headers.get("If-None-Match"),
            who=token.label,
            door=live.connection.door.label,
            address=live.connection.peer_address,
        )
        asked = check_allowed(token, call)
        try:
            reply = await self._api.act(call)
        except HubError as error:
            if call.method != "DELETE" or error.code is not Code.RESOURCE_NOT_FOUND:
                raise
            reply = Reply(NO_CONTENT)
        return visible_affected(token, reply) if is_dry_run(call) else visible(token, asked, reply)

    async def _token_deleted(self, token: ManagementToken) -> None:
        for live in list(self._live.values()):
            if token.name not in live.tokens:
                continue
            live.ending = True
            if live.request is None:
                live.connection.close("token deleted")
            elif live.request.token == token.name and live.request.deletes != token.name.lower():
                live.request.lost = True
                live.request.task.cancel()

    def _note_entry(self, live: _Live, token: ManagementToken) -> None:
        """A connection carries many requests; each token on it is journaled once."""
        connection = live.connection
        self._journal.write(
            Decision(
                Verdict.ALLOWED,
                plane=Plane.MANAGEMENT.value,
                door=connection.door.label,
                address=connection.peer_address,
                principal=token.label,
                rule="auth.token",
                detail=f"{token.role.value} of {token.scope}",
            )
        )

    def _refusal(
        self, live: _Live, error: HubError, principal: str, headers: dict[str, str] | None = None, *, hub: str = ""
    ) -> web.Response:
        """Journals a refusal and words it; with `headers` it is also the connection's end."""
        tracking_id = self._refusals.refused(live.connection, Plane.MANAGEMENT, hub, "", error, principal=principal)
        response = self._response(refused(error), tracking_id.partition("-")[0])
        if headers is not None:
            response.headers.update(headers)
            response.force_close()
        return response

    def _response(self, reply: Reply, request_id: str) -> web.Response:
        """A reply with ARM's headers; the request id of a refusal is what `isthmus explain` takes."""
        named = request_id or self._ids.uuid()
        headers = {"Server": SERVER, "Cache-Control": "no-cache", "x-ms-request-id": named}
        headers["x-ms-correlation-request-id"] = named
        if reply.status in RETRIABLE:
            headers["Retry-After"] = str(RETRY_SECONDS)
        response = web.Response(status=reply.status, body=reply.body or None, headers=headers)
        if reply.body:
            response.content_type = "application/json"
            response.charset = "utf-8"
        return response


class _Handler(HttpHandler):
    """Keeps the ledger of open connections."""

    def __init__(self, server: web.Server, ledger: dict[str, _Live]) -> None:
        super().__init__(server)
        self._ledger = ledger
        self._connection_id = ""

    def opened(self, connection: Connection) -> None:
        self._connection_id = connection.connection_id
        self._ledger[self._connection_id] = _Live(connection)
        super().opened(connection)

    def closed(self, reason: str) -> None:
        self._ledger.pop(self._connection_id, None)
        super().closed(reason)


def _check_offered(path: tuple[str, ...], query: Mapping[str, str]) -> None:
    """Raises HubError for what is the local owner's alone, and for an ARM path without a version."""
    first = path[0].lower()
    if first == "hubs" and len(path) > 1:
        message = "Devices, messages and methods are reached by the hub's service API, with a shared access policy"
        raise HubError(Code.NOT_IMPLEMENTED, message)
    if first not in ARM_ROOTS:
        return
    version = query.get("api-version", "")
    if not version:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise HubError(Code.MISSING_API_VERSION, message)
    if not API_VERSION.fullmatch(version):
        message = f"The api-version '{version}' is invalid. It has the form '2023-06-30' or '2023-06-30-preview'."
        raise HubError(Code.INVALID_API_VERSION, message)


def _hub_named_in(request: web.BaseRequest) -> str:
    """The hub that a path names, for the journal; empty for none."""
    words = request.rel_url.path.split("/")
    kinds = [word.lower() for word in words]
    return words[kinds.index("iothubs") + 1] if "iothubs" in kinds[:-1] else ""


def _deleted_by(request: web.BaseRequest) -> str:
    """The token that a request deletes, in small letters; empty when it deletes none."""
    words = request.rel_url.path.lower().strip("/").split("/")
    return words[1] if request.method == "DELETE" and len(words) == 2 and words[0] == "tokens" else ""
