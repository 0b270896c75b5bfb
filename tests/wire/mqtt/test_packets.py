"""The MQTT codec: each wire case, and encode and decode as inverses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.mqtt.errors import ConnectCode, ProtocolError
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
    check_topic_filter,
    encode,
    encode_length,
    encode_pubacks,
)
from isthmus.wire.mqtt.reader import PacketReader
from wire.cases.mqtt import BAD, GOOD, Bad, Good

LIMIT = 400_000


@pytest.mark.rule("MQTT-1.5.3-3", "MQTT-2.3.1-5", "MQTT-3.1.3-1", "MQTT-3.1.2-9", "MQTT-3.3.2-1")
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_good_case_decodes(case: Good) -> None:
    assert read_all(case.data) == [case.packet]


@pytest.mark.rule("MQTT-2.2.2-1")
@pytest.mark.parametrize("case", [case for case in GOOD if case.canonical], ids=lambda case: case.name)
def test_good_case_encodes(case: Good) -> None:
    assert encode(case.packet) == case.data


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_bad_case_breaks_its_rule(case: Bad) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_all(case.data)

    assert caught.value.rule == case.rule


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_a_cut_packet_waits_for_the_rest(case: Good) -> None:
    for cut in range(len(case.data) if len(case.data) < 200 else 5):
        assert read_all(case.data[:cut]) == []


def test_password_stays_out_of_repr() -> None:
    assert "secret" not in repr(Connect("d", user_name="u", password=b"secret"))


def test_pubacks_of_many_are_one_buffer() -> None:
    assert read_all(encode_pubacks([1, 2, 65_535])) == [PubAck(1), PubAck(2), PubAck(65_535)]


@pytest.mark.rule("MQTT-4.7.3-3")
def test_too_long_fields_are_our_fault() -> None:
    with pytest.raises(ValueError, match="string"):
        encode(Connect("x" * 65_536))
    with pytest.raises(ValueError, match="identifier"):
        encode(Subscribe(0, (("a", 0),)))
    with pytest.raises(ValueError, match="longer"):
        encode_length(268_435_456)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
TOPIC = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=40)
IDENTIFIER = st.integers(1, 65_535)
QOS = st.integers(0, 2)


def well_formed(topic_filter: str) -> bool:
    try:
        check_topic_filter(topic_filter)
    except ProtocolError:
        return False
    return True


FILTER = TEXT.filter(well_formed)
WILL = st.builds(Will, TOPIC, st.binary(max_size=60), QOS, st.booleans())
CONNECT = st.builds(
    Connect,
    TEXT.filter(bool),
    st.booleans(),
    st.integers(0, 65_535),
    TEXT,
    st.none() | st.binary(max_size=60),
    st.none() | WILL,
)
PUBLISH = st.one_of(
    st.builds(Publish, TOPIC.map(str.encode), st.binary(max_size=300), st.just(0), st.just(0), st.booleans()),
    st.builds(
        Publish,
        TOPIC.map(str.encode),
        st.binary(max_size=300),
        st.integers(1, 2),
        IDENTIFIER,
        st.booleans(),
        st.booleans(),
    ),
)
PACKET: st.SearchStrategy[Packet] = st.one_of(
    CONNECT,
    st.builds(ConnAck, st.booleans(), st.sampled_from(ConnectCode)),
    PUBLISH,
    st.builds(PubAck, IDENTIFIER),
    st.builds(PubRec, IDENTIFIER),
    st.builds(PubRel, IDENTIFIER),
    st.builds(PubComp, IDENTIFIER),
    st.builds(Subscribe, IDENTIFIER, st.lists(st.tuples(FILTER, QOS), min_size=1, max_size=8).map(tuple)),
    st.builds(SubAck, IDENTIFIER, st.lists(st.sampled_from([0, 1, 2, 0x80]), max_size=8).map(tuple)),
    st.builds(Unsubscribe, IDENTIFIER, st.lists(FILTER, min_size=1, max_size=8).map(tuple)),
    st.builds(UnsubAck, IDENTIFIER),
    st.just(PingReq()),
    st.just(PingResp()),
    st.just(Disconnect()),
)


@given(st.lists(PACKET, max_size=6))
def test_decode_is_the_inverse_of_encode(packets: list[Packet]) -> None:
    assert read_all(b"".join(encode(packet) for packet in packets)) == packets


@given(st.lists(PACKET, max_size=6), st.lists(st.integers(0, 2000), max_size=20))
def test_any_split_gives_the_same_packets(packets: list[Packet], cuts: list[int]) -> None:
    data = b"".join(encode(packet) for packet in packets)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = PacketReader(LIMIT)
    found: list[Packet] = []
    for start, end in pairwise(edges):
        reader.feed(data[start:end])
        while (packet := reader.next()) is not None:
            found.append(packet)

    assert found == packets
    assert reader.held == 0


@given(st.integers(0, 268_435_455))
def test_length_has_the_shortest_form(length: int) -> None:
    encoded = encode_length(length)

    assert sum((byte & 127) << 7 * place for place, byte in enumerate(encoded)) == length
    assert len(encoded) == 1 + (length > 127) + (length > 16_383) + (length > 2_097_151)


def read_all(data: bytes) -> list[Packet]:
    """All packets of `data`."""
    reader = PacketReader(LIMIT)
    reader.feed(data)
    packets: list[Packet] = []
    while (packet := reader.next()) is not None:
        packets.append(packet)
    return packets
