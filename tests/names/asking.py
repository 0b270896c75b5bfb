"""Names to ask for, and a name server on loopback with the sockets that a hub would give it."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dns.message
import dns.rdatatype

from isthmus.base.ids import RandomIds
from isthmus.names.answer import Ask, answer
from isthmus.names.forward import Forwarder
from isthmus.names.serve import NameServer
from isthmus.names.zone import Names, RecordSet, RecordType, View, Zone

HUB = "hub.isthmus.test"
PRIVATE = "hub.privatelink.isthmus.test"
PLANT = View(
    (
        Zone("isthmus.test", (RecordSet(HUB, RecordType.CNAME, (PRIVATE,)),), open=True),
        Zone("privatelink.isthmus.test", (RecordSet(PRIVATE, RecordType.A, ("10.1.0.5",)),)),
    )
)


def ask(names: Names, name: str, kind: str = "A", *, forwards: bool = False) -> dns.message.Message:
    """The answer over TCP, where nothing is cut short."""
    said = asked(names, name, kind, forwards=forwards)
    assert isinstance(said, bytes)
    return dns.message.from_wire(said)


def asked(names: Names, name: str, kind: str = "A", *, forwards: bool = False) -> bytes | Ask | None:
    return answer(dns.message.make_query(name, kind).to_wire(), names, over_tcp=True, forwards=forwards)


def told(message: dns.message.Message) -> list[str]:
    """The answer section as lines without the time to live; the records of a set, which have no order, sorted."""
    return [
        f"{each.name} {dns.rdatatype.to_text(each.rdtype)} {record.to_text()}"
        for each in message.answer
        for record in sorted(each)
    ]


@contextmanager
def serving(names: Names, *, address: str, forward: Sequence[tuple[str, int]] = ()) -> Iterator[int]:
    """A name server at an address of this machine; gives its port."""
    server = NameServer(Forwarder(forward, RandomIds()))
    datagrams, listening, port = sockets(address)
    server.serve(datagrams, listening, lambda: names)
    try:
        yield port
    finally:
        server.close()


def sockets(address: str) -> tuple[socket.socket, socket.socket, int]:
    """A datagram socket and a listening socket with one port."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind((address, 0))
    listening.listen()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(listening.getsockname())
    for each in (listening, datagrams):
        each.setblocking(False)
    return datagrams, listening, listening.getsockname()[1]
