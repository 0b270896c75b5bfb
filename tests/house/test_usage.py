"""The judge of a soak finds what grows, lets breathe what breathes, and samples what the kernel counts."""

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.usage import SAMPLES_MIN, Usage, family, leaks, sample

START = Usage(memory=200 << 20, descriptors=100, sockets=60, threads=20, lines=50, folder=300 << 20)
COUNT = 60


def growing(**each: int) -> list[Usage]:
    """Samples in which these fields grow by so much from one to the next."""
    return [
        replace(START, **{name: getattr(START, name) + number * step for name, step in each.items()})
        for number in range(COUNT)
    ]


@pytest.mark.parametrize(
    "samples",
    [
        growing(),
        growing(memory=100_000, lines=40, folder=1 << 20),
        [replace(one, memory=one.memory << 1) if number == COUNT - 1 else one for number, one in enumerate(growing())],
        [*[replace(START, memory=number << 20) for number in range(COUNT // 3)], *growing()[: 2 * COUNT // 3]],
        growing(memory=50 << 20, descriptors=50)[: SAMPLES_MIN - 1],
    ],
    ids=["level", "breathing", "one odd sample", "warm-up", "too short to tell"],
)
def test_what_is_level_or_too_short_is_no_leak(samples: Sequence[Usage]) -> None:
    assert leaks(samples, minutes=10.0, connections=1_000) == []


@pytest.mark.parametrize(
    ("each", "words"),
    [
        ({"memory": 3 << 20}, "memory grew"),
        ({"descriptors": 1}, "descriptors grew"),
        ({"threads": 1}, "threads grew"),
        ({"folder": 10 << 20}, "folder grew"),
        ({"lines": 50}, "log lines in 10.0 minutes"),
    ],
)
def test_what_grows_is_a_leak(each: dict[str, int], words: str) -> None:
    (finding,) = leaks(growing(**each), minutes=10.0, connections=1_000)
    assert words in finding


def test_sample_counts_what_the_kernel_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n")
    before = sample(os.getpid(), log=log, folder=tmp_path)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with log.open():
        now = sample(os.getpid(), log=log, folder=tmp_path)
    over.set()
    thread.join()
    assert now.threads == before.threads + 1
    assert now.descriptors == before.descriptors + 1
    assert now.lines == 2
    assert now.memory > 0 < now.folder
    assert family(os.getpid())[0] == Path("/proc") / str(os.getpid())
