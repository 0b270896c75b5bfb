"""The token authority of an installation: whose tokens it gives, and the ring of keys that signs them.

Theory of operation. The ring is one document of the state, read at start and replaced under compare-and-set; a new key
is durable before it is published or signs (`access.access_tokens`). The first key is made when the first token or the
key set is asked for, so that an installation without identities starts as fast as ever. A key that is older than
`KEY_DAYS` is followed by another one, which is published for `LEAD_SECONDS` before it signs: verifiers elsewhere that
keep the key set for a day know it by then. Keys are made in a thread.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from isthmus.access.access_tokens import (
    TOKEN_SECONDS,
    Issuer,
    KeyRing,
    Keys,
    SigningKey,
    new_private_key,
    public_keys,
    public_set,
    sign,
)
from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId, Ids
from isthmus.base.places import TENANT
from isthmus.base.state import COMMIT_TRIES_MAX, MUST_NOT_EXIST, NO_HUB, Conflict, Key, Put, State
from isthmus.completion import Completion
from isthmus.resources.hubs import Hubs
from isthmus.resources.user_identities import UserIdentities

RING = Key("authority", NO_HUB, "keys")

KEY_DAYS = 90
"""Days that a key signs."""

LEAD_SECONDS = 86_400
"""How long a key is published before it takes over by itself."""

LEAD_SECONDS_MAX = 30 * 86_400
SCOPE_BYTES_MAX = 256
"""A scope is the address or the id of an application; no longer one is signed."""

DEFAULT = "/.default"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose token is asked for; `resource_id` is the ARM id of the identity, or of the hub whose own it is."""

    principal_id: str
    client_id: str
    resource_id: str


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, what it is for, and when it ends, in Unix seconds."""

    text: str
    audience: str
    expires_s: int
    issued_s: int


class TokenAuthority:
    """Gives tokens; `load` first. On the event loop only."""

    def __init__(self, state: State, clock: Clock, ids: Ids, hubs: Hubs, identities: UserIdentities) -> None:
        self._state = state
        self._clock = clock
        self._ids = ids
        self._hubs = hubs
        self._identities = identities
        self._completion = Completion()
        self._ring = KeyRing()
        self._revision = MUST_NOT_EXIST
        self._public: tuple[KeyRing, Keys] = (self._ring, {})
        self.issuer_name: Callable[[], str] = self._named_by_the_first_hub

    async def load(self) -> None:
        """Reads the ring."""
        stored = await self._state.get(RING)
        if stored is not None:
            self._ring = msgspec.json.decode(stored.body, type=KeyRing)
            self._revision = stored.revision

    @property
    def issuer(self) -> Issuer:
        """Itself, as whoever takes its tokens sees it."""
        return Issuer(self.issuer_name(), self._keys)

    def subject_of_hub(self, number: HubId, identity: str) -> Subject:
        """Whose token a hub asks for: its own identity's, or that of an attached one by ARM id.

        Raises HubError InvalidOperation when the hub has no such identity.
        """
        hub = self._hubs.by_number(number)
        if hub is None:
            raise HubError(Code.NOT_FOUND, f"There is no hub of number {number}")
        if not identity:
            if not hub.identity.system:
                remedy = f"isthmus iot hub identity assign -n {hub.name} --system-assigned"
                raise HubError(Code.INVALID_OPERATION, f"The hub {hub.name} has no identity of its own: {remedy}")
            return Subject(hub.identity.principal_id, hub.identity.principal_id, hub.resource_id)
        attached = hub.identity.find(identity)
        if attached is None or self._identities.by_principal_id(attached.principal_id) is None:
            remedy = f"isthmus iot hub identity assign -n {hub.name} --user-assigned {identity}"
            raise HubError(
                Code.INVALID_OPERATION, f"The hub {hub.name} does not have the identity {identity}: {remedy}"
            )
        return Subject(attached.principal_id, attached.client_id, attached.resource_id)

    def hub_of(self, principal_id: str) -> str:
        """The ARM id of the hub whose own identity has that principal; empty when none has."""
        wanted = principal_id.lower()
        owners = (hub.resource_id for hub in self._hubs.all() if hub.identity.principal_id == wanted)
        return next(owners, "") if wanted else ""

    def knows(self, principal_id: str) -> bool:
        """True for the principal of an identity that there is."""
        return bool(self.hub_of(principal_id)) or self._identities.by_principal_id(principal_id) is not None

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        """A token of a hub's identity for a scope, and when it ends in Unix seconds; `identity` is "" for its own.

        What the hub's own sinks show. Raises HubError InvalidOperation, ArgumentInvalid.
        """
        given = await self.issue(self.subject_of_hub(hub, identity), scope)
        return given.text, given.expires_s

    async def issue(self, subject: Subject, scope: str) -> AccessToken:
        """A token of the subject for a scope, `{audience}/.default` or the audience alone.

        Raises HubError ArgumentInvalid.
        """
        audience = audience_of(scope)
        key = await self._signer()
        now_s = self._clock.utc_ms() // 1000
        claims: dict[str, object] = {
            "aud": audience,
            "iss": self.issuer_name(),
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + TOKEN_SECONDS,
            "tid": TENANT,
            "oid": subject.principal_id,
            "sub": subject.principal_id,
            "appid": subject.client_id,
            "azp": subject.client_id,
            "idtyp": "app",
            "xms_mirid": subject.resource_id,
            "uti": self._ids.uuid(),
            "ver": "1.0",
        }
        return AccessToken(sign(claims, key), audience, now_s + TOKEN_SECONDS, now_s)

    async def key_set(self) -> dict[str, object]:
        """The public keys as a JSON Web Key Set."""
        await self._signer()
        return public_set(self._ring.published(self._clock.utc_ms()))

    async def rotate(self, lead_seconds: int = 0) -> SigningKey:
        """Makes another key, published at once, which signs after `lead_seconds`; returns it when it is durable."""
        if not 0 <= lead_seconds <= LEAD_SECONDS_MAX:
            raise HubError(Code.ARGUMENT_INVALID, f"A key takes over within {LEAD_SECONDS_MAX} seconds")
        return await self._completion.run(self._rotate(lead_seconds))

    def describe(self) -> dict[str, object]:
        """The issuer and its keys as their owner reads them, without what they sign with."""
        now_ms = self._clock.utc_ms()
        signer, published = self._ring.signer(now_ms), self._ring.published(now_ms)
        keys = [
            {
                "keyId": key.key_id,
                "createdAt": iso_utc(key.created_ms),
                "signsFrom": iso_utc(key.signs_from_ms),
                "state": "Signing" if key == signer else "Next" if key.signs_from_ms > now_ms else "Verifying",
            }
            for key in published
        ]
        return {"issuer": self.issuer_name(), "tenantId": TENANT, "tokenSeconds": TOKEN_SECONDS, "keys": keys}

    def _keys(self) -> Keys:
        published = KeyRing(self._ring.published(self._clock.utc_ms()))
        if published != self._public[0]:
            self._public = (published, public_keys(published.keys))
        return self._public[1]

    async def _signer(self) -> SigningKey:
        now_ms = self._clock.utc_ms()
        present = self._ring.signer(now_ms)
        if present is None:
            await self.rotate()
        elif self._is_old(self._ring.keys[-1], now_ms):
            await self.rotate(LEAD_SECONDS)
        signer = self._ring.signer(self._clock.utc_ms())
        assert signer is not None, "a ring that was rotated has a key that signs"
        return signer

    async def _rotate(self, lead_seconds: int) -> SigningKey:
        pem = await asyncio.to_thread(new_private_key)
        for _ in range(COMMIT_TRIES_MAX):
            now_ms = self._clock.utc_ms()
            first = self._ring.signer(now_ms) is None
            made = SigningKey(self._ids.uuid(), pem, now_ms, now_ms + (0 if first else lead_seconds * 1000))
            ring = self._ring.with_next(made, now_ms)
            try:
                [revision] = await self._state.commit([Put(RING, msgspec.json.encode(ring), self._revision)])
            except Conflict:
                await self.load()
                continue
            self._ring, self._revision = ring, revision
            return made
        raise HubError(Code.SERVER_BUSY, "The keys are being changed by others; try again")

    @staticmethod
    def _is_old(key: SigningKey, now_ms: int) -> bool:
        return now_ms - key.signs_from_ms > KEY_DAYS * 86_400_000

    def _named_by_the_first_hub(self) -> str:
        return issuer_at(self._hubs.all()[0].host_name)


def issuer_at(host: str) -> str:
    """The issuer's name, an address below which it is found; `host` is with the port where that is not 443."""
    return f"https://{host}/{TENANT}/v2.0"


def authorization_at(issuer: str) -> str:
    """Where an issuer of that name authorizes, as challenges tell it; the tenant is the first part of the path."""
    return f"{issuer.removesuffix('/v2.0')}/oauth2/authorize"


def audience_of(scope: str) -> str:
    """What a scope is for; raises HubError ArgumentInvalid for one that is no application's."""
    audience = scope.strip().removesuffix(DEFAULT)
    is_address = _ADDRESS.match(audience) is not None
    is_id = bool(audience) and audience.replace("-", "").isalnum() and audience.isascii()
    if len(audience) > SCOPE_BYTES_MAX or not (is_address or is_id):
        raise HubError(Code.ARGUMENT_INVALID, f"The scope {scope[:64]!r} is not an application's, such as {_EXAMPLE}")
    return audience


_ADDRESS = re.compile(r"(?:https|api)://[^/?#]", re.IGNORECASE)
_EXAMPLE = "https://storage.azure.com/.default"
