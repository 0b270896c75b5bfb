"""The server's side of one MQTT 3.1.1 connection.

Theory of operation. Bytes go in by `receive`, events come out; what the owner wants to say goes in by a method and
comes out as bytes. There is no socket and no clock: the owner passes `now`, in seconds on a clock that never steps, and
asks `next_deadline` when it should call `tick`.

    state                 leaves by                          to
    AWAITING_CONNECT      CONNECT arrived                    DECIDING
                          anything else, or 30 s             CLOSED
    DECIDING              `accept`                           CONNECTED
                          `refuse`                           CLOSED
    CONNECTED             DISCONNECT, a broken rule,         CLOSED
                          silence longer than the keep-alive
    CLOSED                nothing; bytes are ignored

While the owner decides about a CONNECT, what the client sent behind it is kept, not looked at, and bounded: `accept`
returns its events, `refuse` drops it [MQTT-3.1.4-5]. The owner stops reading meanwhile, so one read is all that comes.

Rules broken by the peer are the event `Failed`, behind the events of the packets before it in the same read, so that
the events do not depend on how the bytes were cut. Mistakes of the owner are raised as `LocalError`.

Not in here: whether a topic or a filter is allowed, what a kept session keeps, QoS 2 (a PUBLISH of it is an event, the
owner refuses it; its other packets break a rule, since nothing has begun that they could belong to).

In-flight messages. Inbound, the engine counts QoS 1 messages between their event and their `puback`, and `paused`
tells when there are as many as agreed: the owner stops reading then. It is a count and no set: the engine never asks
whether an identifier is used twice, since a message delivered twice is allowed at QoS 1 and each gets its PUBACK.
Outbound, at most `outbound_window_max` messages wait for their PUBACK, which has to come in order [MQTT-4.6.0-2]. One
that names no waiting message is dropped and counted: it belongs to an earlier connection.
"""

from enum import Enum

from isthmus.wire.mqtt.errors import ConnectCode, LocalError, ProtocolError
from isthmus.wire.mqtt.events import Failed, ServerEvent, TimedOut
from isthmus.wire.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    encode,
    encode_pubacks,
    encode_publish,
)
from isthmus.wire.mqtt.reader import PacketReader

CONNECT_SECONDS_MAX = 30.0
"""From the handshake to the CONNECT; clients give up on the CONNACK after 30 to 60 s."""

CONNECT_BYTES_MAX = 98_304
"""A CONNECT before anybody is known: a will of 64 KiB with its topic, a user name and a token fit."""

PIPELINED_BYTES_MAX = 524_288
"""Bytes kept while a CONNECT is decided; reading is paused meanwhile, so this is one read and what lay ready."""

KEEP_ALIVE_FACTOR = 1.5
"""How much longer than its keep-alive a client may be silent [MQTT-3.1.2-24]."""


class SessionState(Enum):
    """Where a connection stands; see the table above."""

    AWAITING_CONNECT = "awaiting-connect"
    DECIDING = "deciding"
    CONNECTED = "connected"
    CLOSED = "closed"


class ServerSession:
    """One connection as the server sees it.

    `remaining_length_max` bounds a packet, `silence_seconds_max` is what a keep-alive is capped at and what a client
    without one is given. `output` holds bytes the engine itself wants sent (PINGRESP, a CONNACK that refuses): the
    owner sends and clears it by `take_output` after each call.
    """

    __slots__ = (
        "_inbound_window_max",
        "_last_heard",
        "_last_packet_id",
        "_outbound_window_max",
        "_outstanding",
        "_reader",
        "_remaining_length_max",
        "_silence_seconds_max",
        "_timeout",
        "inbound_in_flight",
        "output",
        "stale_pubacks",
        "state",
    )

    def __init__(
        self,
        now: float,
        *,
        remaining_length_max: int,
        silence_seconds_max: float,
        inbound_window_max: int,
        outbound_window_max: int,
    ) -> None:
        self.state = SessionState.AWAITING_CONNECT
        self.output = b""
        self.inbound_in_flight = 0
        self.stale_pubacks = 0
        self._reader = PacketReader(CONNECT_BYTES_MAX)
        self._remaining_length_max = remaining_length_max
        self._silence_seconds_max = silence_seconds_max
        self._inbound_window_max = inbound_window_max
        self._outbound_window_max = outbound_window_max
        self._outstanding: list[int] = []
        self._last_packet_id = 0
        self._last_heard = now
        self._timeout = CONNECT_SECONDS_MAX

    def receive(self, data: bytes, now: float) -> list[ServerEvent]:
        """Takes one read and returns what it said, in order; `Failed` is the last event when a rule was broken."""
        if self.state is SessionState.AWAITING_CONNECT:
            return self._read_connect(data)
        self._last_heard = now
        if self.state is SessionState.CONNECTED:
            self._reader.feed(data)
            return self._read_packets()
        if self.state is SessionState.DECIDING:
            self._reader.feed(data)
            if self._reader.held > PIPELINED_BYTES_MAX:
                return [self._fail(ProtocolError("limit", f"more than {PIPELINED_BYTES_MAX} bytes behind a CONNECT"))]
        return []

    def accept(self, *, keep_alive: int, session_present: bool, now: float) -> tuple[bytes, list[ServerEvent]]:
        """Answers the CONNECT by yes: the CONNACK's bytes and the events of what the client sent behind it.

        `keep_alive` is the client's own, in seconds; `session_present` tells whether subscriptions were kept
        [MQTT-3.2.2-2].
        """
        self._require(SessionState.DECIDING)
        self.state = SessionState.CONNECTED
        self._reader.remaining_length_max = self._remaining_length_max
        self._timeout = self._silence_seconds_max
        if keep_alive:
            self._timeout = min(keep_alive * KEEP_ALIVE_FACTOR, self._silence_seconds_max)  # [MQTT-3.1.2-24]
        self._last_heard = now
        connack = encode(ConnAck(session_present, ConnectCode.ACCEPTED))  # [MQTT-3.1.4-4] [MQTT-3.2.0-1]
        return connack, self._read_packets()

    def refuse(self, code: ConnectCode) -> bytes:
        """Answers the CONNECT by no: the CONNACK's bytes, behind which the connection is to be closed."""
        self._require(SessionState.DECIDING)
        self.close()  # [MQTT-3.2.2-5] [MQTT-3.1.4-5]
        return encode(ConnAck(False, code))  # [MQTT-3.2.2-4]

    def puback(self, packet_ids: list[int]) -> bytes:
        """Acknowledges messages that are durable, in the order given [MQTT-4.6.0-2]."""
        self.inbound_in_flight -= len(packet_ids)
        return encode_pubacks(packet_ids)  # [MQTT-2.3.1-6]

    def suback(self, packet_id: int, codes: list[int]) -> bytes:
        """Answers a SUBSCRIBE with one code for each of its filters [MQTT-3.8.4-1] [MQTT-3.8.4-5]."""
        self._require(SessionState.CONNECTED)
        return encode(SubAck(packet_id, tuple(codes)))  # [MQTT-2.3.1-7]

    def unsuback(self, packet_id: int) -> bytes:
        """Answers an UNSUBSCRIBE, also of filters that were not there [MQTT-3.10.4-5]."""
        self._require(SessionState.CONNECTED)
        return encode(UnsubAck(packet_id))  # [MQTT-3.10.4-4]

    def publish(self, topic: bytes, payload: bytes) -> bytes:
        """Sends a message at QoS 0; RETAIN is never set [MQTT-3.3.1-9]."""
        self._require(SessionState.CONNECTED)
        return encode_publish(Publish(topic, payload))

    def publish_acknowledged(self, topic: bytes, payload: bytes) -> tuple[int, bytes]:
        """Sends a message at QoS 1: its packet identifier, unused so far [MQTT-2.3.1-4], and its bytes.

        Raises `LocalError` when `outbound_free` is 0.
        """
        self._require(SessionState.CONNECTED)
        if self.outbound_free <= 0:
            raise LocalError("the outbound window is full")
        # Identifiers are used in a circle far longer than the window, and answered in order: the next is always free.
        self._last_packet_id = self._last_packet_id % 65_535 + 1
        self._outstanding.append(self._last_packet_id)
        return self._last_packet_id, encode_publish(Publish(topic, payload, 1, self._last_packet_id))

    @property
    def outbound_free(self) -> int:
        """How many more messages may be sent at QoS 1 now."""
        return self._outbound_window_max - len(self._outstanding)

    @property
    def paused(self) -> bool:
        """True while as many messages as agreed wait for `puback`: the owner should not read."""
        return self.inbound_in_flight >= self._inbound_window_max

    def heard(self, now: float) -> None:
        """Counts as a sign of life: for an owner that does not read, and so cannot know whether the peer speaks."""
        self._last_heard = now

    def next_deadline(self) -> float | None:
        """When `tick` has to be called; moves with each read, so ask again when it is reached."""
        if self.state in (SessionState.CLOSED, SessionState.DECIDING):
            return None
        return self._last_heard + self._timeout

    def tick(self, now: float) -> list[ServerEvent]:
        """`TimedOut` when the peer has been silent for too long."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return []
        awaiting_connect = self.state is SessionState.AWAITING_CONNECT
        self.close()
        return [TimedOut(awaiting_connect)]

    def take_output(self) -> bytes:
        """What the engine wants sent, once."""
        output, self.output = self.output, b""
        return output

    def close(self) -> None:
        """Ends the connection here; nothing is sent."""
        self.state = SessionState.CLOSED
        self._reader = PacketReader(0)

    def _read_connect(self, data: bytes) -> list[ServerEvent]:
        if not self._reader.held and data and data[0] >> 4 != PacketType.CONNECT:
            return [self._fail(ProtocolError("MQTT-3.1.0-1", "the first packet is not CONNECT"))]
        self._reader.feed(data)
        try:
            packet = self._reader.next()
        except ProtocolError as error:
            return [self._fail(error)]
        if packet is None:
            return []
        assert isinstance(packet, Connect), "told by its first byte"
        self.state = SessionState.DECIDING
        return [packet]

    def _read_packets(self) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        read = self._reader.next
        try:
            while (packet := read()) is not None:
                if isinstance(packet, Publish):
                    if packet.qos:
                        self.inbound_in_flight += 1
                    events.append(packet)
                elif not self._take(packet, events):
                    break
        except ProtocolError as error:
            events.append(self._fail(error))
        return events

    def _take(self, packet: Packet, events: list[ServerEvent]) -> bool:
        """Handles what is not a PUBLISH; False when the connection is over."""
        if isinstance(packet, PubAck):
            if self._acknowledged(packet.packet_id):
                events.append(packet)
        elif isinstance(packet, PingReq):
            self.output += encode(PingResp())  # [MQTT-3.12.4-1]
        elif isinstance(packet, Subscribe | Unsubscribe):
            events.append(packet)
        elif isinstance(packet, Disconnect):
            events.append(packet)
            self.close()
            return False
        elif isinstance(packet, Connect):
            raise ProtocolError("MQTT-3.1.0-2", "a second CONNECT")
        else:
            raise ProtocolError("MQTT-4.8.0-1", f"{type(packet).__name__} is not for this side, or answers nothing")
        return True

    def _acknowledged(self, packet_id: int) -> bool:
        outstanding = self._outstanding
        if outstanding and outstanding[0] == packet_id:
            del outstanding[0]
            return True
        if packet_id in outstanding:
            raise ProtocolError("MQTT-4.6.0-2", f"PUBACK {packet_id} came before that of {outstanding[0]}")
        self.stale_pubacks += 1
        return False

    def _fail(self, error: ProtocolError) -> Failed:
        if error.connect_code is not None and self.state is SessionState.AWAITING_CONNECT:
            self.output += encode(ConnAck(False, error.connect_code))  # [MQTT-3.1.2-2] [MQTT-3.1.3-8]
        self.close()
        return Failed(error)

    def _require(self, state: SessionState) -> None:
        if self.state is not state:
            raise LocalError(f"not possible while {self.state.value}")
