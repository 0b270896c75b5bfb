"""One table of MQTT wire cases for all tests: bytes, and the packet they are or the rule they break.

`canonical` is False where the packet, encoded again, gives other bytes.
"""

from dataclasses import dataclass

from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)


@dataclass(frozen=True, slots=True)
class Good:
    """Bytes that are a packet."""

    name: str
    data: bytes
    packet: Packet
    canonical: bool = True


@dataclass(frozen=True, slots=True)
class Bad:
    """Bytes that break a rule."""

    name: str
    data: bytes
    rule: str


def connect(flags: int, rest: bytes, *, name: bytes = b"\x00\x04MQTT", level: int = 4) -> bytes:
    """A CONNECT packet made by hand."""
    body = name + bytes((level, flags)) + b"\x00\x3c" + rest
    return b"\x10" + bytes((len(body),)) + body


GOOD = [
    Good("connect, nothing but an id", connect(2, b"\x00\x02d1"), Connect("d1", True, 60)),
    Good("connect, kept session", connect(0, b"\x00\x02d1"), Connect("d1", False, 60)),
    Good("connect, empty id in a clean session", connect(2, b"\x00\x00"), Connect("", True, 60)),
    Good(
        "connect, user name and password",
        connect(0xC2, b"\x00\x02d1\x00\x01u\x00\x02pw"),
        Connect("d1", True, 60, "u", b"pw"),
    ),
    Good("connect, user name without password", connect(0x82, b"\x00\x02d1\x00\x01u"), Connect("d1", True, 60, "u")),
    Good(
        "connect, empty password",
        connect(0xC2, b"\x00\x02d1\x00\x01u\x00\x00"),
        Connect("d1", True, 60, "u", b""),
    ),
    Good(
        "connect, will with QoS 1 and retain",
        connect(0x2E, b"\x00\x02d1\x00\x01t\x00\x02hi"),
        Connect("d1", True, 60, None, None, Will("t", b"hi", 1, True)),
    ),
    Good("connack, accepted", b"\x20\x02\x00\x00", ConnAck(False, ConnectCode.ACCEPTED)),
    Good("connack, session present", b"\x20\x02\x01\x00", ConnAck(True, ConnectCode.ACCEPTED)),
    Good("connack, not authorized", b"\x20\x02\x00\x05", ConnAck(False, ConnectCode.NOT_AUTHORIZED)),
    Good("publish, QoS 0", b"\x30\x05\x00\x01ahi", Publish(b"a", b"hi")),
    Good("publish, empty payload", b"\x30\x03\x00\x01a", Publish(b"a", b"")),
    Good("publish, QoS 1", b"\x32\x07\x00\x01a\x00\x07hi", Publish(b"a", b"hi", 1, 7)),
    Good("publish, QoS 1, retained, again", b"\x3b\x07\x00\x01a\x00\x07hi", Publish(b"a", b"hi", 1, 7, True, True)),
    Good("publish, QoS 2", b"\x34\x05\x00\x01a\xff\xff", Publish(b"a", b"", 2, 65_535)),
    Good("publish, topic with a byte order mark", b"\x30\x06\x00\x04\xef\xbb\xbfa", Publish(b"\xef\xbb\xbfa", b"")),
    Good("puback", b"\x40\x02\x00\x07", PubAck(7)),
    Good("pubrec", b"\x50\x02\x00\x07", PubRec(7)),
    Good("pubrel", b"\x62\x02\x00\x07", PubRel(7)),
    Good("pubcomp", b"\x70\x02\x00\x07", PubComp(7)),
    Good("subscribe", b"\x82\x06\x00\x01\x00\x01a\x01", Subscribe(1, (("a", 1),))),
    Good(
        "subscribe, two filters with wildcards",
        b"\x82\x0c\x00\x01\x00\x03a/#\x00\x00\x01+\x02",
        Subscribe(1, (("a/#", 0), ("+", 2))),
    ),
    Good("suback", b"\x90\x05\x00\x01\x00\x01\x80", SubAck(1, (0, 1, 0x80))),
    Good("unsubscribe", b"\xa2\x05\x00\x01\x00\x01a", Unsubscribe(1, ("a",))),
    Good("unsuback", b"\xb0\x02\x00\x01", UnsubAck(1)),
    Good("pingreq", b"\xc0\x00", PingReq()),
    Good("pingresp", b"\xd0\x00", PingResp()),
    Good("disconnect", b"\xe0\x00", Disconnect()),
    Good("remaining length longer than it has to be", b"\xc0\x80\x00", PingReq(), canonical=False),
    Good("publish of 128 bytes", b"\x30\x80\x01\x00\x01a" + bytes(125), Publish(b"a", bytes(125))),
    Good("publish of 16384 bytes", b"\x30\x80\x80\x01\x00\x01a" + bytes(16_381), Publish(b"a", bytes(16_381))),
]

BAD = [
    Bad("reserved type 0", b"\x00\x00", "MQTT-4.8.0-1"),
    Bad("reserved type 15", b"\xf0\x00", "MQTT-4.8.0-1"),
    Bad("remaining length of five bytes", b"\x30\x80\x80\x80\x80\x01", "MQTT-4.8.0-1"),
    Bad("packet longer than the limit", b"\x30\xff\xff\xff\x7f", "limit"),
    Bad("connect flags in the first byte", b"\x11" + connect(2, b"\x00\x02d1")[1:], "MQTT-2.2.2-2"),
    Bad("pubrel without its flag", b"\x60\x02\x00\x07", "MQTT-2.2.2-2"),
    Bad("subscribe without its flag", b"\x80\x06\x00\x01\x00\x01a\x01", "MQTT-2.2.2-2"),
    Bad("unsubscribe without its flag", b"\xa0\x05\x00\x01\x00\x01a", "MQTT-2.2.2-2"),
    Bad("disconnect with flags", b"\xe1\x00", "MQTT-2.2.2-2"),
    Bad("connect, wrong protocol name", connect(2, b"\x00\x02d1", name=b"\x00\x06MQIsdp", level=3), "MQTT-3.1.2-1"),
    Bad("connect, MQTT 5", connect(2, b"\x00\x00\x02d1", level=5), "MQTT-3.1.2-2"),
    Bad("connect, reserved flag", connect(3, b"\x00\x02d1"), "MQTT-3.1.2-3"),
    Bad("connect, will QoS without will", connect(0x0A, b"\x00\x02d1"), "MQTT-3.1.2-11"),
    Bad("connect, will retain without will", connect(0x22, b"\x00\x02d1"), "MQTT-3.1.2-11"),
    Bad("connect, will QoS 3", connect(0x1E, b"\x00\x02d1\x00\x01t\x00\x00"), "MQTT-3.1.2-14"),
    Bad("connect, password without user name", connect(0x42, b"\x00\x02d1\x00\x01p"), "MQTT-3.1.2-22"),
    Bad("connect, empty id in a kept session", connect(0, b"\x00\x00"), "MQTT-3.1.3-8"),
    Bad("connect, id is not UTF-8", connect(2, b"\x00\x02\xc3\x28"), "MQTT-1.5.3-1"),
    Bad("connect, id is a surrogate", connect(2, b"\x00\x03\xed\xa0\x80"), "MQTT-1.5.3-1"),
    Bad("connect, id contains U+0000", connect(2, b"\x00\x02d\x00"), "MQTT-1.5.3-2"),
    Bad("connect, will topic with a wildcard", connect(6, b"\x00\x02d1\x00\x01#\x00\x00"), "MQTT-3.3.2-2"),
    Bad("connect, ends inside the id", connect(2, b"\x00\x09d1"), "MQTT-4.8.0-1"),
    Bad("connect, user name is missing", connect(0x82, b"\x00\x02d1"), "MQTT-4.8.0-1"),
    Bad("connect, bytes behind the last field", connect(2, b"\x00\x02d1\x00"), "MQTT-4.8.0-1"),
    Bad("connack, reserved flags", b"\x20\x02\x02\x00", "MQTT-4.8.0-1"),
    Bad("connack, reserved code", b"\x20\x02\x00\x06", "MQTT-4.8.0-1"),
    Bad("publish, QoS 3", b"\x36\x05\x00\x01a\x00\x01", "MQTT-3.3.1-4"),
    Bad("publish, DUP at QoS 0", b"\x38\x03\x00\x01a", "MQTT-3.3.1-2"),
    Bad("publish, packet identifier 0", b"\x32\x05\x00\x01a\x00\x00", "MQTT-2.3.1-1"),
    Bad("publish, no room for a topic length", b"\x30\x01\x00", "MQTT-4.8.0-1"),
    Bad("publish, topic longer than the packet", b"\x30\x03\x00\x02a", "MQTT-4.8.0-1"),
    Bad("publish, no room for a packet identifier", b"\x32\x04\x00\x01a\x00", "MQTT-4.8.0-1"),
    Bad("publish, empty topic", b"\x30\x02\x00\x00", "MQTT-4.7.3-1"),
    Bad("publish, wildcard +", b"\x30\x03\x00\x01+", "MQTT-3.3.2-2"),
    Bad("publish, wildcard #", b"\x30\x05\x00\x03a/#", "MQTT-3.3.2-2"),
    Bad("publish, topic contains U+0000", b"\x30\x03\x00\x01\x00", "MQTT-1.5.3-2"),
    Bad("publish, topic is not UTF-8", b"\x30\x03\x00\x01\xff", "MQTT-1.5.3-1"),
    Bad("puback, packet identifier 0", b"\x40\x02\x00\x00", "MQTT-2.3.1-1"),
    Bad("puback, three bytes", b"\x40\x03\x00\x01\x00", "MQTT-4.8.0-1"),
    Bad("puback, one byte", b"\x40\x01\x00", "MQTT-4.8.0-1"),
    Bad("subscribe, no filter", b"\x82\x02\x00\x01", "MQTT-3.8.3-3"),
    Bad("subscribe, QoS 3", b"\x82\x06\x00\x01\x00\x01a\x03", "MQTT-3.8.3-4"),
    Bad("subscribe, QoS missing", b"\x82\x05\x00\x01\x00\x01a", "MQTT-4.8.0-1"),
    Bad("subscribe, empty filter", b"\x82\x05\x00\x01\x00\x00\x00", "MQTT-4.7.3-1"),
    Bad("subscribe, # inside", b"\x82\x08\x00\x01\x00\x03#/a\x00", "MQTT-4.7.1-2"),
    Bad("subscribe, # beside a character", b"\x82\x07\x00\x01\x00\x02a#\x00", "MQTT-4.7.1-2"),
    Bad("subscribe, + beside a character", b"\x82\x07\x00\x01\x00\x02a+\x00", "MQTT-4.7.1-3"),
    Bad("subscribe, packet identifier 0", b"\x82\x06\x00\x00\x00\x01a\x01", "MQTT-2.3.1-1"),
    Bad("subscribe, 65 filters", b"\x82\x86\x02\x00\x01" + b"\x00\x01a\x00" * 65, "limit"),
    Bad("suback, reserved code", b"\x90\x03\x00\x01\x03", "MQTT-3.9.3-2"),
    Bad("unsubscribe, no filter", b"\xa2\x02\x00\x01", "MQTT-3.10.3-2"),
    Bad("pingreq with a body", b"\xc0\x01\x00", "MQTT-4.8.0-1"),
]
