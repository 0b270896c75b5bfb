"""A checksummed wrapper of the log's small structures: segment headers and index files."""

import struct
import zlib

_FRAME = struct.Struct("<8sHHII")
"""Magic, version, the version's check, length of the body, CRC-32 of the body."""

FIRST_VERSION = 1
"""Its check is 0."""


class Damaged(Exception):  # noqa: N818 - what the bytes are
    """The bytes are not what was written."""


class NewerFormat(Exception):  # noqa: N818 - what the bytes are
    """The bytes were written by a later version of this program; they must not be touched."""


def frame(magic: bytes, version: int, body: bytes) -> bytes:
    """The wrapped body; `magic` has eight bytes."""
    return _FRAME.pack(magic, version, _check(version), len(body), zlib.crc32(body)) + body


def unframe(magic: bytes, version: int, data: bytes) -> tuple[bytes, int]:
    """Body and wrapped length of what `data` begins with; raises `Damaged`, or `NewerFormat` when intact but newer."""
    if len(data) < _FRAME.size:
        raise Damaged("too short")
    found, written_by, check, length, checksum = _FRAME.unpack_from(data)
    body = data[_FRAME.size : _FRAME.size + length]
    if found != magic or len(body) != length or zlib.crc32(body) != checksum:
        raise Damaged("wrong magic, length or checksum")
    if check != _check(written_by):
        raise Damaged("wrong version")
    if written_by > version:
        raise NewerFormat(f"version {written_by}; this program knows {version}")
    return body, _FRAME.size + length


def _check(version: int) -> int:
    """So that a flipped bit does not pass for a later release, which would be left alone."""
    return 0 if version == FIRST_VERSION else version ^ 0xFFFF
