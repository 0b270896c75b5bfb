"""What speaks the link protocol on the hub's side: control connections, enrolments, last words to those turned away.

Theory of operation. A `ControlHandler` drives the engine of `wire/link/hub_side.py`: reads go in, and what the engine
has to say leaves after each of them. One timer ends a connection whose connector is silent, or whose certificate ran
out without having been renewed. Certificates are made elsewhere (`link_certifying.py`) and told here.
"""

import asyncio
from typing import Protocol

from isthmus.access.connector_authority import IssuedCertificate
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError, Refusal
from isthmus.servers.gateway.connection import Connection
from isthmus.servers.gateway.link_refusals import spoken_wrongly
from isthmus.servers.gateway.link_socket import LinkSocket
from isthmus.servers.gateway.ports import Timer, Timers
from isthmus.wire.link.framing import LinkProtocolError, encode_message
from isthmus.wire.link.hub_side import HubEnrolment, HubLink, LinkRefused
from isthmus.wire.link.messages import (
    Certificate,
    ConnectorMessage,
    Enrol,
    Hello,
    HubMessage,
    RefusalCode,
    Refused,
    Renew,
    Result,
    Setup,
    Status,
)


class ControlHouse(Protocol):
    """What control connections and enrolments ask of the link door."""

    def greeted(self, control: "ControlHandler") -> str:
        """A connector has said hello; why it cannot have the connection, empty when it can."""

    def reported(self, control: "ControlHandler") -> None:
        """It has said what became of its setup."""

    def gone(self, control: "ControlHandler") -> None:
        """Its connection is closed; also called for one that never greeted."""


class Certifier(Protocol):
    """Who makes certificates for them, by and by."""

    def renew(self, control: "ControlHandler", csr: str) -> None:
        """Begins to make a new certificate; it is told, or why there is none."""

    def enrol(self, enrolment: "EnrolHandler", request: Enrol) -> None:
        """Begins to make a first certificate; it is told, or why there is none."""


class ControlHandler:
    """One control connection; see the theory of operation above."""

    def __init__(
        self, house: ControlHouse, certifier: Certifier, socket: LinkSocket, clock: Clock, timers: Timers
    ) -> None:
        assert socket.connector is not None
        assert socket.identity is not None
        self.connector = socket.connector
        self.identity = socket.identity
        self.status: Status | None = None
        """What the connector said last about its setup."""
        self.since_ms = clock.utc_ms()
        self.generation = 0
        """Of the setup that was sent last."""
        self._setup: Setup | None = None
        self._house = house
        self._certifier = certifier
        self.socket = socket
        self._clock = clock
        self._timers = timers
        self._timer: Timer | None = None
        self._engine = HubLink(self.connector.name, clock.monotonic())
        self._results: dict[int, asyncio.Future[Result]] = {}
        self._reports: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def hello(self) -> Hello | None:
        """What it said first."""
        return self._engine.hello

    @property
    def peer_address(self) -> str:
        """Where it dials from."""
        return self.socket.connection.peer_address

    # ── what the link door says ──────────────────────────────────────────────────────────────────────────────────

    def set_up(self, setup: Setup) -> bool:
        """Tells the connector what to do, unless it was told so before; `generation` is filled in. True when told."""
        same = self._setup is not None and _without_generation(setup) == _without_generation(self._setup)
        if same or self.socket.connection.closing:
            return False
        self.generation += 1
        self._setup = Setup(
            generation=self.generation, endpoints=setup.endpoints, names=setup.names, spares=setup.spares
        )
        self.say(self._setup)
        return True

    def say(self, message: HubMessage) -> None:
        """Sends a message; dropped when the connection is closing. Raises ValueError where it is too large."""
        self._engine.send(message)
        self._flush()

    def drain(self) -> None:
        """Tells the connector that the hub is about to stop."""
        self._engine.drain()
        self._flush()

    def turn_away(self, code: str, message: str) -> None:
        """Ends the connection with a reason that its process hears."""
        self.say(Refused(code=code, message=message))
        self.socket.connection.close(message)

    def certified(self, issued: IssuedCertificate, authorities: str) -> None:
        """Gives the connector its new certificate."""
        self.identity = issued.identity
        self.say(Certificate(pem=issued.pem, ca_pem=authorities))
        self._arm()

    async def check(self, request: dict[str, object]) -> Result:
        """Has the connector try something out.

        Raises HubError ServerBusy when too many checks wait already, ServiceUnavailable when the connection ends first.
        Cancelling forgets the request.
        """
        number = self._engine.check(request)
        if number is None:
            raise HubError(Code.SERVER_BUSY, f"Too many checks wait for {self.connector.name}")
        waiting: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._results[number] = waiting
        self._flush()
        try:
            return await waiting
        finally:
            self._results.pop(number, None)

    async def settled(self) -> None:
        """Returns when the connector has reported on the setup that was sent last, or is gone."""
        if self.socket.connection.closing or (self.status is not None and self.status.generation >= self.generation):
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self.generation, waiting)
        self._reports.append(entry)
        try:
            await waiting
        finally:
            if entry in self._reports:
                self._reports.remove(entry)

    # ── the connection's side (see `connection.Handler`) ─────────────────────────────────────────────────────────

    def opened(self, connection: Connection) -> None:
        """Waits for the hello."""
        self._arm()

    def received(self, data: bytes) -> None:
        """Takes one read."""
        try:
            for message in self._engine.receive(data, self._clock.monotonic()):
                self._act(message)
        except LinkRefused as error:
            self._leave(error.refused.message)
        except LinkProtocolError as error:
            self._leave(str(error))
        self._flush()

    def closed(self, reason: str) -> None:
        """The connection is gone, and with it whoever waits for an answer."""
        if self._timer is not None:
            self._timer.cancel()
        lost = HubError(Code.SERVICE_UNAVAILABLE, f"The connector {self.connector.name} went away")
        for waiting in self._results.values():
            if not waiting.done():
                waiting.set_exception(lost)
        self._wake(self.generation)
        self._house.gone(self)

    def writable(self) -> None:
        """Nothing waits for room: messages are few."""

    def _act(self, message: ConnectorMessage) -> None:
        match message:
            case Hello():
                self._greet()
            case Status():
                before, self.status = self.status, message
                self._wake(message.generation)
                if before is None or before.endpoints != message.endpoints:
                    self._house.reported(self)
            case Renew(csr=csr):
                self._certifier.renew(self, csr)
            case Result(id=number):
                waiting = self._results.pop(number, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)

    def _greet(self) -> None:
        self.socket.connection.made_progress()
        objection = self._house.greeted(self)
        if objection:
            self.turn_away(RefusalCode.BUSY, objection)

    def _leave(self, what: str) -> None:
        self.socket.refuse(spoken_wrongly(what))
        self._flush()
        self.socket.connection.close("link protocol error")

    def _wake(self, generation: int) -> None:
        for wanted, waiting in self._reports:
            if wanted <= generation and not waiting.done():
                waiting.set_result(None)

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self.socket.connection.write(data)

    def _arm(self) -> None:
        """Looks again when the connector would be dead, or its certificate run out."""
        if self._timer is not None:
            self._timer.cancel()
        if self.socket.connection.closing:
            # A certificate came too late.
            return
        silent = self._engine.deadline - self._clock.monotonic()
        left = (self.identity.not_after_ms - self._clock.utc_ms()) / 1_000
        self._timer = self._timers.call_later(max(0.0, min(silent, left)), self._look)

    def _look(self) -> None:
        if self._clock.utc_ms() >= self.identity.not_after_ms:
            self.turn_away(RefusalCode.REVOKED, "The certificate has run out and was not renewed: enrol anew.")
        elif self._clock.monotonic() >= self._engine.deadline:
            self.socket.connection.abort("silent for too long")
        else:
            self._arm()


class EnrolHandler:
    """The connection of one enrolment: a request, an answer, the end."""

    def __init__(self, certifier: Certifier, socket: LinkSocket) -> None:
        self.socket = socket
        self._certifier = certifier
        self._engine = HubEnrolment()
        self._asked = False

    def opened(self, connection: Connection) -> None:
        """Waits for the request; how long, the connection's own deadline says."""

    def received(self, data: bytes) -> None:
        """Takes one read."""
        try:
            request = self._engine.receive(data)
        except LinkProtocolError as error:
            if not self._asked:
                self.refuse(spoken_wrongly(str(error)), RefusalCode.PROTOCOL, str(error)[:1_000])
            return
        if request is not None:
            self._asked = True
            self._certifier.enrol(self, request)

    def closed(self, reason: str) -> None:
        """Nobody waits."""

    def writable(self) -> None:
        """Nothing waits for room."""

    def certified(self, issued: IssuedCertificate, authorities: str) -> None:
        """Answers with the certificate."""
        self._end(Certificate(pem=issued.pem, ca_pem=authorities), "enrolled")

    def refuse(self, refusal: Refusal | None, code: str, message: str) -> None:
        """Answers with a refusal, whose reason is the owner's."""
        if refusal is not None:
            self.socket.refuse(refusal)
        self._end(Refused(code=code, message=message), "not enrolled")

    def _end(self, message: HubMessage, reason: str) -> None:
        self.socket.connection.write(encode_message(message))
        self.socket.connection.close(reason)


class TurnedAwayHandler:
    """Tells the process of a connector that has no right to a link any more, and ends."""

    def __init__(self, message: str) -> None:
        self._message = message

    def opened(self, connection: Connection) -> None:
        """Says so at once."""
        connection.write(encode_message(Refused(code=RefusalCode.REVOKED, message=self._message)))
        connection.close("turned away")

    def received(self, data: bytes) -> None:
        """Nothing is heard."""

    def closed(self, reason: str) -> None:
        """Nobody waits."""

    def writable(self) -> None:
        """Nothing waits for room."""


def _without_generation(setup: Setup) -> tuple[object, object, int]:
    return setup.endpoints, setup.names, setup.spares
