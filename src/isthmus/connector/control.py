"""One control connection, from hello to its end.

The task that runs `converse` owns it. It sleeps until the hub says something, a heartbeat is due, or somebody calls
`wake` because there is something to say. What the hub says goes to the `Audience`; why the connection ended is the
result.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.connector.stopping import CannotGoOn
from isthmus.connector.stream import LineStream
from isthmus.wire.link.connector_side import ConnectorLink, LinkDead
from isthmus.wire.link.framing import LinkProtocolError
from isthmus.wire.link.messages import Certificate, Check, Drain, HubMessage, RefusalCode, Refused, Setup

FOR_GOOD = {
    RefusalCode.TOKEN: "enrol it anew",
    RefusalCode.REVOKED: "enrol it anew with a new token, if it is to come back",
    RefusalCode.NAME: "enrol it anew",
    RefusalCode.VERSION: "install the version that the hub has",
}
"""Refusals that no later try will change, with the remedy."""

ALERTS_FOR_GOOD = {
    "certificate expired": "the connector's certificate has expired",
    "certificate revoked": "the connector was revoked",
    "unknown ca": "the hub does not know who issued the connector's certificate",
    "bad certificate": "the hub does not accept the connector's certificate",
    "certificate unknown": "the hub does not accept the connector's certificate",
    "access denied": "the hub does not let the connector in",
}
"""Ends of TLS' alerts (RFC 8446 §6.2) by which a hub refuses a certificate, and what they mean."""


class Audience(Protocol):
    """Who acts upon what the hub says; none of it may block."""

    def set_up(self, setup: Setup) -> None:
        """The hub says what is to be done."""

    def certificate(self, certificate: Certificate) -> None:
        """The hub answers a renewal."""

    def renewal_refused(self, refused: Refused) -> None:
        """The hub will not renew; it may later."""

    def check(self, check: Check) -> None:
        """The hub asks for a check."""


class Ending(Enum):
    """How a control connection ended."""

    DRAINED = auto()
    """The hub is about to stop."""
    LOST = auto()
    """Anything else that may be better next time."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a control connection, with the reason in words; `worked` when a setup had come."""

    ending: Ending
    reason: str
    worked: bool


async def converse(stream: LineStream, link: ConnectorLink, audience: Audience, clock: Clock) -> Ended:
    """Talks until the connection ends, and says why it did; raises `CannotGoOn`. Cancelled, it leaves the line open."""
    while True:
        stream.write(link.data_to_send())
        await stream.wait(link.next_tick - clock.monotonic())
        try:
            data = stream.take()
            for message in link.receive(data, clock.monotonic()) if data else ():
                ended = _act(message, link, audience)
                if ended is not None:
                    return ended
            if stream.ended:
                return _end_of(stream.ended, link)
            link.tick(clock.monotonic())
        except (LinkDead, LinkProtocolError) as error:
            return Ended(Ending.LOST, str(error), link.setup is not None)


def _act(message: HubMessage, link: ConnectorLink, audience: Audience) -> Ended | None:
    worked = link.setup is not None
    match message:
        case Setup():
            audience.set_up(message)
        case Certificate():
            audience.certificate(message)
        case Check():
            audience.check(message)
        case Drain():
            return Ended(Ending.DRAINED, "the hub is about to stop", worked)
        case Refused(code=code) if code in FOR_GOOD:
            raise CannotGoOn(f"The hub refuses this connector: {message.message.rstrip('.')}; {FOR_GOOD[code]}.")
        case Refused() if worked:
            audience.renewal_refused(message)
        case Refused():
            return Ended(Ending.LOST, f"refused: {message.message}", worked)
    return None


def _end_of(reason: str, link: ConnectorLink) -> Ended:
    for alert, meaning in ALERTS_FOR_GOOD.items():
        if reason.endswith(alert):
            raise CannotGoOn(f"The hub refuses this connector: {meaning}; enrol it anew.")
    return Ended(Ending.LOST, reason, link.setup is not None)
