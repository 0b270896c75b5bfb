"""What the reader keeps, and what it costs."""

import pytest

from isthmus.wire.mqtt.errors import ProtocolError
from isthmus.wire.mqtt.packets import Publish, encode
from isthmus.wire.mqtt.reader import PacketReader


def test_nothing_of_a_finished_read_is_kept() -> None:
    reader = PacketReader(1000)
    reader.feed(encode(Publish(b"a", bytes(500))))
    while reader.next() is not None:
        pass

    assert reader.held == 0


def test_a_topic_seen_before_is_the_same_object() -> None:
    reader = PacketReader(1000)
    reader.feed(encode(Publish(b"devices/d/messages/events/", b"1")) * 2)
    first, second = reader.next(), reader.next()

    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert first.topic is second.topic


def test_a_declared_length_takes_no_memory() -> None:
    reader = PacketReader(300_000)
    reader.feed(b"\x30\xe0\xa7\x12")

    assert reader.next() is None
    assert reader.held == 4


def test_byte_by_byte_looks_at_the_stream_once() -> None:
    data = encode(Publish(b"a", bytes(300_000)))
    reader = PacketReader(300_003)
    packets = 0
    for position in range(len(data)):
        reader.feed(data[position : position + 1])
        packets += reader.next() is not None

    assert packets == 1


def test_a_limit_is_told_before_the_packet_is_there() -> None:
    reader = PacketReader(200)
    reader.feed(b"\x30\xc9\x01")

    with pytest.raises(ProtocolError, match="limit"):
        reader.next()
