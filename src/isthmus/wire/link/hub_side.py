"""The hub's side of a connector's connections: the control connection, and the one message of an enrolment.

Theory of operation. No socket, no clock: bytes and the time go in, messages come out, and what is to be sent waits in
`data_to_send`. A control connection lives so:

    connector                               hub
    hello ───────────────────────────────▶  version and name judged ──▶ refused, end
                                     ◀────  setup, again with every change
    ping  ───────────────────────────────▶
                                     ◀────  pong
    renew, status, result  ──────────────▶  given to the owner
                                     ◀────  certificate | refused, check, drain

A hello comes first and once. Every word of the connector counts as a sign of life; one that is silent for
`DEAD_SECONDS` is dead. A result that answers no check is an error: nobody else can have asked.
"""

from typing import Final

from isthmus.wire.link.framing import FrameReader, LinkProtocolError, decode_connector_message, encode_message
from isthmus.wire.link.messages import (
    DEAD_SECONDS,
    VERSION,
    Check,
    ConnectorMessage,
    Drain,
    Enrol,
    Hello,
    HubMessage,
    Ping,
    Pong,
    RefusalCode,
    Refused,
    Result,
)

CHECKS_MAX: Final = 16
"""Checks of one connector that wait for their result; one more is refused to its asker."""


class LinkRefused(Exception):  # noqa: N818 - says what happened to the connector; nothing of ours is wrong
    """The connector may not have this connection; `refused` has been told to it."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


class HubLink:
    """One control connection, of the connector that its certificate names."""

    __slots__ = ("_heard", "_last_check", "_name", "_outgoing", "_reader", "_waiting", "hello")

    def __init__(self, name: str, now: float) -> None:
        self.hello: Hello | None = None
        """What the connector said first."""
        self._name = name
        self._heard = now
        self._reader = FrameReader()
        self._outgoing: list[bytes] = []
        self._waiting: set[int] = set()
        self._last_check = 0

    @property
    def deadline(self) -> float:
        """When the connector counts as dead unless it says something before."""
        return self._heard + DEAD_SECONDS

    def receive(self, data: bytes, now: float) -> list[ConnectorMessage]:
        """What the owner has to act upon: the hello, and what follows it save pings, which are answered here.

        Raises `LinkRefused` for a hello that cannot be accepted, `LinkProtocolError` for a broken rule; in both cases
        the last word waits in `data_to_send`, and the connection is to be closed behind it.
        """
        self._heard = now
        self._reader.feed(data)
        taken: list[ConnectorMessage] = []
        try:
            while (frame := self._reader.frame()) is not None:
                message = decode_connector_message(frame)
                if self._take(message):
                    taken.append(message)
        except LinkProtocolError as error:
            self.send(Refused(code=RefusalCode.PROTOCOL, message=str(error)[:1_000]))
            raise
        return taken

    def send(self, message: HubMessage) -> None:
        """Adds a message to what is to be sent; raises ValueError where it is too large."""
        self._outgoing.append(encode_message(message))

    def check(self, request: dict[str, object]) -> int | None:
        """Asks the connector to try something out; the number its result will have, None when too many wait."""
        if len(self._waiting) >= CHECKS_MAX:
            return None
        self._last_check += 1
        self.send(Check(id=self._last_check, request=request))
        self._waiting.add(self._last_check)
        return self._last_check

    def drain(self) -> None:
        """Tells the connector that the hub is about to stop."""
        self.send(Drain())

    def data_to_send(self) -> bytes:
        """Hands over what is to be sent, in order."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def _take(self, message: ConnectorMessage) -> bool:
        """Acts upon a message; True when the owner has to as well."""
        if isinstance(message, Hello):
            self._greet(message)
            return True
        if self.hello is None:
            raise LinkProtocolError("the first message is not a hello")
        if isinstance(message, Ping):
            self.send(Pong(n=message.n))
            return False
        if isinstance(message, Enrol):
            raise LinkProtocolError("a connector that has a certificate does not enrol")
        if isinstance(message, Result):
            self._settle(message)
        return True

    def _greet(self, hello: Hello) -> None:
        if self.hello is not None:
            raise LinkProtocolError("a second hello")
        if hello.version != VERSION:
            self._refuse(RefusalCode.VERSION, f"This hub speaks version {VERSION} of the link protocol.")
        if hello.name != self._name:
            self._refuse(RefusalCode.NAME, "The certificate is for another name.")
        self.hello = hello

    def _refuse(self, code: str, message: str) -> None:
        refused = Refused(code=code, message=message)
        self.send(refused)
        raise LinkRefused(refused)

    def _settle(self, result: Result) -> None:
        if result.id not in self._waiting:
            raise LinkProtocolError(f"a result for check {result.id}, which does not wait for one")
        self._waiting.remove(result.id)


class HubEnrolment:
    """A connection without a certificate: takes one `Enrol` and nothing else."""

    __slots__ = ("_reader", "_taken")

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._taken = False

    def receive(self, data: bytes) -> Enrol | None:
        """The request once it is whole; raises `LinkProtocolError` for anything else, also behind it."""
        self._reader.feed(data)
        frame = self._reader.frame()
        if frame is None:
            if self._taken and self._reader.held:
                raise LinkProtocolError("more than one message of an enrolment")
            return None
        message = decode_connector_message(frame)
        if self._taken or not isinstance(message, Enrol) or self._reader.held:
            raise LinkProtocolError("an enrolment is one message of type enrol")
        self._taken = True
        return message
