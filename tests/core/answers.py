"""What the core makes of bytes, as text that shows every value, type and error: the same from both of its builds.

`python answers.py` answers questions on standard input, one after the other, until it is closed: see `pure.py`.
"""

import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from fuzz import amqp_target, mqtt_target
from isthmus import CORE
from isthmus.telemetry.batch import Batch, Item
from isthmus.telemetry.frame import Damaged, NewerFormat, frame, unframe
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.record import Found, pack_endpoints, record_at, scan, stretches, to_record
from isthmus.telemetry.segment import Carry, Tail
from isthmus.wire.amqp.decode import Decoder, skip
from isthmus.wire.amqp.encode import encode
from isthmus.wire.amqp.errors import DecodeError, MisuseError
from isthmus.wire.amqp.message import Message
from isthmus.wire.amqp.performatives import decode_performative
from isthmus.wire.amqp.transfer import read_transfer
from isthmus.wire.amqp.values import AmqpValue, Array, Described
from isthmus.wire.mqtt.errors import ProtocolError
from isthmus.wire.mqtt.packets import encode as encode_packet
from isthmus.wire.mqtt.reader import PacketReader
from isthmus.wire.tls import TlsLayer, client_context, server_context
from isthmus.wire.tls_error import TlsError
from support.certificates import issue, write_pem

SIZE = struct.Struct("!I")
ITEMS_MAX = 50
TLS_BYTES = 40_000


class Nobody:
    """Waits for no commit."""

    def committed(self, cookies: list[int]) -> None: ...

    def failed(self, cookies: list[int], reason: str) -> None: ...


def mqtt(data: bytes) -> Iterator[str]:
    """The server's events and answers, and each packet, as it was read and as it is written."""
    middle = len(data) // 2
    for pieces in ([data], [data[:middle], data[middle:]]):
        events, answers, output = mqtt_target.run(pieces)
        yield from (*events, answers.hex(), output.hex())
    reader = PacketReader(2_000)
    reader.feed(data)
    yield from _until_refused(lambda: _packets(reader))
    yield str(reader.held)


def amqp(data: bytes) -> Iterator[str]:
    """The server's events and answers."""
    middle = len(data) // 2
    for pieces in ([data], [data[:middle], data[middle:]]):
        told, answers = amqp_target.run(pieces)
        yield from (*told, answers.hex())


def values(data: bytes) -> Iterator[str]:
    """AMQP values, as they were read and as they are written."""
    yield from _until_refused(lambda: _values(data))
    yield from _until_refused(lambda: iter([str(skip(data, 0, len(data)))]))


def message(data: bytes) -> Iterator[str]:
    """Sections of a message, and the same bytes as a performative and as the list of a transfer."""
    yield from _until_refused(lambda: _sections(data))
    yield from _until_refused(lambda: iter([repr(decode_performative(data, 0, len(data)))]))
    yield from _until_refused(lambda: iter([repr(read_transfer(data, 0, len(data)))]))


def records(data: bytes) -> Iterator[str]:
    """What a scan of the log finds in these bytes, and how a batch made of them looks on disk."""

    def read(position: int, size: int) -> bytes:
        return data[position : position + size]

    for item in scan(read, 0, len(data)):
        yield repr(to_record(item)) if isinstance(item, Found) else repr(item)
    yield from (repr(stretch) for stretch in stretches(scan(read, 0, len(data))))
    yield repr(record_at(read, 0, len(data)))
    for magic in (b"ISTHSEGM", data[:8]):
        yield from _until_refused(lambda magic=magic: iter([repr(unframe(magic, 1, data))]))  # type: ignore[misc]
    yield frame(b"ISTHSEGM", 1, data).hex()
    carry = Carry({Partition(1, 0): Tail(7, 1_000, 3)}, {1: 4}, 2)
    batch = Batch(_items(data), 5_000, 990, carry)
    yield from (piece.hex() for piece in batch.buffers())
    yield repr((batch.start, batch.end, batch.newest_ms, batch.runs, batch.outbox))
    batch.settle()
    yield repr(carry)


def tls(data: bytes) -> Iterator[str]:
    """What a server makes of these bytes instead of a hello, and what comes of them through a connection, both ways.

    They are sent over and over, so that they take several records, in pieces as long as they say.
    """
    context = _contexts()[0]
    yield from _until_refused(lambda: iter([TlsLayer(context).receive(data).hex()]))
    below, above = TlsLayer(context), TlsLayer(_contexts()[1], server_side=False)
    while not (below.established and above.established):
        below.receive(above.outgoing())
        above.receive(below.outgoing())
    text = data * (TLS_BYTES // len(data)) if data else data
    for sender, receiver in ((above, below), (below, above)):
        sender.send(text)
        sender.send(memoryview(data))
        sent = sender.outgoing()
        yield f"{receiver.receive(memoryview(sent)) == text + data} {len(sent)}"
    above.finish()
    yield repr((below.receive(above.outgoing()), below.ended, above.ended, below.version, below.peer_chain))
    yield from _until_refused(lambda: iter([below.receive(data).hex()]))


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server, and of a client that trusts everybody."""
    with TemporaryDirectory() as folder:
        server = server_context(str(write_pem(Path(folder) / "hub.pem", issue("hub"))), request_client_certificate=True)
    return server, client_context(authorities="")


ANSWERS: dict[str, Callable[[bytes], Iterator[str]]] = {
    "mqtt": mqtt,
    "amqp": amqp,
    "values": values,
    "message": message,
    "records": records,
    "tls": tls,
}


def main() -> None:
    """Tells first which core runs, then answers."""
    _write(sys.stdout.buffer, str(CORE).encode())
    while question := sys.stdin.buffer.read(SIZE.size):
        name, _, data = sys.stdin.buffer.read(SIZE.unpack(question)[0]).partition(b"\n")
        _write(sys.stdout.buffer, answer(name.decode(), data).encode())


def answer(name: str, data: bytes) -> str:
    """All that can be said, a line for each."""
    return "\n".join(ANSWERS[name](data))


def _write(stream: BinaryIO, data: bytes) -> None:
    stream.write(SIZE.pack(len(data)) + data)
    stream.flush()


def _until_refused(say: Callable[[], Iterator[str]]) -> Iterator[str]:
    try:
        yield from say()
    except (ProtocolError, DecodeError, MisuseError, Damaged, NewerFormat, TlsError, ValueError) as error:
        yield f"{type(error).__name__} {error.args} {vars(error)}"


def _packets(reader: PacketReader) -> Iterator[str]:
    while (packet := reader.next()) is not None:
        yield f"{packet!r} {packet == packet} {hash(packet) if hasattr(packet, 'codes') else ''}"
        yield encode_packet(packet).hex()


def _values(data: bytes) -> Iterator[str]:
    decoder = Decoder(data, 0, len(data))
    while decoder.position < len(data):
        value = decoder.value()
        yield _typed(value)
        yield encode(value).hex()


def _sections(data: bytes) -> Iterator[str]:
    found = Message(data)
    for name in ("header", "delivery_annotations", "annotations", "properties", "application_properties", "footer"):
        yield from _until_refused(lambda name=name: iter([repr(getattr(found, name))]))  # type: ignore[misc]
    yield repr(found.body_section)
    yield from _until_refused(lambda: iter([repr(found.data), repr(found.values)]))
    yield from _until_refused(lambda: iter([found.properties.encode().hex()]))


def _typed(value: AmqpValue) -> str:
    """Values of different types differ, which numbers and texts themselves do not."""
    name = type(value).__name__
    match value:
        case list():
            return f"[{', '.join(map(_typed, value))}]"
        case dict():
            return f"{{{', '.join(f'{_typed(key)}: {_typed(item)}' for key, item in value.items())}}}"
        case Array():
            return f"{name}({value.kind.__name__}: {', '.join(map(_typed, value.items))})"
        case Described():
            return f"{name}({_typed(value.descriptor)}: {_typed(value.value)})"
    return f"{name} {value!r}"


def _items(data: bytes) -> list[Item]:
    """Records of several partitions, endpoints and sizes, told by the bytes."""
    nobody = Nobody()
    items: list[Item] = []
    for number, byte in enumerate(data[:ITEMS_MAX]):
        endpoints = ((1,), (1, byte), (byte,), ())[byte & 3]
        payload = data[number : number + byte]
        items.append(
            (Partition(1 + (byte >> 6), byte & 1), endpoints, data[:byte], payload, byte, nobody, number, byte)
        )
    assert pack_endpoints((1, 2)) == struct.pack("<2I", 1, 2)
    return items


if __name__ == "__main__":
    main()
