"""A log that goes on from an earlier moment, with numbers that it cannot have given since.

A log that was put back to an earlier time has forgotten what it gave afterwards: offsets and sequence numbers that
readers keep as their checkpoints. Given anew, they would mean other events, and a reader would pass over some, or get
some twice, without a word. So the log goes on far behind its end, in a new segment, whose header says that nothing lies
between and how far each partition really was. Such a checkpoint is then of a place that holds no event, and whoever
reads on from there gets the first one behind it, as from an offset that has expired.

How far is far: what was written since that moment took its time, `BYTES_PER_MS_MAX` at most on average. A day is added,
for clocks that are wrong by less than that. So a restore begins behind all that was given before it, also when it is
one of several from the same backup, or of a backup of what was restored once: each time is counted from the cut on.

The new segment begins with a record that is for no endpoint, so that the log does not end where the segment begins.
"""

from dataclasses import dataclass

from isthmus.telemetry.batch import Batch, Item
from isthmus.telemetry.files import Files
from isthmus.telemetry.head import HEAD_NAME, Mark, head_file
from isthmus.telemetry.index import encode_index
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.record import RECORD_BYTES_MIN
from isthmus.telemetry.recovery import Recovered, recover
from isthmus.telemetry.segment import Carry, encode_header, index_name, segment_name

BYTES_PER_MS_MAX = 256 * 1024
"""Of one log, synced, in the long run: more than ten times what a hub has been seen to write.

Offsets reach 2^53, above which clients that keep them as floating-point numbers confuse them, after some 390 restores
of fresh backups, or one of a backup that is more than a year old.
"""

SLACK_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Seam:
    """Where a log goes on, and the files that make it do so, by their names, in the order in which to write them."""

    goes_on: int
    files: tuple[tuple[str, bytes], ...]


def seam_of(files: Files, mark: Mark | None, *, elapsed_ms: int, now_ms: int) -> Seam:
    """What to write into the folder of a log that holds what it held `elapsed_ms` ago.

    The log is repaired as a start would repair it. Raises `ConfigurationError`, `OSError`.
    """
    recovered = recover(files, mark)
    skipped = (max(0, elapsed_ms) + SLACK_MS) * BYTES_PER_MS_MAX
    base = recovered.end + skipped
    carry = _behind(recovered.carry, skipped // RECORD_BYTES_MIN + 1)
    batch = Batch([_MARKER], base, now_ms, carry)
    header = encode_header(base, now_ms, carry, _used(recovered), skipped=skipped)
    sealed = [(index_name(segment.base), encode_index(segment)) for segment in recovered.segments[-1:]]
    begun = (segment_name(base), header + b"".join(batch.buffers()))
    head = (HEAD_NAME, head_file(Mark(batch.end, base)))
    return Seam(base, (*sealed, begun, head))


class _Nobody:
    """Waits for no commit."""

    def committed(self, cookies: list[int]) -> None:
        """Hears nothing."""

    def failed(self, cookies: list[int], reason: str) -> None:
        """Hears nothing."""


_MARKER: Item = (Partition(0, 0), (), b"", b"", 0, _Nobody(), 0, 0)


def _behind(carry: Carry, numbers: int) -> Carry:
    tails = {
        partition: tail._replace(next_sequence=tail.next_sequence + numbers) for partition, tail in carry.tails.items()
    }
    return Carry(tails, carry.outbox, carry.unseen_sequence + numbers)


def _used(recovered: Recovered) -> dict[Partition, int]:
    """Where partitions really were, as far as numbers go that were skipped before."""
    return {
        partition: recovered.used.get(partition, tail.next_sequence)
        for partition, tail in recovered.carry.tails.items()
    }
