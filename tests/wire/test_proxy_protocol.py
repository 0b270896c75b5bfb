"""The PROXY protocol's header: every case of the table, cut anywhere, and there and back."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.proxy_protocol import (
    AZURE_TLV,
    HEADER_BYTES_MAX,
    LINK_ID_MAX,
    HeaderReader,
    ProxyHeader,
    ProxyHeaderError,
    Tlv,
    encode_header,
    link_tlv,
)
from wire.cases.proxy_protocol import AZURE_LINK, BAD, GOOD, Bad, Good

ADDRESSES = st.ip_addresses().filter(lambda address: address.version == 4 or address.ipv4_mapped is None).map(str)
PORTS = st.integers(0, 65_535)
TLVS = st.builds(Tlv, st.integers(0, 255).filter(lambda kind: kind != AZURE_TLV), st.binary(max_size=300))
HEADERS = st.builds(ProxyHeader, ADDRESSES, PORTS, ADDRESSES, PORTS, st.lists(TLVS, max_size=4).map(tuple))


def take(pieces: list[bytes]) -> tuple[ProxyHeader | None, bytes]:
    """The header that the pieces make, and what is behind it."""
    reader = HeaderReader()
    for position, piece in enumerate(pieces):
        header = reader.receive(piece)
        assert reader.held < HEADER_BYTES_MAX
        if header is not None:
            return header, reader.rest + b"".join(pieces[position + 1 :])
    return None, b""


def each_byte(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_is_allowed_is_taken_however_it_is_cut(case: Good) -> None:
    for pieces in ([case.sent], each_byte(case.sent), [case.sent[:20], case.sent[20:]]):
        assert take(pieces) == (case.header, b"")
    assert take([case.sent + b"carried"]) == (case.header, b"carried")


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_lacks_a_byte_is_waited_for(case: Good) -> None:
    assert take([case.sent[:-1]]) == (None, b"")


@pytest.mark.parametrize("case", [case for case in GOOD if case.canonical], ids=lambda case: case.name)
def test_encoding_gives_the_bytes_of_the_table(case: Good) -> None:
    assert encode_header(case.header) == case.sent


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_what_breaks_a_rule_is_refused_however_it_is_cut(case: Bad) -> None:
    for pieces in ([case.sent], each_byte(case.sent), [case.sent + b"more"]):
        with pytest.raises(ProxyHeaderError, match=case.reason):
            take(pieces)


@given(HEADERS, st.none() | st.integers(0, LINK_ID_MAX), st.binary(max_size=50), st.data())
def test_there_and_back(header: ProxyHeader, link_id: int | None, behind: bytes, draw: st.DataObject) -> None:
    tlvs = header.tlvs if link_id is None else (*header.tlvs, link_tlv(link_id))
    sent = ProxyHeader(
        header.source_address, header.source_port, header.destination_address, header.destination_port, tlvs
    )
    encoded = encode_header(sent) + behind
    cut = draw.draw(st.integers(0, len(encoded)))

    found, rest = take([encoded[:cut], encoded[cut:]])

    assert found == sent
    assert found.link_id == link_id
    assert rest == behind


def test_azures_link_id_is_the_documented_bytes() -> None:
    tlv = link_tlv(0x0600_0123)

    assert bytes((tlv.kind,)) + len(tlv.value).to_bytes(2, "big") + tlv.value == AZURE_LINK


def test_a_header_of_two_families_is_sent_as_ipv6_and_means_the_same() -> None:
    header = ProxyHeader("10.1.0.7", 1, "fd00::4", 2)

    assert encode_header(header)[13] == 0x21
    assert take([encode_header(header)]) == (header, b"")


def test_addresses_have_one_spelling() -> None:
    long = ProxyHeader(str(ipaddress.ip_address("fd00::7").exploded), 1, "fd00:0::4", 2)

    assert take([encode_header(long)])[0] == ProxyHeader("fd00::7", 1, "fd00::4", 2)


def test_a_header_that_nobody_would_take_is_not_made() -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode_header(ProxyHeader("10.1.0.7", 1, "10.1.0.4", 2, (Tlv(4, bytes(HEADER_BYTES_MAX)),)))
