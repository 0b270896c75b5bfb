"""What a log holds at one moment, for a copy that is made of its files while it goes on."""

from collections.abc import Iterable
from typing import NamedTuple

from isthmus.telemetry.files import Files
from isthmus.telemetry.head import Mark
from isthmus.telemetry.segment import Carry, index_name, open_segment, segment_bases, segment_name


class Cut(NamedTuple):
    """Everything before `end` is durable; `carry` is what the log knows there."""

    end: int
    carry: Carry


class CutFile(NamedTuple):
    """A file of a cut, of which the first `size` bytes belong to it; all of them when that is None."""

    name: str
    size: int | None


def files_of(files: Files, cut: Cut) -> list[CutFile]:
    """The files that a cut consists of, but for the head; raises `OSError`.

    The log must not remove segments meanwhile (`SegmentLog.kept`). An index that is not there yet is left out: the next
    start makes it from its segment.
    """
    names = frozenset(files.names())
    bases = _bases(names, cut)
    if not bases:
        return []
    sealed = [CutFile(segment_name(base), None) for base in bases[:-1]]
    indexes = [CutFile(index_name(base), None) for base in bases[:-1] if index_name(base) in names]
    # What lies behind the end is a commit that came later, or one whose sync failed and of which nobody was told.
    size = open_segment(files, bases[-1]).data_start + cut.end - bases[-1]
    return [*sealed, *indexes, CutFile(segment_name(bases[-1]), size)]


def mark_of(files: Files, cut: Cut) -> Mark:
    """What the head of a copy has to tell."""
    return Mark(cut.end, max(_bases(files.names(), cut), default=cut.end))


def _bases(names: Iterable[str], cut: Cut) -> list[int]:
    """Segments that begin before the end, or at it: an empty one has in its header what older ones knew."""
    return [base for base in segment_bases(names) if base <= cut.end]
