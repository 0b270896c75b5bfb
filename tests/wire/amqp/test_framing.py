"""Input is cut into headers and frames, however it arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.amqp.errors import PeerError
from isthmus.wire.amqp.framing import FrameBuffer
from isthmus.wire.amqp.outlet import frame


@pytest.mark.rule("AMQP-2.3.1", "AMQP-2.3.2")
def test_a_frame_is_found_in_place() -> None:
    buffer = FrameBuffer()
    buffer.feed(frame(5, b"body") + frame(6, b"", sasl=True))
    first, second = buffer.frame(100), buffer.frame(100)
    assert first
    assert second
    assert (first.channel, first.sasl, buffer.data[first.start : first.end]) == (5, False, b"body")
    assert (second.channel, second.sasl, second.start) == (6, True, second.end)
    assert buffer.frame(100) is None
    assert len(buffer) == 0


@pytest.mark.rule("AMQP-2.3.1")
def test_an_extended_header_is_skipped() -> None:
    buffer = FrameBuffer()
    buffer.feed(bytes.fromhex("0000000e 03 00 0001 ffffffff 0045"))
    bounds = buffer.frame(100)
    assert bounds
    assert buffer.data[bounds.start : bounds.end] == b"\x00\x45"


NO_FRAME = {
    "shorter than its header": "00000007 02000000",
    "an offset within the header": "00000008 01000000",
    "an offset behind the end": "00000008 03000000",
    "an unknown type": "00000008 02020000",
    "longer than agreed": "00000065 02000000",
}


@pytest.mark.rule("AMQP-2.3.1")
@pytest.mark.parametrize("data", NO_FRAME.values(), ids=NO_FRAME.keys())
def test_what_is_no_frame_is_refused_by_its_header(data: str) -> None:
    buffer = FrameBuffer()
    buffer.feed(bytes.fromhex(data))
    with pytest.raises(PeerError):
        buffer.frame(100)


@given(st.lists(st.binary(max_size=80), max_size=6), st.lists(st.integers(1, 40), max_size=40))
def test_any_split_gives_the_same_frames(bodies: list[bytes], sizes: list[int]) -> None:
    data = b"".join(frame(number, body) for number, body in enumerate(bodies))
    buffer, found = FrameBuffer(), []
    position = 0
    for size in [*sizes, len(data)]:
        buffer.feed(data[position : position + size])
        position += size
        while (bounds := buffer.frame(100)) is not None:
            found.append((bounds.channel, buffer.data[bounds.start : bounds.end]))
    assert found == list(enumerate(bodies))


def test_a_large_frame_in_small_pieces_is_looked_at_once() -> None:
    buffer = FrameBuffer()
    data = frame(0, b"x" * 60_000)
    looks = 0
    for position in range(0, len(data), 10):
        buffer.feed(data[position : position + 10])
        looks += bool(buffer.data)
        bounds = buffer.frame(65_536)
    assert bounds
    assert looks <= 3, "the pieces are put together once, not each time"


def test_what_is_not_taken_is_kept() -> None:
    buffer = FrameBuffer()
    buffer.feed(frame(1, b"a"))
    buffer.feed(frame(2, b"b"))
    assert len(buffer) == 18
    assert [bounds.channel for bounds in (buffer.frame(100), buffer.frame(100)) if bounds] == [1, 2]
