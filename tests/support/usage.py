"""What a server's processes hold, sampled, and whether that grows with the work done: the judge of a soak.

`sample` reads the kernel's own count of a process and its children. `leaks` is pure: after a warm-up, whatever should
be level is compared between the first and the last part of what is left, by medians, so that one odd sample decides
nothing. Memory may breathe by `MEMORY_SHARE` and `MEMORY_BYTES`; a leak of a hundred bytes an operation is far above
that after some minutes. Log lines are judged by what they are about.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
WARM_UP_SHARE = 3
"""A third of the samples is warm-up: caches fill, retention begins to remove, the allocator finds its size."""
SAMPLES_MIN = 12
MEMORY_SHARE = 0.15
MEMORY_BYTES = 24 * 1024 * 1024
DESCRIPTORS = 12
"""Segments of the log come and go, and so do connections of clients that come and go."""
THREADS = 4
FOLDER_SHARE = 0.25
FOLDER_BYTES = 64 * 1024 * 1024
"""Retention removes whole segments."""
LINES_PER_CONNECTION = 2.0
LINES_PER_MINUTE = 60.0
"""One line for the end of each connection; the rest is what a server may say about itself."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample: bytes resident, open descriptors and among them sockets, threads, log lines, bytes on disk."""

    memory: int
    descriptors: int
    sockets: int
    threads: int
    lines: int
    folder: int


def sample(pid: int, *, log: Path, folder: Path) -> Usage:
    """What the process and its children hold now; whatever ends meanwhile counts for nothing."""
    memory = descriptors = sockets = threads = 0
    for process in family(pid):
        with suppress(OSError):
            memory += int((process / "statm").read_text().split()[1]) * PAGE_BYTES
            threads += len(list((process / "task").iterdir()))
            targets = [_target(descriptor) for descriptor in (process / "fd").iterdir()]
            descriptors += len(targets)
            sockets += sum(target.startswith("socket:") for target in targets)
    with log.open("rb") as text:
        lines = sum(1 for _ in text)
    return Usage(memory, descriptors, sockets, threads, lines, _bytes_below(folder))


def family(pid: int) -> list[Path]:
    """The folders below `/proc` of a process and of all below it."""
    found = [Path("/proc") / str(pid)]
    for process in found:
        with suppress(OSError):
            for thread in (process / "task").iterdir():
                found += [Path("/proc") / child for child in (thread / "children").read_text().split()]
    return found


def leaks(samples: Sequence[Usage], *, minutes: float, connections: int) -> list[str]:
    """What grew though it should not, in one sentence each; `minutes` and `connections` are those of all samples."""
    if len(samples) < SAMPLES_MIN:
        return []
    level = samples[len(samples) // WARM_UP_SHARE :]
    part = len(level) // 3
    first, last = level[:part], level[-part:]
    found = [
        _grew("memory", [one.memory for one in first], [one.memory for one in last], MEMORY_SHARE, MEMORY_BYTES),
        _grew("descriptors", [one.descriptors for one in first], [one.descriptors for one in last], 0.0, DESCRIPTORS),
        _grew("threads", [one.threads for one in first], [one.threads for one in last], 0.0, THREADS),
        _grew("folder", [one.folder for one in first], [one.folder for one in last], FOLDER_SHARE, FOLDER_BYTES),
        _spoke(samples[-1].lines - samples[0].lines, minutes=minutes, connections=connections),
    ]
    return [finding for finding in found if finding]


def _grew(what: str, first: Sequence[int], last: Sequence[int], share: float, slack: int) -> str:
    before, after = median(first), median(last)
    allowed = before * (1 + share) + slack
    return f"{what} grew from {before:,.0f} to {after:,.0f}, {allowed:,.0f} at most" if after > allowed else ""


def _spoke(lines: int, *, minutes: float, connections: int) -> str:
    allowed = connections * LINES_PER_CONNECTION + minutes * LINES_PER_MINUTE
    told = f"{lines} log lines in {minutes:.1f} minutes with {connections} connections, {allowed:,.0f} at most"
    return told if lines > allowed else ""


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(root) / name).stat().st_blocks * 512
    return total
