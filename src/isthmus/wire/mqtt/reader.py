"""Cuts a stream of bytes into MQTT packets.

A read is parsed where it lies; only the beginning of a packet whose end has not come yet is copied aside, once for each
packet, and the stream is not looked at again before that packet is whole. So a peer that sends byte by byte costs no
more copying than one that does not.
"""

from isthmus.wire.mqtt.errors import ProtocolError
from isthmus.wire.mqtt.packets import Packet, Publish, check_topic_name, decode, decode_publish

TOPIC_REMEMBERED_BYTES_MAX = 512
"""The last topic is remembered, to skip its check next time; longer ones are not: idle connections stay small."""


class PacketReader:
    """The incoming half of a connection. `remaining_length_max` bounds a packet and with it this reader's memory."""

    __slots__ = ("_data", "_last_topic", "_needed", "_partial", "_position", "remaining_length_max")

    def __init__(self, remaining_length_max: int) -> None:
        self.remaining_length_max = remaining_length_max
        self._data = b""
        self._position = 0
        self._partial = bytearray()
        self._needed = 0
        self._last_topic: bytes | None = None

    @property
    def held(self) -> int:
        """Bytes given by `feed` and not yet returned as packets."""
        return len(self._partial) + len(self._data) - self._position

    def feed(self, data: bytes) -> None:
        """Takes what was read from the peer."""
        if self._position < len(self._data):
            self._set_aside(0)
        if self._partial:
            self._partial += data
        else:
            self._data = data
            self._position = 0

    def next(self) -> Packet | None:
        """The next packet, or None when more bytes are needed; raises `ProtocolError`."""
        if self._partial and not self._join():
            return None
        data = self._data
        start = self._position
        size = len(data)
        if start + 2 > size:
            self._set_aside(2)
            return None
        length = data[start + 1]
        body = start + 2
        if length > 127:
            if start + 3 <= size and data[start + 2] < 128:
                # Two bytes, as most messages have, without a call.
                body = start + 3
                length = length & 127 | data[start + 2] << 7
            else:
                body = self._length_end(start)
                if body == 0:
                    self._set_aside(0)
                    return None
                length = self._length(start + 1, body)
            if length > self.remaining_length_max:
                raise ProtocolError("limit", f"packet of {length} bytes is longer than {self.remaining_length_max}")
        end = body + length
        if end > size:
            self._set_aside(end - start)
            return None
        self._position = end
        first = data[start]
        if first & 0xF0 == 0x30:
            return self._publish(decode_publish(data, first, body, end))
        return decode(data, first, body, end)

    def _publish(self, publish: Publish) -> Publish:
        last_topic = self._last_topic
        if last_topic is not None and publish.topic == last_topic:
            # The same object again has its hash already, for the cache that is asked next.
            publish.topic = last_topic
            return publish
        check_topic_name(publish.topic)
        if len(publish.topic) <= TOPIC_REMEMBERED_BYTES_MAX:
            self._last_topic = publish.topic
        return publish

    def _length_end(self, start: int) -> int:
        """Position behind the remaining length, 0 when it has not come yet."""
        data = self._data
        for position in range(start + 2, min(start + 5, len(data))):
            if data[position] < 128:
                return position + 1
        if len(data) >= start + 5:
            raise ProtocolError("MQTT-4.8.0-1", "remaining length has more than four bytes")
        return 0

    def _length(self, position: int, end: int) -> int:
        length = 0
        for index in range(end - 1, position - 1, -1):
            length = length << 7 | self._data[index] & 127
        return length

    def _join(self) -> bool:
        if len(self._partial) < self._needed:
            return False
        self._data = bytes(self._partial)
        self._position = 0
        self._partial = bytearray()
        return True

    def _set_aside(self, needed: int) -> None:
        """Keeps what is left for later; `needed` bytes of it make the next packet, 0 when that is unknown."""
        self._partial = bytearray(self._data[self._position :]) if self._position < len(self._data) else bytearray()
        self._needed = needed or len(self._partial) + 1
        self._data = b""
        self._position = 0
