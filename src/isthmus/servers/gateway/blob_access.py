"""Who asks a storage account for something, and by what: its key, a SAS, a bearer token.

Everything that has to be waited for is fetched first; the proof itself is synchronous, so that nothing changes between
it, the verdict of the network, and the request's entry into the index of sessions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from isthmus.access.access_tokens import is_bearer
from isthmus.access.principal import Principal, PrincipalKind
from isthmus.access.refusals import unauthorized
from isthmus.access.x509 import fingerprint
from isthmus.base.clock import Clock
from isthmus.base.errors import HubError
from isthmus.base.hosts import normal_host
from isthmus.neighbours.account_keys import KEY_NAMES, keys_switched_off
from isthmus.neighbours.blob import sas as sas_rules
from isthmus.neighbours.blob.blob import StoredPolicy
from isthmus.neighbours.blob.errors import StorageCode, StorageError, header_error
from isthmus.neighbours.blob.grant import ACCOUNT, Grant
from isthmus.neighbours.blob.headers import VERSION, checked_version
from isthmus.neighbours.blob.names import Target, container_of, target_of
from isthmus.neighbours.blob.ports import BlobStore
from isthmus.neighbours.blob.query import parse_query
from isthmus.neighbours.blob.routes import Operation, find_operation
from isthmus.neighbours.blob.sas import SasKind, StorageSas, parse_sas
from isthmus.neighbours.blob.shared_key import (
    PREFIX,
    SKEW_SECONDS,
    is_recent,
    parse_shared_key,
    signed_texts,
    signing_key,
)
from isthmus.neighbours.neighbour import Neighbour
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.gate import Admitted, Gate, Peer


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as it can be read before anybody has proved anything; all names are in small letters.

    `fault` is what made it unreadable, which is told only when the network has judged.
    """

    verb: str
    raw_path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    fault: StorageError | None = None

    @property
    def version(self) -> str:
        """The API version that it names; raises StorageError InvalidHeaderValue."""
        said = self.headers.get("x-ms-version") or self.query.get("sv", "")
        return checked_version(said) if said else VERSION

    def meaning(self) -> tuple[Target, Operation]:
        """What it is of and what it asks; raises StorageError."""
        if self.fault is not None:
            raise self.fault
        target = target_of(self.raw_path, of_container="restype" in self.query)
        return target, find_operation(self.verb, target, self.query, self.headers)


@dataclass(frozen=True, slots=True)
class Let:
    """A request that was let in: who asks for what, and whether he may overwrite what is there.

    `source` is what a copy is of, which he may read.
    """

    admitted: Admitted
    account: Neighbour
    grant: Grant
    target: Target
    operation: Operation
    may_overwrite: bool
    source: Target = ACCOUNT


class Identities(Protocol):
    """Whose user delegation keys are; `resources.bearer_tokens.BearerTokens` says so."""

    def named(self, resource: Guarded, object_id: str) -> Principal:
        """The identity of an object id, as it is now; raises HubError."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a proof needs and had to be waited for: stored access policies by container, the account's secret."""

    policies: Mapping[str, Mapping[str, StoredPolicy]]
    secret: bytes


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
        facts = await self._facts(neighbour, asked)
        proved: list[tuple[Neighbour, Grant]] = []

        def prove(current: Guarded) -> tuple[Principal, tuple[str, ...]]:
            assert isinstance(current, Neighbour), "a storage account is a neighbour"
            grant = self._grant(current, connection, asked, facts)
            proved.append((current, grant))
            return grant.principal, ()

        try:
            admitted = self._gate.neighbour(connection, neighbour, prove)
            [(account, grant)] = proved
            target, operation = asked.meaning()
            let = Let(admitted, account, grant, target, operation, grant.allow(operation, target))
            if operation is Operation.COPY_BLOB:
                let = replace(let, source=self._source(let, connection, asked, facts))
        except HubError as error:
            raise sas_rules.as_storage(error) from error
        return let

    def _source(self, let: Let, connection: Peer, asked: Asked, facts: _Facts) -> Target:
        """What is copied, when whoever asks may read it: by his own right, or by a SAS in its address."""
        parts = _copy_source(asked)
        query = parse_query(parts.query)
        if normal_host(parts.netloc) not in let.account.hosts or {"snapshot", "versionid"} & set(query):
            raise StorageError(StorageCode.NOT_IMPLEMENTED, details={"HeaderName": "x-ms-copy-source"})
        reading = Asked("GET", parts.path, query, {"x-ms-version": asked.version})
        source, grant = target_of(parts.path, of_container=False), let.grant
        shown = parse_sas(query)
        if shown is not None:
            grant = self._by_sas(let.account, connection, reading, shown, facts)
        grant.allow(Operation.GET_BLOB, source)
        return source

    def _grant(self, account: Neighbour, connection: Peer, asked: Asked, facts: _Facts) -> Grant:
        if asked.fault is not None:
            raise asked.fault
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
        return self._by_sas(account, connection, asked, shown, facts)

    def _by_key(self, account: Neighbour, asked: Asked, authorization: str) -> Grant:
        shown = parse_shared_key(authorization)
        if shown is None or shown.account != account.name:
            raise sas_rules.failed("The account name or signature is not well formed.", "auth.malformed")
        texts = signed_texts(asked.verb, asked.headers, account.name, asked.raw_path, asked.query)
        place = signing_key(texts, shown.signature, account.account_keys)
        if place is None:
            said = f"The MAC signature of the request is not the same as any computed signature over {texts[0]!r}"
            raise sas_rules.failed(said, "auth.signature", value="Shared Key, the signature does not match")
        if not is_recent(asked.headers, self._clock.utc_ms()):
            said = f"Request date header not within {SKEW_SECONDS} seconds of now."
            raise sas_rules.failed(said, "auth.expired", value="the request's date is not of now")
        return Grant(_key_holder(account, place))

    def _by_sas(self, account: Neighbour, peer: Peer, asked: Asked, shown: StorageSas, facts: _Facts) -> Grant:
        if shown.kind is SasKind.ACCOUNT:
            target = ACCOUNT
        else:
            target = target_of(asked.raw_path, of_container="restype" in asked.query)
        full = sas_rules.with_policy(shown, facts.policies.get(target.container, {}))
        text = sas_rules.text_to_sign(full, account.name, target, asked.headers)
        if full.kind is SasKind.DELEGATION:
            sas_rules.delegation_matches(full, text, facts.secret)
            principal = self._identities.named(account, full.said("skoid"))
        else:
            principal = _key_holder(account, sas_rules.verify_sas(full, text, account.account_keys))
        sas_rules.check_time(full, self._clock.utc_ms())
        sas_rules.check_peer(full, peer.peer_address)
        return Grant(principal, full, by_roles=full.kind is SasKind.DELEGATION, signed=target)

    async def _facts(self, neighbour: Guarded, asked: Asked) -> _Facts:
        """What may be needed of the store, by what the request shows; a request that cannot be read needs nothing."""
        try:
            source = _copy_source(asked)
            query = parse_query(source.query)
            names = {container_of(path) for path in (asked.raw_path, source.path)}
        except StorageError:
            query, names = {}, set()
        shown = [asked.query, query]
        secret = await self._store.secret(neighbour.number) if any("skoid" in each for each in shown) else b""
        policies: dict[str, Mapping[str, StoredPolicy]] = {}
        for name in names if any(each.get("si") for each in shown) else ():
            container = await self._store.container(neighbour.number, name)
            policies[name] = {each.policy_id: each for each in container.policies} if container else {}
        return _Facts(policies, secret)


def _copy_source(asked: Asked) -> SplitResult:
    """The address of what is to be copied, empty for none; raises StorageError InvalidHeaderValue."""
    text = asked.headers.get("x-ms-copy-source", "")
    try:
        return urlsplit(text)
    except ValueError:
        raise header_error("x-ms-copy-source", text) from None


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
