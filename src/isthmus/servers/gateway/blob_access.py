"""Who asks a storage account for something, and by what: its key, a SAS, a bearer token.

Everything that has to be waited for is fetched first; the proof itself is synchronous, so that nothing changes between
it, the verdict of the network, and the request's entry into the index of sessions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from isthmus.access.access_tokens import is_bearer
from isthmus.access.principal import Principal, PrincipalKind
from isthmus.access.refusals import unauthorized
from isthmus.access.x509 import fingerprint
from isthmus.base.clock import Clock
from isthmus.base.errors import HubError
from isthmus.neighbours.account_keys import KEY_NAMES, keys_switched_off
from isthmus.neighbours.blob import sas as sas_rules
from isthmus.neighbours.blob.blob import StoredPolicy
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.grant import Grant
from isthmus.neighbours.blob.names import Target, target_of
from isthmus.neighbours.blob.ports import BlobStore
from isthmus.neighbours.blob.routes import Operation, find_operation
from isthmus.neighbours.blob.sas import SasKind, StorageSas, parse_sas
from isthmus.neighbours.blob.shared_key import PREFIX, parse_shared_key, signed_texts, signing_key
from isthmus.neighbours.neighbour import Neighbour
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.gate import Admitted, Gate, Peer


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as it can be read before anybody has proved anything; all names are in small letters."""

    verb: str
    raw_path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    def meaning(self) -> tuple[Target, Operation]:
        """What it is of and what it asks; raises StorageError."""
        target = target_of(self.raw_path, of_container="restype" in self.query)
        return target, find_operation(self.verb, target, self.query, self.headers)


@dataclass(frozen=True, slots=True)
class Let:
    """A request that was let in: who asks for what, and whether he may overwrite what is there."""

    admitted: Admitted
    account: Neighbour
    grant: Grant
    target: Target
    operation: Operation
    may_overwrite: bool


class Identities(Protocol):
    """Whose user delegation keys are; `resources.bearer_tokens.BearerTokens` says so."""

    def named(self, resource: Guarded, object_id: str) -> Principal:
        """The identity of an object id, as it is now; raises HubError."""


class BlobAccess:
    """Judges requests to storage accounts by the gate; on the event loop only."""

    def __init__(self, gate: Gate, store: BlobStore, identities: Identities, clock: Clock) -> None:
        self._gate = gate
        self._store = store
        self._identities = identities
        self._clock = clock

    async def admit(self, connection: Peer, neighbour: Guarded, asked: Asked) -> Let:
        """Lets a request in; raises HubError in the service's words (StorageError)."""
        authorization = asked.headers.get("authorization", "")
        if is_bearer(authorization):
            await self._gate.prepare(authorization)
        policies = await self._stored_policies(neighbour, asked)
        secret = await self._store.secret(neighbour.number) if "skoid" in asked.query else b""
        let: list[tuple[Neighbour, Grant]] = []

        def prove(current: Guarded) -> tuple[Principal, tuple[str, ...]]:
            assert isinstance(current, Neighbour), "a storage account is a neighbour"
            let.append((current, self._grant(current, connection, asked, policies, secret)))
            return let[0][1].principal, ()

        try:
            admitted = self._gate.neighbour(connection, neighbour, prove)
            [(account, grant)] = let
            target, operation = asked.meaning()
            return Let(admitted, account, grant, target, operation, grant.allow(operation, target))
        except HubError as error:
            raise sas_rules.as_storage(error) from error

    def _grant(
        self,
        account: Neighbour,
        connection: Peer,
        asked: Asked,
        policies: Mapping[str, StoredPolicy],
        secret: bytes,
    ) -> Grant:
        authorization = asked.headers.get("authorization", "")
        if is_bearer(authorization):
            return Grant(self._gate.prove_bearer(account, authorization), by_roles=True)
        if authorization.startswith(PREFIX):
            return self._by_key(account, asked, authorization)
        if authorization:
            raise sas_rules.failed("The scheme of the Authorization header is not supported.", "auth.malformed")
        shown = parse_sas(asked.query)
        if shown is None:
            refusal = unauthorized("auth.missing", "no key, SAS or token", "send one").refusal
            raise StorageError(StorageCode.NO_AUTHENTICATION, refusal=refusal)
        return self._by_sas(account, connection, asked, _with_policy(shown, policies), secret)

    def _by_key(self, account: Neighbour, asked: Asked, authorization: str) -> Grant:
        shown = parse_shared_key(authorization)
        if shown is None or shown.account != account.name:
            raise sas_rules.failed("The account name or signature is not well formed.", "auth.malformed")
        texts = signed_texts(asked.verb, asked.headers, account.name, asked.raw_path, asked.query)
        place = signing_key(texts, shown.signature, account.account_keys)
        if place is None:
            said = (
                f"The MAC signature found in the HTTP request is not the same as any computed signature. {texts[0]!r}"
            )
            raise sas_rules.failed(said, "auth.signature", value="Shared Key, the signature does not match")
        return Grant(_key_holder(account, place))

    def _by_sas(self, account: Neighbour, peer: Peer, asked: Asked, shown: StorageSas, secret: bytes) -> Grant:
        target = Target() if shown.kind is SasKind.ACCOUNT else asked.meaning()[0]
        text = sas_rules.text_to_sign(shown, account.name, target, asked.headers)
        if shown.kind is SasKind.DELEGATION:
            sas_rules.delegation_matches(shown, text, secret)
            principal = self._identities.named(account, shown.said("skoid"))
        else:
            principal = _key_holder(account, sas_rules.verify_sas(shown, text, account.account_keys))
        sas_rules.check_time(shown, self._clock.utc_ms())
        sas_rules.check_peer(shown, peer.peer_address)
        return Grant(principal, shown, by_roles=shown.kind is SasKind.DELEGATION)

    async def _stored_policies(self, neighbour: Guarded, asked: Asked) -> Mapping[str, StoredPolicy]:
        if not asked.query.get("si"):
            return {}
        try:
            container = await self._store.container(neighbour.number, asked.meaning()[0].container)
        except StorageError:
            return {}
        return {policy.policy_id: policy for policy in container.policies} if container else {}


def _with_policy(shown: StorageSas, policies: Mapping[str, StoredPolicy]) -> StorageSas:
    name = shown.said("si")
    if not name:
        return shown
    if name not in policies:
        raise sas_rules.failed(f"The stored access policy {name[:64]} is not there.", "auth.unknown-policy")
    return replace(shown, policy=policies[name])


def _key_holder(account: Neighbour, place: int) -> Principal:
    """Who has a key of the account; raises StorageError when keys are not taken."""
    principal = Principal(
        kind=PrincipalKind.ACCOUNT,
        name=KEY_NAMES[place],
        rights=frozenset(),
        scope="account",
        type="sas",
        key_fingerprint=fingerprint(account.account_keys[place]),
        resource_id=account.resource_id,
    )
    refusal = keys_switched_off(account, principal)
    if refusal is not None:
        raise StorageError(StorageCode.KEYS_NOT_PERMITTED, refusal=refusal)
    return principal
