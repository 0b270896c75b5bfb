"""Tokens for management from elsewhere: named, of one role, within one scope, for a time; only their hash is kept.

A token's secret has 256 random bits, so a plain hash of it cannot be turned back, and looking the hash up takes as long
for a token that is not there as for one that is: whoever does not know the secret chooses no part of the hash.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from isthmus.access.roles import Role, Segments, segments_of
from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import Ids
from isthmus.base.state import MUST_NOT_EXIST, NO_HUB, Conflict, Delete, Key, Put, State
from isthmus.completion import Completion
from isthmus.resources.members import Json, bad, choice, integer, known_members, text
from isthmus.resources.scopes import EVERYTHING, checked_scope

TOKENS_MAX = 1_000
"""Tokens of an installation, expired ones included until they are deleted; each is held in memory."""

LIFE_SECONDS_DEFAULT = 30 * 86_400
LIFE_SECONDS_MAX = 366 * 86_400
"""A year and a day: a token that nobody renews ends by itself, and yearly renewal has a day to happen in."""

TOKEN_PREFIX = "isthmus-management-1."
"""Begins every token, so that scanners for leaked secrets can know one."""

TOKEN_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
TokenListener = Callable[["ManagementToken"], Awaitable[None]]
"""Is told of a token that was deleted."""


@dataclass(frozen=True, slots=True)
class ManagementToken:
    """A token as it is stored; `digest` is the SHA-256 of its text in hex, times are milliseconds since the epoch."""

    name: str
    role: Role
    scope: str
    digest: str = field(repr=False)
    created_ms: int
    expires_ms: int
    created_by: str = ""

    @property
    def label(self) -> str:
        """The principal as the journal names it."""
        return f"token:{self.name}"

    @property
    def scope_segments(self) -> Segments:
        """The scope as `roles.covers` takes it."""
        return segments_of(self.scope)


class Tokens:
    """All tokens; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock, ids: Ids) -> None:
        self._state = state
        self._clock = clock
        self._ids = ids
        self._completion = Completion()
        self._listeners: list[TokenListener] = []
        self._by_name: dict[str, ManagementToken] = {}
        self._by_digest: dict[str, ManagementToken] = {}

    async def load(self) -> None:
        """Reads all tokens; listeners are not told."""
        for document in await self._state.scan("token", NO_HUB, limit=TOKENS_MAX):
            self._publish(msgspec.json.decode(document.body, type=ManagementToken))

    def on_delete(self, listener: TokenListener) -> None:
        """Awaits `listener(token)` after each deletion, before it is answered."""
        self._listeners.append(listener)

    def all(self) -> tuple[ManagementToken, ...]:
        """All tokens in the order of their names."""
        return tuple(sorted(self._by_name.values(), key=lambda token: token.name.lower()))

    def require(self, name: str) -> ManagementToken:
        """The token of that name, compared without case; raises HubError GenericNotFound."""
        found = self._by_name.get(name.lower())
        if found is None:
            raise HubError(Code.NOT_FOUND, f"There is no token {name}")
        return found

    def verify(self, given: str) -> ManagementToken:
        """The token of a text that somebody showed; raises HubError InvalidAuthenticationToken, the same for all."""
        found = self._by_digest.get(_digest(given))
        if found is None:
            raise untrusted("auth.unknown-token", "no token here has this secret", "isthmus token create")
        if found.expires_ms <= self._clock.utc_ms():
            since = f"{found.label} expired at {iso_utc(found.expires_ms)}"
            raise untrusted("auth.expired", since, f"isthmus token delete -n {found.name}, and create it anew")
        return found

    async def create(self, name: str, body: Json, created_by: str) -> tuple[ManagementToken, str]:
        """Makes a token and returns it with its text, which nobody is told again.

        `body` has `role`, `scope` and `expiresIn` (seconds). Raises HubError ArgumentInvalid, GenericConflict when the
        name is taken, QuotaExceeded.
        """
        return await self._completion.run(self._create(name, body, created_by))

    async def delete(self, name: str) -> None:
        """Forgets a token; returns when its connections are closed. Raises HubError GenericNotFound."""
        await self._completion.run(self._delete(self.require(name)))

    async def _create(self, name: str, body: Json, created_by: str) -> tuple[ManagementToken, str]:
        if len(self._by_name) >= TOKENS_MAX:
            raise HubError(Code.QUOTA_EXCEEDED, f"{TOKENS_MAX} tokens are allowed; delete those that have expired")
        shown = TOKEN_PREFIX + self._ids.key().translate(_URL_SAFE)
        token = _parsed(name, body, now_ms=self._clock.utc_ms(), digest=_digest(shown), created_by=created_by)
        try:
            await self._state.commit([Put(_key(name), msgspec.json.encode(token), MUST_NOT_EXIST)])
        except Conflict as conflict:
            raise HubError(Code.CONFLICT, f"There is a token {name} already; delete it first") from conflict
        self._publish(token)
        return token, shown

    async def _delete(self, token: ManagementToken) -> None:
        await self._state.commit([Delete(_key(token.name))])
        self._by_name.pop(token.name.lower(), None)
        self._by_digest.pop(token.digest, None)
        for listener in self._listeners:
            await listener(token)

    def _publish(self, token: ManagementToken) -> None:
        self._by_name[token.name.lower()] = token
        self._by_digest[token.digest] = token


def untrusted(rule: str, value: str, remedy: str, hop: Hop = Hop.AUTHENTICATION) -> HubError:
    """The one answer to whoever shows no good token at the right door; the reason goes to the journal only."""
    return HubError(Code.INVALID_TOKEN, "The access token is missing or invalid.", Refusal(hop, rule, value, remedy))


def token_to_json(token: ManagementToken) -> dict[str, object]:
    """A token as its owner reads it, without what it is proved by."""
    return {
        "name": token.name,
        "role": token.role.value,
        "scope": token.scope,
        "createdAt": iso_utc(token.created_ms),
        "createdBy": token.created_by,
        "expiresAt": iso_utc(token.expires_ms),
    }


def _parsed(name: str, body: Json, *, now_ms: int, digest: str, created_by: str) -> ManagementToken:
    known_members(body, "token", ("role", "scope", "expiresIn"))
    if not TOKEN_NAME.fullmatch(name):
        raise bad("name", "1 to 64 letters, digits and inner dots, dashes and underscores")
    seconds = integer(body.get("expiresIn", LIFE_SECONDS_DEFAULT), "expiresIn", least=1, most=LIFE_SECONDS_MAX)
    return ManagementToken(
        name=name,
        role=Role(choice(body.get("role", Role.READER), "role", [role.value for role in Role])),
        scope=checked_scope(text(body.get("scope", EVERYTHING), "scope")),
        digest=digest,
        created_ms=now_ms,
        expires_ms=now_ms + seconds * 1000,
        created_by=created_by,
    )


_URL_SAFE = str.maketrans("+/", "-_", "=")


def _digest(shown: str) -> str:
    return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()


def _key(name: str) -> Key:
    return Key("token", NO_HUB, name.lower())
