"""Bearer tokens at a resource: who they are of, and whether he may go on.

A token is the installation's own or that of an issuer elsewhere who is trusted by configuration. One of an identity
that has ended since is refused although its time is not over. What somebody may do is a matter of roles, judged at each
request (`access.authenticate.require_permission`).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from isthmus.access.access_tokens import Issuer, TokenClaims, bearer_of, prepare, verify
from isthmus.access.principal import Principal, PrincipalKind
from isthmus.access.refusals import denied, unauthorized
from isthmus.base.clock import Clock
from isthmus.base.errors import Hop, Refusal
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.role_assignments import RoleAssignments
from isthmus.resources.token_authority import TokenAuthority

AUDIENCES: Mapping[ResourceKind, tuple[str, ...]] = MappingProxyType(
    {
        ResourceKind.HUB: ("https://iothubs.azure.net",),
        ResourceKind.EVENT_HUBS: ("https://eventhubs.azure.net",),
        ResourceKind.SERVICE_BUS: ("https://servicebus.azure.net",),
        ResourceKind.STORAGE: ("https://storage.azure.com", "e406a681-f3d4-42a8-90b6-c2b029497af1"),
    }
)
"""What SDKs ask a token for, without the slash at the end; besides these, the resource's own address is taken."""


class BearerTokens:
    """Judges tokens; on the event loop only."""

    def __init__(
        self, authority: TokenAuthority, roles: RoleAssignments, clock: Clock, trusted: Sequence[Issuer] = ()
    ) -> None:
        self._authority = authority
        self._roles = roles
        self._clock = clock
        self._trusted = tuple(trusted)

    async def prepare(self, text: str) -> None:
        """Fetches what a token of an issuer elsewhere needs to be judged; await it before `prove`. Raises nothing."""
        await prepare(bearer_of(text), self._trusted)

    def prove(self, resource: Guarded, text: str) -> Principal:
        """Whose token it is; raises HubError IotHubUnauthorizedAccess, rule `auth.bearer-*`."""
        own = self._authority.issuer
        audiences = (*AUDIENCES[resource.kind], *(f"https://{host}" for host in resource.hosts))
        claims = verify(bearer_of(text), (own, *self._trusted), audiences, now_ms=self._clock.utc_ms())
        self._check_subject(claims, own)
        return Principal(
            kind=PrincipalKind.IDENTITY,
            name=claims.object_id,
            rights=frozenset(),
            scope="hub",
            type="jwt" if claims.issuer == own.name else "jwt-external",
            expires_s=claims.expires_s,
            assignments=self._roles.of(claims.object_id),
            resource_id=resource.resource_id,
            acts_for=self._authority.hub_of(claims.object_id) if claims.issuer == own.name else "",
        )

    def _check_subject(self, claims: TokenClaims, own: Issuer) -> None:
        """An identity of this installation is there, and only its own authority speaks for it."""
        known = self._authority.knows(claims.object_id)
        if claims.issuer == own.name and not known:
            raise denied(_ended(claims.object_id))
        if claims.issuer != own.name and known:
            value = f"{claims.issuer} names the identity {claims.object_id}, which is not its own"
            raise unauthorized("auth.bearer-subject", value, f"use a token of {own.name} for it")

    def named(self, resource: Guarded, object_id: str) -> Principal:
        """The identity of an object id, who proved himself earlier and was given a key for his errands.

        Firewalls do not trust him for that. Raises HubError with rule `auth.bearer-subject` when he has ended.
        """
        if not self._authority.knows(object_id) and not self._trusted:
            raise denied(_ended(object_id))
        return Principal(
            kind=PrincipalKind.IDENTITY,
            name=object_id,
            rights=frozenset(),
            scope="hub",
            type="jwt" if self._authority.knows(object_id) else "jwt-external",
            assignments=self._roles.of(object_id),
            resource_id=resource.resource_id,
        )

    def lost(self, principal: Principal) -> Refusal | None:
        """Why an identity that was let in may not go on; None when it may, and for whoever is none."""
        if principal.kind is not PrincipalKind.IDENTITY:
            return None
        if principal.type == "jwt" and not self._authority.knows(principal.name):
            return _ended(principal.name)
        gone = next((each for each in principal.assignments if each not in self._roles.of(principal.name)), None)
        if gone is None:
            return None
        value = f"{gone.role.name} at {gone.scope} was taken from {principal.label}"
        return Refusal(Hop.AUTHORIZATION, "auth.role-missing", value, "connect again with what is left")


def _ended(object_id: str) -> Refusal:
    remedy = "ask for a token of an identity that there is: isthmus identity list"
    return Refusal(Hop.AUTHENTICATION, "auth.bearer-subject", f"the identity {object_id} has ended", remedy)
