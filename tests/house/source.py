"""The project's own source as syntax trees, for the house rules."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "isthmus"
SOURCE = ROOT / "src" / PACKAGE
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """One file: `name` is like `isthmus.devices.twin`, `room` the part after the package's name, "" for the package."""

    path: Path
    name: str
    room: str
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The path from the top of the project, as messages show it."""
        return self.path.relative_to(ROOT).as_posix()


@dataclass(frozen=True, slots=True)
class Import:
    """One name a module imports; `inside` is the function the statement stands in, "" at module level."""

    target: str
    line: int
    inside: str


@cache
def modules() -> tuple[Module, ...]:
    """Every file of the package."""
    return tuple(_module(path) for path in sorted(SOURCE.rglob("*.py")))


@cache
def names() -> frozenset[str]:
    """The dotted names of all our modules."""
    return frozenset(module.name for module in modules())


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """What a module imports, wherever the statement stands; `from package import module` names the module."""
    return tuple(_imports(module.tree, inside="", package=_package_of(module)))


def functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Every function of a file with its qualified name."""
    yield from _functions(tree, "")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the dotted text of what is called, as far as it is written out (`time.monotonic`, `.bind`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _dotted(node.func), node


def _module(path: Path) -> Module:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    room = parts[1] if len(parts) > 1 else ""
    text = path.read_text()
    return Module(path, ".".join(parts), room, text, ast.parse(text))


def _package_of(module: Module) -> str:
    return module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]


def _imports(node: ast.AST, *, inside: str, package: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, inside)
        elif isinstance(child, ast.ImportFrom):
            yield from _from_imports(child, inside=inside, package=package)
        else:
            name = child.name if isinstance(child, Function) else ""
            yield from _imports(child, inside=name or inside, package=package)


def _from_imports(node: ast.ImportFrom, *, inside: str, package: str) -> Iterator[Import]:
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
        base = ".".join([*above, base] if base else above)
    for alias in node.names:
        whole = f"{base}.{alias.name}"
        yield Import(whole if whole in names() else base, node.lineno, inside)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, Function | ast.ClassDef)
        name = f"{prefix}{child.name}." if isinstance(child, Function | ast.ClassDef) else prefix
        if isinstance(child, Function):
            yield name.rstrip("."), child
        yield from _functions(child, name if named else prefix)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""
