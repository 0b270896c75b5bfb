"""One table of PROXY protocol wire cases for all tests: the bytes a proxy sends, and what a reader makes of them."""

from dataclasses import dataclass

from isthmus.wire.proxy_protocol import HEADER_BYTES_MAX, SIGNATURE, ProxyHeader, Tlv, link_tlv

IPV4 = bytes.fromhex("0a010007 0a010004 c001 22b3")
"""10.1.0.7:49153 to 10.1.0.4:8883."""

IPV6 = bytes.fromhex("fd00000000000000 0000000000000007 fd00000000000000 0000000000000004 c001 22b3")

AZURE_LINK = bytes.fromhex("ee0005 01 23010006")
"""Link 0x06000123 as Azure Private Link writes it."""


def header(command: int, family: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A header with any command, family and announced length."""
    announced = len(body) if length is None else length
    return SIGNATURE + bytes((command, family)) + announced.to_bytes(2, "big") + body


@dataclass(frozen=True, slots=True)
class Good:
    """Bytes that are allowed, and what they say; `canonical` when encoding gives the very same bytes."""

    name: str
    sent: bytes
    header: ProxyHeader
    canonical: bool = True


@dataclass(frozen=True, slots=True)
class Bad:
    """Bytes that are refused, and a word of the reason."""

    name: str
    sent: bytes
    reason: str


_IPV4 = ("10.1.0.7", 49_153, "10.1.0.4", 8_883)
_IPV6 = ("fd00::7", 49_153, "fd00::4", 8_883)
_MAPPED = b"\x00" * 10 + b"\xff\xff"

GOOD = (
    Good("IPv4, as HAProxy's send-proxy-v2", header(0x21, 0x11, IPV4), ProxyHeader(*_IPV4)),
    Good("IPv6", header(0x21, 0x21, IPV6), ProxyHeader(*_IPV6)),
    Good(
        "Azure's link id, little-endian",
        header(0x21, 0x11, IPV4 + AZURE_LINK),
        ProxyHeader(*_IPV4, (link_tlv(0x0600_0123),)),
    ),
    Good(
        "other values stand beside the link id",
        header(0x21, 0x11, IPV4 + b"\x04\x00\x02\x00\x00" + AZURE_LINK + b"\xea\x00\x05\x01vpce"),
        ProxyHeader(*_IPV4, (Tlv(4, b"\x00\x00"), link_tlv(0x0600_0123), Tlv(0xEA, b"\x01vpce"))),
    ),
    Good("another subtype of Azure", header(0x21, 0x11, IPV4 + b"\xee\x00\x01\x02"),
         ProxyHeader(*_IPV4, (Tlv(0xEE, b"\x02"),))),
    Good("an empty value", header(0x21, 0x11, IPV4 + b"\xee\x00\x00"), ProxyHeader(*_IPV4, (Tlv(0xEE, b""),))),
    Good(
        "IPv4 mapped into IPv6 is IPv4",
        header(0x21, 0x21, _MAPPED + IPV4[:4] + _MAPPED + IPV4[4:8] + IPV4[8:]),
        ProxyHeader(*_IPV4),
        canonical=False,
    ),
    Good(
        "the longest",
        header(0x21, 0x11, IPV4 + b"\x04" + (HEADER_BYTES_MAX - 31).to_bytes(2, "big") + bytes(HEADER_BYTES_MAX - 31)),
        ProxyHeader(*_IPV4, (Tlv(4, bytes(HEADER_BYTES_MAX - 31)),)),
    ),
    Good("LOCAL", header(0x20, 0x00), ProxyHeader()),
    Good("LOCAL with addresses, which are skipped", header(0x20, 0x11, IPV4), ProxyHeader(), canonical=False),
    Good("LOCAL of any family", header(0x20, 0x31, b"junk"), ProxyHeader(), canonical=False),
    Good("PROXY for nobody knows whom", header(0x21, 0x00, b"junk"), ProxyHeader(), canonical=False),
)  # fmt: skip

BAD = (
    Bad("version 1", b"PROXY TCP4 10.1.0.7 10.1.0.4 49153 8883\r\n", "signature"),
    Bad("no header but TLS", bytes.fromhex("160301020001"), "signature"),
    Bad("a wrong last byte of the signature", SIGNATURE[:-1] + b"\r", "signature"),
    Bad("version 3", header(0x31, 0x11, IPV4), "0x31"),
    Bad("an unknown command", header(0x22, 0x11, IPV4), "0x22"),
    Bad("UDP", header(0x21, 0x12, IPV4), "0x12"),
    Bad("a Unix socket", header(0x21, 0x31, bytes(216)), "0x31"),
    Bad("an unknown family", header(0x21, 0x41, IPV4), "0x41"),
    Bad("announced too long", header(0x21, 0x11, length=HEADER_BYTES_MAX - 15), "more than"),
    Bad("announced too long, LOCAL", header(0x20, 0x00, length=0xFFFF), "more than"),
    Bad("too short for its addresses", header(0x21, 0x11, IPV4[:-1]), "too few"),
    Bad("IPv4's addresses as IPv6", header(0x21, 0x21, IPV4), "too few"),
    Bad("a value without its length", header(0x21, 0x11, IPV4 + b"\xee\x00"), "without its length"),
    Bad("a value beyond the header", header(0x21, 0x11, IPV4 + AZURE_LINK[:-1]), "beyond"),
    Bad("a link id of 16 bits", header(0x21, 0x11, IPV4 + b"\xee\x00\x03\x01\x01\x00"), "32 bits"),
    Bad("two link ids", header(0x21, 0x11, IPV4 + AZURE_LINK + AZURE_LINK), "more than one"),
)
