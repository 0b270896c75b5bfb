"""The connector's side of its connections to a hub: the control connection, and an enrolment.

Theory of operation. The mirror of `hub_side.py`, in the same form: bytes and the time go in, messages come out, what is
to be sent waits in `data_to_send`. The hello waits there from the beginning. `tick` is called when `next_tick` has
come: it pings every `HEARTBEAT_SECONDS`, and says when the hub has been silent for `DEAD_SECONDS`. The hub's first word
is a setup, or that it refuses.
"""

from isthmus.wire.link.framing import FrameReader, LinkProtocolError, decode_hub_message, encode_message
from isthmus.wire.link.messages import (
    DEAD_SECONDS,
    HEARTBEAT_SECONDS,
    Certificate,
    Check,
    ConnectorMessage,
    Enrol,
    Hello,
    HubMessage,
    Ping,
    Pong,
    Refused,
    Renew,
    Result,
    Setup,
    Status,
)


class LinkDead(Exception):  # noqa: N818 - says what is, not that something was done wrong
    """The hub has been silent for `DEAD_SECONDS`: connect anew."""


class ConnectorLink:
    """One control connection as the connector sees it; `setup` is the last one, None before the first."""

    __slots__ = ("_checks", "_heard", "_next_ping", "_outgoing", "_pings", "_pongs", "_reader", "_renewing", "setup")

    def __init__(self, hello: Hello, now: float) -> None:
        self.setup: Setup | None = None
        self._heard = now
        self._next_ping = now + HEARTBEAT_SECONDS
        self._pings = 0
        self._pongs = 0
        self._renewing = False
        self._checks: set[int] = set()
        self._reader = FrameReader()
        self._outgoing = [encode_message(hello)]

    @property
    def next_tick(self) -> float:
        """When to call `tick`, at the latest."""
        return min(self._next_ping, self._heard + DEAD_SECONDS)

    def tick(self, now: float) -> None:
        """Pings when it is time; raises `LinkDead` when the hub is gone."""
        if now >= self._heard + DEAD_SECONDS:
            raise LinkDead(f"the hub has been silent for {now - self._heard:.0f} s")
        if now >= self._next_ping:
            self._pings += 1
            self._next_ping = now + HEARTBEAT_SECONDS
            self._send(Ping(n=self._pings))

    def receive(self, data: bytes, now: float) -> list[HubMessage]:
        """What the owner has to act upon, save pongs; raises `LinkProtocolError` for a broken rule."""
        self._heard = now
        self._reader.feed(data)
        taken: list[HubMessage] = []
        while (frame := self._reader.frame()) is not None:
            message = decode_hub_message(frame)
            if self._take(message):
                taken.append(message)
        return taken

    def renew(self, csr: str) -> None:
        """Asks for a new certificate, which `Certificate` or `Refused` answers; without effect while one is awaited."""
        if not self._renewing:
            self._renewing = True
            self._send(Renew(csr=csr))

    def report(self, status: Status) -> None:
        """Says what became of the setup."""
        self._send(status)

    def answer(self, check_id: int, *, ok: bool, body: dict[str, object]) -> None:
        """Answers a check, once; a second answer is dropped."""
        if check_id in self._checks:
            self._checks.remove(check_id)
            self._send(Result(id=check_id, ok=ok, body=body))

    def data_to_send(self) -> bytes:
        """Hands over what is to be sent, in order."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def _send(self, message: ConnectorMessage) -> None:
        self._outgoing.append(encode_message(message))

    def _take(self, message: HubMessage) -> bool:
        if self.setup is None and not isinstance(message, Setup | Refused):
            raise LinkProtocolError("the hub's first message is neither a setup nor a refusal")
        match message:
            case Setup():
                self._replace(message)
            case Pong(n=n):
                self._settle_ping(n)
                return False
            case Certificate() | Refused():
                self._renewing = False
            case Check(id=check_id):
                self._checks.add(check_id)
        return True

    def _replace(self, setup: Setup) -> None:
        if self.setup is not None and setup.generation <= self.setup.generation:
            raise LinkProtocolError(f"setup {setup.generation} behind setup {self.setup.generation}")
        self.setup = setup

    def _settle_ping(self, n: int) -> None:
        if not self._pongs < n <= self._pings:
            raise LinkProtocolError(f"pong {n} answers no ping")
        self._pongs = n


class ConnectorEnrolment:
    """An enrolment as the connector sees it: one request, one answer."""

    __slots__ = ("_reader", "request")

    def __init__(self, token_secret: str, csr: str) -> None:
        self.request = encode_message(Enrol(token_secret=token_secret, csr=csr))
        """The bytes to send."""
        self._reader = FrameReader()

    def receive(self, data: bytes) -> Certificate | Refused | None:
        """The answer once it is whole; raises `LinkProtocolError` for anything else."""
        self._reader.feed(data)
        frame = self._reader.frame()
        if frame is None:
            return None
        message = decode_hub_message(frame)
        if not isinstance(message, Certificate | Refused):
            raise LinkProtocolError("the answer to an enrolment is neither a certificate nor a refusal")
        return message
