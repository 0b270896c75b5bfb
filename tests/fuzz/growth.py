"""Counts what an input costs, and says where the cost grows faster than the input; `python -m fuzz.growth` in `tests/`.

Theory of operation. Nothing is timed: a machine that is busy would fail, and one that is fast would hide. What counts
is what the interpreter does between the call of a function of ours and its return: lines executed, in our code and in
whatever Python it calls; bytes that each line had allocated at once beyond what there was before it; and steps of our
patterns, as `steps.py` counts them. The first shows loops in loops, the second copies of what is left, which C makes in
one line, the third a text that is searched from each of its places. All are the same in every run.

An input of a family comes in sizes that double. What one doubling adds beside what the doubling before it added is 2
where the cost is linear, a little more for n log n, and 4 where it is quadratic; whatever is paid once falls out. Two
such steps in a row count, for a single one may be where a decoder begins to read in earnest. One that refuses from some
size on adds nothing more, which is what limits are for.

Compiled code has no lines. So this runs in a process of its own that has `ISTHMUS_PURE` in its environment.
"""

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from fuzz import steps
from fuzz.campaign import say
from fuzz.families import FAMILIES, Family, Growing
from fuzz.steps import count_all, counted
from fuzz.target import Check, Target
from fuzz.targets import TARGETS

STEEPNESS_MAX = 3.0
"""Between n log n, which is 2.2 at these sizes, and n², which is 4."""

LINES_MIN = 2_000
"""A last step of fewer lines is no growth."""

BYTES_MIN = 64 * 1024
"""The same of bytes allocated; buffers grow in leaps, and beneath this a leap is all there is."""

STEPS_MIN = 10_000
"""The same of patterns' steps."""

SIZES = 4
"""Of a family: n, 2n, 4n, 8n."""

LINES_ENOUGH = 2_000_000
"""A size that costs this much is not doubled any more."""

OURS = str(Path(__file__).parents[2] / "src" / "isthmus")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one input cost; `seconds` are for people."""

    size: int
    lines: int
    allocated: int
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Grown:
    """A family's costs in order of size."""

    target: str
    family: str
    costs: tuple[Cost, ...]

    @property
    def steepness(self) -> float:
        """By how much the worst of the three costs grows where its size doubles, twice in a row."""
        return max(
            steepness([cost.lines for cost in self.costs], LINES_MIN),
            steepness([cost.allocated for cost in self.costs], BYTES_MIN),
            steepness([cost.steps for cost in self.costs], STEPS_MIN),
        )

    def __str__(self) -> str:
        told = " ".join(
            f"{each.size}:{each.lines}/{each.allocated}/{each.steps}/{each.seconds:.3f}s" for each in self.costs
        )
        return f"{self.target} {self.family} x{self.steepness:.2f} {told}"


def steepness(work: list[int], floor: int) -> float:
    """By how much work grows where the size doubles, twice in a row; less than `floor` more is no growth."""
    added = [after - before for before, after in pairwise(work)]
    grown = [after / max(before, floor / 4) if after >= floor else 0.0 for before, after in pairwise(added)]
    return max((min(pair) for pair in pairwise(grown)), default=0.0)


class Meter:
    """Counts lines and allocations while a check runs, within calls of our code only."""

    def __init__(self) -> None:
        self.lines = 0
        self.allocated = 0
        self._depth = 0
        self._before = 0

    def measure(self, check: Check, data: bytes) -> Cost:
        """What the check of `data` costs; whatever it raises goes through."""
        self.lines = self.allocated = self._depth = 0
        began = time.perf_counter()
        check(data)
        seconds = time.perf_counter() - began
        with counted() as patterns:
            check(data)
        tracemalloc.start()
        sys.settrace(self._called)
        try:
            check(data)
        finally:
            sys.settrace(None)
            tracemalloc.stop()
        return Cost(len(data), self.lines, self.allocated, patterns.taken, seconds)

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename == steps.__file__:
            return None
        if self._depth == 0:
            if not frame.f_code.co_filename.startswith(OURS):
                return None
            self._mark()
        self._depth += 1
        return self._traced

    def _traced(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        _, peak = tracemalloc.get_traced_memory()
        self.allocated += peak - self._before
        self._mark()
        if event == "line":
            self.lines += 1
        elif event == "return":
            self._depth -= 1
        return self._traced

    def _mark(self) -> None:
        tracemalloc.reset_peak()
        self._before, _ = tracemalloc.get_traced_memory()


def grown(meter: Meter, check: Check, family: Family, first: int) -> Grown:
    """The costs of a family from its first size on."""
    costs: list[Cost] = []
    for doubling in range(SIZES):
        costs.append(meter.measure(check, family.make(first << doubling)))
        if costs[-1].lines > LINES_ENOUGH:
            break
    return Grown(family.target, family.name, tuple(costs))


def found_families(target: Target, count: int) -> Iterator[Family]:
    """Families that chance finds: a stretch of an input of the corpus, or a word of the language, again and again."""
    seeds, random = [path.read_bytes() for path in target.corpus()], Random(target.name)
    for number in range(count):
        seed = random.choice([seed for seed in seeds if len(seed) < SEED_BYTES_MAX] or seeds)
        start = random.randint(0, len(seed))
        end = min(len(seed), start + random.choice((1, 2, 4, 8, 16, 64)))
        pump = random.choice((seed[start:end], *target.words(), *PUMPS))
        yield Family(target.name, f"found-{number}", Growing(seed[:start], pump or b"A", seed[end:]).of_bytes)


SEED_BYTES_MAX = 2_000
"""A seed that is large already hides what grows beside it."""

PUMPS = (
    b"A",
    b" ",
    b"/",
    b"%",
    b"&",
    b"=",
    b"a=",
    b"a&",
    b"a.",
    b"[",
    b"{",
    b'{"a":',
    b"(",
    b"'",
    b'"',
    b"\\",
    b",",
    b"-",
)


def main() -> int:
    """Measures what the command line names and prints a line of JSON for each family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=128, help="the smallest size, in items or bytes")
    parser.add_argument("--found", type=int, default=0, help="families of each target that chance finds")
    parser.add_argument("--target", action="append", help="repeatable; all targets without it")
    parser.add_argument("--plain", action="store_true", help="text for people instead of JSON")
    asked = parser.parse_args()
    count_all()
    for target in TARGETS:
        if asked.target and target.name not in asked.target:
            continue
        made = [family for family in FAMILIES if family.target == target.name]
        with target.opened() as check:
            meter = Meter()
            for family in (*made, *found_families(target, asked.found)):
                row = grown(meter, check, family, asked.first)
                told = {"target": row.target, "family": row.family, "steepness": row.steepness, "told": str(row)}
                say(str(row) if asked.plain else json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
