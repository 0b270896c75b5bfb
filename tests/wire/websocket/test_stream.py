"""The server's half of a WebSocket as a stream of bytes: every case of the table, cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.websocket.stream import (
    CONTROL_BYTES_MAX,
    FRAME_BYTES_MAX,
    Incoming,
    Opcode,
    ServerStream,
    close_frame,
    encode_frame,
    mask,
)
from wire.cases.websocket import BAD, GOOD, KEY, Bad, Good, binary, client_frame

HELD_MAX = 6 + CONTROL_BYTES_MAX


def take(pieces: list[bytes]) -> Incoming:
    """What a stream makes of the pieces, all in one."""
    stream, data, last = ServerStream(), b"", Incoming()
    ping = None
    for piece in pieces:
        incoming = stream.receive(piece)
        assert stream.held <= HELD_MAX
        data += incoming.data
        ping = incoming.ping if incoming.ping is not None else ping
        if incoming.closed or incoming.error is not None:
            last = incoming
    return Incoming(data, ping, last.closed, last.close_code, last.error)


def each_byte(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_is_allowed_is_taken_however_it_is_cut(case: Good) -> None:
    wanted = Incoming(case.data, case.ping, case.closed, case.close_code)

    assert take([case.sent]) == wanted
    assert take(each_byte(case.sent)) == wanted


@pytest.mark.rule("MQTT-6.0.0-1")
@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_what_breaks_a_rule_ends_the_stream(case: Bad) -> None:
    for pieces in ([case.sent], each_byte(case.sent), [case.sent, binary(b"more")]):
        incoming = take(pieces)
        assert incoming.data == case.data
        assert incoming.error is not None
        assert incoming.error.code is case.code


def test_the_largest_frame_may_be_announced_and_is_passed_on_as_it_arrives() -> None:
    stream = ServerStream()
    head = b"\x82\xff" + FRAME_BYTES_MAX.to_bytes(8, "big") + bytes(4)

    assert stream.receive(head + b"abc") == Incoming(b"abc")
    assert stream.receive(b"def") == Incoming(b"def")
    assert stream.held == 0


@pytest.mark.rule("MQTT-6.0.0-2")
@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_payload_arrives_whole_whatever_frames_and_reads_it_comes_in(
    messages: list[bytes], draw: st.DataObject
) -> None:
    sent = b"".join(binary(message) for message in messages)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    assert take(pieces) == Incoming(b"".join(messages))


@given(st.binary(max_size=1_000), st.binary(min_size=4, max_size=4))
def test_masking_is_undone_by_itself_and_byte_by_byte_what_the_rfc_says(data: bytes, key: bytes) -> None:
    masked = mask(data, key)

    assert masked == bytes(byte ^ key[position % 4] for position, byte in enumerate(data))
    assert mask(masked, key) == data


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "8200"), (125, "827d"), (126, "827e007e"), (65_535, "827effff"), (65_536, "827f0000000000010000")],
)
def test_a_servers_frame_has_the_shortest_length_and_no_mask(size: int, head: str) -> None:
    assert encode_frame(Opcode.BINARY, bytes(size)) == bytes.fromhex(head) + bytes(size)


def test_a_servers_close_frame() -> None:
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
    assert close_frame(None) == b"\x88\x00"


def test_the_table_has_clients_frames() -> None:
    assert client_frame(Opcode.TEXT, b"Hello") == b"\x81\x85" + KEY + bytes.fromhex("7f9f4d5158")
