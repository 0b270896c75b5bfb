"""The fuzz target of the MQTT engine.

Invariant: whatever bytes a connection brings, and however they are cut, the server's side returns the same events, the
same answers and the same output of its own, never raises, holds no more than one packet of the agreed length, and once
it has failed says nothing more.

The committed corpus is replayed by `test_targets.py`; a finding becomes one more file of it. Run with any fuzzer
that calls a function with bytes (for example `atheris.Setup(sys.argv, check)`).
"""

from isthmus.wire.mqtt.events import Failed, ServerEvent
from isthmus.wire.mqtt.packets import Connect, Publish
from isthmus.wire.mqtt.session import PIPELINED_BYTES_MAX, ServerSession, SessionState

REMAINING_LENGTH_MAX = 2_000


def check(data: bytes) -> None:
    """Raises AssertionError when the invariant does not hold for `data`."""
    whole = run([data])
    assert run([data[position : position + 1] for position in range(len(data))]) == whole
    middle = len(data) // 2
    assert run([data[:middle], data[middle:]]) == whole


def run(pieces: list[bytes]) -> tuple[list[str], bytes, bytes]:
    """Events, answers and own output of a server that accepts each CONNECT and acknowledges each message."""
    server = ServerSession(
        0.0,
        remaining_length_max=REMAINING_LENGTH_MAX,
        silence_seconds_max=1.0,
        inbound_window_max=4,
        outbound_window_max=4,
    )
    events: list[ServerEvent] = []
    answers = output = b""
    for piece in pieces:
        answers += _step(server, server.receive(piece, 0.0), events)
        output += server.take_output()
        assert server._reader.held <= max(PIPELINED_BYTES_MAX, REMAINING_LENGTH_MAX + 5)
    return [repr(event) for event in events], answers, output


def _step(server: ServerSession, new: list[ServerEvent], events: list[ServerEvent]) -> bytes:
    answers = b""
    for event in new:
        assert not (events and isinstance(events[-1], Failed)), "an event behind a failure"
        events.append(event)
        if isinstance(event, Connect):
            assert server.state is SessionState.DECIDING
            connack, more = server.accept(keep_alive=event.keep_alive, session_present=False, now=0.0)
            answers += connack + _step(server, more, events)
        elif isinstance(event, Publish) and event.qos == 1:
            answers += server.puback([event.packet_id])
    return answers
