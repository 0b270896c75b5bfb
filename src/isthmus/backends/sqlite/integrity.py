"""Whether a state file and its write-ahead log are as SQLite left them, looked at before SQLite opens them.

SQLite takes a write-ahead log up to its first frame that is not intact and drops the rest, because that is what a power
cut leaves of a commit that nobody was told of. A frame that was damaged later looks the same, and the commits behind it
would be gone without a word. They can be told apart: a commit is synced before the next one is written, so where a
whole commit and something intact behind it follow a broken frame, that frame was durable once. Of the file itself,
SQLite notices a missing end only when it comes to read it, and takes an empty file for a new one.

Forms and checksums are those of the SQLite file format, sections 1.3 and 4.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from isthmus.base.errors import ConfigurationError

WAL_SUFFIX = "-wal"
_JOURNAL_SUFFIX = "-journal"

REMEDY = "restore the data folder from a backup"

_HEADER_BYTES = 100
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_PAGE_BYTES_MIN = 512
_MAGIC = b"SQLite format 3\0"
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_WAL_MAGIC = 0x377F0682
_WORD = 0xFFFFFFFF


def require_whole(path: Path) -> None:
    """Raises `ConfigurationError` that names the file when it, or its write-ahead log, is known to be damaged.

    A file that is not there, or empty with nothing beside it, is a new one, and so is one whose rollback journal is
    there: only a first start has that, before the write-ahead log, and SQLite undoes what it could not finish. Reads
    the write-ahead log, which a server that was ended properly has left empty.
    """
    if _has_journal(path):
        return
    file_bytes = path.stat().st_size if path.exists() else 0
    wal = path.with_name(path.name + WAL_SUFFIX)
    wal_bytes = wal.stat().st_size if wal.exists() else 0
    if not file_bytes:
        if wal_bytes > _WAL_HEADER_BYTES:
            raise ConfigurationError(f"{path} is empty, though commits wait in {wal.name}: {REMEDY}.")
        return
    header = _read(path, _HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise ConfigurationError(f"{path} is damaged, or no state of a hub: {REMEDY}.")
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    if page_bytes < _PAGE_BYTES_MIN:
        raise ConfigurationError(f"{path} is damaged: it has no size of pages; {REMEDY}.")
    waiting: set[int] = set()
    if wal_bytes > _WAL_HEADER_BYTES:
        waiting = _pages_in(wal, page_bytes)
    pages = int.from_bytes(header[28:32], "big") if header[24:28] == header[92:96] else 0
    there = file_bytes // page_bytes
    missing = next((page for page in range(there + 1, pages + 1) if page not in waiting), None)
    if missing is not None:
        raise ConfigurationError(
            f"{path} is damaged: it should have {pages} pages of {page_bytes} bytes, and ends after {there}; {REMEDY}."
        )


class _Frame(NamedTuple):
    page: int
    is_commit: bool
    is_intact: bool


def _pages_in(wal: Path, page_bytes: int) -> set[int]:
    """The pages that a write-ahead log has; raises `ConfigurationError` when frames that were durable are broken."""
    with wal.open("rb") as file:
        header = file.read(_WAL_HEADER_BYTES)
        order = ">" if header[3] & 1 else "<"
        seed = struct.unpack(">II", header[24:32])
        if int.from_bytes(header[:4], "big") | 1 != _WAL_MAGIC | 1 or _checksum(order, (0, 0), header[:24]) != seed:
            _require_nothing_behind(wal, file, page_bytes)
            return set()
        return _pages_of(wal, _frames(file, page_bytes, order, header[16:24], seed))


def _pages_of(wal: Path, frames: Iterator[_Frame]) -> set[int]:
    """A frame that fits behind a commit tells that it was synced, and so was what is broken up to there.

    A commit that was dropped at an earlier start may stand behind newer frames; nothing fits behind that one.
    """
    pages: set[int] = set()
    broken, after_commit = 0, False
    for number, frame in enumerate(frames, start=1):
        if frame.is_intact and broken and after_commit:
            raise ConfigurationError(f"{wal} is damaged: its frame {broken}, and commits stand behind it; {REMEDY}.")
        if frame.is_intact:
            pages.add(frame.page)
        elif not broken:
            broken = number
        after_commit = frame.is_commit
    return pages


def _require_nothing_behind(wal: Path, file: BinaryIO, page_bytes: int) -> None:
    """A header is synced before the first frame is written: frames that fit together tell that it was whole once."""
    for order in "<>":
        file.seek(_WAL_HEADER_BYTES)
        frames = _frames(file, page_bytes, order, None, (0, 0))
        if any(frame.is_intact for frame in frames):
            raise ConfigurationError(f"{wal} is damaged: its header, and commits stand behind it; {REMEDY}.")


def _frames(
    file: BinaryIO, page_bytes: int, order: str, salts: bytes | None, seed: tuple[int, ...]
) -> Iterator[_Frame]:
    """The frames in order; each is judged by the checksum that the one before it has stored.

    `salts` are those of the header, or None where these are not known.
    """
    frame_bytes = _FRAME_HEADER_BYTES + page_bytes
    while len(data := file.read(frame_bytes)) == frame_bytes:
        page, size_after = struct.unpack(">II", data[:8])
        own = struct.unpack(">II", data[16:24])
        is_ours = salts is None or data[8:16] == salts
        is_intact = is_ours and _checksum(order, seed, data[:8] + data[_FRAME_HEADER_BYTES:]) == own
        yield _Frame(page, size_after > 0, is_intact)
        seed = own


def _checksum(order: str, seed: tuple[int, ...], data: bytes) -> tuple[int, int]:
    first, second = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second


def _has_journal(path: Path) -> bool:
    journal = path.with_name(path.name + _JOURNAL_SUFFIX)
    return journal.exists() and _read(journal, len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC


def _read(path: Path, size: int) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, size)
    finally:
        os.close(handle)
