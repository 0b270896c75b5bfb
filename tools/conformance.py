"""Writes `docs/reference/conformance.md`: which tests touch which rules of MQTT 3.1.1 and AMQP 1.0.

The rules are in `tools/rules/`. A test names those it touches by `@pytest.mark.rule("MQTT-3.1.0-1", …)`, at a function
or at one of its parameters; this file reads the marks out of the tests' source, so nothing has to be collected. Tables
of cases that name a rule in each case count for the test that runs them.

conformance.py                  writes the page
conformance.py --check          exits 1 and says so when the page differs, a test names a rule that is not there, or
                                a rule that applies is touched by none
"""

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = Path(__file__).parent / "rules"
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "reference" / "conformance.md"
GENERATED = "<!-- Written by `make docs`; change tools/rules/ or the marks of the tests instead. -->\n"
CASES = {"wire/cases/mqtt.py": "wire/mqtt/test_packets.py::test_bad_case_breaks_its_rule"}
"""Tables of cases, whose rule is an argument of each, and the test that runs all of them."""
TESTS_SHOWN_MAX = 4
"""More tests of one rule are counted; the marks name them."""


@dataclass(frozen=True, slots=True)
class Standard:
    """A specification: every rule with its words, and why some are not Isthmus' to obey."""

    title: str
    rules: Mapping[str, str]
    not_ours: Mapping[str, str]

    @property
    def ours(self) -> list[str]:
        """The rules that apply."""
        return [rule for rule in self.rules if rule not in self.not_ours]


def standards() -> list[Standard]:
    """Both specifications, as the files tell them."""
    return [_standard("MQTT 3.1.1", "mqtt.toml"), _standard("AMQP 1.0", "amqp.toml")]


def touched() -> dict[str, list[str]]:
    """The tests of each rule that is named by any, as `file::test`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" not in path.parts:
            for test, rule in _marks(path):
                found[rule].append(test)
    for table, test in CASES.items():
        for rule in _rules_of_cases(TESTS / table):
            found[rule].append(test)
    return {rule: list(dict.fromkeys(tests)) for rule, tests in found.items()}


def uncovered(tests: Mapping[str, list[str]]) -> list[str]:
    """The rules that apply and no test touches."""
    return [rule for standard in standards() for rule in standard.ours if rule not in tests]


def unknown(tests: Mapping[str, list[str]]) -> list[str]:
    """Names that tests use and no specification has."""
    known = {rule for standard in standards() for rule in standard.rules}
    return [f"{rule} ({tests[rule][0]})" for rule in tests if rule not in known]


def page(tests: Mapping[str, list[str]]) -> str:
    """The text of the page."""
    missing = uncovered(tests)
    told = ", ".join(f"`{rule}`" for rule in missing) if missing else "none"
    parts = [
        "# Conformance\n",
        GENERATED,
        "Every normative statement of MQTT 3.1.1 by its number, and every section of AMQP 1.0 that demands something\n"
        "by its part and section, with the tests that touch it or the reason why there is nothing to obey. Where the\n"
        "documented behaviour of IoT Hub differs from the specification, IoT Hub's counts.\n",
        f"Rules that apply and that no test touches: {told}.\n",
    ]
    for standard in standards():
        parts += [f"## {standard.title}\n", _table(standard, tests)]
    return "\n".join(parts)


def _table(standard: Standard, tests: Mapping[str, list[str]]) -> str:
    rows = [f"{len(standard.ours)} of {len(standard.rules)} apply.\n", "| rule | demands | tests |", "|---|---|---|"]
    for rule, words in standard.rules.items():
        shown = f"does not apply: {standard.not_ours[rule]}" if rule in standard.not_ours else "**none**"
        rows.append(f"| `{rule}` | {words} | {_listed(tests[rule]) if rule in tests else shown} |")
    return "\n".join(rows) + "\n"


def _listed(tests: list[str]) -> str:
    shown = ", ".join(f"`{test}`" for test in tests[:TESTS_SHOWN_MAX])
    return shown if len(tests) <= TESTS_SHOWN_MAX else f"{shown} and {len(tests) - TESTS_SHOWN_MAX} more"


def _standard(title: str, name: str) -> Standard:
    table = tomllib.loads((RULES / name).read_text())
    assert table["not_ours"].keys() <= table["rules"].keys(), "a reason belongs to a rule"
    return Standard(title, table["rules"], table["not_ours"])


def _marks(path: Path) -> Iterator[tuple[str, str]]:
    text = path.read_text()
    if "mark.rule(" not in text:
        return
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                for rule in _named(decorator):
                    yield f"{path.relative_to(TESTS)}::{node.name}", rule


def _named(decorator: ast.expr) -> Iterator[str]:
    """The rules of every `pytest.mark.rule(…)` within."""
    for node in ast.walk(decorator):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rule":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), "a rule is named by a literal"
                yield str(argument.value)


def _rules_of_cases(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("MQTT-"):
            yield node.value


def main() -> int:
    """Writes the page, or tells what is wrong."""
    tests = touched()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(tests))
        return 0
    wrong = [f"a test names {name}, which is no rule" for name in unknown(tests)]
    wrong += [f"no test touches {rule}" for rule in uncovered(tests)]
    if not PAGE.exists() or PAGE.read_text() != page(tests):
        wrong.append("docs/reference/conformance.md is not what `make docs` writes")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
