"""Frames as a stream of bytes: what a tunnelled protocol sends and receives, free of where frames begin and end.

Theory of operation. MQTT and AMQP do not care how their bytes are cut into messages [MQTT-6.0.0-2], so nothing is
gathered: the payload of a binary frame is unmasked and handed on as it arrives. What is kept between two reads is a
frame's beginning of at most 14 bytes, or a control frame of at most 130. After a close frame or a broken rule the
stream takes nothing more.

A client masks every frame (RFC 6455 §5.1), and a data frame that is not masked is refused. Control frames are taken
either way: MQTT libraries in wide use answer a ping without masking.
"""

from dataclasses import dataclass
from enum import IntEnum

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""Of the payload a frame may announce: far above any client's writes; it is passed on in pieces and never held."""

CONTROL_BYTES_MAX = 125
"""Of a control frame's payload (RFC 6455 §5.5)."""


class Opcode(IntEnum):
    """What a frame is (RFC 6455 §5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """Why a WebSocket ends, as far as we say it (RFC 6455 §7.4.1)."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    TOO_LARGE = 1009


class FrameError(Exception):
    """The peer broke a rule of RFC 6455, or a limit of ours; `code` is what the close frame says of it."""

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a read brought, in this order.

    `ping` is the payload of the last ping, the only one that needs an answer (RFC 6455 §5.5.3). `closed` is true when
    the peer sent a close frame, with `close_code` when that has one. Where `error` is set, a close frame is due.
    """

    data: bytes = b""
    ping: bytes | None = None
    closed: bool = False
    close_code: int | None = None
    error: FrameError | None = None


class ServerStream:
    """The incoming half of a server's WebSocket."""

    __slots__ = ("_in_message", "_key", "_left", "_over", "_partial")

    def __init__(self) -> None:
        self._partial = b""
        self._left = 0
        self._key = b""
        self._in_message = False
        self._over = False

    @property
    def held(self) -> int:
        """Bytes received and kept for the next read."""
        return len(self._partial)

    def receive(self, data: bytes) -> Incoming:
        """Takes one read; never raises. Behind the end of the stream it brings nothing."""
        if self._over:
            return Incoming()
        reading = _Reading(self._partial + data if self._partial else data)
        self._partial = b""
        try:
            while self._advance(reading):
                pass
        except FrameError as error:
            self._over = True
            return reading.incoming(error)
        if reading.closed:
            self._over = True
        else:
            self._partial = reading.data[reading.position :]
        return reading.incoming(None)

    def _advance(self, reading: "_Reading") -> bool:
        """Takes a piece of a payload, or a frame's beginning; False when there is none left."""
        if self._left:
            return self._take_payload(reading)
        head = None if reading.closed else _head_at(reading.data, reading.position)
        if head is None:
            return False
        if head.opcode >= Opcode.CLOSE:
            return _take_control(reading, head)
        self._begin(head)
        reading.position = head.end
        return True

    def _begin(self, head: "_Head") -> None:
        """A data frame begins; judges it by what came before (RFC 6455 §5.4)."""
        if head.opcode == Opcode.TEXT:
            raise FrameError(CloseCode.UNSUPPORTED_DATA, "a text frame; only binary ones carry the protocol")
        if (head.opcode == Opcode.CONTINUATION) is not self._in_message:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a continuation of nothing, or a message inside another one")
        if not head.key:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a data frame that is not masked")
        self._in_message = not head.final
        self._left, self._key = head.length, head.key

    def _take_payload(self, reading: "_Reading") -> bool:
        piece = reading.data[reading.position : reading.position + self._left]
        if not piece:
            return False
        reading.pieces.append(mask(piece, self._key))
        reading.position += len(piece)
        self._left -= len(piece)
        turn = len(piece) % 4
        self._key = self._key[turn:] + self._key[:turn]
        return True


def encode_frame(opcode: Opcode, payload: bytes = b"", *, key: bytes = b"", final: bool = True) -> bytes:
    """A frame; masked, as a client has to, when there is a key of four bytes."""
    size = len(payload)
    masked = 0x80 if key else 0
    first = opcode | (0x80 if final else 0)
    if size <= 125:
        head = bytes((first, masked | size))
    elif size <= 0xFFFF:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    return head + key + mask(payload, key) if key else head + payload


def close_frame(code: int | None) -> bytes:
    """A server's close frame, without a code when there is none."""
    return encode_frame(Opcode.CLOSE, b"" if code is None else code.to_bytes(2, "big"))


def mask(data: bytes, key: bytes) -> bytes:
    """Masks and unmasks (RFC 6455 §5.3); `key` has four bytes."""
    size = len(data)
    # Numbers of any length are the one thing that the library combines by bits at once.
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


class _Reading:
    """One read on its way through the stream."""

    __slots__ = ("close_code", "closed", "data", "pieces", "ping", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.pieces: list[bytes] = []
        self.ping: bytes | None = None
        self.closed = False
        self.close_code: int | None = None

    def incoming(self, error: FrameError | None) -> Incoming:
        pieces = self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return Incoming(data, self.ping, self.closed, self.close_code, error)


@dataclass(frozen=True, slots=True)
class _Head:
    """A frame's beginning; `end` is where its payload begins."""

    final: bool
    opcode: int
    length: int
    key: bytes
    end: int


def _head_at(data: bytes, position: int) -> _Head | None:
    """The beginning of the frame at `position`; None when it is not there as a whole."""
    if len(data) < position + 2:
        return None
    first, second = data[position], data[position + 1]
    opcode, length, end = first & 0x0F, second & 0x7F, position + 2
    _check_first(first)
    if opcode >= Opcode.CLOSE and (length > CONTROL_BYTES_MAX or not first & 0x80):
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a control frame that is fragmented or too long")
    if length > 125:
        start, end = end, end + (2 if length == 126 else 8)
        if len(data) < end:
            return None
        length = int.from_bytes(data[start:end], "big")
    if length > FRAME_BYTES_MAX:
        raise FrameError(CloseCode.TOO_LARGE, f"a frame of {length} bytes")
    key = b""
    if second & 0x80:
        key = data[end : end + 4]
        end += 4
        if len(key) < 4:
            return None
    return _Head(bool(first & 0x80), opcode, length, key, end)


_OPCODES = frozenset(Opcode)


def _check_first(first: int) -> None:
    if first & 0x70:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on")
    if first & 0x0F not in _OPCODES:
        raise FrameError(CloseCode.PROTOCOL_ERROR, f"opcode {first & 0x0F} is reserved")


def _take_control(reading: _Reading, head: _Head) -> bool:
    """Takes a control frame once it is whole; it may come between the frames of a message (RFC 6455 §5.4)."""
    end = head.end + head.length
    payload = reading.data[head.end : end]
    if len(payload) < head.length:
        return False
    if head.key:
        payload = mask(payload, head.key)
    reading.position = end
    if head.opcode == Opcode.PING:
        reading.ping = payload
    elif head.opcode == Opcode.CLOSE:
        reading.close_code = _close_code(payload)
        reading.closed = True
    return True


def _close_code(payload: bytes) -> int | None:
    """The code of a close frame; raises `FrameError` where code or reason may not be sent (RFC 6455 §7.4)."""
    if not payload:
        return None
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))):
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a close frame with a code that may not be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_PAYLOAD, "a close frame whose reason is not UTF-8") from None
    return code
