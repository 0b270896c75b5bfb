"""Bearer tokens at a hub's service API: who they are of, and whether he may go on.

A token is the installation's own or that of an issuer elsewhere who is trusted by configuration. One of an identity
that has ended since is refused although its time is not over. What somebody may do is a matter of roles, judged at each
request (`access.authenticate.require_permission`).
"""

from collections.abc import Sequence

from isthmus.access.access_tokens import Issuer, bearer_of, verify
from isthmus.access.principal import Principal, PrincipalKind
from isthmus.access.refusals import denied
from isthmus.base.clock import Clock
from isthmus.base.errors import Hop, Refusal
from isthmus.resources.hub import Hub
from isthmus.resources.role_assignments import RoleAssignments
from isthmus.resources.token_authority import TokenAuthority

HUB_AUDIENCE = "https://iothubs.azure.net"
"""What service SDKs ask a token for; besides it, the address of the hub itself is taken."""


class BearerTokens:
    """Judges tokens; on the event loop only."""

    def __init__(
        self, authority: TokenAuthority, roles: RoleAssignments, clock: Clock, trusted: Sequence[Issuer] = ()
    ) -> None:
        self._authority = authority
        self._roles = roles
        self._clock = clock
        self._trusted = tuple(trusted)

    def prove(self, hub: Hub, text: str) -> Principal:
        """Whose token it is; raises HubError IotHubUnauthorizedAccess, rule `auth.bearer-*`."""
        own = self._authority.issuer
        audiences = (HUB_AUDIENCE, *(f"https://{host}" for host in hub.hosts))
        claims = verify(bearer_of(text), (own, *self._trusted), audiences, now_ms=self._clock.utc_ms())
        if claims.issuer == own.name and not self._authority.knows(claims.object_id):
            raise denied(_ended(claims.object_id))
        return Principal(
            kind=PrincipalKind.IDENTITY,
            name=claims.object_id,
            rights=frozenset(),
            scope="hub",
            type="jwt" if claims.issuer == own.name else "jwt-external",
            expires_s=claims.expires_s,
            assignments=self._roles.of(claims.object_id),
            resource_id=hub.resource_id,
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
