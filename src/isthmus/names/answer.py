"""Answers to DNS queries: bytes and a network's names in, bytes out, or a question that others are to be asked.

Theory of operation. What is no query is dropped, so that two servers never talk to each other for ever; what is a
damaged one is told so. The answer of a zone follows RFC 1034 §4.3.2: aliases are followed within the view, in one
answer; a name that is there without such records, and a name that is not there, come with the zone's SOA, which says
for how short a time that may be believed (RFC 2308). A question that no zone answers is handed back as `Ask` when there
is anybody to ask and the client wants recursion, else refused. What does not fit into a datagram of the client's size
is sent as an empty answer with TC, and the client comes back over TCP (RFC 2181 §9, RFC 7766).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from isthmus.names.zone import NEGATIVE_TTL_SECONDS, Names, RecordSet, RecordType, Zone, presented

UDP_BYTES_MAX = 1_232
"""The largest datagram sent and asked for: what every IPv6 path takes, less the headers (RFC 8200 §5, RFC 9715)."""

UDP_BYTES_PLAIN = 512
"""The largest datagram for a client that does not say what it takes (RFC 1035 §4.2.1)."""

MESSAGE_BYTES_MAX = 65_535
"""What a TCP message's length can tell (RFC 1035 §4.2.2)."""

QUERY_BYTES_MAX = 1_232
"""A longer query is damaged: one question and its options need a fraction of this."""

ALIASES_MAX = 16
"""CNAMEs followed in one answer; a longer chain, or a ring, is answered as far as that."""

HEADER = struct.Struct("!HHHHHH")

SOA_TEXT = f"localhost. nobody.invalid. 1 3600 1200 604800 {NEGATIVE_TTL_SECONDS}"
"""RFC 6303 §3; nobody transfers a zone from here, so that its serial never counts."""

SERVER_TEXT = "localhost."
"""The NS of every zone: its clients ask where they were told to (RFC 1912 §4.1)."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query that was understood; `bytes_max` is what its answer may have on its way back."""

    message: dns.message.Message
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that others may answer, after the aliases that lead there."""

    query: Query
    name: str
    type: dns.rdatatype.RdataType
    aliases: tuple[RecordSet, ...] = ()


def answer(data: bytes, names: Names, *, over_tcp: bool, forwards: bool) -> bytes | Ask | None:
    """The answer to a query as bytes; None when there is to be none. Pure, and never raises for what came in.

    `forwards` tells whether others can be asked for what no zone of the view answers.
    """
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    try:
        message = dns.message.from_wire(data, ignore_trailing=False) if len(data) <= QUERY_BYTES_MAX else None
    except (dns.exception.DNSException, ValueError, struct.error, IndexError):
        message = None
    if message is None:
        return _bare(data, dns.rcode.FORMERR)
    size = max(message.payload, UDP_BYTES_PLAIN)
    query = Query(message, MESSAGE_BYTES_MAX if over_tcp else min(size, UDP_BYTES_MAX))
    failure = _failure(message)
    if failure is not None:
        return _bare(data, failure) if failure is dns.rcode.NOTIMP else failed(query, failure, forwards=forwards)
    return _answer(query, names, forwards=forwards)


def failed(query: Query, code: dns.rcode.Rcode, *, forwards: bool = True) -> bytes:
    """An answer that only tells why there is none."""
    response = _response(query, forwards=forwards)
    response.set_rcode(code)
    return _wire(query, response)


def relayed(ask: Ask, upstream: dns.message.Message) -> bytes:
    """The answer to a question from what others answered: aliases in front, the client's id, size and question."""
    response = _response(ask.query, forwards=True)
    response.set_rcode(dns.rcode.Rcode(upstream.rcode() & 0xF))
    response.answer = [*(_rrset(record) for record in ask.aliases), *upstream.answer]
    response.authority = list(upstream.authority)
    return _wire(ask.query, response)


def question_for(ask: Ask, message_id: int) -> dns.message.Message:
    """The query that others are asked."""
    query = dns.message.make_query(dns.name.from_text(ask.name), ask.type, use_edns=0, payload=UDP_BYTES_MAX)
    query.id = message_id
    return query


def is_answer_to(query: dns.message.Message, data: bytes) -> dns.message.Message | None:
    """What others answered, None when it is damaged, or the answer to another question (RFC 5452 §9.1)."""
    try:
        message = dns.message.from_wire(data, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError, struct.error, IndexError):
        return None
    return message if query.is_response(message) else None


def _failure(message: dns.message.Message) -> dns.rcode.Rcode | None:
    """Why a message that could be read is no question for us; None when it is one."""
    if message.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if message.edns > 0:
        return dns.rcode.BADVERS
    if len(message.question) != 1 or message.answer or message.authority:
        return dns.rcode.FORMERR
    question = message.question[0]
    if question.rdclass != dns.rdataclass.IN or question.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
        return dns.rcode.REFUSED
    return None


def _answer(query: Query, names: Names, *, forwards: bool) -> bytes | Ask:
    question = query.message.question[0]
    name, wanted = _text(question.name), question.rdtype
    may_ask = forwards and bool(query.message.flags & dns.flags.RD)
    aliases: list[RecordSet] = []
    while True:
        zone = names.zone_of(name)
        sets = names.sets_of(zone, name) if zone is not None else None
        if may_ask and (zone is None or (zone.open and not sets)):
            return Ask(query, name, wanted, tuple(aliases))
        if zone is None:
            return _outside(query, aliases, forwards=forwards)
        found = _found(zone, name, wanted, sets or {})
        alias = (sets or {}).get(RecordType.CNAME)
        if found or alias is None or len(aliases) == ALIASES_MAX:
            response = _response(query, forwards=forwards)
            response.flags |= dns.flags.AA
            response.answer = [*map(_rrset, aliases), *found]
            if not found:
                response.set_rcode(dns.rcode.NXDOMAIN if sets is None else dns.rcode.NOERROR)
                response.authority = [_apex(zone, dns.rdatatype.SOA)]
            return _wire(query, response)
        aliases.append(replace(alias, name=name))
        name = alias.values[0]


def _outside(query: Query, aliases: Sequence[RecordSet], *, forwards: bool) -> bytes:
    """The answer where no zone is and nobody can be asked: an alias that leads there is one, even so."""
    response = _response(query, forwards=forwards)
    response.answer = [*map(_rrset, aliases)]
    response.set_rcode(dns.rcode.NOERROR if aliases else dns.rcode.REFUSED)
    return _wire(query, response)


def _found(
    zone: Zone, name: str, wanted: dns.rdatatype.RdataType, sets: Mapping[RecordType, RecordSet]
) -> list[dns.rrset.RRset]:
    if name == zone.name and wanted in (dns.rdatatype.SOA, dns.rdatatype.NS):
        return [_apex(zone, wanted)]
    if wanted == dns.rdatatype.ANY:
        # One record set is answer enough to a question that serves amplification most (RFC 8482 §4.1).
        return [_rrset(replace(record, name=name)) for record in list(sets.values())[:1]]
    return [_rrset(replace(record, name=name)) for record in sets.values() if record.type == wanted.name]


def _apex(zone: Zone, kind: dns.rdatatype.RdataType) -> dns.rrset.RRset:
    text = SOA_TEXT if kind == dns.rdatatype.SOA else SERVER_TEXT
    return dns.rrset.from_text(f"{zone.name}.", NEGATIVE_TTL_SECONDS, dns.rdataclass.IN, kind, text)


def _rrset(record: RecordSet) -> dns.rrset.RRset:
    return dns.rrset.from_text(
        f"{record.name}.", record.ttl_seconds, dns.rdataclass.IN, record.type.value, *presented(record)
    )


def _response(query: Query, *, forwards: bool) -> dns.message.Message:
    response = dns.message.make_response(query.message, recursion_available=forwards, our_payload=UDP_BYTES_MAX)
    response.flags &= ~dns.flags.CD
    return response


def _wire(query: Query, response: dns.message.Message) -> bytes:
    try:
        return response.to_wire(max_size=query.bytes_max)
    except dns.exception.TooBig:
        response.answer, response.authority, response.additional = [], [], []
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=query.bytes_max)


def _bare(data: bytes, code: dns.rcode.Rcode) -> bytes:
    """An answer of a header alone: the id, the opcode and RD of the query, and the code."""
    flags = 0x8000 | ((data[2] & 0x79) << 8) | code
    return HEADER.pack(int.from_bytes(data[:2], "big"), flags, 0, 0, 0, 0)


def _text(name: dns.name.Name) -> str:
    """A name as zones have it; a byte that none of their names has is escaped, a dot inside a label too."""
    return ".".join("".join(map(_character, label.lower())) for label in name.labels if label)


def _character(byte: int) -> str:
    plain = 0x21 <= byte <= 0x7E and byte not in b'.\\"();@$'
    return chr(byte) if plain else f"\\{byte:03d}"
