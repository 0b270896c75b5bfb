"""Names served over UDP and TCP, as a stock client asks: limits, time-outs, damaged input, questions to others."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import dns.asyncquery
import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import pytest

from isthmus.names import forward, serve
from isthmus.names.zone import Names, RecordSet, RecordType, View, Zone
from names.asking import HUB, PLANT, PRIVATE, serving, sockets, told

MANY = Zone("many.test", (RecordSet("many.test", RecordType.A, tuple(f"10.9.1.{n}" for n in range(200))),))
NAMES = Names(View((*PLANT.zones, MANY)))


def resolver(address: str, port: int, *, tcp: bool = False) -> dns.asyncresolver.Resolver:
    asking = dns.asyncresolver.Resolver(configure=False)
    asking.nameservers, asking.port, asking.lifetime = [address], port, 5
    return asking


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_stock_resolver_is_answered(loopback_address: str, tcp: bool) -> None:
    with serving(NAMES, address=loopback_address) as port:
        said = await resolver(loopback_address, port).resolve(HUB, "A", tcp=tcp)

    assert [record.to_text() for record in said] == ["10.1.0.5"]
    assert said.canonical_name.to_text() == f"{PRIVATE}."


async def test_a_stock_resolver_comes_back_over_tcp_for_what_was_cut_short(loopback_address: str) -> None:
    query = dns.message.make_query("many.test", "A")
    with serving(NAMES, address=loopback_address) as port:
        said, over_tcp = await dns.asyncquery.udp_with_fallback(query, loopback_address, port=port, timeout=5)

    assert over_tcp
    assert len(told(said)) == 200


async def test_one_connection_asks_often_and_at_once(loopback_address: str) -> None:
    queries = [dns.message.make_query(name, "A", id=number) for number, name in enumerate([HUB, PRIVATE, "x.test"] * 5)]
    with serving(NAMES, address=loopback_address) as port:
        reader, writer = await asyncio.open_connection(loopback_address, port)
        writer.write(b"".join(framed(query.to_wire()) for query in queries))
        said = [await read(reader) for _ in queries]
        writer.close()

    assert [message.id for message in said] == list(range(15))
    assert [message.rcode() for message in said[:3]] == [dns.rcode.NOERROR, dns.rcode.NOERROR, dns.rcode.REFUSED]


async def test_two_networks_have_different_answers_for_one_name(loopback_address: str) -> None:
    other = Zone("privatelink.isthmus.test", (RecordSet(PRIVATE, RecordType.A, ("10.2.0.5",)),))
    with (
        serving(NAMES, address=loopback_address) as one,
        serving(Names(View((PLANT.zones[0], other))), address=loopback_address) as another,
    ):
        answers = [await resolver(loopback_address, port).resolve(HUB, "A") for port in (one, another)]

    assert [said[0].to_text() for said in answers] == ["10.1.0.5", "10.2.0.5"]


async def test_a_silent_connection_is_closed(loopback_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "IDLE_SECONDS", 0.05)
    with serving(NAMES, address=loopback_address) as port:
        assert await end_of(loopback_address, port, b"\0") == b""


async def test_a_connection_asks_so_often_and_no_more(loopback_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "QUERIES_PER_CONNECTION_MAX", 2)
    query = framed(dns.message.make_query(HUB, "A").to_wire())
    with serving(NAMES, address=loopback_address) as port:
        said = await end_of(loopback_address, port, query * 2)

    assert len(said) == 2 * (2 + int.from_bytes(said[:2], "big"))


async def test_a_further_connection_ends_the_one_that_was_silent_longest(
    loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "CONNECTIONS_MAX", 2)
    query = framed(dns.message.make_query(HUB, "A").to_wire())
    with serving(NAMES, address=loopback_address) as port:
        peers = []
        for _ in range(2):
            peers.append(await asyncio.open_connection(loopback_address, port))
            peers[-1][1].write(query)
            await read(peers[-1][0])
        peers[0][1].write(query)
        await read(peers[0][0])
        third = await asyncio.open_connection(loopback_address, port)
        third[1].write(query)
        await read(third[0])

        with suppress(ConnectionError):
            assert await asyncio.wait_for(peers[1][0].read(), 5) == b""
        peers[0][1].write(query)
        assert (await read(peers[0][0])).rcode() == dns.rcode.NOERROR
        for _, writer in (*peers, third):
            writer.close()


async def test_a_connection_that_is_ended_before_it_began_is_closed(
    loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a wake-up are accepted before any has a turn, and so may make room for each other before that."""
    monkeypatch.setattr(serve, "CONNECTIONS_MAX", 1)
    with serving(NAMES, address=loopback_address) as port:
        peers = [socket.create_connection((loopback_address, port)) for _ in range(4)]
        streams = [await asyncio.open_connection(sock=peer) for peer in peers]
        streams[-1][1].write(framed(dns.message.make_query(HUB, "A").to_wire()))
        assert (await read(streams[-1][0])).rcode() == dns.rcode.NOERROR

        for reader, _ in streams[:-1]:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        for _, writer in streams:
            writer.close()


async def test_damaged_queries_hurt_nobody(loopback_address: str) -> None:
    with serving(NAMES, address=loopback_address) as port, socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.connect((loopback_address, port))
        for data in (b"", b"x", b"\0" * 12, b"\xff" * 12, bytes(range(200)), b"\0" * 2_000):
            asking.send(data)
        assert await end_of(loopback_address, port, framed(b"\0" * 2_000)) != b""
        assert await end_of(loopback_address, port, b"\0\0", eof=True) == b""

        assert (await resolver(loopback_address, port).resolve(HUB, "A"))[0].to_text() == "10.1.0.5"


async def test_what_everybody_asks_for_is_answered_beyond_the_limit(
    loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, other = dns.message.make_query(HUB, "A", id=1), dns.message.make_query("x.isthmus.test", "A")
    names = Names(PLANT)
    with serving(names, address=loopback_address) as port, socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.connect((loopback_address, port))
        first = await dns.asyncquery.udp(usual, loopback_address, port=port, timeout=5)
        monkeypatch.setattr(serve, "ANSWERS_MADE_PER_SECOND_MAX", 0)
        asking.send(other.to_wire())
        usual.id = 2
        again = await dns.asyncquery.udp(usual, loopback_address, port=port, timeout=5)

    assert (again.id, told(again)) == (2, told(first))
    assert len(names.answers) == 1


async def test_kept_answers_are_bounded(loopback_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "ANSWERS_KEPT_MAX", 2)
    names = Names(PLANT)
    with serving(names, address=loopback_address) as port:
        for number in range(5):
            query = dns.message.make_query(f"x{number}.isthmus.test", "A")
            said = await dns.asyncquery.udp(query, loopback_address, port=port, timeout=5)
            assert said.rcode() == dns.rcode.NXDOMAIN
            assert len(names.answers) <= 2


async def test_who_is_closed_answers_no_more(loopback_address: str) -> None:
    with serving(NAMES, address=loopback_address) as port:
        reader, writer = await asyncio.open_connection(loopback_address, port)
        writer.write(framed(dns.message.make_query(HUB, "A").to_wire()))
        await read(reader)

    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(loopback_address, port)


class TestForwarding:
    """What others are asked, and what they make of it."""

    OUTSIDE = Names(
        View((Zone("outside.test", (RecordSet("a.outside.test", RecordType.A, ("192.0.2.1",)),)), MANY, *PLANT.zones))
    )
    INSIDE = Names(
        View((Zone("inside.test", (RecordSet("alias.inside.test", RecordType.CNAME, ("a.outside.test",)),)),))
    )

    @pytest.mark.parametrize("tcp", [False, True])
    async def test_others_answer_what_nobody_knows_here(self, loopback_address: str, tcp: bool) -> None:
        with (
            serving(self.OUTSIDE, address=loopback_address) as upstream,
            serving(self.INSIDE, address=loopback_address, forward=[(loopback_address, upstream)]) as port,
        ):
            asking = resolver(loopback_address, port)
            plain = await asking.resolve("a.outside.test", "A", tcp=tcp)
            aliased = await asking.resolve("alias.inside.test", "A", tcp=tcp)
            with pytest.raises(dns.resolver.NXDOMAIN):
                await asking.resolve("b.outside.test", "A", tcp=tcp)

        assert (plain[0].to_text(), aliased[0].to_text()) == ("192.0.2.1", "192.0.2.1")
        assert plain.response.flags & dns.flags.RA
        assert not plain.response.flags & dns.flags.AA

    async def test_what_others_cut_short_is_asked_for_over_tcp(self, loopback_address: str) -> None:
        with (
            serving(self.OUTSIDE, address=loopback_address) as upstream,
            serving(self.INSIDE, address=loopback_address, forward=[(loopback_address, upstream)]) as port,
        ):
            said = await resolver(loopback_address, port).resolve("many.test", "A")

        assert len(said) == 200

    async def test_the_next_one_is_asked_when_one_is_silent_or_refuses(
        self, loopback_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forward, "ATTEMPT_SECONDS", 0.1)
        with (
            silent(loopback_address, lambda query: []) as silence,
            serving(self.INSIDE, address=loopback_address) as no,
            serving(self.OUTSIDE, address=loopback_address) as upstream,
            serving(
                self.INSIDE,
                address=loopback_address,
                forward=[(loopback_address, each) for each in (silence, no, upstream)],
            ) as port,
        ):
            said = await resolver(loopback_address, port).resolve("a.outside.test", "A")

        assert said[0].to_text() == "192.0.2.1"

    async def test_forged_answers_are_waited_past(self, loopback_address: str) -> None:
        def forged(query: dns.message.Message) -> list[bytes]:
            wrong_id = dns.message.make_response(query)
            wrong_id.id ^= 1
            wrong_name = dns.message.make_response(dns.message.make_query("b.outside.test", "A", id=query.id))
            right = dns.message.make_response(query)
            right.set_rcode(dns.rcode.NXDOMAIN)
            return [b"junk", wrong_id.to_wire(), wrong_name.to_wire(), right.to_wire()]

        with (
            silent(loopback_address, forged) as upstream,
            serving(self.INSIDE, address=loopback_address, forward=[(loopback_address, upstream)]) as port,
        ):
            said = await dns.asyncquery.udp(
                dns.message.make_query("a.outside.test", "A"), loopback_address, port=port, timeout=5
            )

        assert said.rcode() == dns.rcode.NXDOMAIN

    @pytest.mark.parametrize("tcp", [False, True])
    async def test_silence_is_a_failure_in_time(
        self, loopback_address: str, monkeypatch: pytest.MonkeyPatch, tcp: bool
    ) -> None:
        monkeypatch.setattr(forward, "DEADLINE_SECONDS", 0.1)
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        with (
            silent(loopback_address, lambda query: []) as upstream,
            serving(self.INSIDE, address=loopback_address, forward=[(loopback_address, upstream)]) as port,
        ):
            said = await ask(dns.message.make_query("a.outside.test", "A"), loopback_address, port=port, timeout=5)

        assert said.rcode() == dns.rcode.SERVFAIL

    async def test_questions_beyond_the_limit_fail_at_once(
        self, loopback_address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forward, "FORWARDS_IN_FLIGHT_MAX", 0)
        with serving(self.INSIDE, address=loopback_address, forward=[(loopback_address, 9)]) as port:
            said = await dns.asyncquery.udp(
                dns.message.make_query("a.outside.test", "A"), loopback_address, port=port, timeout=5
            )

        assert said.rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.0.5", True),
        ("127.0.0.1", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("8.8.8.8", False),
        ("", False),
    ],
)
def test_only_inside_addresses_are_served(address: str, inside: bool) -> None:
    assert serve.is_inside(address) is inside


class silent:  # noqa: N801 - reads as a context
    """A server that sends `answers(query)` for each datagram; gives its port."""

    def __init__(self, address: str, answers: Callable[[dns.message.Message], list[bytes]]) -> None:
        self._socket, self._listening, self._port = sockets(address)
        self._answers = answers

    def __enter__(self) -> int:
        asyncio.get_running_loop().add_reader(self._socket, self._take)
        return self._port

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._listening.close()

    def _take(self) -> None:
        data, source = self._socket.recvfrom(65_535)
        for said in self._answers(dns.message.from_wire(data)):
            self._socket.sendto(said, source)


def framed(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


async def read(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(5):
        length = int.from_bytes(await reader.readexactly(2), "big")
        return dns.message.from_wire(await reader.readexactly(length))


async def end_of(address: str, port: int, data: bytes, *, eof: bool = False) -> bytes:
    """What a connection is sent until it ends."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(data)
    if eof:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
