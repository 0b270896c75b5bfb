"""All packets of MQTT 3.1.1, both directions: values, decoding, encoding.

`decode` takes one whole packet out of a larger buffer; `reader.py` finds the borders. A decoder copies nothing but the
fields themselves: a payload is sliced once, out of the read that brought it.

Every decoder reads its fields through `Fields`, which knows where the packet ends, except that of PUBLISH, which is the
hot path and does its two comparisons itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from isthmus.wire.mqtt.errors import ConnectCode, ProtocolError

FILTERS_PER_PACKET_MAX = 64
"""Topic filters of one SUBSCRIBE or UNSUBSCRIBE; a hub knows a dozen, so more is an attack. The packet is refused."""

REMAINING_LENGTH_MAX = 268_435_455
"""What four bytes of remaining length can say (MQTT 3.1.1 §2.2.3)."""

STRING_BYTES_MAX = 65_535
"""What the two bytes before a string can say (MQTT 3.1.1 §1.5.3)."""

SUBSCRIBE_FAILED = 0x80
"""Return code of a refused filter in a SUBACK (MQTT 3.1.1 §3.9.3)."""

PROTOCOL_NAME = "MQTT"
PROTOCOL_LEVEL = 4


class PacketType(IntEnum):
    """High half of a packet's first byte (MQTT 3.1.1 §2.2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


@dataclass(frozen=True, slots=True)
class Will:
    """What the server publishes for a client that vanishes."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """A client introduces itself; `keep_alive` in seconds, 0 for none."""

    client_id: str
    clean_session: bool = True
    keep_alive: int = 0
    user_name: str | None = None
    password: bytes | None = None
    will: Will | None = None

    def __repr__(self) -> str:
        # A password must not reach a log by way of a traceback.
        return f"Connect(client_id={self.client_id!r}, user_name={self.user_name!r})"


@dataclass(frozen=True, slots=True)
class ConnAck:
    """The server's answer to CONNECT."""

    session_present: bool
    code: ConnectCode


@dataclass(slots=True)
class Publish:
    """A message; `packet_id` is 0 at QoS 0. `topic` is checked UTF-8, undecoded: a key for a cache as it is.

    Not frozen: one is made for each message, and a frozen dataclass takes three times as long to make.
    """

    topic: bytes
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    duplicate: bool = False


@dataclass(slots=True)
class PubAck:
    """A QoS 1 message has been taken over by the receiver. Not frozen, as `Publish`."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class PubRec:
    """First answer to a QoS 2 message."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class PubRel:
    """Second step of a QoS 2 message."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class PubComp:
    """Last step of a QoS 2 message."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Topic filters with the highest QoS wanted for each."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SubAck:
    """One code for each filter of the SUBSCRIBE: the QoS granted, or `SUBSCRIBE_FAILED`."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Topic filters that are wanted no more."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnsubAck:
    """The filters of that UNSUBSCRIBE are gone."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class PingReq:
    """The client is alive and asks whether the server is."""


@dataclass(frozen=True, slots=True)
class PingResp:
    """The server is alive."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client leaves on purpose."""


Packet = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
)


def decode(data: bytes, first: int, start: int, end: int) -> Packet:
    """The packet whose first byte is `first` and whose remaining bytes are `data[start:end]`.

    Raises `ProtocolError` for anything MQTT 3.1.1 does not allow; reads nothing beyond `end`.
    """
    kind = first >> 4
    if kind == PacketType.PUBLISH:
        publish = decode_publish(data, first, start, end)
        check_topic_name(publish.topic)
        return publish
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise ProtocolError("MQTT-4.8.0-1", f"packet type {kind} is reserved")
    if first & 0x0F != _FLAGS.get(kind, 0):
        raise ProtocolError("MQTT-2.2.2-2", f"reserved flags of packet type {kind} are wrong")
    fields = Fields(data, start, end)
    packet = decoder(fields)
    if fields.position != end:
        raise ProtocolError("MQTT-4.8.0-1", f"packet type {kind} has bytes behind its last field")
    return packet


def decode_publish(data: bytes, first: int, start: int, end: int) -> Publish:
    """A PUBLISH as `decode` returns it, but for its topic, which the caller has to check by `check_topic_name`."""
    qos = first >> 1 & 3
    if end - start < 2:
        raise _short("PUBLISH")
    topic_end = start + 2 + (data[start] << 8 | data[start + 1])
    payload_start = topic_end + 2 if qos else topic_end  # [MQTT-2.3.1-5]
    if payload_start > end:
        raise _short("PUBLISH")
    packet_id = 0
    if qos:
        packet_id = data[topic_end] << 8 | data[topic_end + 1]
        if packet_id == 0:
            raise ProtocolError("MQTT-2.3.1-1", "packet identifier is 0")
        if qos == 3:
            raise ProtocolError("MQTT-3.3.1-4", "QoS 3 does not exist")
    elif first & 0x08:
        raise ProtocolError("MQTT-3.3.1-2", "DUP is set on a QoS 0 message")
    return Publish(
        data[start + 2 : topic_end],
        data[payload_start:end],
        qos,
        packet_id,
        first & 0x01 != 0,
        first & 0x08 != 0,
    )


def check_topic_name(topic: bytes) -> None:
    """Raises `ProtocolError` unless a message may be published under `topic`."""
    if not topic:
        raise ProtocolError("MQTT-4.7.3-1", "topic name is empty")
    text = decode_text(topic)
    if "+" in text or "#" in text:
        raise ProtocolError("MQTT-3.3.2-2", "topic name contains a wildcard")


def check_topic_filter(topic_filter: str) -> None:
    """Raises `ProtocolError` unless `topic_filter` is well formed."""
    if not topic_filter:
        raise ProtocolError("MQTT-4.7.3-1", "topic filter is empty")
    levels = topic_filter.split("/")
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        raise ProtocolError("MQTT-4.7.1-2", "multi-level wildcard is not the whole last level")
    if any("+" in level and level != "+" for level in levels):
        raise ProtocolError("MQTT-4.7.1-3", "single-level wildcard is not a whole level")


def decode_text(raw: bytes) -> str:
    """The text of an MQTT string; raises `ProtocolError` when it is not UTF-8 or holds U+0000."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("MQTT-1.5.3-1", "string is not well-formed UTF-8") from error
    if "\0" in text:
        raise ProtocolError("MQTT-1.5.3-2", "string contains U+0000")
    return text


def encode(packet: Packet) -> bytes:
    """The bytes of a packet; raises `ValueError` when a field does not fit into its place."""
    if isinstance(packet, Publish):
        return encode_publish(packet)
    if isinstance(packet, PubAck):
        return encode_pubacks([packet.packet_id])
    if isinstance(packet, Connect):
        return _framed(PacketType.CONNECT, _connect_body(packet))
    if isinstance(packet, ConnAck):
        return _framed(PacketType.CONNACK, bytes((packet.session_present, packet.code)))
    if isinstance(packet, Subscribe):
        wanted = b"".join(_string(text) + bytes((qos,)) for text, qos in packet.filters)
        return _framed(PacketType.SUBSCRIBE, _identifier(packet.packet_id) + wanted)
    if isinstance(packet, SubAck):
        return _framed(PacketType.SUBACK, _identifier(packet.packet_id) + bytes(packet.codes))
    if isinstance(packet, Unsubscribe):
        filters = b"".join(_string(text) for text in packet.filters)
        return _framed(PacketType.UNSUBSCRIBE, _identifier(packet.packet_id) + filters)
    return _encode_small(packet)


def encode_publish(packet: Publish) -> bytes:
    """The bytes of a PUBLISH."""
    first = PacketType.PUBLISH << 4 | packet.duplicate << 3 | packet.qos << 1 | packet.retain
    topic = len(packet.topic).to_bytes(2, "big") + packet.topic
    identifier = _identifier(packet.packet_id) if packet.qos else b""
    length = len(topic) + len(identifier) + len(packet.payload)
    return b"".join((bytes((first,)), encode_length(length), topic, identifier, packet.payload))


def encode_pubacks(packet_ids: list[int]) -> bytes:
    """PUBACKs for all of `packet_ids`, in their order, in one buffer."""
    return b"".join([(0x40020000 | packet_id).to_bytes(4, "big") for packet_id in packet_ids])


def encode_length(length: int) -> bytes:
    """A remaining length (MQTT 3.1.1 §2.2.3)."""
    if length > REMAINING_LENGTH_MAX:
        raise ValueError("packet is longer than MQTT can say")
    encoded = bytearray()
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


class Fields:
    """Reads the fields of one packet and never beyond its end."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self._end = end
        self.position = start

    @property
    def left(self) -> int:
        """Bytes of the packet that were not read yet."""
        return self._end - self.position

    def byte(self) -> int:
        """The next byte."""
        if self.position >= self._end:
            raise _short("packet")
        self.position += 1
        return self._data[self.position - 1]

    def number(self) -> int:
        """The next two bytes, big end first."""
        return self.byte() << 8 | self.byte()

    def packet_id(self) -> int:
        """A packet identifier."""
        packet_id = self.number()
        if packet_id == 0:
            raise ProtocolError("MQTT-2.3.1-1", "packet identifier is 0")
        return packet_id

    def blob(self) -> bytes:
        """Bytes behind their two-byte length."""
        size = self.number()
        if size > self.left:
            raise _short("packet")
        self.position += size
        return self._data[self.position - size : self.position]

    def text(self) -> str:
        """A string [MQTT-1.5.3-1]."""
        return decode_text(self.blob())

    def rest(self) -> bytes:
        """Everything that is left."""
        start, self.position = self.position, self._end
        return self._data[start : self._end]


def _decode_connect(fields: Fields) -> Packet:
    if fields.text() != PROTOCOL_NAME:
        raise ProtocolError("MQTT-3.1.2-1", "protocol name is not MQTT")
    if fields.byte() != PROTOCOL_LEVEL:
        code = ConnectCode.UNACCEPTABLE_PROTOCOL
        raise ProtocolError("MQTT-3.1.2-2", "protocol level is not 4", code)
    flags = fields.byte()
    _check_connect_flags(flags)
    keep_alive = fields.number()
    client_id = fields.text()  # [MQTT-3.1.3-1], and in this order
    clean_session = flags & 0x02 != 0
    if not client_id and not clean_session:
        code = ConnectCode.IDENTIFIER_REJECTED
        raise ProtocolError("MQTT-3.1.3-8", "client identifier is empty in a kept session", code)
    will = _decode_will(fields, flags) if flags & 0x04 else None
    user_name = fields.text() if flags & 0x80 else None  # [MQTT-3.1.2-19]
    password = fields.blob() if flags & 0x40 else None  # [MQTT-3.1.2-21]
    return Connect(client_id, clean_session, keep_alive, user_name, password, will)


def _check_connect_flags(flags: int) -> None:
    if flags & 0x01:
        raise ProtocolError("MQTT-3.1.2-3", "reserved connect flag is set")
    if not flags & 0x04 and flags & 0x38:
        raise ProtocolError("MQTT-3.1.2-11", "will QoS or will retain without a will")
    if flags & 0x18 == 0x18:
        raise ProtocolError("MQTT-3.1.2-14", "will QoS 3 does not exist")
    if flags & 0x40 and not flags & 0x80:
        raise ProtocolError("MQTT-3.1.2-22", "password without a user name")


def _decode_will(fields: Fields, flags: int) -> Will:
    topic = fields.blob()
    check_topic_name(topic)  # [MQTT-3.1.3-10]
    return Will(topic.decode(), fields.blob(), flags >> 3 & 3, flags & 0x20 != 0)


def _decode_connack(fields: Fields) -> Packet:
    flags = fields.byte()
    code = fields.byte()
    if flags > 1:
        raise ProtocolError("MQTT-4.8.0-1", "reserved connect acknowledge flags are set")
    if code > ConnectCode.NOT_AUTHORIZED:
        raise ProtocolError("MQTT-4.8.0-1", f"connect return code {code} is reserved")
    return ConnAck(flags == 1, ConnectCode(code))


def _decode_subscribe(fields: Fields) -> Packet:
    packet_id = fields.packet_id()
    filters: list[tuple[str, int]] = []
    while fields.left:
        topic_filter = _decode_filter(fields, len(filters))
        qos = fields.byte()
        if qos > 2:
            raise ProtocolError("MQTT-3.8.3-4", "requested QoS is not 0, 1 or 2")
        filters.append((topic_filter, qos))
    if not filters:
        raise ProtocolError("MQTT-3.8.3-3", "SUBSCRIBE without a topic filter")
    return Subscribe(packet_id, tuple(filters))


def _decode_filter(fields: Fields, already: int) -> str:
    if already >= FILTERS_PER_PACKET_MAX:
        raise ProtocolError("limit", f"more than {FILTERS_PER_PACKET_MAX} topic filters in one packet")
    topic_filter = fields.text()  # [MQTT-3.8.3-1] [MQTT-3.10.3-1]
    check_topic_filter(topic_filter)
    return topic_filter


def _decode_suback(fields: Fields) -> Packet:
    packet_id = fields.packet_id()
    codes = tuple(fields.rest())
    if any(code > 2 and code != SUBSCRIBE_FAILED for code in codes):
        raise ProtocolError("MQTT-3.9.3-2", "SUBACK return code is reserved")
    return SubAck(packet_id, codes)


def _decode_unsubscribe(fields: Fields) -> Packet:
    packet_id = fields.packet_id()
    filters: list[str] = []
    while fields.left:
        filters.append(_decode_filter(fields, len(filters)))
    if not filters:
        raise ProtocolError("MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter")
    return Unsubscribe(packet_id, tuple(filters))


_DECODERS: dict[int, Callable[[Fields], Packet]] = {
    PacketType.CONNECT: _decode_connect,
    PacketType.CONNACK: _decode_connack,
    PacketType.PUBACK: lambda fields: PubAck(fields.packet_id()),
    PacketType.PUBREC: lambda fields: PubRec(fields.packet_id()),
    PacketType.PUBREL: lambda fields: PubRel(fields.packet_id()),
    PacketType.PUBCOMP: lambda fields: PubComp(fields.packet_id()),
    PacketType.SUBSCRIBE: _decode_subscribe,
    PacketType.SUBACK: _decode_suback,
    PacketType.UNSUBSCRIBE: _decode_unsubscribe,
    PacketType.UNSUBACK: lambda fields: UnsubAck(fields.packet_id()),
    PacketType.PINGREQ: lambda fields: PingReq(),
    PacketType.PINGRESP: lambda fields: PingResp(),
    PacketType.DISCONNECT: lambda fields: Disconnect(),
}

_FLAGS: dict[int, int] = {
    PacketType.PUBREL: 2,  # [MQTT-3.6.1-1]
    PacketType.SUBSCRIBE: 2,  # [MQTT-3.8.1-1]
    PacketType.UNSUBSCRIBE: 2,  # [MQTT-3.10.1-1]
}
"""Flags of the packet types whose reserved flags are not 0 (MQTT 3.1.1 §2.2.2); those of PUBLISH mean something."""


def _encode_small(packet: PubRec | PubRel | PubComp | UnsubAck | PingReq | PingResp | Disconnect) -> bytes:
    if isinstance(packet, PingReq):
        return b"\xc0\x00"
    if isinstance(packet, PingResp):
        return b"\xd0\x00"
    if isinstance(packet, Disconnect):
        return b"\xe0\x00"
    kinds = {
        PubRec: PacketType.PUBREC,
        PubRel: PacketType.PUBREL,
        PubComp: PacketType.PUBCOMP,
        UnsubAck: PacketType.UNSUBACK,
    }
    return _framed(kinds[type(packet)], _identifier(packet.packet_id))


def _connect_body(packet: Connect) -> bytes:
    will = packet.will
    flags = packet.clean_session << 1 | (packet.user_name is not None) << 7 | (packet.password is not None) << 6
    parts = [_string(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        parts += [_string(will.topic), _blob(will.payload)]
    if packet.user_name is not None:
        parts.append(_string(packet.user_name))
    if packet.password is not None:
        parts.append(_blob(packet.password))
    head = _string(PROTOCOL_NAME) + bytes((PROTOCOL_LEVEL, flags)) + packet.keep_alive.to_bytes(2, "big")
    return head + b"".join(parts)


def _framed(kind: PacketType, body: bytes) -> bytes:
    return bytes((kind << 4 | _FLAGS.get(kind, 0),)) + encode_length(len(body)) + body


def _identifier(packet_id: int) -> bytes:
    if not 0 < packet_id <= 65_535:
        raise ValueError("packet identifier is not in 1..65535")
    return packet_id.to_bytes(2, "big")


def _string(text: str) -> bytes:
    return _blob(text.encode())


def _blob(raw: bytes) -> bytes:
    if len(raw) > STRING_BYTES_MAX:
        raise ValueError("string is longer than MQTT can say")
    return len(raw).to_bytes(2, "big") + raw


def _short(what: str) -> ProtocolError:
    return ProtocolError("MQTT-4.8.0-1", f"{what} ends inside a field")
