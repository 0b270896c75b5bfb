"""One segment read from end to end, in as many steps as one likes, and what of it is lost."""

from collections.abc import Mapping

from isthmus.telemetry.damage import Damage
from isthmus.telemetry.files import Files
from isthmus.telemetry.index import SegmentIndex
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.record import scan
from isthmus.telemetry.segment import Carry, Tail, open_segment, segment_name
from isthmus.telemetry.survey import Survey


class SegmentCheck:
    """Reads a segment up to `limit`; changes nothing. May be used by one thread after another.

    `before` is what was known where it begins, for a segment that cannot tell it any more. Raises FileNotFoundError
    when its file is gone, `NewerFormat`, or `OSError`. Must be closed.
    """

    def __init__(self, files: Files, base: int, limit: int, before: Carry) -> None:
        self._files = files
        opened = open_segment(files, base)
        self._damages = [Damage(base, base, (), acknowledged=True)] if opened.carry is None else []
        self.survey = Survey(SegmentIndex(base, opened.data_start), (opened.carry or before).copy())
        self._limit = limit
        self._handle = files.open_read(segment_name(base))
        self._shift = opened.data_start - base
        self._items = scan(self._read, base, limit)
        self.position = base

    def step(self, bytes_max: int | None = None) -> bool:
        """Reads on, at least a record and about `bytes_max`, or to the end; False when nothing is left to read."""
        start = self.position
        for item in self._items:
            self.position = self.survey.take(item)
            if bytes_max is not None and self.position - start >= bytes_max:
                return True
        return False

    def damages(self, reached: Mapping[Partition, Tail]) -> list[Damage]:
        """What is lost of what was read; `reached` is how far partitions are known to have got in it."""
        self.survey.finish()
        self.survey.learn(reached)
        return [*self._damages, *self.survey.damages(self._limit)]

    def carry(self) -> Carry:
        """What is known behind it."""
        return self.survey.carry_past_gaps() if self.survey.gaps else self.survey.carry

    def close(self) -> None:
        """Gives the file back."""
        self._files.close(self._handle)

    def _read(self, position: int, size: int) -> bytes:
        return self._files.read(self._handle, size, position + self._shift)
