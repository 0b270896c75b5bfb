"""The HTTP face of the hub, for services and devices: from a request to a reply, in the order of the front door.

Theory of operation. Every request passes the same stations, whatever it asks: the doorway says which hub is meant and
who asks; then the path, the API version, the right, the content type and the body are judged, and only then does the
operation run. Before the doorway has let the visitor in, nothing about the hub or its paths is answered. A refusal at
any station is reported to the doorway, which journals it and gives the tracking id of the answer.

A request under way is a session in the index: when a change takes its right away, it is cancelled and answered as a
refusal, and its connection ends. What it had committed stays. A connection without a request needs no cutting: its next
request meets the doorway.

There are two doorways: `GateDoorway` for sockets of the gateway, where the gate judges names, network and tokens, and
`OwnerDoorway` for the management socket, where the operating system has judged and the path begins with `/hubs/{hub}`.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol
from urllib.parse import unquote

from aiohttp import web

from isthmus.access.access_tokens import is_bearer
from isthmus.access.authenticate import require_permission
from isthmus.access.explain import change_texts
from isthmus.access.journal import Decision, Verdict
from isthmus.access.principal import HUB_RIGHTS, Principal, PrincipalKind
from isthmus.access.refusals import unauthorized
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal, ThrottledError
from isthmus.base.ids import DeviceRef, HubId, TrackingId
from isthmus.base.state import StateClosed
from isthmus.network.door import DoorKind
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.servers.gateway.gate import Admitted, Gate, Peer, device_name
from isthmus.servers.gateway.http_body import check_json_type, check_request_size, media_type, read_body
from isthmus.servers.gateway.http_device import DeviceApi, DeviceCall
from isthmus.servers.gateway.http_errors import Envelope, refusal_reply
from isthmus.servers.gateway.http_message import Call, Change, Reply
from isthmus.servers.gateway.http_routes import DEVICE_SIDE, Action, Match, check_api_version, find
from isthmus.servers.gateway.http_service import ServiceApi
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import SessionIndex
from isthmus.servers.gateway.telemetry_contract import check_size
from isthmus.servers.gateway.throttles import METERED, Throttles, cost_of
from isthmus.servers.gateway.token_door import TokenCall, TokenDoor, check_form_size
from isthmus.wire.websocket.handshake import VERSION, VERSION_HEADER

JOURNALED_MAX = 1024
"""Visitors remembered as journaled, the longest unseen forgotten first; one who returns after that is told again."""

JOURNALED_SECONDS = 3_600.0
"""After this a visitor is journaled anew: a dry run looks back some days, and a connection may be older."""

SERVER = "Isthmus"
"""The Server header; it tells no version."""

CALLS = frozenset((Action.INVOKE_METHOD, Action.INVOKE_COMMAND))
"""Operations that wait for a device's answer."""

CHANGES: Mapping[Action, str] = MappingProxyType(
    {
        Action.PUT_IDENTITY: "identity written",
        Action.DELETE_IDENTITY: "identity deleted",
        Action.BULK: "identities written in bulk",
        Action.RENEW_KEYS: "keys of identities renewed",
        Action.PURGE: "cloud-to-device messages purged",
        Action.CREATE_JOB: "import or export of identities begun",
        Action.CANCEL_JOB: "import or export of identities cancelled",
        Action.CREATE_SCHEDULED_JOB: "job scheduled",
        Action.CANCEL_SCHEDULED_JOB: "scheduled job cancelled",
        Action.PUT_CONFIGURATION: "configuration written",
        Action.DELETE_CONFIGURATION: "configuration deleted",
        Action.APPLY_CONTENT: "content applied to an edge device",
    }
)
"""Operations that administer the hub and stand in the journal, whoever asks; the rest is its daily work."""

TAG_CHANGES: Mapping[Action, str] = MappingProxyType(
    dict.fromkeys((Action.PATCH_TWIN, Action.PUT_TWIN), "tags written")
)
"""Operations that stand in the journal when they changed a twin's tags; desired properties are daily work."""

KEY_READS: Mapping[Action, str] = MappingProxyType(
    {
        Action.GET_IDENTITY: "keys of an identity read",
        Action.LIST_DEVICES: "keys of devices read",
        Action.LIST_MODULES: "keys of modules read",
    }
)
"""Operations whose answer holds keys."""

_ORIGIN = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://([^/?]*)")
"""Scheme and authority of a target in absolute form (RFC 9112 §3.2.2)."""

logger = logging.getLogger(__name__)


class HttpPeer(Peer, Protocol):
    """What the doorways look at in a `Connection`."""

    @property
    def peer_uid(self) -> int | None:
        """User number of the process at the other end of a Unix socket."""


@dataclass(slots=True)
class Visit:
    """What is known so far of a request, for the journal; texts may be whatever a stranger wrote."""

    connection: HttpPeer
    hub: str = ""
    device: str = ""
    principal: str = ""
    envelope: Envelope = Envelope.A
    session: "HttpSession | None" = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """What a refusal says besides."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who came in, to which hub; `device` is the device or `device/module` that the request is of, if it is one's.

    `admitted` is the gate's verdict, None for who did not come through it.
    """

    hub: Hub
    principal: Principal
    device: str = ""
    admitted: Admitted | None = None


class HttpSession:
    """A request under way, as the index of sessions knows it."""

    built_in = False

    def __init__(self, number: HubId, principal: Principal, peer: Peer, device: str = "") -> None:
        """Of the task that calls; `number` is the hub's or neighbour's."""
        self.hub = number
        self.door = peer.door
        self.address = peer.peer_address
        self.principal = principal
        self.device = device
        self.plane = Plane.HTTPS
        self.lost: HubError | None = None
        self._task = _this_task()

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Stops the request, which is then answered as refused."""
        if self.lost is None:
            self.lost = HubError(code, "Unauthorized", refusal)
            self._task.cancel()

    def outlive_cut(self) -> None:
        """Takes back the cancellation by `cut`: the task has an answer to give yet."""
        self._task.uncancel()


class Doorway(Protocol):
    """Says which hub a request means and who asks."""

    def path_below_hub(self, path: str) -> str:
        """The raw path of the operation, without what names the hub."""

    async def admit(self, request: web.BaseRequest, visit: Visit, device: DeviceRef | None) -> Visitor:
        """Lets the visitor in, noting in `visit` what is known; raises HubError.

        `device` is set when the path belongs to a device, which then proves itself; its hub is not filled in.
        """

    def entered(self, session: HttpSession) -> None:
        """Makes the visitor's request one that can be cut."""

    def left(self, session: HttpSession) -> None:
        """The request is over."""

    def require_room(self) -> None:
        """Raises HubError when nothing may be changed, because the journal could not note it."""

    def changed(self, visit: Visit, what: str, change: Change | None) -> None:
        """Journals a change that was carried out, and of what it made what."""

    def keys_read(self, visit: Visit, what: str) -> None:
        """Journals a look at keys."""

    def refused(self, visit: Visit, error: HubError) -> TrackingId:
        """Journals a refusal."""


class NotedDoorway:
    """What every doorway writes into the journal, by the gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def require_room(self) -> None:
        """Raises HubError when nothing may be changed, because the journal could not note it."""
        self._gate.require_room()

    def changed(self, visit: Visit, what: str, change: Change | None) -> None:
        """Journals a change that was carried out, and of what it made what."""
        before, after = change_texts(change.before, change.after) if change else ("", "")
        self._gate.done(
            visit.connection, Plane.HTTPS, replace(_done(Verdict.CHANGED, visit, what), before=before, after=after)
        )

    def keys_read(self, visit: Visit, what: str) -> None:
        """Journals a look at keys."""
        self._gate.done(visit.connection, Plane.HTTPS, _done(Verdict.READ, visit, what))

    def refused(self, visit: Visit, error: HubError) -> TrackingId:
        """Journals a refusal."""
        return self._gate.refused(
            visit.connection, Plane.HTTPS, visit.hub, visit.device, error, principal=visit.principal
        )


def _done(verdict: Verdict, visit: Visit, what: str) -> Decision:
    return Decision(verdict, hub=visit.hub, device=visit.device, principal=visit.principal, detail=what)


class JournaledOnce:
    """A connection carries many requests; each key of a principal on it is journaled once in `JOURNALED_SECONDS`."""

    def __init__(self, gate: Gate, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._journaled: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def note(self, connection: Peer, admitted: Admitted) -> None:
        """Journals a visitor who was let in, unless that stands in the journal already."""
        key = (connection.connection_id, admitted.principal.label, admitted.principal.key_fingerprint)
        now = self._clock.monotonic()
        since = self._journaled.get(key)
        if since is not None and now - since < JOURNALED_SECONDS:
            self._journaled.move_to_end(key)
            return
        self._gate.admitted(connection, Plane.HTTPS, admitted)
        self._journaled[key] = now
        self._journaled.move_to_end(key)
        if len(self._journaled) > JOURNALED_MAX:
            self._journaled.popitem(last=False)


class GateDoorway(NotedDoorway):
    """The gateway's doorway: a hub's host name, and a token of a policy or a device in the Authorization header."""

    def __init__(self, gate: Gate, sessions: SessionIndex, clock: Clock) -> None:
        super().__init__(gate)
        self._sessions = sessions
        self._arrivals = JournaledOnce(gate, clock)

    def path_below_hub(self, path: str) -> str:
        return path

    async def admit(self, request: web.BaseRequest, visit: Visit, device: DeviceRef | None) -> Visitor:
        connection = visit.connection
        hub = self._gate.resolve(connection, Plane.HTTPS, *host_names(request))
        visit.hub = hub.name
        token = request.headers.get("Authorization", "")
        if device is not None:
            ref = device._replace(hub=hub.number)
            admitted = await self._gate.device(connection, Plane.HTTPS, hub, ref, token or None)
        elif is_bearer(token):
            admitted = await self._gate.bearer(connection, Plane.HTTPS, hub, token)
        else:
            uri = hub.host_name + raw_path(request)
            admitted = await self._gate.policy(connection, Plane.HTTPS, hub, token, uri)
        self._arrivals.note(connection, admitted)
        device_of = "" if admitted.identity is None else device_name(admitted.identity)
        return Visitor(admitted.hub, admitted.principal, device_of, admitted)

    def entered(self, session: HttpSession) -> None:
        self._sessions.add(session)

    def left(self, session: HttpSession) -> None:
        self._sessions.remove(session)


class OwnerDoorway(NotedDoorway):
    """The management socket's doorway: whoever may open the socket owns all hubs; the path names one of them."""

    def __init__(self, gate: Gate, hubs: Hubs) -> None:
        super().__init__(gate)
        self._hubs = hubs

    def path_below_hub(self, path: str) -> str:
        _, _, below = path.removeprefix("/").split("/", 2) if path.count("/") > 2 else ("", "", "")
        return f"/{below}"

    async def admit(self, request: web.BaseRequest, visit: Visit, device: DeviceRef | None) -> Visitor:
        if visit.connection.door.kind is not DoorKind.LOCAL:
            raise unauthorized("name.wrong-door", visit.connection.door.label, "use the management socket", Hop.NAME)
        words = raw_path(request).split("/")
        visit.hub = unquote(words[2]) if len(words) > 2 else ""
        name = f"uid:{visit.connection.peer_uid}"
        return Visitor(self._hubs.require(visit.hub), Principal(PrincipalKind.OWNER, name, HUB_RIGHTS, "hub", "owner"))

    def entered(self, session: HttpSession) -> None:
        """Nothing takes the owner's right away."""

    def left(self, session: HttpSession) -> None:
        """Nothing was entered."""


class Upgrades(Protocol):
    """Turns requests into WebSockets; `websocket_upgrade.WebSockets` does."""

    def resource_name(self, connection: Peer, names: tuple[str, ...]) -> str:
        """The resource a request means, for the journal."""

    def upgrade(self, request: web.BaseRequest, path: str, names: tuple[str, ...]) -> None:
        """Answers and hands the connection over, or raises HubError."""


def connection_of(request: web.BaseRequest) -> HttpPeer | None:
    """The connection below a request; None when the peer has gone."""
    transport = request.transport
    connection: HttpPeer | None = None if transport is None else transport.get_extra_info("connection")
    return connection


class Front:
    """Takes requests of one doorway to the service API and, where it is given, the devices' one.

    `handle` is a handler for `aiohttp.web.Server`.
    """

    def __init__(
        self,
        doorway: Doorway,
        service: ServiceApi,
        clock: Clock,
        *,
        devices: DeviceApi | None = None,
        websockets: Upgrades | None = None,
        tokens: TokenDoor | None = None,
        throttles: Throttles | None = None,
        find_connection: Callable[[web.BaseRequest], HttpPeer | None] = connection_of,
    ) -> None:
        self._doorway = doorway
        self._service = service
        self._clock = clock
        self._devices = devices
        self._websockets = websockets
        self._tokens = tokens
        self._throttles = throttles
        self._find_connection = find_connection

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request; never raises but for cancellation, which follows when the peer has gone."""
        connection = self._find_connection(request)
        if connection is None:
            return web.Response(status=Code.SERVICE_UNAVAILABLE.http_status)
        visit = Visit(connection)
        try:
            return _response(await self._served(request, visit))
        except HubError as error:
            return self._refusal(visit, error)
        except asyncio.CancelledError:
            if visit.session is None or visit.session.lost is None:
                raise
            visit.session.outlive_cut()
            return self._refusal(visit, visit.session.lost)
        except StateClosed:
            return self._refusal(visit, HubError(Code.SERVICE_UNAVAILABLE, "The hub is stopping, try again"))
        except Exception:
            logger.exception("request failed", extra={"hub": visit.hub, "connection_id": connection.connection_id})
            return self._refusal(visit, HubError(Code.SERVER_ERROR, "Internal error"))
        finally:
            if visit.session is not None:
                self._doorway.left(visit.session)

    def _refusal(self, visit: Visit, error: HubError) -> web.Response:
        tracking_id = self._doorway.refused(visit, error)
        response = _response(refusal_reply(error, tracking_id, envelope=visit.envelope, utc_ms=self._clock.utc_ms()))
        response.headers.update(visit.headers)
        if isinstance(error, ThrottledError):
            response.headers["Retry-After"] = str(error.retry_after_seconds)
        if visit.session is not None and visit.session.lost is not None:
            response.force_close()
        return response

    async def _authorized(self, tokens: TokenDoor, request: web.BaseRequest, visit: Visit) -> Reply:
        """Answers a request to the token authority."""
        hub = tokens.admit(visit.connection, host_names(request))
        visit.hub = hub.name
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await read_body(request, check_form_size)
        call = TokenCall(request.method, raw_path(request), dict(request.query), headers, body)
        return await tokens.answer(call, hub, visit.connection)

    async def _served(self, request: web.BaseRequest, visit: Visit) -> Reply:
        if self._tokens is not None and self._tokens.takes(raw_path(request)):
            return await self._authorized(self._tokens, request, visit)
        found = _found(request.method, self._doorway.path_below_hub(raw_path(request)))
        if self._websockets is not None and isinstance(found, Match) and found.route.action is Action.WEBSOCKET:
            return _upgraded(self._websockets, request, found, visit)
        device = None
        if isinstance(found, Match) and found.device_id:
            visit.device = f"{found.device_id}/{found.module_id}" if found.module_id else found.device_id
            if found.route.action in DEVICE_SIDE:
                device = DeviceRef(HubId(0), found.device_id, found.module_id)
        visitor = await self._doorway.admit(request, visit, device)
        visit.principal = visitor.principal.label
        visit.session = HttpSession(visitor.hub.number, visitor.principal, visit.connection, visitor.device)
        self._doorway.entered(visit.session)
        if isinstance(found, HubError):
            raise found
        check_api_version(request.query.get("api-version"))
        if found.route.right is not None:
            for data_action in found.route.data_actions:
                require_permission(visitor.principal, found.route.right, data_action)
        if found.route.action in DEVICE_SIDE:
            return await self._answer_device(request, visitor, found)
        visit.envelope = Envelope.B if found.route.action in CALLS else Envelope.A
        self._service.check_offered(found.route.action)
        if found.route.action in CHANGES:
            self._doorway.require_room()
        call = await _call(request, visitor.hub, found)
        reply = await self._metered(found.route.action, call)
        self._note(found.route.action, visit, reply)
        return reply

    async def _metered(self, action: Action, call: Call) -> Reply:
        """The answer to a call that the hub's rates let through."""
        operation = METERED.get(action)
        if self._throttles is None or operation is None:
            return await self._service.answer(action, call)
        self._throttles.require(call.hub, operation, cost_of(operation, len(call.body)))
        reply = await self._service.answer(action, call)
        self._throttles.owe(call.hub, operation, reply.operations - 1)
        return reply

    async def _answer_device(self, request: web.BaseRequest, visitor: Visitor, found: Match) -> Reply:
        """Answers a device; whoever did not prove to be one, as at the management socket, is offered nothing."""
        ref = DeviceRef(visitor.hub.number, found.device_id, found.module_id)
        if self._devices is None or visitor.admitted is None:
            raise HubError(Code.NOT_IMPLEMENTED, "This operation is not implemented yet")
        self._devices.check_offered(found.route.action, ref)
        call = DeviceCall(
            admitted=visitor.admitted,
            ref=ref,
            query=dict(request.query),
            headers=tuple(request.headers.items()),
            media_type=media_type(request),
            body=await read_body(request, check_size),
            lock_token=found.token,
            host=request.headers.get("Host", ""),
        )
        return await self._devices.answer(found.route.action, call)

    def _note(self, action: Action, visit: Visit, reply: Reply) -> None:
        """Journals what was done, when it is of the kind that is."""
        if action in CHANGES:
            self._doorway.changed(visit, CHANGES[action], reply.change)
        elif action in TAG_CHANGES and reply.change is not None:
            self._doorway.changed(visit, TAG_CHANGES[action], reply.change)
        elif action in KEY_READS:
            self._doorway.keys_read(visit, KEY_READS[action])


def _this_task() -> "asyncio.Task[object]":
    task: asyncio.Task[object] | None = asyncio.current_task()
    assert task is not None, "a request is handled in a task"
    return task


def raw_path(request: web.BaseRequest) -> str:
    """The path as the client wrote it, without query, and without the origin that an absolute target has."""
    return _ORIGIN.sub("", request.raw_path, count=1).partition("?")[0]


def raw_query(request: web.BaseRequest) -> str:
    """The query as the client wrote it, without its question mark; empty for none."""
    return request.raw_path.partition("?")[2]


def host_names(request: web.BaseRequest) -> tuple[str, ...]:
    """Host names in the request: the Host header and the origin of an absolute target."""
    origin = _ORIGIN.match(request.raw_path)
    return (request.headers.get("Host", ""), *((origin.group(1),) if origin else ()))


def _upgraded(websockets: Upgrades, request: web.BaseRequest, found: Match, visit: Visit) -> Reply:
    """Makes the request a WebSocket; the reply is for nobody, because the connection has changed hands by then."""
    names = host_names(request)
    visit.hub = websockets.resource_name(visit.connection, names)
    visit.headers = {VERSION_HEADER: VERSION}
    websockets.upgrade(request, found.route.segments[0], names)
    return Reply(HTTPStatus.SWITCHING_PROTOCOLS)


def _found(verb: str, path: str) -> Match | HubError:
    """The operation, or the refusal that waits until the visitor has been let in."""
    try:
        return find(verb, path)
    except HubError as error:
        return error


async def _call(request: web.BaseRequest, hub: Hub, found: Match) -> Call:
    check_json_type(request)
    return Call(
        hub=hub,
        ref=DeviceRef(hub.number, found.device_id, found.module_id),
        query=dict(request.query),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await read_body(request, check_request_size),
        name=found.name or found.token,
        component=found.token if found.name else "",
    )


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body or None, headers={"Server": SERVER, **reply.headers})
