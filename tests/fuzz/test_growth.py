"""What an input costs grows with it about in a line, for every decoder and every pattern there is.

Nothing is timed (`growth.py` says what is counted). A run of `make test-long` takes larger inputs, and besides those
that somebody thought of some that chance finds; it prints what each cost, with the time for people to look at.
"""

import contextlib
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import isthmus
from fuzz.families import FAMILIES, Family, Growing
from fuzz.growth import STEEPNESS_MAX, Meter, grown, steepness
from fuzz.pumps import pumped
from fuzz.steps import Counted, Machine, TooManyStepsError, counted, patterns_of_ours
from fuzz.target import Check
from fuzz.targets import TARGETS
from isthmus.compiled import PURE_VARIABLE

TESTS = Path(__file__).parents[1]

SHORT_BYTES, LONG_BYTES = 64, 1_024
"""Smallest size of an input; the largest is eight times that, which is as much as most decoders take."""

FOUND = 8
"""Families that chance finds, of each target in a long run."""

ROUNDS = (6, 12, 24, 48)
"""Repetitions of what a pattern repeats."""

STEPS_MIN = 200
"""A pattern that takes fewer more steps for twice as much is not steep."""

NO_FAMILY = {"amqp-message", "bus-rule", "enrolment-token", "pump-amqp"}
"""Targets of encodings that others have families for; chance finds some of them in a long run."""


def test_every_decoder_reads_in_a_line() -> None:
    rows = _measured("--first", str(SHORT_BYTES))
    assert len(rows) == len(FAMILIES)
    assert not _steep(rows)


@pytest.mark.long
def test_every_decoder_reads_much_and_what_chance_finds_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = _measured("--first", str(LONG_BYTES), "--found", str(FOUND))
    with capsys.disabled():
        sys.stdout.write("\n".join(str(row["told"]) for row in rows) + "\n")
    assert len(rows) == len(FAMILIES) + FOUND * len(TARGETS)
    assert not _steep(rows)


def test_every_target_has_a_family() -> None:
    assert {target.name for target in TARGETS} == {family.target for family in FAMILIES} | NO_FAMILY


def _measured(*arguments: str) -> list[dict[str, object]]:
    """A row for each family; of the source, since what is compiled has no lines."""
    command = [sys.executable, "-m", "fuzz.growth", *arguments]
    environment = os.environ | {PURE_VARIABLE: "1"}
    ran = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def _steep(rows: list[dict[str, object]]) -> list[object]:
    return [row["told"] for row in rows if float(str(row["steepness"])) > STEEPNESS_MAX]


def test_no_pattern_takes_squares() -> None:
    """A number that a route read so took a minute and a half of the loop: sixty thousand digits and a letter."""
    for each in pkgutil.walk_packages(isthmus.__path__, "isthmus."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
    found = {pattern: (module, name) for module, name, pattern in patterns_of_ours()}
    assert len(found) > 50
    worst = [told for pattern, (module, name) in found.items() for told in _squares(pattern, module, name)]
    assert not worst


def _squares(pattern: re.Pattern[str], module: ModuleType, name: str) -> list[str]:
    """Where the steps of a pattern grow as a square, as it is used: at one place, or searched for at all of them."""
    machine = Machine(pattern)
    searched = re.search(rf"\b{name}\.(?:search|split|sub|findall|finditer)\(", inspect.getsource(module))
    uses: dict[str, Callable[[str], object]] = {"match": lambda text: machine.match(text, whole=True)}
    if searched:
        uses["search"] = machine.search
    told = []
    for before, pump, behind in pumped(pattern):
        for use, call in uses.items():
            steps = [_steps(machine, call, before + pump * rounds + behind) for rounds in ROUNDS]
            if steepness(steps, STEPS_MIN) > STEEPNESS_MAX:
                told.append(f"{module.__name__}.{name}: {use} of {before!r} + n * {pump!r} + {behind!r} takes {steps}")
    return told


def _steps(machine: Machine, call: Callable[[str], object], text: str) -> int:
    before = machine.steps
    with contextlib.suppress(TooManyStepsError):
        call(text)
    return machine.steps - before


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("looped", "def check(data):\n    for _ in data:\n        for _ in data:\n            pass\n"),
        (
            "copied",
            "def check(data):\n    held = b''\n    for each in data * 8:\n        held = held + bytes((each,))\n",
        ),
    ],
    ids=["looped", "copied"],
)
def test_a_square_is_seen(name: str, code: str) -> None:
    """What lies in the package is ours; so this is compiled as if it lay there."""
    made: dict[str, Check] = {}
    exec(compile(code, str(Path(isthmus.__file__).parent / "square.py"), "exec"), made)
    row = grown(Meter(), made["check"], Family(name, "long", Growing(b"", b"a").of_bytes), SHORT_BYTES // 2)
    assert row.steepness > STEEPNESS_MAX


def test_a_pattern_that_takes_squares_is_seen() -> None:
    ends = Counted(re.compile(r"[0-9]+\.?[0-9]*"))

    def check(data: bytes) -> None:
        assert not ends.fullmatch(data.decode())

    row = grown(Meter(), check, Family("ends", "digits", Growing(b"", b"1", b"x").of_bytes), 2 * SHORT_BYTES)
    assert row.steepness > STEEPNESS_MAX


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(a*)*b", "aaab"),
        (r"(?=.{3,5}$)[a-z]+(?:-[a-z]+)*", "a-bc"),
        (r"(?<!\s)\s+and\s+", "a  and b"),
        (r"(['\"])\1|x{2,3}?", "''"),
        (r"/\*.*?\*/", "/* x */ */"),
        (r"(?:[^\W\d]|\$)(?:\w|-(?=[^\W\d]))*", "ä-b-1"),
        (r"a|ab|abc", "abc"),
        (r"(?i)ABC$", "abc\n"),
    ],
)
def test_the_machine_that_counts_finds_what_the_library_finds(pattern: str, text: str) -> None:
    """It says so itself whenever it counts."""
    both = Counted(re.compile(pattern))
    with counted() as meter:
        for start in range(len(text)):
            both.match(text, start)
        both.fullmatch(text)
        both.search(text)
    assert meter.taken > 0
