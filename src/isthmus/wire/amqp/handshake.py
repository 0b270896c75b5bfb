"""Protocol headers and SASL, for both sides (AMQP 1.0 §2.2, §5.3).

Theory of operation. The stages, all one way; "client" marks what only our client half does:

| stage       | waits for                       | then                                     |
|-------------|---------------------------------|------------------------------------------|
| HEADER      | a protocol header               | SASL's → CHOICE; AMQP's → DONE           |
| CHOICE      | sasl-init                       | JUDGING; unknown mechanism → FAILED      |
| JUDGING     | `accept` or `refuse`            | AMQP_HEADER or FAILED                    |
| SASL_HEADER | client: SASL's header           | MECHANISMS                               |
| MECHANISMS  | client: the mechanisms          | OUTCOME; ours not offered → FAILED       |
| OUTCOME     | client: the outcome             | AMQP_HEADER or FAILED                    |
| AMQP_HEADER | AMQP's header                   | DONE                                     |
| DONE        |                                 | frames follow                            |
| FAILED      |                                 | the transport is to be closed            |

A client may send AMQP's header without SASL: it authenticates by claims or by its certificate. Whatever else comes in
place of a header is answered by the header we would have liked, as §2.2 says, and that is all.
"""

from enum import Enum
from typing import Final

from isthmus.wire.amqp import events
from isthmus.wire.amqp.errors import Condition, PeerError
from isthmus.wire.amqp.outlet import Outlet
from isthmus.wire.amqp.performatives import SaslChoice, SaslCode, SaslMechanisms, SaslOutcome, SaslPerformative

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"

MECHANISMS: Final = ("EXTERNAL", "MSSBCBS", "ANONYMOUS", "PLAIN")
"""What a server offers, in IoT Hub's order."""


class Stage(Enum):
    """See the table above."""

    HEADER = "header"
    CHOICE = "choice"
    JUDGING = "judging"
    SASL_HEADER = "sasl header"
    MECHANISMS = "mechanisms"
    OUTCOME = "outcome"
    AMQP_HEADER = "amqp header"
    DONE = "done"
    FAILED = "failed"


HEADER_STAGES: Final = frozenset((Stage.HEADER, Stage.SASL_HEADER, Stage.AMQP_HEADER))


class Handshake:
    """One side's way to the first AMQP frame; a client's begins with `start`."""

    def __init__(self, outlet: Outlet) -> None:
        self.stage = Stage.HEADER
        self._outlet = outlet
        self._client = False
        self._choice: SaslChoice | None = None

    def start(self, choice: SaslChoice | None) -> None:
        """Client half: sends the first header; None stands for no SASL."""
        self._client = True
        self._choice = choice
        self._outlet.chunks.append(AMQP_HEADER if choice is None else SASL_HEADER)
        self.stage = Stage.AMQP_HEADER if choice is None else Stage.SASL_HEADER

    def on_header(self, header: bytes) -> None:
        """A protocol header, or eight bytes that are none."""
        if header == AMQP_HEADER and self.stage in (Stage.HEADER, Stage.AMQP_HEADER):
            if not self._client:
                self._outlet.chunks.append(AMQP_HEADER)
            self.stage = Stage.DONE
        elif header == SASL_HEADER and self.stage is Stage.HEADER:
            self._outlet.chunks.append(SASL_HEADER)
            self._outlet.write(0, SaslMechanisms(MECHANISMS).encode(), sasl=True)
            self.stage = Stage.CHOICE
        elif header == SASL_HEADER and self.stage is Stage.SASL_HEADER:
            self.stage = Stage.MECHANISMS
        else:
            # [AMQP-2.2] the answer to an unknown header is one that we know, then the transport is closed.
            if not self._client:
                self._outlet.chunks.append(AMQP_HEADER if self.stage is Stage.AMQP_HEADER else SASL_HEADER)
            self.stage = Stage.FAILED

    def on_performative(self, performative: SaslPerformative) -> None:
        """A SASL frame; raises `PeerError` for one that is out of place."""
        match self.stage, performative:
            case Stage.CHOICE, SaslChoice():
                self._chosen(performative)
            case Stage.MECHANISMS, SaslMechanisms(offered):
                self._offered(offered)
            case Stage.OUTCOME, SaslOutcome(code):
                self._outlet.events.append(events.SaslDone(code))
                self.stage = Stage.AMQP_HEADER if code is SaslCode.OK else Stage.FAILED
                if code is SaslCode.OK:
                    self._outlet.chunks.append(AMQP_HEADER)
            case _:
                raise PeerError(Condition.ILLEGAL_STATE, "a SASL frame out of place")

    def judge(self, code: SaslCode) -> None:
        """The application's verdict on the credentials; ignored when none is awaited."""
        if self.stage is Stage.JUDGING:
            self._outlet.write(0, SaslOutcome(code).encode(), sasl=True)
            self.stage = Stage.AMQP_HEADER if code is SaslCode.OK else Stage.FAILED

    def _chosen(self, choice: SaslChoice) -> None:
        self.stage = Stage.JUDGING
        if choice.mechanism not in MECHANISMS:
            self.judge(SaslCode.AUTH)
            return
        response, hostname = choice.initial_response or b"", choice.hostname or ""
        self._outlet.events.append(events.SaslInit(choice.mechanism, response, hostname))

    def _offered(self, offered: tuple[str, ...]) -> None:
        if self._choice is None or self._choice.mechanism not in offered:
            self.stage = Stage.FAILED
            return
        self._outlet.write(0, self._choice.encode(), sasl=True)
        self.stage = Stage.OUTCOME
