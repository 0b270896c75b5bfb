"""A client's query for the addresses of a name, and what an answer says of them; pure."""

from dataclasses import dataclass

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype


@dataclass(frozen=True, slots=True)
class Told:
    """What a name service said: the addresses, behind aliases or not, and the response code's name without any."""

    addresses: tuple[str, ...]
    code: str


def address_query(name: str, query_id: int, *, ipv6: bool) -> bytes:
    """The query for a name's addresses of one kind (RFC 1035 §4.1)."""
    kind = dns.rdatatype.AAAA if ipv6 else dns.rdatatype.A
    return dns.message.make_query(name, kind, id=query_id).to_wire()


def told_by(data: bytes, query_id: int) -> Told | None:
    """What an answer says; None for what is no answer to the query."""
    try:
        said = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError):
        return None
    if said.id != query_id or not data[2] & 0x80:
        return None
    wanted = (dns.rdatatype.A, dns.rdatatype.AAAA)
    found = tuple(record.to_text() for each in said.answer if each.rdtype in wanted for record in each)
    return Told(found, dns.rcode.to_text(said.rcode()))
