"""Certificates for connectors: the first one for a token, the next ones for a certificate.

Both wait for the disk, and run to their end whatever becomes of the connection: what is committed is committed. A
connection that is gone by then is told nothing. A connector has one renewal under way at a time, and none within the
first part of a certificate's life (`RENEWAL_SHARE`), because each of them is a commit and a record of the journal.
"""

from dataclasses import dataclass

from isthmus.access.connector_authority import ConnectorIdentity, IssuedCertificate
from isthmus.access.journal import Decision, Journal, Verdict
from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import HubError
from isthmus.resources.connectors import Connectors, Issue
from isthmus.servers.gateway.connection import Connection
from isthmus.servers.gateway.lasting_work import LastingWork
from isthmus.servers.gateway.link_control import ControlHandler, EnrolHandler
from isthmus.servers.gateway.plane import Plane
from isthmus.wire.link.messages import Enrol, RefusalCode, Refused

RENEWAL_SHARE = 0.1
"""Of a certificate's life must be over before its connection renews again; a connector asks after two thirds."""


@dataclass(frozen=True, slots=True)
class Issuing:
    """How certificates are made, and the hub's own authorities (PEM) that go with them."""

    issue: Issue
    authorities: str


class Certifying:
    """Makes certificates for whoever may have them, and tells why not to everybody else; on the event loop only."""

    def __init__(self, issuing: Issuing, connectors: Connectors, journal: Journal, clock: Clock) -> None:
        self.enrolments = 0
        """Certificates that were made for a token, since the start."""
        self._issuing = issuing
        self._connectors = connectors
        self._journal = journal
        self._clock = clock
        self._work = LastingWork()
        self._renewable_ms: dict[ControlHandler, int] = {}

    def enrol(self, enrolment: EnrolHandler, request: Enrol) -> None:
        """Begins to make a first certificate for whoever has a token."""
        self._work.spawn(self._enrol(enrolment, request))

    def renew(self, control: ControlHandler, csr: str) -> None:
        """Begins to make a new certificate for a connector, unless it was given one just now or one is on its way."""
        if self._renewable_ms.get(control, 0) > self._clock.utc_ms():
            control.say(Refused(code=RefusalCode.BUSY, message="The certificate was renewed just now."))
            return
        self._renewable_ms[control] = control.identity.not_after_ms
        self._work.spawn(self._renew(control, csr))

    def gone(self, control: ControlHandler) -> None:
        """Forgets a control connection."""
        self._renewable_ms.pop(control, None)

    async def drained(self) -> None:
        """Returns when nothing is under way any more."""
        await self._work.drained()

    async def _enrol(self, enrolment: EnrolHandler, request: Enrol) -> None:
        try:
            self._journal.require_room()
            connector, issued = await self._connectors.enrol(request.token_secret, request.csr, self._issuing.issue)
        except HubError as error:
            enrolment.refuse(error.refusal, _code_of(error), error.message)
            return
        self.enrolments += 1
        what = f"connector {connector.name} enrolled as link {connector.link_id}"
        self._note(enrolment.socket.connection, issued, what)
        enrolment.certified(issued, self._issuing.authorities)

    async def _renew(self, control: ControlHandler, csr: str) -> None:
        try:
            issued = await self._connectors.renew(control.identity, csr, self._issuing.issue)
        except HubError as error:
            self._renewable_ms.pop(control, None)
            self._refuse(control, error)
            return
        if control in self._renewable_ms:
            self._renewable_ms[control] = self._renewable_again(issued.identity)
        until = iso_utc(issued.identity.not_after_ms)
        what = f"certificate of connector {issued.identity.name} renewed until {until}"
        self._note(control.socket.connection, issued, what)
        control.certified(issued, self._issuing.authorities)

    def _renewable_again(self, identity: ConnectorIdentity) -> int:
        now_ms = self._clock.utc_ms()
        return now_ms + round((identity.not_after_ms - now_ms) * RENEWAL_SHARE)

    def _refuse(self, control: ControlHandler, error: HubError) -> None:
        code = _code_of(error)
        if error.refusal is not None:
            control.socket.refuse(error.refusal)
        if code == RefusalCode.REVOKED:
            control.turn_away(code, error.message)
        else:
            # The old certificate is as good as before: the connector may ask again.
            control.say(Refused(code=code, message=error.message))

    def _note(self, connection: Connection, issued: IssuedCertificate, what: str) -> None:
        self._journal.write(
            Decision(
                Verdict.CHANGED,
                plane=Plane.LINK.value,
                door=connection.door.label,
                address=connection.peer_address,
                principal=f"connector:{issued.identity.name}",
                detail=what,
            )
        )


_CODES = {
    "link.request": RefusalCode.REQUEST,
    "link.revoked": RefusalCode.REVOKED,
    "link.unknown-connector": RefusalCode.REVOKED,
    "link.token-unknown": RefusalCode.TOKEN,
    "link.token-used": RefusalCode.TOKEN,
    "link.token-expired": RefusalCode.TOKEN,
}


def _code_of(error: HubError) -> str:
    return _CODES.get(error.refusal.rule if error.refusal is not None else "", RefusalCode.BUSY)
