"""Connectors of an installation: invited, enrolled, renewed, revoked; each change is durable before it is in force.

Theory of operation. Each connector is a document, read from memory and changed under compare-and-set. An enrolment
commits that its token is used *before* the certificate leaves: whatever dies in between, a token makes one certificate
at most. Of two that present one token at a time, the second finds another revision, reads again, and is refused. A
revocation is answered after all listeners, so after the last link is cut.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from isthmus.access.connector_authority import ConnectorIdentity, IssuedCertificate
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import Ids
from isthmus.base.state import COMMIT_TRIES_MAX, MUST_NOT_EXIST, NO_HUB, Change, Conflict, Delete, Key, Put, State
from isthmus.completion import Completion
from isthmus.network.virtual_networks import NetworkFacts, VirtualNetwork
from isthmus.resources.connector import (
    TOKEN_SECONDS_MAX,
    Connector,
    ConnectorState,
    Token,
    checked_connector_name,
    decode_connector,
    digest_of,
    encode_connector,
    invited,
    judged,
    place_of,
    revoked,
    with_token_used,
)

CONNECTORS_MAX = 256
"""Connectors of an installation, revoked ones included; one more makes the one forgotten that was revoked first."""

ConnectorListener = Callable[[Connector | None, Connector | None], Awaitable[None]]
"""Is told of a connector's old and new record; None before it was invited and after it was forgotten."""

Issue = Callable[[str, str, int], IssuedCertificate]
"""Makes the certificate for a request, a connector's name and its link id; raises HubError ArgumentInvalid."""


class Connectors:
    """All connectors; `load` first. Reading is synchronous; on the event loop only."""

    def __init__(self, state: State, clock: Clock, ids: Ids, facts: Callable[[], NetworkFacts]) -> None:
        """`facts` gives the virtual networks that are declared now."""
        self._state = state
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._completion = Completion()
        self._listeners: list[ConnectorListener] = []
        self._by_name: dict[str, Connector] = {}
        self._by_digest: dict[str, str] = {}

    async def load(self) -> None:
        """Reads all connectors; listeners are not told."""
        for document in await self._state.scan("connector", NO_HUB, limit=CONNECTORS_MAX):
            self._publish(decode_connector(document.body, document.revision))

    def on_change(self, listener: ConnectorListener) -> None:
        """Awaits `listener(old, new)` after each change, before the change is answered."""
        self._listeners.append(listener)

    def all(self) -> tuple[Connector, ...]:
        """All connectors in the order of their names."""
        return tuple(sorted(self._by_name.values(), key=lambda connector: connector.name))

    def by_name(self, name: str) -> Connector | None:
        """The connector of that name, or None."""
        return self._by_name.get(name)

    def require(self, name: str) -> Connector:
        """As `by_name`; raises HubError GenericNotFound."""
        connector = self._by_name.get(name)
        if connector is None:
            known = ", ".join(each.name for each in self.all()) or "none"
            raise HubError(Code.NOT_FOUND, f"There is no connector {name}; known: {known}")
        return connector

    @property
    def any_may_dial(self) -> bool:
        """True while somebody may come to the link door: a connector that is enrolled, or can be."""
        now_ms = self._clock.utc_ms()
        return any(
            each.state is ConnectorState.ENROLLED or each.can_be_enrolled(now_ms) for each in self._by_name.values()
        )

    def admit(self, identity: ConnectorIdentity) -> Connector:
        """The connector that a certificate of our own authority names; raises HubError IotHubUnauthorizedAccess."""
        connector = self._by_name.get(identity.name)
        if connector is None:
            raise _no_link("link.unknown-connector", f"no connector is called {identity.name}", identity.name)
        if not connector.has_link(identity.link_id):
            raise _no_link("link.revoked", f"link {identity.link_id} of {identity.name} was revoked", identity.name)
        return connector

    def network_for(self, name: str, network: str) -> tuple[str, VirtualNetwork]:
        """Name and network of a connector to be invited, of which one may be left out where the facts tell it.

        Raises HubError ArgumentInvalid, with the command that is missing, when the network's presence is another one.
        """
        facts = self._facts()
        if network:
            found = facts.require(network)
            name = name or (found.presence.name if found.presence.place == place_of(found.presence.name) else "")
        else:
            found = _only_network(facts, name)
        if not name or found.presence.place != place_of(checked_connector_name(name)):
            raise HubError(
                Code.ARGUMENT_INVALID,
                f"The presence of {found.name} is {found.presence.text}; before a connector can be enrolled for it: "
                f"isthmus network vnet update -n {found.name} --presence connector:{name or 'NAME'}",
            )
        return name, found

    async def invite(self, name: str, network: str, seconds: int) -> tuple[Connector, str, int]:
        """Makes an enrolment token: the connector, the token's secret, and when it runs out (milliseconds since 1970).

        `name` or `network` may be empty, see `network_for`. The secret is stored nowhere. Raises HubError
        ArgumentInvalid, GenericNotFound, InvalidOperation for a connector of another network, QuotaExceeded.
        """
        if not 1 <= seconds <= TOKEN_SECONDS_MAX:
            raise HubError(Code.ARGUMENT_INVALID, f"A token lasts 1 to {TOKEN_SECONDS_MAX} seconds")
        name, found = self.network_for(name, network)
        secret = self._ids.key().rstrip("=").translate(_URL_SAFE)
        now_ms = self._clock.utc_ms()
        token = Token(digest_of(secret), now_ms + seconds * 1_000)

        def rule(present: Connector | None) -> Connector:
            return invited(present or Connector(name, found.name, now_ms), found.name, token, now_ms)

        connector = await self._change(name, rule)
        return connector, secret, token.expires_ms

    async def enrol(self, secret: str, csr: str, issue: Issue) -> tuple[Connector, IssuedCertificate]:
        """Uses a token up and makes the first certificate of whoever presents it.

        Raises HubError IotHubUnauthorizedAccess for a token that is not known, was used or has run out, and what
        `issue` raises, which leaves the token as it was.
        """
        digest = digest_of(secret)
        now_ms = self._clock.utc_ms()
        name = judged(self._of_token(digest), digest, now_ms).name
        made: list[IssuedCertificate] = []

        def rule(present: Connector | None) -> Connector:
            connector = judged(self._of_token(digest), digest, now_ms)
            if connector.state is not ConnectorState.ENROLLED:
                connector = replace(connector, link_id=self._new_link_id())
            issued = issue(csr, name, connector.link_id)
            made[:] = [issued]
            return _certified(with_token_used(connector, digest, now_ms), issued)

        return await self._change(name, rule), made[0]

    async def renew(self, identity: ConnectorIdentity, csr: str, issue: Issue) -> IssuedCertificate:
        """A new certificate for a connector that came with one; raises as `admit` and `issue` do."""
        made: list[IssuedCertificate] = []

        def rule(present: Connector | None) -> Connector:
            connector = self.admit(identity)
            issued = issue(csr, connector.name, connector.link_id)
            made[:] = [issued]
            return _certified(connector, issued)

        await self._change(identity.name, rule)
        return made[0]

    async def revoke(self, name: str) -> Connector:
        """Takes a connector's right away for ever; returns when its links are cut. Raises HubError GenericNotFound."""
        now_ms = self._clock.utc_ms()
        return await self._change(name, lambda present: revoked(self.require(name), now_ms))

    def _of_token(self, digest: str) -> Connector | None:
        return self._by_name.get(self._by_digest.get(digest, ""))

    def _new_link_id(self) -> int:
        """A number of 32 bits that no connector has; never 0."""
        taken = {each.link_id for each in self._by_name.values()}
        while True:
            link_id = int(self._ids.uuid()[:8], 16)
            if link_id and link_id not in taken:
                return link_id

    async def _change(self, name: str, rule: Callable[[Connector | None], Connector]) -> Connector:
        return await self._completion.run(self._commit(name, rule))

    async def _commit(self, name: str, rule: Callable[[Connector | None], Connector]) -> Connector:
        for _ in range(COMMIT_TRIES_MAX):
            old = self._by_name.get(name)
            new = rule(old)
            if new == old:
                return new
            forgotten = self._to_forget() if old is None else None
            expect = old.revision if old is not None else MUST_NOT_EXIST
            changes: list[Change] = [Put(_key(name), encode_connector(new), expect)]
            if forgotten is not None:
                changes.append(Delete(_key(forgotten.name), forgotten.revision))
            try:
                revision = (await self._state.commit(changes))[0]
            except Conflict:
                await self._reread(name)
                continue
            if forgotten is not None:
                self._forget(forgotten.name)
            made = replace(new, revision=revision)
            self._publish(made)
            for listener in self._listeners:
                await listener(old, made)
            return made
        raise HubError(Code.SERVER_BUSY, f"The connector {name} is being changed by others; try again")

    def _to_forget(self) -> Connector | None:
        """Who makes room for one more, None when there is room; raises HubError QuotaExceeded."""
        if len(self._by_name) < CONNECTORS_MAX:
            return None
        gone = [each for each in self._by_name.values() if each.state is ConnectorState.REVOKED]
        if not gone:
            raise HubError(Code.QUOTA_EXCEEDED, f"{CONNECTORS_MAX} connectors are allowed; revoke one first")
        return min(gone, key=lambda each: each.revoked_ms)

    async def _reread(self, name: str) -> None:
        stored = await self._state.get(_key(name))
        if stored is None:
            self._forget(name)
        else:
            self._publish(decode_connector(stored.body, stored.revision))

    def _publish(self, connector: Connector) -> None:
        """Replaces the snapshot, never by an older one."""
        present = self._by_name.get(connector.name)
        if present is not None and present.revision > connector.revision:
            return
        self._forget(connector.name)
        self._by_name[connector.name] = connector
        for token in connector.tokens:
            self._by_digest[token.digest] = connector.name

    def _forget(self, name: str) -> None:
        gone = self._by_name.pop(name, None)
        for token in gone.tokens if gone is not None else ():
            self._by_digest.pop(token.digest, None)


_URL_SAFE = str.maketrans("+/", "-_")


def _key(name: str) -> Key:
    return Key("connector", NO_HUB, name)


def _certified(connector: Connector, issued: IssuedCertificate) -> Connector:
    identity = issued.identity
    return replace(connector, certificate_serial=identity.serial, certificate_expires_ms=identity.not_after_ms)


def _only_network(facts: NetworkFacts, name: str) -> VirtualNetwork:
    """The network whose presence a connector of that name is."""
    found = [each for each in facts.networks if each.presence.place == place_of(name)]
    if len(found) != 1:
        said = "More networks than one have" if found else "No network has"
        raise HubError(
            Code.ARGUMENT_INVALID,
            f"{said} the presence connector:{name}; name the one with --vnet-name, and give it its presence: "
            f"isthmus network vnet update -n NETWORK --presence connector:{name}",
        )
    return found[0]


def _no_link(rule: str, what: str, name: str) -> HubError:
    remedy = f"enrol it anew, if it is to come back: isthmus connector enrol -n {name}"
    return HubError(
        Code.UNAUTHORIZED_ACCESS, "The connector was revoked", Refusal(Hop.AUTHENTICATION, rule, what, remedy)
    )
