"""The log under damage: every synced event is served, or told as gone by partition, number and place; nothing else is.

`Truth` has every event of a log before the damage. After it the log is judged three times: as `verify_log` reads it, as
a start recovers and serves it, and as `verify_log` reads it when the log has gone on.
"""

import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from isthmus.telemetry.damage import Damage
from isthmus.telemetry.head import HEAD_NAME
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS, Partition, Record
from isthmus.telemetry.record import HEADER_BYTES
from isthmus.telemetry.segment import index_name, open_segment, segment_bases, segment_name
from isthmus.telemetry.tails import TAILS_NAME
from isthmus.telemetry.verify import LogReport, verify_log
from telemetry.fakes import P0, P1, SetClock, Unsynced, read_whole, store

SMALL = LogConfig(segment_bytes=1_500, tail_cache_bytes=0)
OTHER = Partition(7, 3)
PARTITIONS = (P0, P1, OTHER)
FLIPS = 300
"""In each run of the suite; the long run flips 10,000."""

Name = tuple[Partition, int]


@dataclass(frozen=True, slots=True)
class Truth:
    """A whole log: its files, and its events by partition and number, each with where it lies and ends."""

    files: dict[str, bytes]
    events: dict[Name, Record]
    ends: dict[Name, int]
    bases: list[int]
    end: int

    def lay(self, folder: Path) -> Path:
        """Its files in an empty folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder

    def touched(self, start: int, end: int) -> set[Name]:
        """The events some of whose bytes lie between two positions."""
        return {name for name, event in self.events.items() if event.offset < end and start < self.ends[name]}


async def truth(folder: Path, commits: int = 24) -> Truth:
    """A log of several segments; some of its records are no events, and the last partition ends early."""
    log = SegmentLog.open(folder, SetClock(), config=SMALL, files=Unsynced(_made(folder)))
    for number in range(commits):
        partition = PARTITIONS[number % 3] if number < commits * 3 // 4 else PARTITIONS[number % 2]
        endpoints = (2,) if number % 7 == 6 else (EVENTS, 2)
        await store(log, [b"payload %d" % number] * (1 + number % 3), partition, endpoints)
    events = _served(log)
    ends = {name: event.offset + _length(event) for name, event in events.items()}
    end = log.seek_end(P0)
    await log.close()
    files = _contents(folder)
    return Truth(files, events, ends, segment_bases(files), end)


@pytest.fixture
async def whole(tmp_path: Path) -> Truth:
    return await truth(tmp_path / "whole")


async def judge(whole: Truth, folder: Path, *, harmed: set[Name], goes_on: bool = True) -> LogReport:
    """Whether what `harmed` names, and nothing else, is gone and told; the report before a start."""
    report = verify_log(folder, Unsynced(folder))
    _exact(whole, report.damages, harmed)
    heard: list[Damage] = []
    log = SegmentLog.open(folder, SetClock(), config=SMALL, files=Unsynced(folder), on_damage=heard.append)
    served = _served(log)
    assert served == {name: event for name, event in whole.events.items() if name not in harmed}
    _exact(whole, [*log.recovery.damages, *heard], harmed)
    if goes_on:
        for partition in PARTITIONS:
            await store(log, [b"new"], partition)
            last = max(number for each, number in whole.events if each == partition)
            assert read_whole(log, partition)[-1].sequence > last
    await log.close()
    _exact(whole, verify_log(folder, Unsynced(folder)).damages, harmed)
    return report


def _exact(whole: Truth, damages: Iterable[Damage], harmed: set[Name]) -> None:
    """The damages name what is gone, where it was, and nothing that is there."""
    told: set[Name] = set()
    for damage in damages:
        for lost in damage.lost:
            names = {(lost.partition, number) for number in range(lost.first_sequence, lost.last_sequence + 1)}
            assert all(damage.start <= whole.events[name].offset < damage.end for name in names & harmed)
            told |= names
        assert damage.acknowledged
        assert whole.touched(damage.start, damage.end) <= harmed
    assert told == harmed


async def test_a_tail_that_is_cut_at_any_byte(whole: Truth, tmp_path: Path) -> None:
    last = whole.bases[-1]
    data = whole.files[segment_name(last)]
    start = len(data) - (whole.end - last)
    for size in range(len(data)):
        folder = whole.lay(tmp_path / "cut")
        (folder / segment_name(last)).write_bytes(data[:size])
        harmed = whole.touched(last + max(0, size - start), whole.end)
        report = await judge(whole, folder, harmed=harmed, goes_on=size % 50 == 0)
        assert (report.damages[-1].end, report.end) == (whole.end, whole.end)


@pytest.mark.parametrize("flips", [FLIPS, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("harm", ["a bit", "a byte", "a sector"])
async def test_whatever_flips_anywhere(whole: Truth, tmp_path: Path, flips: int, harm: str) -> None:
    chance = random.Random(f"{harm} {flips}")
    names = [name for name, data in sorted(whole.files.items()) if data]
    for number in range(flips // 3):
        folder = whole.lay(tmp_path / "broken")
        name = chance.choice(names)
        data = bytearray(whole.files[name])
        at = chance.randrange(len(data))
        stop = at + 1
        if harm == "a bit":
            data[at] ^= 1 << chance.randrange(8)
        elif harm == "a byte":
            data[at] ^= chance.randrange(1, 256)
        else:
            at, stop = at - at % 512, min(at - at % 512 + 512, len(data))
            data[at:stop] = chance.randbytes(stop - at)
        (folder / name).write_bytes(data)
        await judge(whole, folder, harmed=_harmed(whole, name, at, stop), goes_on=number % 20 == 0)


def _harmed(whole: Truth, name: str, start: int, stop: int) -> set[Name]:
    """The events in some bytes of a file."""
    if not name.endswith(".segment"):
        return set()
    base = segment_bases([name])[0]
    following = [*whole.bases[1:], whole.end][whole.bases.index(base)]
    shift = len(whole.files[name]) - (following - base) - base
    return whole.touched(max(start - shift, base), max(stop - shift, base))


@pytest.mark.parametrize("which", range(6))
async def test_a_segment_that_is_missing(whole: Truth, tmp_path: Path, which: int) -> None:
    base, end = [*zip(whole.bases, [*whole.bases[1:], whole.end], strict=True)][which % len(whole.bases)]
    folder = whole.lay(tmp_path / "broken")
    (folder / segment_name(base)).unlink()
    await judge(whole, folder, harmed=whole.touched(base, end))


async def test_all_segments_missing(whole: Truth, tmp_path: Path) -> None:
    folder = whole.lay(tmp_path / "broken")
    for base in whole.bases:
        (folder / segment_name(base)).unlink()
    await judge(whole, folder, harmed=set(whole.events))


@pytest.mark.parametrize("further", [-9, 0, 9])
async def test_a_segment_that_is_there_twice(whole: Truth, tmp_path: Path, further: int) -> None:
    """A copy under a name of no segment must not cut another one short."""
    folder = whole.lay(tmp_path / "broken")
    copied = (whole.bases[2] + whole.bases[3]) // 2 + further
    shutil.copyfile(folder / segment_name(whole.bases[1]), folder / segment_name(copied))
    shutil.copyfile(folder / segment_name(whole.bases[1]), folder / segment_name(whole.end + 100))
    await judge(whole, folder, harmed=set())


@pytest.mark.parametrize(("one", "other"), [(1, 2), (0, 3), (2, -1)])
async def test_segments_that_changed_places(whole: Truth, tmp_path: Path, one: int, other: int) -> None:
    folder, bases = whole.lay(tmp_path / "broken"), [*whole.bases, whole.end]
    first, second = whole.bases[one], whole.bases[other]
    (folder / segment_name(first)).write_bytes(whole.files[segment_name(second)])
    (folder / segment_name(second)).write_bytes(whole.files[segment_name(first)])
    harmed = {name for base in (first, second) for name in whole.touched(base, bases[bases.index(base) + 1])}
    await judge(whole, folder, harmed=harmed)


@pytest.mark.parametrize("harm", ["missing", "empty", "short", "of another", "other bytes"])
@pytest.mark.parametrize("kind", ["index", "head", "tails"])
async def test_what_can_be_made_again_costs_nothing(whole: Truth, tmp_path: Path, kind: str, harm: str) -> None:
    folder = whole.lay(tmp_path / "broken")
    names = {"index": index_name(whole.bases[1]), "head": HEAD_NAME, "tails": TAILS_NAME}
    path = folder / names[kind]
    harms: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda data: b"",
        "short": lambda data: data[: len(data) // 2],
        "of another": lambda data: whole.files[index_name(whole.bases[0])],
        "other bytes": lambda data: random.Random(harm).randbytes(len(data)),
    }
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(harms[harm](path.read_bytes()))
    await judge(whole, folder, harmed=set())


async def test_a_mark_and_a_tail_that_are_both_gone(whole: Truth, tmp_path: Path) -> None:
    """The tails file says how far the log was durable, too."""
    folder, last = whole.lay(tmp_path / "broken"), whole.bases[-1]
    (folder / HEAD_NAME).write_bytes(bytes(4096))
    data_start = open_segment(Unsynced(folder), last).data_start
    (folder / segment_name(last)).write_bytes(whole.files[segment_name(last)][:data_start])
    await judge(whole, folder, harmed=whole.touched(last, whole.end))


async def test_what_retention_let_go_is_not_missed(tmp_path: Path) -> None:
    log = SegmentLog.open(_made(tmp_path), SetClock(), config=LogConfig(segment_bytes=400, retention_bytes=1_500))
    for number in range(30):
        await store(log, [b"payload %d" % number])
        log.tick(SetClock().utc_ms())
    await log.close()
    report = verify_log(tmp_path)
    assert report.begin > 0
    assert report.is_whole
    again = SegmentLog.open(tmp_path, SetClock())
    assert again.recovery.is_clean
    await again.close()


def _served(log: SegmentLog) -> dict[Name, Record]:
    return {(partition, record.sequence): record for partition in PARTITIONS for record in read_whole(log, partition)}


def _length(event: Record) -> int:
    """Bytes of an event's record."""
    return HEADER_BYTES + 4 * len(event.endpoints) + len(event.envelope) + len(event.payload)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
