"""The token authority's pages, at a hub's own name and behind its network rules: OpenID, OAuth 2.0, App Service style.

Off unless the configuration says otherwise. Below `/{tenant}` and `/adfs` (for clients that ask nobody else whether an
authority is genuine): the OpenID document, the key set, and tokens for client credentials (OpenID Connect Discovery
1.0; RFC 7517; RFC 6749 §4.4). At `/msi/token`: tokens for workloads that hold the secret of one identity, as App
Service gives them ("How to use managed identities for App Service", REST endpoint reference). Whoever shows no good
secret hears one answer; why stands in the journal. A token that was given stands there, too.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_plus

from isthmus.access.access_tokens import TOKEN_BYTES_MAX, TOKEN_SECONDS
from isthmus.access.journal import Decision, Verdict
from isthmus.access.refusals import unauthorized
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import TrackingId
from isthmus.base.places import TENANT
from isthmus.resources.hub import Hub
from isthmus.resources.token_authority import AccessToken, Subject, TokenAuthority
from isthmus.resources.user_identities import UserIdentities, UserIdentity
from isthmus.servers.gateway.gate import Gate, Peer
from isthmus.servers.gateway.http_message import Reply, json_reply
from isthmus.servers.gateway.plane import Plane

FORM_BYTES_MAX = TOKEN_BYTES_MAX
"""The body of a request for a token."""

ROOTS = frozenset({TENANT, "adfs"})
"""First segments of the authority's paths."""

APP_SERVICE = ("msi", "token")
APP_SERVICE_VERSIONS = frozenset({"2019-08-01", "2017-09-01"})
SECRET_HEADERS = ("x-identity-header", "secret")


@dataclass(frozen=True, slots=True)
class TokenCall:
    """A request to the authority; names of `headers` are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments in small letters."""
        return _segments(self.path)


class TokenDoor:
    """Answers at the paths that are switched on; used on the event loop only."""

    def __init__(
        self,
        gate: Gate,
        authority: TokenAuthority,
        identities: UserIdentities,
        clock: Clock,
        *,
        oauth: bool,
        app_service: bool,
    ) -> None:
        """`oauth` switches the authority on, `app_service` the endpoint for workloads."""
        self._gate = gate
        self._authority = authority
        self._identities = identities
        self._clock = clock
        self._oauth = oauth
        self._app_service = app_service

    def takes(self, path: str) -> bool:
        """True for a path that is answered here."""
        segments = _segments(path)
        return (self._oauth and segments[0] in ROOTS) or (self._app_service and segments == APP_SERVICE)

    def admit(self, connection: Peer, names: tuple[str, ...]) -> Hub:
        """The hub whose name was used, when its network rules admit the peer; raises HubError."""
        hub = self._gate.resolve(connection, Plane.HTTPS, *names)
        self._gate.stranger(connection, hub)
        return hub

    async def answer(self, call: TokenCall, hub: Hub, connection: Peer) -> Reply:
        """Answers a request of a peer who was admitted."""
        segments = call.segments
        if segments == APP_SERVICE:
            return await self._for_workload(call, hub, connection)
        match call.method, segments[1:]:
            case "GET", (*_, ".well-known", "openid-configuration"):
                return json_reply(self._document(call, hub))
            case "GET", (*_, "keys"):
                return json_reply(await self._authority.key_set())
            case "POST", (*_, "token"):
                return await self._for_client(call, hub, connection)
            case _:
                return _error(404, "invalid_request", "There is nothing at this path")

    def _document(self, call: TokenCall, hub: Hub) -> dict[str, object]:
        base = f"https://{call.headers.get('host') or hub.host_name}/{call.segments[0]}"
        oauth = f"{base}/oauth2/v2.0"
        return {
            "issuer": self._authority.issuer_name(),
            "authorization_endpoint": f"{oauth}/authorize",
            "token_endpoint": f"{oauth}/token",
            "device_authorization_endpoint": f"{oauth}/devicecode",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["aud", "exp", "iat", "iss", "nbf", "oid", "sub", "tid", "appid", "xms_mirid"],
        }

    async def _for_client(self, call: TokenCall, hub: Hub, connection: Peer) -> Reply:
        form = _form(call.body)
        if form is None or form.get("grant_type") != "client_credentials":
            return _error(400, "unsupported_grant_type", "AADSTS70003: grant_type is client_credentials here")
        client_id, secret = _credentials(form, call.headers.get("authorization", ""))
        try:
            identity = self._proved(secret, client_id, "")
            given = await self._given(identity, form.get("scope") or form.get("resource") or "", hub, connection)
        except HubError as error:
            return self._refused(error, hub, connection, client_id)
        return json_reply(
            {
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
                "ext_expires_in": TOKEN_SECONDS,
                "access_token": given.text,
            },
            headers=_NOT_KEPT,
        )

    async def _for_workload(self, call: TokenCall, hub: Hub, connection: Peer) -> Reply:
        if call.method != "GET" or call.query.get("api-version") not in APP_SERVICE_VERSIONS:
            return json_reply_of(400, {"statusCode": 400, "message": "GET with api-version=2019-08-01 is what is here"})
        secret = next((call.headers[name] for name in SECRET_HEADERS if name in call.headers), "")
        wanted = {name: call.query[name] for name in ("client_id", "object_id", "mi_res_id") if call.query.get(name)}
        try:
            identity = self._proved(secret, wanted.get("client_id", ""), wanted.get("object_id", ""))
            if wanted.get("mi_res_id", identity.resource_id).lower() != identity.resource_id.lower():
                raise _other_identity(identity, wanted["mi_res_id"])
            given = await self._given(identity, call.query.get("resource", ""), hub, connection)
        except HubError as error:
            tracking_id = self._journal(error, hub, connection, ", ".join(wanted.values()))
            status = 401 if error.refusal is not None else 400
            return json_reply_of(status, {"statusCode": status, "message": f"{error.message}. Trace ID: {tracking_id}"})
        return json_reply(
            {
                "access_token": given.text,
                "expires_on": str(given.expires_s),
                "resource": given.audience,
                "token_type": "Bearer",
                "client_id": identity.client_id,
            },
            headers=_NOT_KEPT,
        )

    def _proved(self, secret: str, client_id: str, object_id: str) -> UserIdentity:
        """The identity of a secret, when it is the one asked for; raises HubError, rule `auth.client-secret`."""
        found = self._identities.by_secret(secret) if secret else None
        if found is None:
            value = f"client {client_id[:64]}" if client_id else "no identity was named"
            raise _no_client(value, "isthmus identity secret create -n IDENTITY makes one")
        identity, kept = found
        if kept.expires_ms <= self._clock.utc_ms():
            raise _no_client(f"secret {kept.key_id} of {identity.name} has expired", _renew(identity))
        if client_id.lower() not in ("", identity.client_id) or object_id.lower() not in ("", identity.principal_id):
            raise _other_identity(identity, client_id or object_id)
        return identity

    async def _given(self, identity: UserIdentity, scope: str, hub: Hub, connection: Peer) -> AccessToken:
        subject = Subject(identity.principal_id, identity.client_id, identity.resource_id)
        given = await self._authority.issue(subject, scope)
        detail = f"access token of {identity.name} given for {given.audience}"
        principal = f"identity:{identity.principal_id}"
        done = Decision(Verdict.READ, hub=hub.name, principal=principal, detail=detail)
        self._gate.done(connection, Plane.HTTPS, done)
        return given

    def _refused(self, error: HubError, hub: Hub, connection: Peer, client_id: str) -> Reply:
        tracking_id = self._journal(error, hub, connection, client_id)
        if error.refusal is None:
            return _error(400, "invalid_scope", f"AADSTS70011: {error.message}. Trace ID: {tracking_id}")
        said = f"AADSTS7000215: Invalid client secret provided. Trace ID: {tracking_id}"
        return _error(401, "invalid_client", said)

    def _journal(self, error: HubError, hub: Hub, connection: Peer, client_id: str) -> TrackingId:
        return self._gate.refused(connection, Plane.HTTPS, hub.name, "", error, principal=f"client:{client_id[:64]}")


def check_form_size(size: int) -> None:
    """Raises HubError with the refusal `limit.request-size` when a request for a token is too large."""
    if size > FORM_BYTES_MAX:
        message = f"The body must not be larger than {FORM_BYTES_MAX} bytes"
        refusal = Refusal(Hop.LIMIT, "limit.request-size", f"more than {FORM_BYTES_MAX} bytes", "ask for one token")
        raise HubError(Code.ENTITY_TOO_LARGE, message, refusal)


_NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749 §5.1."""


def json_reply_of(status: int, value: object) -> Reply:
    """A status with JSON."""
    shown = json_reply(value, headers=_NOT_KEPT)
    return Reply(status, shown.body, shown.headers)


def _error(status: int, code: str, description: str) -> Reply:
    """A refusal in OAuth's form (RFC 6749 §5.2)."""
    return json_reply_of(status, {"error": code, "error_description": description})


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").lower().split("/"))


def _form(body: bytes) -> dict[str, str] | None:
    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=32))
    except (UnicodeDecodeError, ValueError):
        return None


def _credentials(form: Mapping[str, str], authorization: str) -> tuple[str, str]:
    """Client id and secret, from the form or from HTTP Basic (RFC 6749 §2.3.1)."""
    if authorization[:6].lower() != "basic ":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        user, _, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
    except ValueError:
        # No Base64, or no UTF-8 in it; a header that is no ASCII is not even `binascii.Error`.
        return "", ""
    return unquote_plus(user), unquote_plus(password)


def _no_client(value: str, remedy: str) -> HubError:
    return unauthorized("auth.client-secret", value, remedy)


def _other_identity(identity: UserIdentity, wanted: str) -> HubError:
    return _no_client(f"a secret of {identity.name}, while {wanted[:128]} was asked for", _renew(identity))


def _renew(identity: UserIdentity) -> str:
    return f"isthmus identity secret create -n {identity.name}, and use its client id {identity.client_id}"
