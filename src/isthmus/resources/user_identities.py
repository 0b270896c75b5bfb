"""User-assigned managed identities: resources of their own, which hubs are given and lose without ending them.

An identity can have secrets, by which a workload elsewhere proves to be it (`token_authority`); only their hashes are
kept. A secret has 256 random bits, so that its plain hash cannot be turned back, and looking one up that is not there
takes as long as one that is.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import msgspec

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import Ids
from isthmus.base.places import TENANT
from isthmus.base.state import COMMIT_TRIES_MAX, MUST_NOT_EXIST, NO_HUB, Conflict, Delete, Key, Put, State
from isthmus.completion import Completion
from isthmus.resources.hub import GROUP_PATH
from isthmus.resources.hub_identity import AttachedIdentity, no_such_identity
from isthmus.resources.members import Json, bad, integer, known_members, mapping, text

IDENTITIES_MAX = 1_000
"""User-assigned identities of an installation; each is held in memory."""

SECRETS_MAX = 8
"""Secrets of one identity: a pair for each of a few workloads that roll theirs."""

SECRET_SECONDS_DEFAULT = 180 * 86_400
SECRET_SECONDS_MAX = 366 * 86_400
"""A year and a day: a secret that nobody renews ends by itself, and yearly renewal has a day to happen in."""

SECRET_PREFIX = "isthmus-identity-1."
"""Begins every secret, so that scanners for leaked secrets can know one."""

IDENTITY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}")
"""Microsoft.ManagedIdentity/userAssignedIdentities, `resourceName`."""

KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a secret is called; whoever makes it says how."""

IDENTITY_TYPE = "Microsoft.ManagedIdentity/userAssignedIdentities"
LOCATION = "local"


@dataclass(frozen=True, slots=True)
class IdentitySecret:
    """A secret as it is stored; `digest` is the SHA-256 of its text in hex, times are milliseconds since the epoch."""

    key_id: str
    digest: str = field(repr=False)
    created_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A user-assigned identity; `principal_id` and `client_id` are GUIDs that no other identity ever gets."""

    name: str
    principal_id: str
    client_id: str
    created_ms: int
    location: str = LOCATION
    tags: dict[str, str] = field(default_factory=dict)
    secrets: tuple[IdentitySecret, ...] = ()
    revision: int = 0

    @property
    def resource_id(self) -> str:
        """Its ARM id."""
        return identity_resource_id(self.name)

    @property
    def as_attached(self) -> AttachedIdentity:
        """What a hub keeps of it."""
        return AttachedIdentity(self.resource_id, self.principal_id, self.client_id)


def identity_resource_id(name: str) -> str:
    """The ARM id of the user-assigned identity of that name."""
    return f"{GROUP_PATH}/providers/{IDENTITY_TYPE}/{name}"


IdentityRule = Callable[[UserIdentity], UserIdentity]


class UserIdentities:
    """All user-assigned identities; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock, ids: Ids) -> None:
        self._state = state
        self._clock = clock
        self._ids = ids
        self._completion = Completion()
        self._by_name: dict[str, UserIdentity] = {}
        self._by_digest: dict[str, UserIdentity] = {}
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    def on_end(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Awaits `listener()` after an identity was deleted, before that is answered."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Reads all identities."""
        for stored in await self._state.scan("user-identity", NO_HUB, limit=IDENTITIES_MAX):
            found = msgspec.json.decode(stored.body, type=UserIdentity)
            self._publish(replace(found, revision=stored.revision))

    def all(self) -> tuple[UserIdentity, ...]:
        """All identities in the order of their names."""
        return tuple(sorted(self._by_name.values(), key=lambda each: each.name.lower()))

    def get(self, name: str) -> UserIdentity | None:
        """The identity of that name, compared without case."""
        return self._by_name.get(name.lower())

    def require(self, name: str) -> UserIdentity:
        """As `get`; raises HubError GenericNotFound."""
        found = self.get(name)
        if found is None:
            raise HubError(Code.NOT_FOUND, f"There is no identity {name}")
        return found

    def attached(self, resource_id: str) -> AttachedIdentity:
        """What a hub keeps of the identity of an ARM id; raises HubError ArgumentInvalid."""
        found = self.get(resource_id.rpartition("/")[2])
        if found is None or found.resource_id.lower() != resource_id.lower():
            return no_such_identity(resource_id)
        return found.as_attached

    def by_principal_id(self, principal_id: str) -> UserIdentity | None:
        """The identity of that principal id."""
        return next((each for each in self._by_name.values() if each.principal_id == principal_id.lower()), None)

    def by_secret(self, given: str) -> tuple[UserIdentity, IdentitySecret] | None:
        """The identity of a secret that somebody showed, expired or not, with the secret; None for any other text."""
        digest = _digest(given)
        found = self._by_digest.get(digest)
        if found is None:
            return None
        return found, next(each for each in found.secrets if each.digest == digest)

    async def put(self, name: str, body: Json) -> tuple[UserIdentity, bool]:
        """Makes an identity, or changes one's tags; True when it is new.

        Raises HubError ArgumentInvalid, QuotaExceeded, ServerBusy.
        """
        known_members(body, "identity", ("location", "tags", "properties", "id", "name", "type", "systemData"))
        tags = {key: text(each, f"tags.{key}") for key, each in mapping(body.get("tags") or {}, "tags").items()}
        present = self.get(name)
        if present is not None:
            return await self._change(present.name, lambda it: replace(it, tags=tags)), False
        return await self._completion.run(self._create(name, str(body.get("location") or LOCATION), tags)), True

    async def delete(self, name: str) -> None:
        """Ends an identity with its secrets, for ever. Raises HubError GenericNotFound."""
        await self._completion.run(self._delete(self.require(name)))

    async def add_secret(self, name: str, key_id: str, body: Json) -> tuple[IdentitySecret, str]:
        """Makes a secret and returns it with its text, which nobody is told again; `body` has `expiresIn` (seconds).

        Raises HubError GenericNotFound, ArgumentInvalid, QuotaExceeded, GenericConflict when the id is taken.
        """
        if not KEY_ID.fullmatch(key_id):
            raise bad("the secret's id", "1 to 64 letters, digits, dashes and underscores")
        known_members(body, "secret", ("expiresIn",))
        given = body.get("expiresIn", SECRET_SECONDS_DEFAULT)
        seconds = integer(given, "expiresIn", least=1, most=SECRET_SECONDS_MAX)
        shown, now_ms = SECRET_PREFIX + self._ids.key().translate(_URL_SAFE), self._clock.utc_ms()
        secret = IdentitySecret(key_id.lower(), _digest(shown), now_ms, now_ms + seconds * 1000)
        await self._change(name, lambda it: _with_secret(it, secret))
        return secret, shown

    async def delete_secret(self, name: str, key_id: str) -> IdentitySecret:
        """Takes a secret back and returns it; raises HubError GenericNotFound."""
        present = self.require(name)
        found = next((each for each in present.secrets if each.key_id == key_id.lower()), None)
        if found is None:
            raise HubError(Code.NOT_FOUND, f"{present.name} has no secret {key_id}")
        await self._change(name, lambda it: _without_secret(it, found))
        return found

    async def _create(self, name: str, location: str, tags: dict[str, str]) -> UserIdentity:
        if not IDENTITY_NAME.fullmatch(name):
            raise bad("name", "3 to 128 letters, digits, dashes and underscores, a letter or digit first")
        if len(self._by_name) >= IDENTITIES_MAX:
            raise HubError(Code.QUOTA_EXCEEDED, f"{IDENTITIES_MAX} user-assigned identities are allowed")
        made = UserIdentity(name, self._ids.uuid(), self._ids.uuid(), self._clock.utc_ms(), location, tags)
        try:
            revisions = await self._state.commit([Put(_key(name), msgspec.json.encode(made), MUST_NOT_EXIST)])
        except Conflict as conflict:
            raise HubError(Code.CONFLICT, f"There is an identity {name} already") from conflict
        return self._publish(replace(made, revision=revisions[0]))

    async def _change(self, name: str, rule: IdentityRule) -> UserIdentity:
        return await self._completion.run(self._changed(name, rule))

    async def _changed(self, name: str, rule: IdentityRule) -> UserIdentity:
        for _ in range(COMMIT_TRIES_MAX):
            old = self.require(name)
            new = rule(old)
            try:
                body = msgspec.json.encode(replace(new, revision=0))
                revisions = await self._state.commit([Put(_key(name), body, old.revision)])
            except Conflict:
                continue
            return self._publish(replace(new, revision=revisions[0]))
        raise HubError(Code.SERVER_BUSY, f"The identity {name} is being changed by others; try again")

    async def _delete(self, present: UserIdentity) -> None:
        await self._state.commit([Delete(_key(present.name))])
        self._forget(present.name)
        for listener in self._listeners:
            await listener()

    def _publish(self, identity: UserIdentity) -> UserIdentity:
        present = self.get(identity.name)
        if present is None or present.revision < identity.revision:
            self._forget(identity.name)
            self._by_name[identity.name.lower()] = identity
            self._by_digest |= {secret.digest: identity for secret in identity.secrets}
        return identity

    def _forget(self, name: str) -> None:
        gone = self._by_name.pop(name.lower(), None)
        for secret in gone.secrets if gone is not None else ():
            self._by_digest.pop(secret.digest, None)


def user_identity_to_arm(identity: UserIdentity) -> dict[str, object]:
    """The identity as `az identity show` prints it, without its secrets."""
    properties = {
        "tenantId": TENANT,
        "principalId": identity.principal_id,
        "clientId": identity.client_id,
        "isolationScope": "None",
    }
    return {
        "id": identity.resource_id,
        "name": identity.name,
        "type": IDENTITY_TYPE,
        "location": identity.location,
        "tags": dict(identity.tags),
        "properties": properties,
    }


def secret_to_json(secret: IdentitySecret) -> dict[str, object]:
    """A secret as its owner reads it, without what it is proved by."""
    times = {"startDateTime": iso_utc(secret.created_ms), "endDateTime": iso_utc(secret.expires_ms)}
    return {"keyId": secret.key_id, **times}


def _with_secret(identity: UserIdentity, secret: IdentitySecret) -> UserIdentity:
    if any(each.key_id == secret.key_id for each in identity.secrets):
        raise HubError(Code.CONFLICT, f"{identity.name} has a secret {secret.key_id} already")
    if len(identity.secrets) >= SECRETS_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"An identity has at most {SECRETS_MAX} secrets; delete one first")
    return replace(identity, secrets=(*identity.secrets, secret))


def _without_secret(identity: UserIdentity, gone: IdentitySecret) -> UserIdentity:
    return replace(identity, secrets=tuple(each for each in identity.secrets if each != gone))


_URL_SAFE = str.maketrans("+/", "-_", "=")


def _digest(shown: str) -> str:
    return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()


def _key(name: str) -> Key:
    return Key("user-identity", NO_HUB, name.lower())
