"""The fuzz target of the WebSocket stream.

Invariant: whatever bytes a connection brings, and however they are cut, the server's side gives the same payload, the
same last ping and the same end, never raises, holds no more than a control frame, and is silent behind the end.

The committed corpus is replayed by `test_targets.py`; a finding becomes one more file of it. Run with any
fuzzer that calls a function with bytes (for example `atheris.Setup(sys.argv, check)`).
"""

from isthmus.wire.websocket.stream import CONTROL_BYTES_MAX, Incoming, ServerStream

HELD_MAX = 6 + CONTROL_BYTES_MAX


def check(data: bytes) -> None:
    """Raises AssertionError when the invariant does not hold for `data`."""
    whole = run([data])
    assert run([data[position : position + 1] for position in range(len(data))]) == whole
    middle = len(data) // 2
    assert run([data[:middle], data[middle:]]) == whole


def run(pieces: list[bytes]) -> tuple[bytes, bytes | None, str]:
    """Payload, last ping and end of a stream that gets the pieces."""
    stream = ServerStream()
    payload, ping, end = b"", None, ""
    for piece in pieces:
        incoming = stream.receive(piece)
        assert stream.held <= HELD_MAX
        assert not end or incoming == Incoming(), "something behind the end"
        payload += incoming.data
        ping = incoming.ping if incoming.ping is not None else ping
        if incoming.error is not None:
            end = f"{incoming.error.code.name}: {incoming.error}"
        elif incoming.closed:
            end = f"closed {incoming.close_code}"
    return payload, ping, end
