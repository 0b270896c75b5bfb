"""What an AMQP connection has proved so far: one session of the index for each proof, renewed in place."""

from typing import Protocol

from isthmus.access.principal import Principal
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId
from isthmus.network.door import Door
from isthmus.servers.gateway.gate import Admitted
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Sessions

PROOFS_MAX = 256
"""Audiences that one connection may hold tokens for; the next put-token is refused."""

TOKEN_GRACE_SECONDS = 60
"""How long after its end a token still carries its links: clients renew late when they were busy."""

NEVER = float("inf")


class Closing(Protocol):
    """The connection a proof belongs to."""

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Says why and closes."""


class ProvenSession:
    """One proof as the session index sees it."""

    def __init__(self, pump: Closing, admitted: Admitted) -> None:
        self._pump = pump
        self.hub: HubId = admitted.hub.number
        self.door: Door = admitted.door
        self.address = admitted.address
        self.principal: Principal = admitted.principal
        self.plane = Plane.AMQP

    def cut(self, refusal: Refusal, code: Code) -> None:
        self._pump.cut(refusal, code)


class Proofs:
    """The proofs of one connection, by audience."""

    def __init__(self, pump: Closing, sessions: Sessions, clock: Clock) -> None:
        self._pump = pump
        self._sessions = sessions
        self._clock = clock
        self._by_audience: dict[str, tuple[Admitted, ProvenSession]] = {}
        self.latest: Admitted | None = None

    def add(self, audience: str, admitted: Admitted) -> None:
        """Takes a proof in place of the former one for the audience; raises HubError above `PROOFS_MAX`."""
        key = audience.lower()
        former = self._by_audience.get(key)
        if former is None and len(self._by_audience) >= PROOFS_MAX:
            raise _too_many()
        session = ProvenSession(self._pump, admitted)
        self._sessions.add(session)
        self._by_audience[key] = (admitted, session)
        self.latest = admitted
        if former is not None:
            self._sessions.remove(former[1])

    def for_path(self, hub: HubId, path: str) -> Admitted | None:
        """A proof whose credential covers a path of the hub; the newest first."""
        for admitted, _ in reversed(self._by_audience.values()):
            if admitted.hub.number == hub and admitted.covers(path):
                return admitted
        return None

    def clear(self) -> None:
        """Takes all sessions out of the index."""
        for _, session in self._by_audience.values():
            self._sessions.remove(session)
        self._by_audience.clear()

    def next_deadline(self) -> float:
        """Monotonic seconds at which the first proof ends; infinity when none does."""
        ends = [admitted.principal.expires_s for admitted, _ in self._by_audience.values()]
        first = min((end for end in ends if end), default=0)
        if not first:
            return NEVER
        left = first + TOKEN_GRACE_SECONDS - self._clock.utc_ms() / 1000
        return self._clock.monotonic() + left

    def expired(self) -> bool:
        """True when a proof has ended and was not renewed."""
        now = self._clock.utc_ms() / 1000
        return any(
            admitted.principal.expires_s and now >= admitted.principal.expires_s + TOKEN_GRACE_SECONDS
            for admitted, _ in self._by_audience.values()
        )


def _too_many() -> HubError:
    return HubError(
        Code.QUOTA_EXCEEDED,
        "Too many tokens on one connection.",
        Refusal(Hop.LIMIT, "limit.cbs-tokens", str(PROOFS_MAX), "Open another connection for further audiences."),
    )
