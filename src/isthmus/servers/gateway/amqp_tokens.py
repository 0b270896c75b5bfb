"""What an AMQP connection has proved so far: one session of the index for each proof, renewed in place."""

from dataclasses import dataclass, replace
from typing import Final, Protocol

from isthmus.access.authenticate import require_permission
from isthmus.access.principal import Principal, Right
from isthmus.access.refusals import unauthorized
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId
from isthmus.network.door import Door
from isthmus.servers.gateway.gate import Admitted, device_name
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import SessionIndex

PROOFS_MAX: Final = 256
"""Audiences that one connection may hold tokens for at a time; the next put-token is refused."""

TOKEN_GRACE_SECONDS: Final = 60
"""How long after its end a token still carries its links: clients renew late when they were busy."""

NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Need:
    """What the peer of a link must have proved: a credential that covers a path of the resource, and a right.

    All nodes of services ask for ServiceConnect (IoT Hub developer guide, "Control access to IoT Hub"). `built_in` for
    nodes of the built-in endpoint: network rules may leave it out, so what was proved for it proves nothing elsewhere.
    `data_action` is what a role must allow when the peer is an identity; without one, only policies may. Roles count
    at `part`, the end of an ARM id, of the resource `hub`, or at the whole of it.
    """

    hub: HubId
    path: str
    built_in: bool
    right: Right = Right.SERVICE_CONNECT
    data_action: str = ""
    part: str = ""


class Closing(Protocol):
    """The connection a proof belongs to."""

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Says why and closes."""


class Proof:
    """One proof of a connection, as the session index sees it; `ends_at` is monotonic seconds, grace included."""

    plane: Plane = Plane.AMQP

    def __init__(self, pump: Closing, admitted: Admitted, *, built_in: bool, ends_at: float) -> None:
        self._pump = pump
        self.admitted = admitted
        self.hub: HubId = admitted.resource.number
        self.door: Door = admitted.door
        self.address = admitted.address
        self.device = device_name(admitted.identity) if admitted.identity is not None else ""
        self.principal: Principal = admitted.principal
        self.built_in = built_in
        self.ends_at = ends_at

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Ends the whole connection."""
        self._pump.cut(refusal, code)

    def covers(self, need: Need) -> bool:
        """True when the credential reaches the path, whatever its rights."""
        reaches = need.built_in or not self.built_in
        return reaches and self.hub == need.hub and self.admitted.covers(need.path)


class Proofs:
    """The proofs of one connection, by audience."""

    def __init__(self, pump: Closing, sessions: SessionIndex, clock: Clock) -> None:
        self._pump = pump
        self._sessions = sessions
        self._clock = clock
        self._by_audience: dict[str, Proof] = {}
        self.principal = ""
        self.next_deadline = NEVER

    def __len__(self) -> int:
        return len(self._by_audience)

    def add(self, audience: str, admitted: Admitted, *, built_in: bool) -> bool:
        """Takes a proof in place of the former one for the audience; False when there was one.

        Raises HubError QUOTA_EXCEEDED above `PROOFS_MAX`.
        """
        key = audience.lower()
        former = self._by_audience.get(key)
        if former is None and len(self._by_audience) >= PROOFS_MAX:
            raise _too_many()
        proof = Proof(self._pump, admitted, built_in=built_in, ends_at=self._end_of(admitted))
        self._sessions.add(proof)
        self._by_audience[key] = proof
        self.principal = admitted.principal.label
        if former is not None:
            self._sessions.remove(former)
        self._set_deadline()
        return former is None

    def require(self, need: Need) -> None:
        """Raises HubError IotHubUnauthorizedAccess, rule `auth.missing`, `auth.scope`, or of `require_permission`."""
        covering = [proof for proof in self._by_audience.values() if proof.covers(need)]
        if not covering:
            raise self._uncovered(need)
        refusals: list[HubError] = []
        for proof in covering:
            try:
                require_permission(at_part(proof.principal, need.part), need.right, need.data_action)
            except HubError as error:
                refusals.append(error)
            else:
                return
        raise refusals[0]

    def suffice(self, need: Need) -> bool:
        """True when `require` would raise nothing."""
        try:
            self.require(need)
        except HubError:
            return False
        return True

    def drop_ended(self) -> bool:
        """Forgets the proofs whose time is over; True when there were any."""
        now = self._clock.monotonic()
        ended = [audience for audience, proof in self._by_audience.items() if proof.ends_at <= now]
        for audience in ended:
            self._sessions.remove(self._by_audience.pop(audience))
        self._set_deadline()
        return bool(ended)

    def clear(self) -> None:
        """Takes all sessions out of the index; the connection is closed."""
        for proof in self._by_audience.values():
            self._sessions.remove(proof)
        self._by_audience.clear()
        self._set_deadline()

    def _end_of(self, admitted: Admitted) -> float:
        expires_s = admitted.principal.expires_s
        if not expires_s:
            return NEVER
        return self._clock.monotonic() + expires_s + TOKEN_GRACE_SECONDS - self._clock.utc_ms() / 1000

    def _set_deadline(self) -> None:
        self.next_deadline = min((proof.ends_at for proof in self._by_audience.values()), default=NEVER)

    def _uncovered(self, need: Need) -> HubError:
        if not self._by_audience:
            return unauthorized("auth.missing", need.path, "put a token to $cbs before attaching", Hop.AUTHORIZATION)
        named = ", ".join(self._by_audience)[:200]
        return unauthorized(
            "auth.scope", f"tokens for {named}", f"put a token whose sr covers {need.path}", Hop.AUTHORIZATION
        )


def at_part(principal: Principal, part: str) -> Principal:
    """The principal, whose roles are judged at a part of the resource: the end of an ARM id, or empty for all of it."""
    return replace(principal, resource_id=f"{principal.resource_id}{part}") if part else principal


def _too_many() -> HubError:
    return HubError(
        Code.QUOTA_EXCEEDED,
        "Too many tokens on one connection.",
        Refusal(Hop.LIMIT, "limit.cbs-tokens", str(PROOFS_MAX), "Open another connection for further audiences."),
    )
