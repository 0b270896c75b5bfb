"""Fuzzes all targets side by side until so many inputs have been made; `python -m fuzz.campaign` in `tests/`.

Theory of operation. Work is cut into slices: a target, the number of its first input, and how many. Each runs in a
process of a pool, over a world of its own, so that what one input did to a world is seen by the next ones of its slice
only; an input is a function of target, corpus and number (`mutation.py`), so a slice can be run again. Targets take
turns; a turn is as many inputs as a target manages in about `TURN_SECONDS`, so that a fast decoder sees more of them
than a whole house does, and no target waits for another. What does not end, or takes as long as if it did not, is a
finding after `INPUT_SECONDS_MAX`.

A finding ends nothing: it is printed with the input, which goes to the corpus once it is mended.
"""

import argparse
import hashlib
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

from fuzz.mutation import mutated
from fuzz.target import Check, Target
from fuzz.targets import TARGETS, target

FIRST_SLICE = 200
"""Inputs of a target's first turn, which tells how fast it is."""

TURN_SECONDS = 20.0
"""Of a turn after that: long beside the making of a world."""

SLICE_MAX = 100_000

TURNS_MIN = 4
"""Turns of each target in a campaign, however short: nobody takes what others have not had yet."""

INPUT_SECONDS_MAX = 20.0
"""One input: a thousand times what the slowest needs. Beyond it, something does not end."""

FINDINGS_MAX = 20
"""Of a slice; what fails at every input need not be told a thousand times."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that breaks the invariant, and how."""

    target: str
    number: int
    data: bytes
    told: str

    @property
    def kind(self) -> str:
        """What tells findings apart: the exception and the place it came from."""
        lines = [line.strip() for line in self.told.strip().splitlines()]
        places = [line for line in lines if line.startswith("File ") and "isthmus" in line]
        return f"{self.target}: {lines[-1].partition(':')[0]} ({places[-1] if places else lines[-1][:160]})"


@dataclass(frozen=True, slots=True)
class Slice:
    """Some inputs of a target."""

    target: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Done:
    """A slice that has run, the processor's seconds it took, and what it found."""

    slice: Slice
    seconds: float
    findings: tuple[Finding, ...]


class NeverEndingError(Exception):
    """An input took longer than `INPUT_SECONDS_MAX`."""


def run_slice(work: Slice) -> Done:
    """Runs a slice in this process, to its end or to `FINDINGS_MAX`."""
    fuzzed = target(work.target)
    seeds = [path.read_bytes() for path in fuzzed.corpus()]
    words, findings = fuzzed.words(), list[Finding]()
    began = time.process_time()
    with fuzzed.opened() as check:
        for number in range(work.first, work.first + work.count):
            data = mutated(seeds, words, number)
            finding = tried(fuzzed.name, check, number, data)
            if finding is not None:
                findings.append(finding)
                if len(findings) == FINDINGS_MAX:
                    break
    return Done(work, time.process_time() - began, tuple(findings))


def tried(name: str, check: Check, number: int, data: bytes) -> Finding | None:
    """The finding that an input is, if it is one."""
    try:
        with _ended_in_time():
            check(data)
    except Exception:
        return Finding(name, number, data, traceback.format_exc())
    return None


@contextmanager
def _ended_in_time() -> Iterator[None]:
    """Raises in what does not end; only the main thread of a process can be told."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise NeverEndingError

    kept = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, INPUT_SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, kept)


class Campaign:
    """Slices of all targets in turn until `inputs` are made."""

    def __init__(self, targets: tuple[Target, ...], inputs: int, first: int) -> None:
        self._left = inputs
        self._turn_max = max(1, min(SLICE_MAX, inputs // (TURNS_MIN * len(targets))))
        self._next = {each.name: first for each in targets}
        self._turn = {each.name: min(FIRST_SLICE, self._turn_max) for each in targets}
        self.made: Counter[str] = Counter()
        self.findings: list[Finding] = []

    def run(self, workers: int) -> None:
        """Runs to the end, and tells every minute how far it is."""
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            order = list(self._next)
            running: set[Future[Done]] = set()
            while self._left > 0 or running:
                while self._left > 0 and len(running) < workers:
                    order.append(order.pop(0))
                    running.add(pool.submit(run_slice, self._slice(order[-1])))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    self._note(each.result())

    def _slice(self, name: str) -> Slice:
        count = min(self._turn[name], self._left)
        work = Slice(name, self._next[name], count)
        self._next[name] += count
        self._left -= count
        return work

    def _note(self, done: Done) -> None:
        name = done.slice.target
        self.made[name] += done.slice.count
        each = max(done.seconds / done.slice.count, 1e-6)
        self._turn[name] = max(1, min(self._turn_max, int(TURN_SECONDS / each)))
        for finding in done.findings:
            self.findings.append(finding)
            say(f"FINDING {finding.kind}\n  input {finding.number}: {finding.data[:200]!r}")
        say(f"{name} {done.slice.first}+{done.slice.count} in {done.seconds:.1f} s; {sum(self.made.values())} in all")

    def table(self) -> str:
        """How many inputs each target has seen."""
        rows = [f"{name:20} {self.made[name]:>12,}" for name in self._next]
        return "\n".join([*rows, f"{'all':20} {sum(self.made.values()):>12,}"])


def keep(findings: list[Finding], folder: Path) -> None:
    """Writes one input of each kind where somebody finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    for finding in {each.kind: each for each in findings}.values():
        name = f"{finding.target}-{hashlib.sha256(finding.data).hexdigest()[:12]}"
        (folder / name).write_bytes(finding.data)
        (folder / f"{name}.txt").write_text(finding.told)


def say(text: str) -> None:
    """A line at once, for whoever watches for hours."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Fuzzes as the command line says; the exit code tells whether anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=int(os.environ.get("FUZZ_INPUTS", "100000")))
    parser.add_argument("--target", action="append", help="repeatable; all targets without it")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input of each target")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="a folder for inputs that broke something")
    asked = parser.parse_args()
    chosen = tuple(each for each in TARGETS if not asked.target or each.name in asked.target)
    campaign = Campaign(chosen, asked.inputs, asked.first)
    campaign.run(asked.workers)
    say(campaign.table())
    for kind, count in Counter(finding.kind for finding in campaign.findings).most_common():
        say(f"{count:6} x {kind}")
    if asked.keep:
        keep(campaign.findings, asked.keep)
    return 1 if campaign.findings else 0


if __name__ == "__main__":
    sys.exit(main())
