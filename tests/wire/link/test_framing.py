"""Frames and messages: every case of the table, cut anywhere, and there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.link.framing import (
    FRAME_BYTES_MAX,
    FrameReader,
    LinkProtocolError,
    decode_connector_message,
    decode_hub_message,
    encode_message,
)
from isthmus.wire.link.messages import ENDPOINTS_MAX, PORTS_MAX, Certificate, EndpointSetup, Enrol, Setup
from wire.cases.link import BAD, CONNECTOR, HUB, Bad, Said, frame


def bodies(pieces: list[bytes]) -> list[bytes]:
    """The frames that the pieces make."""
    reader, found = FrameReader(), []
    for piece in pieces:
        reader.feed(piece)
        while (body := reader.frame()) is not None:
            found.append(body)
        assert reader.held < FRAME_BYTES_MAX + 4
    return found


@pytest.mark.parametrize("case", CONNECTOR, ids=lambda case: type(case.message).__name__)
def test_what_a_connector_says(case: Said) -> None:
    assert encode_message(case.message) == frame(case.body)
    assert decode_connector_message(case.body) == case.message


@pytest.mark.parametrize("case", HUB, ids=lambda case: type(case.message).__name__)
def test_what_a_hub_says(case: Said) -> None:
    assert encode_message(case.message) == frame(case.body)
    assert decode_hub_message(case.body) == case.message


@pytest.mark.parametrize("case", CONNECTOR, ids=lambda case: type(case.message).__name__)
def test_nobody_says_what_is_the_others_to_say(case: Said) -> None:
    with pytest.raises(LinkProtocolError):
        decode_hub_message(case.body)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_what_breaks_a_rule_is_refused(case: Bad) -> None:
    with pytest.raises(LinkProtocolError, match=case.reason):
        decode_each(case.sent)


def decode_each(sent: bytes) -> None:
    for body in bodies([sent]):
        decode_connector_message(body)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.data())
def test_frames_arrive_whole_however_they_are_cut(sent: list[bytes], draw: st.DataObject) -> None:
    stream = b"".join(frame(body) for body in sent)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert bodies(pieces) == sent


def test_members_that_nobody_knows_are_skipped() -> None:
    assert decode_hub_message(b'{"type":"drain","since":"tomorrow"}') == decode_hub_message(b'{"type":"drain"}')


def test_the_largest_setup_fits_into_a_frame() -> None:
    address = "fd00:1111:2222:3333:4444:5555:6666:7777"
    endpoint = EndpointSetup(address=address, ports=(65_535,) * PORTS_MAX, name="e" * 80)
    setup = Setup(generation=1, endpoints=(endpoint,) * ENDPOINTS_MAX, names={"zones": "z" * 100_000})

    assert decode_hub_message(encode_message(setup)[4:]) == setup


def test_a_message_that_fits_into_no_frame_is_not_made() -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode_message(Certificate(pem="P" * FRAME_BYTES_MAX, ca_pem=""))


def test_a_token_is_in_no_text() -> None:
    assert "secret-of-token" not in repr(Enrol(token_secret="secret-of-token", csr=""))
