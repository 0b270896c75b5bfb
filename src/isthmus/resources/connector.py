"""A connector's record: which network it is present in, whether it may dial, and which tokens may enrol it.

Theory of operation. A record begins with a token and lives through these states:

    Invited ──token used──▶ Enrolled ──revoke──▶ Revoked ──new token, used──▶ Enrolled (with another link id)

A token is single-use and short-lived. More than one may be open at a time, for connectors that run in several processes
under one name. What is stored of it is the hash of its secret; those that were used or have run out stay for a while,
so that whoever presents one again is told apart from a stranger, in the journal.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.network.virtual_networks import PRESENCE_NAME, Presence, PresenceKind

TOKEN_SECONDS = 900
"""How long an enrolment token lasts unless its maker says otherwise: the way from one terminal to another."""

TOKEN_SECONDS_MAX = 86_400
"""The longest that a maker may ask for: a token that waits for the next shift."""

OPEN_TOKENS_MAX = 16
"""Tokens of one connector that may be used at a time; one more is refused."""

KEPT_TOKENS_MAX = 16
"""Used and expired tokens of one connector that are remembered; the oldest are forgotten first."""

NOT_ACCEPTED = "The enrolment token is not known here, was used, or has run out: `isthmus connector enrol` makes one"
"""All that whoever presents a token is told."""


class ConnectorState(StrEnum):
    """Of a connector."""

    INVITED = "Invited"
    ENROLLED = "Enrolled"
    REVOKED = "Revoked"


@dataclass(frozen=True, slots=True)
class Token:
    """An enrolment token as it is stored; `used_ms` is 0 until it is used."""

    digest: str
    expires_ms: int
    used_ms: int = 0

    def is_open(self, now_ms: int) -> bool:
        """True while it can be used."""
        return not self.used_ms and now_ms < self.expires_ms


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector; times are milliseconds since 1970, and 0 for what has not happened. `link_id` is 0 before that."""

    name: str
    network: str
    created_ms: int
    link_id: int = 0
    enrolled_ms: int = 0
    revoked_ms: int = 0
    certificate_serial: str = ""
    certificate_expires_ms: int = 0
    tokens: tuple[Token, ...] = ()
    revision: int = 0

    @property
    def state(self) -> ConnectorState:
        """Where it is in its life."""
        if self.revoked_ms:
            return ConnectorState.REVOKED
        return ConnectorState.ENROLLED if self.enrolled_ms else ConnectorState.INVITED

    @property
    def place(self) -> str:
        """Where its addresses are; see `Presence.place`."""
        return place_of(self.name)

    def has_link(self, link_id: int) -> bool:
        """True when this is the link of the connector that is enrolled now."""
        return self.state is ConnectorState.ENROLLED and link_id == self.link_id

    def can_be_enrolled(self, now_ms: int) -> bool:
        """True while a token waits."""
        return any(token.is_open(now_ms) for token in self.tokens)


def place_of(name: str) -> str:
    """The place of the network that a connector of that name is present in."""
    return Presence(PresenceKind.CONNECTOR, name).place


def checked_connector_name(name: str) -> str:
    """The name; raises HubError ArgumentInvalid when no connector can have it."""
    if not PRESENCE_NAME.fullmatch(name):
        message = f"A connector's name has 1 to 64 letters, digits, dashes, underscores and dots; not {name!r}"
        raise HubError(Code.ARGUMENT_INVALID, message)
    return name


def digest_of(secret: str) -> str:
    """What is stored of a token's secret, which is random: its plain SHA-256 tells nothing about it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def invited(connector: Connector, network: str, token: Token, now_ms: int) -> Connector:
    """With one more token; raises HubError QuotaExceeded, InvalidOperation for another network than it is bound to."""
    if connector.network.lower() != network.lower() and connector.state is not ConnectorState.REVOKED:
        message = (
            f"The connector {connector.name} is bound to {connector.network}; revoke it first, or give the one for "
            f"{network} another name"
        )
        raise HubError(Code.INVALID_OPERATION, message)
    waiting = [each for each in connector.tokens if each.is_open(now_ms)]
    if len(waiting) >= OPEN_TOKENS_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"{OPEN_TOKENS_MAX} tokens of {connector.name} wait to be used already")
    closed = [each for each in connector.tokens if not each.is_open(now_ms)]
    return replace(connector, network=network, tokens=(*closed[-KEPT_TOKENS_MAX:], *waiting, token))


def judged(connector: Connector | None, digest: str, now_ms: int) -> Connector:
    """The connector that a token enrols now; raises HubError IotHubUnauthorizedAccess, the reason in its refusal."""
    if connector is None:
        raise _no_token("link.token-unknown", "no connector has this token")
    token = next(each for each in connector.tokens if each.digest == digest)
    if token.used_ms:
        raise _no_token("link.token-used", f"the token of {connector.name} was used at {iso_utc(token.used_ms)}")
    if not token.is_open(now_ms):
        raise _no_token("link.token-expired", f"the token of {connector.name} ran out at {iso_utc(token.expires_ms)}")
    return connector


def with_token_used(connector: Connector, digest: str, now_ms: int) -> Connector:
    """After an enrolment by the token."""
    used = (replace(each, used_ms=now_ms) if each.digest == digest else each for each in connector.tokens)
    return replace(connector, tokens=tuple(used), enrolled_ms=connector.enrolled_ms or now_ms, revoked_ms=0)


def revoked(connector: Connector, now_ms: int) -> Connector:
    """After it was revoked: no token of it counts any more. Without effect on one that was revoked before."""
    tokens = tuple(replace(each, expires_ms=min(each.expires_ms, now_ms)) for each in connector.tokens)
    return replace(connector, tokens=tokens, revoked_ms=connector.revoked_ms or now_ms, enrolled_ms=0)


def encode_connector(connector: Connector) -> bytes:
    """The stored form."""
    return msgspec.json.encode(replace(connector, revision=0))


def decode_connector(body: bytes, revision: int) -> Connector:
    """The connector of a stored form; raises `msgspec.DecodeError` on damage."""
    return replace(msgspec.json.decode(body, type=Connector), revision=revision)


def connector_to_json(connector: Connector, now_ms: int) -> dict[str, object]:
    """The connector as it is shown; nothing of it is a secret."""
    return {
        "name": connector.name,
        "network": connector.network,
        "state": connector.state.value,
        "linkId": str(connector.link_id) if connector.link_id else None,
        "createdTime": iso_utc(connector.created_ms),
        "enrolledTime": _time(connector.enrolled_ms),
        "revokedTime": _time(connector.revoked_ms),
        "certificateSerial": connector.certificate_serial or None,
        "certificateExpiryTime": _time(connector.certificate_expires_ms),
        "openTokens": sum(token.is_open(now_ms) for token in connector.tokens),
    }


def _time(utc_ms: int) -> str | None:
    return iso_utc(utc_ms) if utc_ms else None


def _no_token(rule: str, what: str) -> HubError:
    remedy = "make a new one, `isthmus connector enrol`; if nobody here used it, find out who had it"
    return HubError(Code.UNAUTHORIZED_ACCESS, NOT_ACCEPTED, Refusal(Hop.AUTHENTICATION, rule, what, remedy))
