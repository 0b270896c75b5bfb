"""The fuzz target of the link protocol.

Invariant: whatever bytes a connection brings, and however they are cut, both sides tell the same messages and end for
the same reason, never raise anything but their own errors, hold less than one frame, and say nothing that the other
side's decoder does not take.

The committed corpus is replayed by `test_targets.py`; a finding becomes one more file of it. Run with any fuzzer
that calls a function with bytes (for example `atheris.Setup(sys.argv, check)`).
"""

from collections.abc import Callable

from isthmus.wire.link.connector_side import ConnectorLink
from isthmus.wire.link.framing import FRAME_BYTES_MAX, FrameReader, LinkProtocolError, decode_hub_message
from isthmus.wire.link.hub_side import HubLink, LinkRefused
from isthmus.wire.link.messages import Hello

Told = tuple[list[str], str, bytes]


def check(data: bytes) -> None:
    """Raises AssertionError when the invariant does not hold for `data`."""
    for side in (_hub, _connector):
        whole = _run(side, [data])
        assert _run(side, [data[position : position + 1] for position in range(len(data))]) == whole
        middle = len(data) // 2
        assert _run(side, [data[:middle], data[middle:]]) == whole


def _run(side: Callable[[list[bytes]], Told], pieces: list[bytes]) -> Told:
    return side(pieces)


def _hub(pieces: list[bytes]) -> Told:
    hub = HubLink("plant-a", 0.0)
    hub.check({})
    told: list[str] = []
    end, answers = "", hub.data_to_send()
    for piece in pieces:
        try:
            told += [repr(message) for message in hub.receive(piece, 0.0)]
        except (LinkProtocolError, LinkRefused) as error:
            end = str(error)
        answers += hub.data_to_send()
        assert hub._reader.held < FRAME_BYTES_MAX + 4 or end
        if end:
            break
    _check_answers(answers)
    return ([] if end else told), end, answers


def _connector(pieces: list[bytes]) -> Told:
    connector = ConnectorLink(Hello(version=1, name="plant-a", instance="i"), 0.0)
    connector.tick(30.0)
    told: list[str] = []
    for piece in pieces:
        try:
            told += [repr(message) for message in connector.receive(piece, 30.0)]
        except LinkProtocolError as error:
            # What came before the fault in the same read is not told: a hub that breaks a rule is not obeyed.
            return [], str(error), b""
        assert connector._reader.held < FRAME_BYTES_MAX + 4
    return told, "", b""


def _check_answers(answers: bytes) -> None:
    reader = FrameReader()
    reader.feed(answers)
    while (body := reader.frame()) is not None:
        decode_hub_message(body)
    assert reader.held == 0, "half a frame"
