"""Counts the steps that a pattern takes, as an engine that backtracks takes them; the library's own counts nothing.

Theory of operation. A pattern's tree, as the library parses it, becomes a program for a machine with a stack of places
to go back to: whatever is repeated or has alternatives pushes one. A step is one character looked at. The library takes
short cuts (it looks for a literal first, and a run of one class is one loop), so that it takes fewer; it takes none
that would turn a square into a line. Where both disagree on what matches, the machine is wrong, and says so.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

codes: Any = import_module("re._constants")
parser: Any = import_module("re._parser")
compiler: Any = import_module("re._compiler")

STEPS_MAX = 20_000_000
"""Of one call: beyond it, a machine in Python is not waited for."""

REPEATS_MAX = 512
"""Of a bounded repetition, which is unrolled; more is taken for unbounded."""


class TooManyStepsError(Exception):
    """A pattern takes more than `STEPS_MAX` at one text."""


@dataclass(slots=True)
class Program:
    """Instructions: a name and what it works on, as `Machine._run` has them."""

    code: list[tuple[Any, ...]] = field(default_factory=list)


class Machine:
    """A compiled pattern beside the library's, whose steps are counted."""

    def __init__(self, pattern: re.Pattern[str] | re.Pattern[bytes]) -> None:
        self._ignore_case = bool(pattern.flags & re.IGNORECASE)
        self._dot_all = bool(pattern.flags & re.DOTALL)
        self._multi_line = bool(pattern.flags & re.MULTILINE)
        self._ascii = bool(pattern.flags & re.ASCII) or isinstance(pattern.pattern, bytes)
        self._program = Program()
        self._slots = 0
        self._compile(parser.parse(pattern.pattern, pattern.flags), self._program)
        self._program.code.append(("match",))
        self.steps = 0

    def match(self, text: str, position: int = 0, *, whole: bool = False) -> int | None:
        """The end of the match that begins at `position`, which must be the text's end when it is `whole`."""
        return self._run(self._program, text, position, whole=whole, budget=self.steps + STEPS_MAX)

    def search(self, text: str, position: int = 0) -> tuple[int, int] | None:
        """The first match at `position` or behind it."""
        for start in range(position, len(text) + 1):
            self.steps += 1
            end = self.match(text, start)
            if end is not None:
                return start, end
        return None

    def _compile(self, tree: Any, program: Program) -> None:
        for kind, argument in tree:
            self._node(kind, argument, program)

    def _node(self, kind: Any, argument: Any, program: Program) -> None:
        code = program.code
        match kind:
            case codes.LITERAL | codes.NOT_LITERAL | codes.ANY | codes.IN:
                code.append(("one", self._test(kind, argument)))
            case codes.AT:
                code.append(("at", argument))
            case codes.SUBPATTERN:
                group, _, _, tree = argument
                code.append(("begin", group))
                self._compile(tree, program)
                code.append(("end", group))
            case codes.GROUPREF:
                code.append(("same", argument))
            case codes.BRANCH:
                self._branch(argument[1], program)
            case codes.MAX_REPEAT | codes.MIN_REPEAT:
                least, most, tree = argument
                self._repeat(least, most, tree, program, greedy=kind is codes.MAX_REPEAT)
            case codes.ASSERT | codes.ASSERT_NOT:
                direction, tree = argument
                inner = Program()
                self._compile(tree, inner)
                inner.code.append(("match",))
                code.append(("look", (inner, 0 if direction > 0 else tree.getwidth()[0], kind is codes.ASSERT)))
            case _:
                raise NotImplementedError(f"{kind} in a pattern")

    def _branch(self, alternatives: list[Any], program: Program) -> None:
        code, ends = program.code, list[int]()
        for number, tree in enumerate(alternatives):
            split = len(code)
            if number < len(alternatives) - 1:
                code.append(())
            self._compile(tree, program)
            if number < len(alternatives) - 1:
                ends.append(len(code))
                code.append(())
                code[split] = ("split", split + 1, len(code))
        for end in ends:
            code[end] = ("jump", len(code))

    def _repeat(self, least: int, most: int, tree: Any, program: Program, *, greedy: bool) -> None:
        code = program.code
        for _ in range(least):
            self._compile(tree, program)
        if most > REPEATS_MAX:
            slot, self._slots = self._slots, self._slots + 1
            start = len(code)
            code.extend(((), ("mark", slot)))
            self._compile(tree, program)
            code.extend((("moved", slot), ("jump", start)))
            code[start] = ("split", start + 1, len(code)) if greedy else ("split", len(code), start + 1)
            return
        splits = []
        for _ in range(most - least):
            splits.append(len(code))
            code.append(())
            self._compile(tree, program)
        for split in splits:
            code[split] = ("split", split + 1, len(code)) if greedy else ("split", len(code), split + 1)

    def _test(self, kind: Any, argument: Any) -> Callable[[str], bool]:
        flags = (re.IGNORECASE if self._ignore_case else 0) | (re.ASCII if self._ascii else 0)
        flags |= re.DOTALL if self._dot_all else 0
        tree = parser.SubPattern(parser.State(), [(kind, argument)])
        tree.state.str = ""
        tree.state.flags = flags | (0 if self._ascii else re.UNICODE)
        one = compiler.compile(tree, tree.state.flags).match
        known: dict[str, bool] = {}

        def test(character: str) -> bool:
            found = known.get(character)
            if found is None:
                found = known[character] = one(character) is not None
            return found

        return test

    def _run(self, program: Program, text: str, position: int, *, whole: bool, budget: int) -> int | None:
        code, size = program.code, len(text)
        stack: list[tuple[int, int, dict[object, int]]] = [(0, position, {})]
        while stack:
            at, position, marks = stack.pop()
            while True:
                self.steps += 1
                if self.steps > budget:
                    raise TooManyStepsError
                match code[at]:
                    case ("one", test):
                        if position >= size or not test(text[position]):
                            break
                        position += 1
                        at += 1
                    case ("split", first, second):
                        stack.append((second, position, marks))
                        at = first
                    case ("jump", to):
                        at = to
                    case ("mark", slot):
                        marks = {**marks, slot: position}
                        at += 1
                    case ("moved", slot):
                        if marks[slot] == position:
                            break  # an empty round ends a repetition
                        at += 1
                    case ("begin" | "end" as edge, group):
                        if group is not None:
                            marks = {**marks, (edge, group): position}
                        at += 1
                    case ("same" | "look" | "at", _):
                        moved = self._checked(code[at], text, position, marks, budget)
                        if moved is None:
                            break
                        position = moved
                        at += 1
                    case _:
                        if whole and position != size:
                            break
                        return position
        return None

    def _checked(
        self, instruction: tuple[Any, ...], text: str, position: int, marks: dict[object, int], budget: int
    ) -> int | None:
        """Where an instruction that looks at more than a character leads; None when it does not hold."""
        match instruction:
            case ("same", group):
                begin, end = marks.get(("begin", group)), marks.get(("end", group))
                if begin is None or end is None or not text.startswith(text[begin:end], position):
                    return None
                return position + end - begin
            case ("look", (inner, width, wanted)):
                start = position - width
                found = start >= 0 and self._run(inner, text, start, whole=False, budget=budget) is not None
                return position if found is wanted else None
            case (_, where):
                return position if self._is_at(where, text, position) else None
        raise AssertionError(instruction)

    def _is_at(self, where: Any, text: str, position: int) -> bool:
        match where:
            case codes.AT_BEGINNING:
                return position == 0 or (self._multi_line and text[position - 1] == "\n")
            case codes.AT_BEGINNING_STRING:
                return position == 0
            case codes.AT_END:
                last = position == len(text) - 1 and text[position] == "\n"
                return position == len(text) or last or (self._multi_line and text[position : position + 1] == "\n")
            case codes.AT_END_STRING:
                return position == len(text)
            case _:
                raise NotImplementedError(f"{where} in a pattern")


@dataclass(slots=True)
class Meter:
    """Steps of all patterns; none are counted while it is off, which is nearly always."""

    on: bool = False
    taken: int = 0


METER = Meter()
"""Of this process."""


@contextmanager
def counted() -> Iterator[Meter]:
    """Counts from nothing to the end of the block."""
    METER.on, METER.taken = True, 0
    try:
        yield METER
    finally:
        METER.on = False


class Counted:
    """Stands where a pattern of ours stood: answers as it does, and counts what the machine takes for it."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern.pattern
        self._pattern = pattern
        self._machine = Machine(pattern)

    def match(self, text: str, position: int = 0) -> re.Match[str] | None:
        """As a pattern has it, and so are all the others."""
        found = self._pattern.match(text, position)
        self._charge(lambda: self._machine.match(text, position), None if found is None else found.end())
        return found

    def fullmatch(self, text: str) -> re.Match[str] | None:
        found = self._pattern.fullmatch(text)
        self._charge(lambda: self._machine.match(text, whole=True), None if found is None else found.end())
        return found

    def search(self, text: str) -> re.Match[str] | None:
        found = self._pattern.search(text)
        self._charge(lambda: self._machine.search(text), None if found is None else found.span())
        return found

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        self._charge(lambda: self._all(text), None)
        return self._pattern.finditer(text)

    def findall(self, text: str) -> list[object]:
        self._charge(lambda: self._all(text), None)
        return self._pattern.findall(text)

    def split(self, text: str, maxsplit: int = 0) -> list[str]:
        self._charge(lambda: self._all(text), None)
        return self._pattern.split(text, maxsplit)

    def sub(self, repl: "str | Callable[[re.Match[str]], str]", text: str, count: int = 0) -> str:
        self._charge(lambda: self._all(text), None)
        return self._pattern.sub(repl, text, count)

    def _all(self, text: str) -> None:
        position = 0
        while position <= len(text) and (span := self._machine.search(text, position)) is not None:
            position = max(span[1], span[0] + 1)

    def _charge(self, work: Callable[[], object], expected: object) -> None:
        """Counts the machine's work, which must come to what the library found."""
        if not METER.on:
            return
        before = self._machine.steps
        found = work()
        METER.taken += self._machine.steps - before
        assert found == expected, f"{self.pattern}: {found}, not {expected}"


def patterns_of_ours() -> list[tuple[ModuleType, str, re.Pattern[str]]]:
    """Each pattern of text that a module of ours that has been loaded calls by a name."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "isthmus"]
    return [
        (module, name, value)
        for module in modules
        for name, value in sorted(vars(module).items())
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str)
    ]


def count_all() -> None:
    """From now on, for the rest of the process, what patterns cost is counted."""
    for module, name, pattern in patterns_of_ours():
        setattr(module, name, Counted(pattern))
