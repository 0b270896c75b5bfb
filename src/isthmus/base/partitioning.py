"""Which partition a partition key means: the same one here, in the SDKs that spread keys themselves, and in Azure.

The hash is Bob Jenkins' lookup3 (`hashlittle2`, public domain) over the key in UTF-8, its two halves joined by
exclusive or and cut to a signed 16-bit number, as the buffered producers of the Event Hubs SDKs have it. The remainder
keeps the sign of the number, as in C, and loses it afterwards.
"""

from typing import Final

_WORD: Final = 0xFFFFFFFF
_START: Final = 0xDEADBEEF
_BLOCK: Final = 12
_MIX: Final = (4, 6, 8, 16, 19, 4)
_FINAL: Final = (14, 11, 25, 16, 4, 14, 24)


def partition_of(key: str, partitions: int) -> int:
    """The number of the partition, of so many, that events with this key go to."""
    number = key_hash(key)
    return abs(number) % partitions


def key_hash(key: str) -> int:
    """The signed 16-bit hash of a key; 0 for an empty one."""
    if not key:
        return 0
    first, second = _lookup3(key.encode("utf-8", "surrogatepass"))
    half = (first ^ second) & 0xFFFF
    return half - 0x10000 if half & 0x8000 else half


def _lookup3(data: bytes) -> tuple[int, int]:
    """`hashlittle2` with both seeds 0: the primary and the secondary hash."""
    a = b = c = (_START + len(data)) & _WORD
    at = 0
    while len(data) - at > _BLOCK:
        a, b, c = _mixed(*_added(a, b, c, data[at : at + _BLOCK]))
        at += _BLOCK
    if at == len(data):
        return c, b
    a, b, c = _finished(*_added(a, b, c, data[at:].ljust(_BLOCK, b"\0")))
    return c, b


def _added(a: int, b: int, c: int, block: bytes) -> tuple[int, int, int]:
    words = [int.from_bytes(block[start : start + 4], "little") for start in (0, 4, 8)]
    return (a + words[0]) & _WORD, (b + words[1]) & _WORD, (c + words[2]) & _WORD


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turn in _MIX:
        a = ((a - c) & _WORD) ^ _rotated(c, turn)
        c = (c + b) & _WORD
        a, b, c = b, c, a
    return a, b, c


def _finished(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turn in _FINAL:
        c = ((c ^ b) - _rotated(b, turn)) & _WORD
        a, b, c = b, c, a
    # Seven turns leave the words one place further than six would.
    return c, a, b


def _rotated(word: int, turn: int) -> int:
    return ((word << turn) | (word >> (32 - turn))) & _WORD
