"""One table of WebSocket wire cases for all tests: bytes of a client, and what the server's stream makes of them."""

from dataclasses import dataclass

from isthmus.wire.websocket.stream import FRAME_BYTES_MAX, CloseCode, Opcode, encode_frame

KEY = b"\x37\xfa\x21\x3d"
"""The masking key of the examples in RFC 6455 §5.7."""


def client_frame(opcode: Opcode, payload: bytes = b"", *, final: bool = True) -> bytes:
    """A frame as clients send it."""
    return encode_frame(opcode, payload, key=KEY, final=final)


def binary(payload: bytes, *, final: bool = True) -> bytes:
    """A binary frame of a client."""
    return client_frame(Opcode.BINARY, payload, final=final)


@dataclass(frozen=True, slots=True)
class Good:
    """Bytes that are allowed, and what they bring."""

    name: str
    sent: bytes
    data: bytes = b""
    ping: bytes | None = None
    closed: bool = False
    close_code: int | None = None


@dataclass(frozen=True, slots=True)
class Bad:
    """Bytes that break a rule, behind the good ones that bring `data`."""

    name: str
    sent: bytes
    code: CloseCode
    data: bytes = b""


GOOD = (
    Good("RFC 6455 §5.7, masked, as binary", bytes.fromhex("828537fa213d7f9f4d5158"), b"Hello"),
    Good("empty frame", binary(b"")),
    Good("two frames", binary(b"one") + binary(b"two"), b"onetwo"),
    Good("125 bytes", binary(bytes(125)), bytes(125)),
    Good("126 bytes", binary(bytes(126)), bytes(126)),
    Good("65,535 bytes", binary(bytes(65_535)), bytes(65_535)),
    Good("65,536 bytes", binary(bytes(65_536)), bytes(65_536)),
    Good(
        "a message in fragments",
        binary(b"a", final=False)
        + client_frame(Opcode.CONTINUATION, b"b", final=False)
        + client_frame(Opcode.CONTINUATION, b"c"),
        b"abc",
    ),
    Good(
        "a ping between fragments",
        binary(b"a", final=False) + client_frame(Opcode.PING, b"?") + client_frame(Opcode.CONTINUATION, b"b"),
        b"ab",
        ping=b"?",
    ),
    Good("two pings", client_frame(Opcode.PING, b"1") + client_frame(Opcode.PING, b"2"), ping=b"2"),
    Good("longest ping", client_frame(Opcode.PING, bytes(125)), ping=bytes(125)),
    Good("pong", client_frame(Opcode.PONG, b"1")),
    Good("pong that is not masked", encode_frame(Opcode.PONG, b"1")),
    Good("close", client_frame(Opcode.CLOSE), closed=True),
    Good("close that is not masked", encode_frame(Opcode.CLOSE, b"\x03\xe8"), closed=True, close_code=1000),
    Good("close with a reason", client_frame(Opcode.CLOSE, b"\x03\xe9bye"), closed=True, close_code=1001),
    Good("close of an application", client_frame(Opcode.CLOSE, b"\x0f\xa0"), closed=True, close_code=4000),
    Good("nothing counts behind a close", client_frame(Opcode.CLOSE) + b"\xff\xff", closed=True),
)

BAD = (
    Bad("text", client_frame(Opcode.TEXT, b"{}"), CloseCode.UNSUPPORTED_DATA),
    Bad("behind good frames", binary(b"ok") + client_frame(Opcode.TEXT), CloseCode.UNSUPPORTED_DATA, b"ok"),
    Bad("not masked", encode_frame(Opcode.BINARY, b"x"), CloseCode.PROTOCOL_ERROR),
    Bad("reserved bit", b"\xc2\x80" + KEY, CloseCode.PROTOCOL_ERROR),
    Bad("reserved opcode", b"\x83\x80" + KEY, CloseCode.PROTOCOL_ERROR),
    Bad("reserved control opcode", b"\x8b\x80" + KEY, CloseCode.PROTOCOL_ERROR),
    Bad("continuation of nothing", client_frame(Opcode.CONTINUATION), CloseCode.PROTOCOL_ERROR),
    Bad("message in a message", binary(b"a", final=False) + binary(b"b"), CloseCode.PROTOCOL_ERROR, b"a"),
    Bad("fragmented ping", client_frame(Opcode.PING, final=False), CloseCode.PROTOCOL_ERROR),
    Bad("ping of 126 bytes", client_frame(Opcode.PING, bytes(126)), CloseCode.PROTOCOL_ERROR),
    Bad("close with half a code", client_frame(Opcode.CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
    Bad("close with 1005", client_frame(Opcode.CLOSE, b"\x03\xed"), CloseCode.PROTOCOL_ERROR),
    Bad("close with 999", client_frame(Opcode.CLOSE, b"\x03\xe7"), CloseCode.PROTOCOL_ERROR),
    Bad("close with bad UTF-8", client_frame(Opcode.CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_PAYLOAD),
    Bad(
        "announced too large",
        b"\x82\xff" + (FRAME_BYTES_MAX + 1).to_bytes(8, "big") + KEY,
        CloseCode.TOO_LARGE,
    ),
    Bad("announced without bound", b"\x82\xff" + b"\xff" * 8 + KEY, CloseCode.TOO_LARGE),
)
