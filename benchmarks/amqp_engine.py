"""Measures the AMQP engine alone, both ends in memory, on one core: messages per second.

Run it with `python benchmarks/amqp_engine.py [MESSAGES]`. Each figure is the best of three runs, for messages of about
500 bytes: six annotations, two application properties, 256 bytes of body. "Encode" is the engine's own work from
encoded sections to bytes for the socket, "decode" from the socket's bytes to `Transfer` events and, where settled by
us, to the bytes of the dispositions.
"""

import sys
import time
from collections.abc import Callable

from isthmus.wire.amqp import ACCEPTED_STATE, Connection, Link, LinkRole, Message, Source, Target, message
from isthmus.wire.amqp.events import LinkAttached, Transfer
from isthmus.wire.amqp.limits import FRAME_BYTES_MAX
from isthmus.wire.amqp.outlet import frame
from isthmus.wire.amqp.performatives import Attach, Flow, Open
from isthmus.wire.amqp.values import AmqpValue, Long, Symbol, Timestamp

MESSAGES = 100_000
BATCH = 500
READ_BYTES = 65_536
WIDE_WINDOW = frame(0, Flow(1, 4_000_000_000, 1, 4_000_000_000).encode())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    encoded = sections()
    print(f"{len(encoded)} bytes a message, {count} messages")
    report("encode, settled, many at a time", count, lambda: encode_many(encoded, count))
    report("encode, settled, one at a time", count, lambda: encode_each(encoded, count, settled=True))
    report("encode, unsettled, one at a time", count, lambda: encode_each(encoded, count, settled=False))
    settled, unsettled = wire_bytes(encoded, count, settled=True), wire_bytes(encoded, count, settled=False)
    report("decode, settled", count, lambda: decode(settled))
    report("decode, unsettled, accepted by range", count, lambda: decode(unsettled))
    report("decode, unsettled, and the properties read", count, lambda: decode(unsettled, read=True))
    report("sections from parts", count, lambda: [sections() for _ in range(count)])


def report(name: str, count: int, run: Callable[[], object]) -> None:
    """Prints the best of three runs."""
    best = min(timed(run) for _ in range(3))
    print(f"{name:45} {count / best:>10,.0f} /s")


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def sections() -> bytes:
    """A device's message as a reader gets it."""
    annotations: dict[Symbol, AmqpValue] = {
        Symbol("iothub-connection-device-id"): "device-0001",
        Symbol("iothub-enqueuedtime"): Timestamp(1_700_000_000_000),
        Symbol("iothub-message-source"): "Telemetry",
        Symbol("x-opt-sequence-number"): Long(123_456),
        Symbol("x-opt-offset"): "12345678",
        Symbol("x-opt-enqueued-time"): Timestamp(1_700_000_000_001),
    }
    return b"".join(
        (
            message.annotations(message.Section.MESSAGE_ANNOTATIONS, annotations),
            message.application_properties({"level": "info", "unit": "celsius"}),
            message.data(b"x" * 256),
        )
    )


def encode_many(encoded: bytes, count: int) -> None:
    _, server, _, sender = attached(LinkRole.RECEIVER)
    batch = [encoded] * BATCH
    for _ in range(0, count, BATCH):
        assert sender.send_settled(batch) == BATCH
        server.data_to_send()


def encode_each(encoded: bytes, count: int, *, settled: bool) -> None:
    _, server, _, sender = attached(LinkRole.RECEIVER)
    for index in range(count):
        delivery_id = sender.send(encoded, settled=settled)
        if not settled:
            sender.settle(delivery_id, None)
        if index % BATCH == 0:
            server.data_to_send()


def wire_bytes(encoded: bytes, count: int, *, settled: bool) -> bytes:
    client, _, sender, _ = attached(LinkRole.SENDER)
    sender.credit = count
    for _ in range(count):
        sender.owner.settle(sender, sender.send(encoded, settled=settled), None)
    return client.data_to_send()


def decode(data: bytes, *, read: bool = False) -> None:
    _, server, _, _ = attached(LinkRole.SENDER)
    for start in range(0, len(data), READ_BYTES):
        server.receive(data[start : start + READ_BYTES], 0.0)
        for event in server.events():
            if isinstance(event, Transfer):
                if read:
                    parsed = Message(event.payload)
                    parsed.properties, parsed.application_properties, parsed.data  # noqa: B018
                event.link.settle(event.delivery_id, ACCEPTED_STATE)
        server.data_to_send()


def attached(role: LinkRole) -> tuple[Connection, Connection, Link, Link]:
    """Client, server and their ends of one link with endless credit; `role` is the client's."""
    client, server = Connection("client", 0.0), Connection("server", 0.0)
    client.open(Open("client", max_frame_size=FRAME_BYTES_MAX))
    session = client.begin()
    count = 0 if role is LinkRole.SENDER else None
    attach = Attach("link", 0, False, source=Source("a"), target=Target("b"), initial_delivery_count=count)
    link = session.attach(attach, role)
    found: list[Link] = []
    while True:
        upward, downward = client.data_to_send(), server.data_to_send()
        if not upward and not downward:
            break
        server.receive(upward, 0.0)
        client.receive(downward, 0.0)
        for event in server.events():
            if isinstance(event, LinkAttached):
                event.link.accept(credit=1_000_000_000)
                found.append(event.link)
        list(client.events())
        if link.attached and role is LinkRole.RECEIVER and not link.credit:
            link.grant(1_000_000_000)
    for end in (client, server):
        end.receive(WIDE_WINDOW, 0.0)
        list(end.events())
    return client, server, link, found[0]


if __name__ == "__main__":
    main()
