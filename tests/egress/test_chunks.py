"""Chunks of the log that endpoints share: how much is read at once, and how much is remembered."""

from collections.abc import Container

from isthmus.egress.chunks import Chunks
from isthmus.telemetry.ports import Record
from isthmus.telemetry.reader import LogReader


class CountedReader(LogReader):
    """A log of endless places, each read told of; a chunk reaches ten places far."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def read_all(
        self, cursor: int, max_records: int, *, max_bytes: int = 0, streams: Container[int] | None = None
    ) -> tuple[list[Record], int]:
        self.asked.append((cursor, max_records, max_bytes))
        return [], cursor + 10


def test_so_much_is_read_at_once() -> None:
    reader = CountedReader()
    Chunks(reader).after(0)
    assert reader.asked == [(0, 512, 1024 * 1024)]


def test_sixteen_chunks_are_remembered_and_the_oldest_is_read_again() -> None:
    reader = CountedReader()
    chunks = Chunks(reader)
    for number in range(16):
        chunks.after(number * 10)
    chunks.after(0)
    assert len(reader.asked) == 16
    chunks.after(160)
    chunks.after(10)
    assert len(reader.asked) == 17
    chunks.after(0)
    assert len(reader.asked) == 18
