"""The client's side of one MQTT 3.1.1 connection, for probes and for tests: the mirror of `session.py`.

Theory of operation. As in `session.py`: no socket, no clock. It sends what it is told to, remembers which of its
messages wait for their PUBACK, and reports what the server says. It does not reconnect, does not resend, and leaves
keeping the connection alive to its owner.
"""

from isthmus.wire.mqtt.errors import ConnectCode, LocalError, ProtocolError
from isthmus.wire.mqtt.events import ClientEvent, Failed
from isthmus.wire.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
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

SERVER_PACKET_BYTES_MAX = 1_048_576
"""A packet of the server; the largest a hub sends is a method call of 128 KiB."""


class ClientSession:
    """One connection as the client sees it; `waiting` holds the packet identifiers that were not answered yet."""

    __slots__ = ("_last_packet_id", "_reader", "closed", "connected", "waiting")

    def __init__(self) -> None:
        self.connected = False
        self.closed = False
        self.waiting: set[int] = set()
        self._reader = PacketReader(SERVER_PACKET_BYTES_MAX)
        self._last_packet_id = 0

    def connect(self, connect: Connect) -> bytes:
        """The first bytes of the connection."""
        return encode(connect)

    def publish(self, topic: bytes, payload: bytes, *, qos: int = 0, retain: bool = False) -> bytes:
        """Sends a message; it may be sent before the CONNACK has come (MQTT 3.1.1 §3.1.4)."""
        return encode_publish(Publish(topic, payload, qos, self._take_id() if qos else 0, retain))

    def subscribe(self, *filters: tuple[str, int]) -> bytes:
        """Asks for messages."""
        return encode(Subscribe(self._take_id(), filters))

    def unsubscribe(self, *filters: str) -> bytes:
        """Asks for no more messages."""
        return encode(Unsubscribe(self._take_id(), filters))

    def puback(self, packet_ids: list[int]) -> bytes:
        """Acknowledges messages, in the order in which they came [MQTT-4.6.0-2]."""
        return encode_pubacks(packet_ids)

    def ping(self) -> bytes:
        """Asks for a sign of life."""
        return encode(PingReq())

    def disconnect(self) -> bytes:
        """Says goodbye; nothing may follow [MQTT-3.14.4-2]."""
        self.closed = True
        return encode(Disconnect())

    def receive(self, data: bytes) -> list[ClientEvent]:
        """Takes one read and returns what it said, in order; `Failed` is the last event when a rule was broken."""
        if self.closed:
            return []
        self._reader.feed(data)
        events: list[ClientEvent] = []
        try:
            while (event := self._next()) is not None:
                events.append(event)
        except ProtocolError as error:
            self.closed = True
            events.append(Failed(error))
        return events

    def _next(self) -> ClientEvent | None:
        packet = self._reader.next()
        if packet is None:
            return None
        if not self.connected and not isinstance(packet, ConnAck):
            raise ProtocolError("MQTT-3.2.0-1", "the server's first packet is not CONNACK")
        if isinstance(packet, ConnAck):
            self._answered(packet)
        elif isinstance(packet, PubAck | SubAck | UnsubAck):
            self._settled(packet.packet_id)
        elif not isinstance(packet, Publish | PingResp):
            raise ProtocolError("MQTT-4.8.0-1", f"{type(packet).__name__} is not for this side, or answers nothing")
        return packet

    def _answered(self, packet: ConnAck) -> None:
        if self.connected:
            raise ProtocolError("MQTT-3.2.0-1", "a second CONNACK")
        if packet.code is not ConnectCode.ACCEPTED and packet.session_present:
            raise ProtocolError("MQTT-3.2.2-4", "a refusal that claims a kept session")
        self.connected = packet.code is ConnectCode.ACCEPTED

    def _settled(self, packet_id: int) -> None:
        if packet_id not in self.waiting:
            raise ProtocolError("MQTT-2.3.1-6", f"{packet_id} answers nothing that was asked")
        self.waiting.remove(packet_id)

    def _take_id(self) -> int:
        if len(self.waiting) >= 65_535:
            raise LocalError("all packet identifiers are in use")
        self._last_packet_id = self._last_packet_id % 65_535 + 1
        while self._last_packet_id in self.waiting:  # [MQTT-2.3.1-2]
            self._last_packet_id = self._last_packet_id % 65_535 + 1
        self.waiting.add(self._last_packet_id)
        return self._last_packet_id
