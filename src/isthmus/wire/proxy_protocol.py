"""The header of the PROXY protocol, version 2: who is at the far end of a connection that somebody else carries.

Theory of operation. The header is the first thing on a carried connection, before any byte of what is carried. A
`HeaderReader` takes bytes however they are cut until the header is whole, then gives the header once; whatever came
behind it is `rest`. It never looks ahead of what a header may announce, so that it holds `HEADER_BYTES_MAX` bytes at
most, and it refuses a wrong signature at its first wrong byte.

A header says whatever its sender likes. So nobody may *detect* one: it is read only where the sender has proved before
that it may speak for others (PROXY protocol §2, "must not be used by default"; §5).

Version 1, datagrams and Unix sockets are refused: nothing that is carried here comes so. The checksum of §2.2.3 is not
judged; what the header travels in has a better one.
"""

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first bytes of every header (PROXY protocol §2.2)."""

HEADER_BYTES_MAX: Final = 4_096
"""Of a whole header: addresses take 52 bytes; the rest is for what proxies tell of TLS in type-length-values."""

LOCAL_HEADER: Final = SIGNATURE + b"\x20\x00\x00\x00"
"""What a proxy says that speaks for itself, a health check for example (§2.2, LOCAL)."""

AZURE_TLV: Final = 0xEE
"""PP2_TYPE_AZURE (Azure Private Link documentation, "Getting connection information using TCP Proxy v2")."""

AZURE_LINK_ID: Final = 0x01
"""PP2_SUBTYPE_AZURE_PRIVATEENDPOINT_LINKID: an unsigned number of 32 bits, little-endian, follows."""

LINK_ID_MAX: Final = 0xFFFF_FFFF

_PREFIX: Final = struct.Struct("!12sBBH")
_LINK_ID: Final = struct.Struct("<BI")
_COMMAND_LOCAL: Final = 0x20
_COMMAND_PROXY: Final = 0x21
_TCP_OVER: Final = {4: 0x11, 6: 0x21}
_FAMILY_UNSPECIFIED: Final = 0x00
_ADDRESSES: Final = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}
_TLV_HEAD: Final = struct.Struct("!BH")


class ProxyHeaderError(Exception):
    """The bytes are no header of version 2, or one that nobody may send here; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Tlv:
    """A type-length-value behind the addresses (§2.2, "additional fields")."""

    kind: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A connection as its first proxy saw it.

    Addresses are in their shortest form, an IPv4 address mapped into IPv6 as IPv4. `local` says that the proxy speaks
    for itself, or does not know for whom: then addresses are empty, ports 0, and whoever sent the header is the peer.
    """

    source_address: str = ""
    source_port: int = 0
    destination_address: str = ""
    destination_port: int = 0
    tlvs: tuple[Tlv, ...] = ()

    @property
    def local(self) -> bool:
        """True when the header speaks for nobody else (§2.2, LOCAL and UNSPEC)."""
        return not self.source_address

    @property
    def link_id(self) -> int | None:
        """The number of the private link by Azure's type-length-value; None without one."""
        return next((_LINK_ID.unpack(tlv.value)[1] for tlv in self.tlvs if _names_link(tlv)), None)


def encode_header(header: ProxyHeader) -> bytes:
    """A header's bytes; raises ValueError where addresses are not of one family, or it would be too long."""
    if header.local:
        return LOCAL_HEADER
    source, destination = _both(header)
    family = _TCP_OVER[source.version]
    ports = header.source_port, header.destination_port
    addresses = _ADDRESSES[family].pack(source.packed, destination.packed, *ports)
    body = addresses + b"".join(_TLV_HEAD.pack(tlv.kind, len(tlv.value)) + tlv.value for tlv in header.tlvs)
    if _PREFIX.size + len(body) > HEADER_BYTES_MAX:
        raise ValueError(f"a header of {_PREFIX.size + len(body)} bytes")
    return _PREFIX.pack(SIGNATURE, _COMMAND_PROXY, family, len(body)) + body


def link_tlv(link_id: int) -> Tlv:
    """Azure's type-length-value with a link's number, 0 to `LINK_ID_MAX`."""
    return Tlv(AZURE_TLV, _LINK_ID.pack(AZURE_LINK_ID, link_id))


class HeaderReader:
    """Takes the beginning of a connection until its header is whole."""

    __slots__ = ("_held", "rest")

    def __init__(self) -> None:
        self._held = bytearray()
        self.rest = b""
        """What came behind the header."""

    @property
    def held(self) -> int:
        """Bytes of a header that is not whole."""
        return len(self._held)

    def receive(self, data: bytes) -> ProxyHeader | None:
        """The header once its last byte is here, else None; raises `ProxyHeaderError`. Nothing is read after either."""
        held = self._held
        held += data
        _check_beginning(held)
        if len(held) < _PREFIX.size:
            return None
        _, command, family, length = _PREFIX.unpack_from(held)
        end = _PREFIX.size + length
        _check_announced(command, family, end)
        if len(held) < end:
            return None
        self._held, self.rest = bytearray(), bytes(held[end:])
        return _decode(command, family, bytes(held[_PREFIX.size : end]))


def _check_beginning(held: bytearray) -> None:
    """Judges the signature, also of a header that has only begun."""
    if not SIGNATURE.startswith(held[: len(SIGNATURE)]):
        raise ProxyHeaderError("it does not begin with the signature of PROXY protocol version 2")


def _check_announced(command: int, family: int, size: int) -> None:
    """Judges what the first 16 bytes announce."""
    if command not in (_COMMAND_LOCAL, _COMMAND_PROXY):
        raise ProxyHeaderError(f"version and command 0x{command:02x} are neither LOCAL nor PROXY of version 2")
    if size > HEADER_BYTES_MAX:
        raise ProxyHeaderError(f"a header of {size} bytes, more than {HEADER_BYTES_MAX}")
    if command == _COMMAND_PROXY and family not in _ADDRESSES and family != _FAMILY_UNSPECIFIED:
        raise ProxyHeaderError(f"family and protocol 0x{family:02x} are not TCP over IPv4 or IPv6")


def _decode(command: int, family: int, body: bytes) -> ProxyHeader:
    if command == _COMMAND_LOCAL or family == _FAMILY_UNSPECIFIED:
        # Whatever stands there must be skipped unread (§2.2: LOCAL, and AF_UNSPEC).
        return ProxyHeader()
    addresses = _ADDRESSES[family]
    if len(body) < addresses.size:
        raise ProxyHeaderError(f"{len(body)} bytes are too few for the addresses")
    source, destination, source_port, destination_port = addresses.unpack_from(body)
    return ProxyHeader(_text(source), source_port, _text(destination), destination_port, _tlvs(body, addresses.size))


def _tlvs(body: bytes, position: int) -> tuple[Tlv, ...]:
    found: list[Tlv] = []
    while position < len(body):
        if len(body) < position + _TLV_HEAD.size:
            raise ProxyHeaderError("a type-length-value without its length")
        kind, length = _TLV_HEAD.unpack_from(body, position)
        position += _TLV_HEAD.size
        if len(body) < position + length:
            raise ProxyHeaderError(f"a value of {length} bytes that reaches beyond the header")
        found.append(Tlv(kind, body[position : position + length]))
        position += length
    _check_link(found)
    return tuple(found)


def _check_link(tlvs: list[Tlv]) -> None:
    links = [tlv for tlv in tlvs if _names_link(tlv)]
    if any(len(tlv.value) != _LINK_ID.size for tlv in links):
        raise ProxyHeaderError("a link id that has not 32 bits")
    if len(links) > 1:
        raise ProxyHeaderError("more than one link id")


def _names_link(tlv: Tlv) -> bool:
    return tlv.kind == AZURE_TLV and tlv.value[:1] == bytes((AZURE_LINK_ID,))


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _both(header: ProxyHeader) -> tuple[Address, Address]:
    """Source and destination in one family: as IPv6 where only one of them is IPv4."""
    source, destination = ipaddress.ip_address(header.source_address), ipaddress.ip_address(header.destination_address)
    if source.version == destination.version:
        return source, destination
    return _as_ipv6(source), _as_ipv6(destination)


def _as_ipv6(address: Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(b"\x00" * 10 + b"\xff\xff" + address.packed)


def _text(packed: bytes) -> str:
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
