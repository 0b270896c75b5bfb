"""Input cut into protocol headers and frames, however it arrives (AMQP 1.0 §2.2, §2.3)."""

from typing import NamedTuple

from isthmus.wire.amqp.errors import Condition, PeerError
from isthmus.wire.amqp.transfer import FRAME_HEADER

HEADER_BYTES = 8
"""Length of a protocol header and, by chance, of a frame's header."""


class FrameBounds(NamedTuple):
    """Where in `FrameBuffer.data` the body of a frame is."""

    sasl: bool
    channel: int
    start: int
    end: int


class FrameBuffer:
    """Keeps what is not whole yet; what is whole is read in place, from `data`.

    A frame that arrives in many pieces is looked at once when it is whole, not once per piece.
    """

    __slots__ = ("_needed", "_position", "_rest", "data")

    def __init__(self) -> None:
        self.data = b""
        self._position = 0
        self._rest = bytearray()
        self._needed = 0

    def __len__(self) -> int:
        """Bytes kept."""
        return len(self._rest) + len(self.data) - self._position

    def feed(self, data: bytes) -> None:
        """Adds what was read."""
        if self._position < len(self.data):
            self.data = self.data[self._position :] + data
        elif not self._rest:
            self.data = data
        else:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            self.data = bytes(self._rest)
            self._rest.clear()
        self._position = 0

    def header(self) -> bytes | None:
        """The next protocol header; None until it is whole."""
        start = self._position
        if len(self.data) - start < HEADER_BYTES:
            self._keep(HEADER_BYTES)
            return None
        self._position = start + HEADER_BYTES
        return self.data[start : start + HEADER_BYTES]

    def frame(self, bytes_max: int) -> FrameBounds | None:
        """The next frame; None until it is whole. Raises `PeerError` for what is no frame or one beyond `bytes_max`."""
        start, data = self._position, self.data
        if len(data) - start < HEADER_BYTES:
            self._keep(HEADER_BYTES)
            return None
        size, offset, kind, channel = FRAME_HEADER.unpack_from(data, start)
        # [AMQP-2.3.1] a frame is at least its header, which is at least two words.
        if size < HEADER_BYTES or offset < 2 or 4 * offset > size or kind > 1:
            raise PeerError(Condition.FRAMING_ERROR, "not a frame")
        # [AMQP-2.7.1] a frame above max-frame-size is a framing error.
        if size > bytes_max:
            raise PeerError(Condition.FRAMING_ERROR, f"a frame of {size} bytes is more than {bytes_max}")
        if len(data) - start < size:
            self._keep(size)
            return None
        self._position = start + size
        return FrameBounds(kind == 1, channel, start + 4 * offset, start + size)

    def _keep(self, needed: int) -> None:
        """What is left of the data is not whole before it is `needed` bytes; nothing left leaves all as it was."""
        if self._position < len(self.data):
            self._rest += self.data[self._position :]
            self._needed = needed
        self.data = b""
        self._position = 0
