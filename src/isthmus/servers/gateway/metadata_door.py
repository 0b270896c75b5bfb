"""Tokens of one identity for whoever is inside one network namespace, in the form of Azure's metadata service.

Off unless the configuration names a namespace and its identity. There, and nowhere else, the metadata address is
listened at, without TLS, because that is the only way its clients know ("Azure Instance Metadata Service": plain HTTP
at 169.254.169.254, never leaving the machine). Being inside is the proof: what runs in the namespace gets tokens of
that identity and of no other one. A request has to carry `Metadata: true` and must not have been forwarded, so that a
program inside cannot be talked into fetching a token for somebody outside. What was given, and what was refused, stands
in the journal. A namespace that is not there yet is tried again by `settle`.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from isthmus.access.access_tokens import TOKEN_SECONDS
from isthmus.access.journal import Decision, Verdict
from isthmus.access.refusals import unauthorized
from isthmus.base.errors import ConfigurationError, HubError
from isthmus.base.sockets import METADATA_ADDRESS, METADATA_PORT, SocketKind
from isthmus.network.door import Door, DoorKind
from isthmus.resources.token_authority import AccessToken, Subject, TokenAuthority
from isthmus.resources.user_identities import UserIdentities, UserIdentity
from isthmus.servers.gateway.gate import Gate, Peer
from isthmus.servers.gateway.http_app import connection_of
from isthmus.servers.gateway.http_transport import HttpHandler
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.places import Places
from isthmus.servers.gateway.plane import Plane

PATH = "/metadata/identity/oauth2/token"
FORWARDED = ("X-Forwarded-For", "Forwarded", "Via")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bound:
    """A namespace, and the identity by name or ARM id that is given to whoever is inside."""

    namespace: str
    identity: str

    @property
    def place(self) -> str:
        """As `Presence.place` says it."""
        return f"netns:{self.namespace}"

    @property
    def door(self) -> Door:
        """The way in."""
        return Door(DoorKind.METADATA, connection=self.namespace)


class MetadataPage:
    """Answers requests of one namespace; `handle` is a handler for `aiohttp.web.Server`."""

    def __init__(self, bound: Bound, gate: Gate, authority: TokenAuthority, identities: UserIdentities) -> None:
        self._bound = bound
        self._gate = gate
        self._authority = authority
        self._identities = identities

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request; each connection carries one, as nobody here proves anything."""
        response = await self._answer(request)
        response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        connection = connection_of(request)
        if connection is None or request.method != "GET" or request.path.lower() != PATH:
            return _refusal(404, "not_found", f"There is GET {PATH}")
        try:
            identity = self._asked(request)
            subject = Subject(identity.principal_id, identity.client_id, identity.resource_id)
            given = await self._authority.issue(subject, request.query.get("resource", ""))
        except HubError as error:
            tracking_id = self._gate.refused(connection, Plane.METADATA, "", "", error, principal=self._label)
            code = "invalid_resource" if error.refusal is None else "invalid_request"
            said = error.message if error.refusal is None else error.refusal.value
            return _refusal(400, code, f"{said}. Trace ID: {tracking_id}")
        self._journal(connection, identity, given)
        return web.json_response(_told(identity, given), headers={"Cache-Control": "no-store"})

    @property
    def _label(self) -> str:
        return f"netns:{self._bound.namespace}"

    def _asked(self, request: web.BaseRequest) -> UserIdentity:
        """The identity, when the request is one of a program inside; raises HubError, rule `auth.metadata`."""
        if request.headers.get("Metadata", "").lower() != "true":
            raise _no("Required metadata header not specified", "send the header Metadata: true")
        if any(name in request.headers for name in FORWARDED):
            raise _no("The request was forwarded", "ask from inside the namespace, without a proxy")
        identity = self._identities.get(self._bound.identity.rpartition("/")[2])
        if identity is None:
            remedy = f"isthmus identity create -n {self._bound.identity.rpartition('/')[2]}"
            raise _no(f"Identity not found: there is no {self._bound.identity}", remedy)
        own = {
            "client_id": identity.client_id,
            "object_id": identity.principal_id,
            "msi_res_id": identity.resource_id.lower(),
            "mi_res_id": identity.resource_id.lower(),
        }
        for name, value in own.items():
            if request.query.get(name, value).lower() != value:
                remedy = f"ask for {identity.name}, or bind the namespace to the other one: authority.metadata"
                raise _no(f"Identity not found: {self._bound.namespace} is bound to {identity.name}", remedy)
        return identity

    def _journal(self, connection: Peer, identity: UserIdentity, given: AccessToken) -> None:
        detail = f"access token of {identity.name} given for {given.audience}"
        done = Decision(Verdict.READ, principal=f"identity:{identity.principal_id}", detail=detail)
        self._gate.done(connection, Plane.METADATA, done)


class MetadataDoors:
    """Listens at the metadata address of the namespaces that are bound to an identity; on the event loop only."""

    def __init__(
        self,
        bound: Iterable[Bound],
        listeners: Listeners,
        places: Places,
        make_page: Callable[[Bound], MetadataPage],
    ) -> None:
        self._pages = {each: web.Server(make_page(each).handle, access_log=None) for each in bound}
        self._listeners = listeners
        self._places = places
        self._networks: dict[Bound, int] = {}
        self._troubles: dict[Bound, str] = {}

    @property
    def missing(self) -> str:
        """Which namespaces get no tokens, and why; empty when all do."""
        return " ".join(f"{each.namespace}: {reason}" for each, reason in self._troubles.items())

    async def settle(self) -> None:
        """Listens where it is not listened yet, also in a namespace that has been made anew."""
        for each in self._pages:
            try:
                network = await self._places.hold(each.place, METADATA_ADDRESS)
                if self._networks.get(each) != network:
                    await self._open(each)
            except ConfigurationError as error:
                if self._troubles.get(each) != str(error):
                    reason = {"namespace": each.namespace, "reason": str(error)}
                    logger.warning("tokens are not given in a namespace", extra=reason)
                self._troubles[each] = str(error)
            else:
                self._troubles.pop(each, None)

    async def close(self) -> None:
        """Ends what is being answered, and gives the addresses back."""
        for each, server in self._pages.items():
            await server.shutdown(0)
            try:
                await self._places.release(each.place, METADATA_ADDRESS)
            except ConfigurationError as error:
                reason = {"namespace": each.namespace, "reason": str(error)}
                logger.warning("address is not given back", extra=reason)

    async def _open(self, bound: Bound) -> None:
        opened = await self._places.listening_socket(bound.place, METADATA_ADDRESS, METADATA_PORT, SocketKind.STREAM)
        self._listeners.close(METADATA_ADDRESS, METADATA_PORT, bound.place)
        server = self._pages[bound]
        self._listeners.open_metadata(
            opened, door=bound.door, place=bound.place, make_handler=lambda: HttpHandler(server)
        )
        self._networks[bound] = self._places.network_of(opened)


def _told(identity: UserIdentity, given: AccessToken) -> dict[str, str]:
    """All values are texts, as the service writes them."""
    return {
        "access_token": given.text,
        "client_id": identity.client_id,
        "expires_in": str(TOKEN_SECONDS),
        "expires_on": str(given.expires_s),
        "ext_expires_in": str(TOKEN_SECONDS),
        "not_before": str(given.issued_s),
        "resource": given.audience,
        "token_type": "Bearer",
    }


def _no(value: str, remedy: str) -> HubError:
    return unauthorized("auth.metadata", value, remedy)


def _refusal(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
