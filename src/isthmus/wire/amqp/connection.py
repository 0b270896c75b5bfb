"""A connection: open and close, frames, sessions, deadlines (AMQP 1.0 §2.3, §2.4).

Theory of operation. Bytes go in by `receive`, time by `receive` and `tick`; the application takes `events()` until none
are left, calls what it wants on connection and links, and writes `data_to_send()`. Nothing else happens: no clock, no
socket, no task. A pump is a few lines, from the second on also after calls made at other times:

    connection.receive(data, now)
    for event in connection.events():
        ...
    transport.write(connection.data_to_send())
    # read on unless connection.paused; close the transport once connection.finished;
    # call tick(now) when connection.next_deadline has come

The stages, all one way; `handshake.py` has those of HANDSHAKE:

| stage     | waits for                           | then                                                    |
|-----------|-------------------------------------|---------------------------------------------------------|
| HANDSHAKE | headers and SASL                    | OPENING; FINISHED when it failed                        |
| OPENING   | the peer's open                     | OPENED                                                  |
| OPENED    | everything else                     | FINISHED by the peer's close, CLOSING by ours           |
| CLOSING   | the peer's close, dropping the rest | FINISHED, also after `CLOSE_SECONDS_MAX`                |
| DEAF      | nothing: input is not looked at     | FINISHED after `CLOSE_SECONDS_MAX`                      |
| FINISHED  |                                     | the transport is to be closed when all is written       |

Input is looked at while events are taken, one frame at a time, so that what the application does about a frame is done
before the next is judged: how the network cut the input makes no difference, save for what is answered later.

Everything up to the first transfers may be pipelined by the peer behind its first header. While credentials are judged
what arrives is kept and not looked at.

Faults. A `PeerError` closes the connection, a `SessionError` ends the session; nothing else is raised by what a peer
sends, whatever it sends. After a fault of framing the connection is DEAF, because where the next frame begins is not
known; it stays for a while all the same, so that the peer reads why.

Channels. A session that we ended stays mapped, and what the peer sends on it is dropped, until the peer's end. What
comes on a channel after the peer's end is dropped too (clients detach links of a session they have ended); on a channel
that never was it is a fault.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final

from isthmus.wire.amqp import events
from isthmus.wire.amqp.errors import Condition, PeerError, SessionError
from isthmus.wire.amqp.framing import FrameBounds, FrameBuffer
from isthmus.wire.amqp.handshake import HEADER_STAGES, Handshake
from isthmus.wire.amqp.handshake import Stage as HandshakeStage
from isthmus.wire.amqp.limits import (
    CHANNEL_MAX,
    CLOSE_SECONDS_MAX,
    FRAME_BYTES_MAX,
    FRAME_BYTES_MIN,
    FRAME_BYTES_OUT_MAX,
    HANDSHAKE_SECONDS_MAX,
    IDLE_TIMEOUT_MS,
    IDLE_TIMEOUT_MS_MIN,
    SASL_FRAME_BYTES_MAX,
    SASL_PENDING_BYTES_MAX,
    UNSETTLED_BYTES_MAX,
    UNSETTLED_DELIVERIES_MAX,
)
from isthmus.wire.amqp.outlet import Outlet
from isthmus.wire.amqp.performatives import (
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Flow,
    Open,
    Performative,
    SaslChoice,
    SaslCode,
    decode_performative,
    decode_sasl,
)
from isthmus.wire.amqp.session import Session
from isthmus.wire.amqp.states import Error
from isthmus.wire.amqp.transfer import TRANSFER

EMPTY_FRAME: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"
"""Says nothing but that we are alive (AMQP 1.0 §2.4.5)."""


class Stage(Enum):
    """See the table above."""

    HANDSHAKE = "handshake"
    OPENING = "opening"
    OPENED = "opened"
    CLOSING = "closing"
    DEAF = "deaf"
    FINISHED = "finished"


class Connection:
    """One connection of a server; `open` makes it a client's. Times are monotonic seconds."""

    def __init__(self, container_id: str, now: float, *, idle_timeout_ms: int = IDLE_TIMEOUT_MS) -> None:
        self._container_id = container_id
        self._idle_ms = idle_timeout_ms
        self._stage = Stage.HANDSHAKE
        self._outlet = Outlet()
        self._input = FrameBuffer()
        self._handshake = Handshake(self._outlet)
        self._open: Open | None = None
        self._open_waits = False
        self._peer_idle_seconds = 0.0
        self._peer_channel_max = CHANNEL_MAX
        self._sessions: dict[int, Session] = {}
        self._ending: dict[int, Session] = {}
        self._ended: set[int] = set()
        self._channels: dict[int, Session] = {}
        self._now = self._heard = self._spoke = now
        self._give_up_at = now + HANDSHAKE_SECONDS_MAX

    # For the pump.

    def receive(self, data: bytes, now: float) -> None:
        """Takes what was read, whatever it is; `events` is to be taken next."""
        self._now = self._heard = now
        if self._stage not in (Stage.DEAF, Stage.FINISHED):
            self._input.feed(data)

    def events(self) -> Iterator[events.Event]:
        """Takes events until there are none, also those brought about meanwhile. Raises nothing, whatever was read."""
        queue = self._outlet.events
        while True:
            while queue:
                yield queue.popleft()
            if not self._look():
                return

    def data_to_send(self) -> bytes:
        """Takes what is to be written, dispositions of what was settled included."""
        data = self._outlet.take()
        if data:
            self._spoke = self._now
        return data

    @property
    def paused(self) -> bool:
        """True while no more should be read: credentials are judged, or too much is unsettled."""
        outlet = self._outlet
        return (
            outlet.unsettled_bytes >= UNSETTLED_BYTES_MAX
            or outlet.unsettled >= UNSETTLED_DELIVERIES_MAX
            or self._handshake.stage is HandshakeStage.JUDGING
        )

    @property
    def finished(self) -> bool:
        """True when the transport is to be closed after all is written."""
        return self._stage is Stage.FINISHED

    @property
    def opened(self) -> bool:
        """True between the peer's open and the close of either side."""
        return self._stage is Stage.OPENED

    @property
    def next_deadline(self) -> float | None:
        """When `tick` is to be called; traffic makes it later, only calls of the application make it earlier."""
        if self._stage is Stage.FINISHED:
            return None
        if self._stage is not Stage.OPENED:
            return self._give_up_at
        deadlines = [at for at, _ in self._outlet.delayed.values()]
        if self._idle_ms:
            deadlines.append(self._silence_at)
        if self._peer_idle_seconds:
            deadlines.append(self._heartbeat_at)
        return min(deadlines, default=None)

    def tick(self, now: float) -> None:
        """Does what is due at `now`; harmless when nothing is."""
        self._now = now
        if self._stage is Stage.OPENED:
            self._tick_opened(now)
        elif self._stage in (Stage.HANDSHAKE, Stage.OPENING):
            if now >= self._give_up_at:
                self.close(Error(Condition.RESOURCE_LIMIT_EXCEEDED, "no open in time"))
        elif now >= self._give_up_at:
            self._stage = Stage.FINISHED

    def lost(self) -> None:
        """The transport is gone: sessions and links are over, and nothing more is sent."""
        if self._stage is not Stage.FINISHED:
            self._over(None, by_peer=True)
            self._stage = Stage.FINISHED
        self._outlet.chunks.clear()

    # For the application.

    def sasl_accept(self) -> None:
        """The credentials are good; goes on with what arrived meanwhile."""
        self._judged(SaslCode.OK)

    def sasl_refuse(self, code: SaslCode = SaslCode.AUTH) -> None:
        """The credentials are not good; the connection is finished."""
        self._judged(code)

    def end_session(self, channel: int, error: Error | None = None) -> None:
        """Ends a session by our channel number; does nothing when it is over already."""
        session = self._channels.get(channel)
        if session is not None and self._sessions.get(session.peer_channel) is session:
            self._end(session, error)

    def close(self, error: Error | None = None) -> None:
        """Closes; sessions and links are over at once, the transport when `finished`. Again: does nothing."""
        if self._stage is Stage.HANDSHAKE:
            self._over(error, by_peer=False)
            self._stage = Stage.FINISHED
        elif self._stage in (Stage.OPENING, Stage.OPENED):
            self._send_open()
            for session in self._sessions.values():
                session.flush()
            self._outlet.write(0, Close(error).encode())
            self._over(error, by_peer=False)
            self._stage = Stage.CLOSING
            self._give_up_at = self._now + CLOSE_SECONDS_MAX

    # Client half.

    def open(self, open_: Open, sasl: SaslChoice | None = None) -> None:
        """Begins as a client: headers and this open at once, or after SASL; what follows may be pipelined behind it."""
        self._handshake.start(sasl)
        self._open = open_
        self._open_waits = sasl is not None
        if sasl is None:
            self._outlet.write(0, open_.encode())

    def begin(self) -> Session:
        """Begins a session."""
        session = self._new_session(near=len(self._channels))
        session.begin()
        return session

    # Below: input.

    def _look(self) -> bool:
        """Looks at one header or frame of the input; False when there is none that is whole, or none is wanted."""
        try:
            if self._stage is Stage.HANDSHAKE:
                return self._shake()
            if self._stage in (Stage.DEAF, Stage.FINISHED):
                self._input = FrameBuffer()  # what came in the same read is not kept either
                return False
            bounds = self._input.frame(FRAME_BYTES_MAX)
            if bounds is None:
                return False
            self._on_frame(bounds)
        except PeerError as fault:
            self._fail(fault)
        return True

    def _shake(self) -> bool:
        """As `_look`, for the handshake."""
        handshake = self._handshake
        if handshake.stage is HandshakeStage.JUDGING:
            if len(self._input) > SASL_PENDING_BYTES_MAX:
                raise PeerError(Condition.RESOURCE_LIMIT_EXCEEDED, "too much before the outcome")
            return False
        if handshake.stage in HEADER_STAGES:
            header = self._input.header()
            if header is None:
                return False
            handshake.on_header(header)
        else:
            bounds = self._input.frame(SASL_FRAME_BYTES_MAX)
            if bounds is None:
                return False
            if not bounds.sasl:
                raise PeerError(Condition.FRAMING_ERROR, "an AMQP frame before the outcome")
            handshake.on_performative(decode_sasl(self._input.data, bounds.start, bounds.end))
        self._advance()
        return True

    def _advance(self) -> None:
        """Follows the handshake's stage."""
        if self._handshake.stage is HandshakeStage.FAILED:
            self._over(None, by_peer=False)
            self._stage = Stage.FINISHED
        elif self._handshake.stage is HandshakeStage.DONE:
            self._stage = Stage.OPENING
            if self._open is not None and self._open_waits:
                self._outlet.write(0, self._open.encode())

    def _judged(self, code: SaslCode) -> None:
        if self._stage is Stage.HANDSHAKE and self._handshake.stage is HandshakeStage.JUDGING:
            self._handshake.judge(code)
            self._advance()

    def _on_frame(self, bounds: FrameBounds) -> None:
        sasl, channel, start, end = bounds
        if start == end:
            return
        if sasl:
            raise PeerError(Condition.FRAMING_ERROR, "a SASL frame after the outcome")
        session = self._sessions.get(channel)
        data = self._input.data
        try:
            if data[start : start + 3] != TRANSFER:
                self._on_performative(channel, session, decode_performative(data, start, end))
            elif self._stage is Stage.OPENED and session is not None:
                session.on_transfer(data, start + 3, end)
            else:
                self._stray(channel)
        except SessionError as fault:
            if session is not None:
                self._end(session, Error(fault.condition, fault.description))

    def _on_performative(self, channel: int, session: Session | None, performative: Performative) -> None:
        if isinstance(performative, Close):
            self._on_close(performative)
        elif self._stage is Stage.CLOSING:
            return
        elif isinstance(performative, Open):
            self._on_open(channel, performative)
        elif self._stage is not Stage.OPENED:
            self._stray(channel)
        elif isinstance(performative, Begin):
            self._on_begin(channel, performative)
        elif isinstance(performative, End):
            self._on_end(channel, session, performative)
        elif session is None:
            self._stray(channel)
        else:
            _hand_over(session, performative)

    def _stray(self, channel: int) -> None:
        """A frame for a session that is no more, or never was."""
        if self._stage is Stage.OPENING:
            # [AMQP-2.4.1] the first frame is an open.
            raise PeerError(Condition.NOT_ALLOWED, "a frame before the open")
        if self._stage is Stage.OPENED and channel not in self._ending and channel not in self._ended:
            raise PeerError(Condition.NOT_ALLOWED, f"no session on channel {channel}")

    def _on_open(self, channel: int, performative: Open) -> None:
        if self._stage is not Stage.OPENING or channel != 0:
            raise PeerError(Condition.NOT_ALLOWED, "an open out of place")
        # [AMQP-2.7.1]
        if performative.max_frame_size < FRAME_BYTES_MIN:
            raise PeerError(Condition.INVALID_FIELD, f"a max-frame-size below {FRAME_BYTES_MIN}")
        # [AMQP-2.4.5] an idle time-out that we do not support closes the connection.
        if 0 < performative.idle_timeout_ms < IDLE_TIMEOUT_MS_MIN:
            raise PeerError(Condition.NOT_ALLOWED, f"an idle-time-out below {IDLE_TIMEOUT_MS_MIN} ms")
        self._outlet.frame_bytes = min(performative.max_frame_size, FRAME_BYTES_OUT_MAX)
        self._peer_channel_max = min(performative.channel_max, CHANNEL_MAX)
        self._peer_idle_seconds = performative.idle_timeout_ms / 1000
        self._send_open()
        self._stage = Stage.OPENED
        self._outlet.events.append(
            events.Opened(performative.container_id, performative.hostname or "", performative.properties or {})
        )

    def _send_open(self) -> None:
        """Sends our open unless it is sent."""
        if self._open is None:
            self._open = Open(
                self._container_id,
                max_frame_size=FRAME_BYTES_MAX,
                channel_max=CHANNEL_MAX,
                idle_timeout_ms=self._idle_ms,
            )
            self._outlet.write(0, self._open.encode())

    def _on_begin(self, channel: int, begin: Begin) -> None:
        # [AMQP-2.7.1] a channel above channel-max is a framing error.
        if channel > CHANNEL_MAX:
            raise PeerError(Condition.FRAMING_ERROR, f"channel {channel} is above {CHANNEL_MAX}")
        if channel in self._sessions or channel in self._ending:
            raise PeerError(Condition.NOT_ALLOWED, f"channel {channel} is in use")
        answered = begin.remote_channel is not None
        session = self._proposed(begin.remote_channel) if answered else self._new_session(near=channel)
        session.on_begin(channel, begin)
        self._ended.discard(channel)
        self._sessions[channel] = session
        if not answered:
            session.begin()
        self._outlet.events.append(events.SessionBegun(session.channel))

    def _proposed(self, channel: int | None) -> Session:
        session = None if channel is None else self._channels.get(channel)
        if session is None or session.peer_channel >= 0:
            raise PeerError(Condition.NOT_ALLOWED, f"no session was proposed on channel {channel}")
        return session

    def _new_session(self, *, near: int) -> Session:
        limit = self._peer_channel_max
        taken = self._channels
        channel = (
            near if near not in taken and near <= limit else next((n for n in range(limit + 1) if n not in taken), -1)
        )
        if channel < 0:
            raise PeerError(Condition.RESOURCE_LIMIT_EXCEEDED, "no channel is free")
        session = self._channels[channel] = Session(self._outlet, channel)
        return session

    def _on_end(self, channel: int, session: Session | None, end: End) -> None:
        ending = self._ending.pop(channel, None)
        if session is not None:
            session.flush()
            self._outlet.write(session.channel, End().encode())
            session.over(end.error)
            del self._sessions[channel]
        elif ending is None:
            self._stray(channel)
            return
        gone = session or ending
        if gone is not None:
            del self._channels[gone.channel]
        self._ended.add(channel)

    def _end(self, session: Session, error: Error | None) -> None:
        session.end(error)
        del self._sessions[session.peer_channel]
        self._ending[session.peer_channel] = session

    def _on_close(self, performative: Close) -> None:
        if self._stage is not Stage.CLOSING:
            self._send_open()
            for session in self._sessions.values():
                session.flush()
            self._outlet.write(0, Close().encode())
            self._over(performative.error, by_peer=True)
        self._stage = Stage.FINISHED

    # Below: ends and deadlines.

    def _fail(self, fault: PeerError) -> None:
        self.close(Error(fault.condition, fault.description))
        if fault.condition is Condition.FRAMING_ERROR and self._stage is Stage.CLOSING:
            self._stage = Stage.DEAF

    def _over(self, error: Error | None, *, by_peer: bool) -> None:
        """Tells the application, once."""
        if self._stage in (Stage.CLOSING, Stage.DEAF):
            return
        for session in self._sessions.values():
            session.over(error)
        self._sessions.clear()
        self._outlet.events.append(events.ConnectionClosed(error, by_peer))

    @property
    def _silence_at(self) -> float:
        """When the peer has been silent for too long."""
        # [AMQP-2.4.5] the time-out announced should be half of the one obeyed.
        return self._heard + 2 * self._idle_ms / 1000

    @property
    def _heartbeat_at(self) -> float:
        """When we have been silent for half of what the peer bears."""
        return self._spoke + self._peer_idle_seconds / 2

    def _tick_opened(self, now: float) -> None:
        if self._idle_ms and now >= self._silence_at:
            self.close(Error(Condition.RESOURCE_LIMIT_EXCEEDED, "nothing was heard within the idle time-out"))
            return
        for link, (at, frame) in list(self._outlet.delayed.items()):
            if now >= at:
                del self._outlet.delayed[link]
                self._outlet.chunks.append(frame)
        if self._peer_idle_seconds and now >= self._heartbeat_at:
            self._outlet.chunks.append(EMPTY_FRAME)


def _hand_over(session: Session, performative: Attach | Flow | Disposition | Detach) -> None:
    match performative:
        case Attach():
            session.on_attach(performative)
        case Flow():
            session.on_flow(performative)
        case Disposition():
            session.on_disposition(performative)
        case Detach():
            session.on_detach(performative)
