"""The style sheet's ceilings and prohibitions (CONTRIBUTING.md), with a ratchet: an offender may only shrink."""

import ast
import json
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from house.source import ROOT, Function, Module, functions, modules

FUNCTION_LINES_MAX = 60
FUNCTION_LINES_USUAL = 30
USUAL_SHARE = 0.9
FUNCTION_LINES_MEDIAN = 10
FILE_LINES_MAX = 700
RATCHET = Path(__file__).with_name("ratchet.toml")

EMPTY_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "manager", "impl", "misc"})
EMPTY_SUFFIXES = ("Manager", "Helper", "Impl", "Util", "Utils")
MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter"})
MUTABLE_NODES = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTATORS = frozenset(
    {"append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault", "add", "discard"}
)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*|__all__")


@cache
def ratchet() -> dict[str, dict[str, int]]:
    found = tomllib.loads(RATCHET.read_text())
    return {"files": found.get("files", {}), "functions": found.get("functions", {})}


def python_files() -> list[Path]:
    found = (path for top in ("src", "tests", "tools", "benchmarks") for path in sorted((ROOT / top).rglob("*.py")))
    return [path for path in found if "node_modules" not in path.parts]


def test_no_file_is_too_long() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in python_files()}
    _judge(lengths, FILE_LINES_MAX, ratchet()["files"])


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT).as_posix()}:{name}": _lines(function)
        for path in python_files()
        for name, function in functions(ast.parse(path.read_text()))
    }
    _judge(lengths, FUNCTION_LINES_MAX, ratchet()["functions"])


def test_most_functions_are_short() -> None:
    lengths = [_lines(function) for module in modules() for _, function in functions(module.tree)]
    assert statistics.median(lengths) < FUNCTION_LINES_MEDIAN
    assert sum(length < FUNCTION_LINES_USUAL for length in lengths) / len(lengths) >= USUAL_SHARE


def test_names_say_something() -> None:
    empty = [module.place for module in modules() if module.path.stem in EMPTY_NAMES]
    empty += [f"{module.place}:{name}" for module in modules() for name in _classes(module) if _is_empty(name)]
    assert not empty, f"these names say nothing: {empty}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_a_module_holds_no_state(module: Module) -> None:
    wrong = [*_mutable_names(module), *_mutations(module)]
    assert not wrong, f"{module.place} keeps state at module level: {wrong}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_public_names_are_explained(module: Module) -> None:
    missing = [] if ast.get_docstring(module.tree) else ["the module"]
    missing += [
        node.name
        for node in module.tree.body
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_") and not _explained(node)
    ]
    assert not missing, f"{module.place}: no docstring on {missing}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_a_package_file_has_no_code(module: Module) -> None:
    if module.path.name != "__init__.py":
        return
    code = [node.lineno for node in module.tree.body if isinstance(node, Function | ast.ClassDef)]
    assert not code, f"{module.place}: lines {code}; an __init__ has a docstring and public names only"


def test_nothing_names_the_machine_it_was_written_on() -> None:
    places = "|".join(("work", "farm", "root"))
    machine = re.compile(rf"(^|[^\w.-])/({places})/", re.MULTILINE)
    wrong = [path for path in _committed() if machine.search((ROOT / path).read_text(errors="replace"))]
    assert not wrong, f"paths of a machine stand in {wrong}"


def test_the_lock_file_has_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    unhashed = [entry for entry in re.split(r"\n(?=\S)", lock) if "==" in entry and "--hash=sha256:" not in entry]
    assert not unhashed


def test_the_lock_file_of_node_packages_has_hashes_and_no_addresses() -> None:
    lock = (ROOT / "tests" / "node" / "package-lock.json").read_text()
    assert "://" not in lock
    packages: dict[str, dict[str, object]] = json.loads(lock)["packages"]
    assert len(packages) > 1
    assert not [name for name, package in packages.items() if name and "integrity" not in package]


def _judge(lengths: dict[str, int], limit: int, allowed: dict[str, int]) -> None:
    """Above the limit only what the ratchet names, and the ratchet never names more than there is."""
    too_long = {place: length for place, length in lengths.items() if length > allowed.get(place, limit)}
    assert not too_long, f"more than {limit} lines, or longer than {RATCHET.name} allows: {too_long}"
    loose = {place: lengths.get(place, 0) for place, length in allowed.items() if lengths.get(place, 0) < length}
    assert not loose, f"these have shrunk; lower or remove their numbers in {RATCHET.name}: {loose}"


def _lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and len(function.body) > 1:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def _classes(module: Module) -> Iterator[str]:
    return (node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))


def _is_empty(name: str) -> bool:
    return name.endswith(EMPTY_SUFFIXES)


def _mutable_names(module: Module) -> Iterator[str]:
    for node in module.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_mutable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name) and not _is_constant(target.id))


def _is_mutable(value: ast.expr) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in MUTABLE_CALLS
    return isinstance(value, MUTABLE_NODES)


def _is_constant(name: str) -> bool:
    return CONSTANT.fullmatch(name) is not None


def _mutations(module: Module) -> Iterator[str]:
    """`global` statements, and changes of what is spelt as a constant."""
    for node in ast.walk(module.tree):
        changed = isinstance(node, ast.Attribute) and node.attr in MUTATORS and _names_constant(node.value)
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = _names_constant(node.value)
        if changed or isinstance(node, ast.Global):
            yield ast.unparse(node)


def _names_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and _is_constant(node.id)


def _explained(node: Function | ast.ClassDef) -> bool:
    """`main` is what the module's docstring speaks of."""
    return node.name == "main" or ast.get_docstring(node) is not None


def _committed() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]
