"""The fuzz target of the AMQP engine.

Invariant: whatever bytes a connection brings, and however they are cut, the server's side tells the same events and
gives the same answers, never raises, answers in whole frames that a peer can decode, keeps no more than one frame and
what its limits allow, says nothing more after the connection is closed, and is finished in the end.

The committed corpus is replayed by `test_targets.py`; a finding becomes one more file of it. Run with any fuzzer
that calls a function with bytes (for example `atheris.Setup(sys.argv, check)`).
"""

import re

from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.decode import Decoder
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.events import (
    ConnectionClosed,
    CreditGranted,
    Disposition,
    Event,
    LinkAttached,
    SaslInit,
    Transfer,
)
from isthmus.wire.amqp.framing import FrameBuffer
from isthmus.wire.amqp.limits import FRAME_BYTES_MAX, FRAME_BYTES_OUT_MAX, PARTIAL_BYTES_MAX
from isthmus.wire.amqp.link import LinkRole
from isthmus.wire.amqp.message import Message, data
from isthmus.wire.amqp.states import ACCEPTED_STATE

IDENTITY = re.compile(r" at 0x[0-9a-f]+")


def check(fuzzed: bytes) -> None:
    """Raises AssertionError when the invariant does not hold for `fuzzed`."""
    whole = run([fuzzed])
    assert run([fuzzed[position : position + 1] for position in range(len(fuzzed))]) == whole
    middle = len(fuzzed) // 2
    assert run([fuzzed[:middle], fuzzed[middle:]]) == whole
    check_answers(whole[1])


def run(pieces: list[bytes]) -> tuple[list[str], bytes]:
    """Events, as text without identities, and answers of a server that does all an application does."""
    server = Connection("server", 0.0)
    told: list[str] = []
    answers = b""
    for piece in pieces:
        server.receive(piece, 0.0)
        for event in server.events():
            assert not (told and told[-1].startswith(ConnectionClosed.__name__)), "an event behind the last"
            told.append(IDENTITY.sub("", repr(event)))
            _react(server, event)
            answers += server.data_to_send()
        answers += server.data_to_send()
        assert len(server._input) < FRAME_BYTES_MAX
        assert server._outlet.partial_bytes <= PARTIAL_BYTES_MAX + FRAME_BYTES_MAX
    for now in (1e6, 2e6):
        server.tick(now)
    assert server.finished
    return told, answers


def _react(server: Connection, event: Event) -> None:
    match event:
        case SaslInit():
            server.sasl_accept()
        case LinkAttached(link):
            link.accept(credit=10)
        case Transfer(link=link, delivery_id=delivery_id, payload=payload):
            _read(payload)
            link.settle(delivery_id, ACCEPTED_STATE)
        case CreditGranted(link=link):
            assert link.role is LinkRole.SENDER
            if link.sendable:
                link.send(data(b"unsettled"))
                link.send_settled([data(b"settled")] * 3)
            link.drained()
        case Disposition(link=link, delivery_id=delivery_id):
            link.settle(delivery_id, ACCEPTED_STATE)


def _read(payload: bytes) -> None:
    try:
        message = Message(payload)
        message.header, message.annotations, message.properties, message.data, message.values  # noqa: B018
    except DecodeError:
        return


def check_answers(answers: bytes) -> None:
    """What is said is protocol headers and whole frames that can be decoded."""
    buffer = FrameBuffer()
    while answers[:4] == b"AMQP":
        buffer.feed(answers[:8])
        assert buffer.header()
        answers = answers[8:]
    header = answers.find(b"AMQP\x00\x01\x00\x00")
    for part in (answers,) if header < 0 else (answers[:header], answers[header + 8 :]):
        buffer.feed(part)
        while (bounds := buffer.frame(FRAME_BYTES_OUT_MAX)) is not None:
            if bounds.start < bounds.end:
                Decoder(buffer.data, bounds.start, bounds.end).value()
        assert len(buffer) == 0, "half a frame"
