"""What a query is answered out of a network's names."""

import struct

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from isthmus.names.answer import ALIASES_MAX, QUERY_BYTES_MAX, UDP_BYTES_PLAIN, Ask, answer
from isthmus.names.zone import NEGATIVE_TTL_SECONDS, Names, RecordSet, RecordType, View, Zone
from names.asking import HUB, PLANT, PRIVATE, ask, asked, told

NAMES = Names(PLANT)
CLOSED = Zone(
    "plant.test",
    (
        RecordSet("press.plant.test", RecordType.A, ("10.9.0.1", "10.9.0.2")),
        RecordSet("press.plant.test", RecordType.AAAA, ("fd00::1",)),
        RecordSet("deep.below.plant.test", RecordType.TXT, ('say "hi"', "x" * 300)),
        RecordSet("*.line.plant.test", RecordType.A, ("10.9.0.9",)),
        RecordSet("known.line.plant.test", RecordType.A, ("10.9.0.8",)),
        RecordSet("out.plant.test", RecordType.CNAME, ("elsewhere.example",)),
        *(RecordSet(f"c{n}.plant.test", RecordType.CNAME, (f"c{n + 1}.plant.test",)) for n in range(20)),
        RecordSet("ring.plant.test", RecordType.CNAME, ("ring.plant.test",)),
    ),
)
PLANT_NAMES = Names(View((CLOSED,)))


def test_the_chain_is_in_one_answer() -> None:
    said = ask(NAMES, HUB)

    assert told(said) == [f"{HUB}. CNAME {PRIVATE}.", f"{PRIVATE}. A 10.1.0.5"]
    assert said.flags & dns.flags.AA


def test_a_name_without_such_an_address_is_no_data_with_a_short_soa() -> None:
    said = ask(NAMES, HUB, "AAAA")

    assert (said.rcode(), told(said)) == (dns.rcode.NOERROR, [f"{HUB}. CNAME {PRIVATE}."])
    (soa,) = said.authority
    assert (soa.name.to_text(), soa.ttl, soa[0].minimum) == ("privatelink.isthmus.test.", 10, NEGATIVE_TTL_SECONDS)


@pytest.mark.parametrize("name", ["other.isthmus.test", "a.b.isthmus.test", "other.privatelink.isthmus.test"])
def test_a_name_that_is_not_there_does_not_exist_with_a_short_soa(name: str) -> None:
    said = ask(NAMES, name)

    assert (said.rcode(), said.answer) == (dns.rcode.NXDOMAIN, [])
    assert said.authority[0].ttl == NEGATIVE_TTL_SECONDS


def test_an_open_zone_leaves_other_names_to_others() -> None:
    said = asked(NAMES, "other.isthmus.test", forwards=True)

    assert isinstance(said, Ask)
    assert said.name == "other.isthmus.test"


def test_a_zone_that_is_not_open_asks_nobody() -> None:
    assert ask(NAMES, "other.privatelink.isthmus.test", forwards=True).rcode() == dns.rcode.NXDOMAIN


def test_a_name_in_no_zone_is_refused_or_left_to_others() -> None:
    assert ask(NAMES, "example.com").rcode() == dns.rcode.REFUSED
    assert isinstance(asked(NAMES, "example.com", forwards=True), Ask)


def test_nobody_is_asked_for_who_does_not_want_it() -> None:
    query = dns.message.make_query("example.com", "A", flags=0)

    said = answer(query.to_wire(), NAMES, over_tcp=True, forwards=True)

    assert isinstance(said, bytes)
    assert dns.message.from_wire(said).rcode() == dns.rcode.REFUSED


def test_names_are_compared_without_case_and_answered_as_asked() -> None:
    said = ask(NAMES, "HUB.Isthmus.TEST")

    assert said.answer[0].name.to_text() == "HUB.Isthmus.TEST."
    assert told(said)[1].lower() == f"{PRIVATE}. a 10.1.0.5"


def test_all_addresses_and_texts_of_a_name() -> None:
    # Records of a set come in any order: the library shuffles them, so that clients spread over the addresses.
    assert sorted(told(ask(PLANT_NAMES, "press.plant.test"))) == [
        "press.plant.test. A 10.9.0.1",
        "press.plant.test. A 10.9.0.2",
    ]
    assert told(ask(PLANT_NAMES, "press.plant.test", "AAAA")) == ["press.plant.test. AAAA fd00::1"]
    (texts,) = ask(PLANT_NAMES, "deep.below.plant.test", "TXT").answer
    assert {b"".join(record.strings) for record in texts} == {b'say "hi"', b"x" * 300}


def test_a_name_that_is_only_above_others_exists() -> None:
    assert ask(PLANT_NAMES, "below.plant.test").rcode() == dns.rcode.NOERROR


def test_a_wildcard_answers_for_names_that_are_not_there() -> None:
    assert told(ask(PLANT_NAMES, "any.line.plant.test")) == ["any.line.plant.test. A 10.9.0.9"]
    assert told(ask(PLANT_NAMES, "known.line.plant.test")) == ["known.line.plant.test. A 10.9.0.8"]
    assert told(ask(PLANT_NAMES, "known.line.plant.test", "TXT")) == []
    assert ask(PLANT_NAMES, "below.known.line.plant.test").rcode() == dns.rcode.NXDOMAIN


def test_an_alias_out_of_the_view_is_the_answer_or_followed_by_others() -> None:
    assert told(ask(PLANT_NAMES, "out.plant.test")) == ["out.plant.test. CNAME elsewhere.example."]
    left = asked(PLANT_NAMES, "out.plant.test", forwards=True)
    assert isinstance(left, Ask)
    assert (left.name, [each.name for each in left.aliases]) == ("elsewhere.example", ["out.plant.test"])


@pytest.mark.parametrize("name", ["c0.plant.test", "ring.plant.test"])
def test_a_long_chain_and_a_ring_end(name: str) -> None:
    assert sum(len(each) for each in ask(PLANT_NAMES, name).answer) <= ALIASES_MAX


def test_the_apex_has_its_own_records() -> None:
    assert told(ask(PLANT_NAMES, "plant.test", "SOA"))[0].startswith("plant.test. SOA ")
    assert told(ask(PLANT_NAMES, "plant.test", "NS")) == ["plant.test. NS localhost."]
    assert ask(PLANT_NAMES, "plant.test", "MX").rcode() == dns.rcode.NOERROR


def test_a_question_for_everything_gets_one_record_set() -> None:
    assert len(ask(PLANT_NAMES, "press.plant.test", "ANY").answer) == 1


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_nobody_transfers_a_zone(kind: str) -> None:
    query = dns.message.make_query("plant.test", kind)
    if kind == "IXFR":
        query.authority = []

    said = answer(query.to_wire(), PLANT_NAMES, over_tcp=True, forwards=True)

    assert isinstance(said, bytes)
    assert dns.message.from_wire(said).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(("payload", "fits"), [(None, False), (512, False), (600, False), (1232, True), (4096, True)])
def test_what_does_not_fit_is_cut_short_at_the_clients_size(payload: int | None, fits: bool) -> None:
    many = RecordSet("many.plant.test", RecordType.A, tuple(f"10.9.1.{n}" for n in range(60)))
    query = dns.message.make_query("many.plant.test", "A", use_edns=payload is not None, payload=payload or 512)

    said = answer(query.to_wire(), Names(View((Zone("plant.test", (many,)),))), over_tcp=False, forwards=False)

    assert isinstance(said, bytes)
    message = dns.message.from_wire(said)
    assert len(said) <= max(payload or 0, UDP_BYTES_PLAIN)
    assert bool(message.flags & dns.flags.TC) is not fits
    assert (len(told(message)) == 60) is fits
    assert (message.edns == 0) is (payload is not None)


def test_a_later_version_of_edns_is_told_which_is_spoken() -> None:
    query = dns.message.make_query(HUB, "A", use_edns=1)

    said = answer(query.to_wire(), NAMES, over_tcp=False, forwards=False)

    assert isinstance(said, bytes)
    assert dns.message.from_wire(said).rcode() == dns.rcode.BADVERS


def test_another_opcode_is_not_implemented() -> None:
    query = dns.message.make_query(HUB, "A")
    query.set_opcode(dns.opcode.STATUS)

    said = answer(query.to_wire(), NAMES, over_tcp=False, forwards=False)

    assert isinstance(said, bytes)
    assert dns.message.from_wire(said).rcode() == dns.rcode.NOTIMP


def test_a_response_and_what_has_no_header_are_dropped() -> None:
    response = dns.message.make_response(dns.message.make_query(HUB, "A"))

    assert answer(response.to_wire(), NAMES, over_tcp=False, forwards=False) is None
    assert answer(b"\0" * 11, NAMES, over_tcp=False, forwards=False) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x03hub",
        b"\xc0\x0c\0\1\0\1",
        b"\x03hub\0\0\1\0\1trailing",
        b"\0\0\1\0\3",
    ],
)
def test_a_damaged_query_is_told_so(body: bytes) -> None:
    said = answer(struct.pack("!HHHHHH", 77, 0x0100, 1, 0, 0, 0) + body, NAMES, over_tcp=False, forwards=False)

    assert isinstance(said, bytes)
    message = dns.message.from_wire(said)
    assert (message.id, message.rcode() in (dns.rcode.FORMERR, dns.rcode.REFUSED)) == (77, True)


def test_a_label_with_a_dot_in_it_is_not_two_labels() -> None:
    query = dns.message.make_query(r"hub\.isthmus.test", "A")

    assert isinstance(answer(query.to_wire(), NAMES, over_tcp=True, forwards=True), Ask)


def test_a_query_that_is_too_long_is_damaged() -> None:
    query = dns.message.make_query(HUB, "A", use_edns=0, pad=QUERY_BYTES_MAX).to_wire(max_size=4_096)
    assert len(query) == QUERY_BYTES_MAX
    longer = dns.message.make_query(HUB, "A", use_edns=0, pad=QUERY_BYTES_MAX + 1).to_wire(max_size=4_096)
    rcodes = []
    for each in (query, longer):
        said = answer(each, NAMES, over_tcp=True, forwards=False)
        assert isinstance(said, bytes)
        rcodes.append(said[3] & 0xF)
    assert rcodes == [dns.rcode.NOERROR, dns.rcode.FORMERR]
