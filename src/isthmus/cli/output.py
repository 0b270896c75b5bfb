"""What a command prints: the four formats of `az`, and its `--query`."""

import json
import sys
from dataclasses import dataclass
from typing import Any

from isthmus.cli.errors import CommandError

FORMATS = ("json", "jsonc", "table", "tsv")
HIDDEN_IN_TABLES = frozenset({"id", "type", "etag"})
"""Left out of tables as `az` does, unless --query asked for them."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A result that is prose for people, and JSON for those who ask for a format; `code` ends the command."""

    text: str
    data: Any
    code: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A result whose tables show other columns than all that are plain; anywhere else it is `data`."""

    data: Any
    rows: list[dict[str, Any]]


def code_of(result: Any) -> int:
    """The exit code that a result asks for."""
    return result.code if isinstance(result, Readable) else 0


def show(result: Any, *, output: str, query: str) -> None:
    """Prints a result to standard output; nothing for None. Raises CommandError for a --query that does not parse."""
    if isinstance(result, Readable):
        if not output and not query:
            sys.stdout.write(result.text.rstrip("\n") + "\n")
            return
        result = result.data
    if isinstance(result, Listed):
        if output == "table" and not query:
            sys.stdout.write(as_table(result.rows, everything=True))
            return
        result = result.data
    if query:
        result = _search(query, result)
    if result is None:
        return
    match output:
        case "tsv":
            text = as_tsv(result)
        case "table":
            text = as_table(result, everything=bool(query))
        case _:
            text = as_json(result)
    if output == "jsonc" and sys.stdout.isatty():
        _print_coloured(text)
    else:
        sys.stdout.write(text)
        sys.stdout.flush()


def as_json(result: Any) -> str:
    """Two spaces, names sorted, characters as they are."""
    return json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def as_tsv(result: Any) -> str:
    """A line an item; of an item's values those that are plain, in the order of their names."""
    items = result if isinstance(result, list) else [result]
    return "".join("\t".join(_tsv_cells(item)) + "\n" for item in items)


def as_table(result: Any, *, everything: bool) -> str:
    """Columns for the plain values of the items, with a heading; `everything` keeps ids, types and etags."""
    items = result if isinstance(result, list) else [result]
    rows = [_row(item, everything=everything) for item in items]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return ""
    cells = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    cells.insert(1, ["-" * width for width in widths])
    return "".join(_aligned(line, widths) + "\n" for line in cells)


def _search(query: str, result: Any) -> Any:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.search(query, result)
    except JMESPathError as error:
        raise CommandError(f"--query does not parse: {error}") from error


def _print_coloured(text: str) -> None:
    from rich.console import Console

    Console().print_json(text, indent=2)


def _tsv_cells(item: Any) -> list[str]:
    if isinstance(item, dict):
        return [_tsv_cell(value) for _, value in sorted(item.items())]
    if isinstance(item, list):
        return [_tsv_cell(value) for value in item]
    return [_tsv_cell(item)]


def _tsv_cell(value: Any) -> str:
    """A list shows its length and an object nothing, so that columns stay where they are."""
    if isinstance(value, list):
        return str(len(value))
    if isinstance(value, dict):
        return ""
    return _plain(value)


def _row(item: Any, *, everything: bool) -> dict[str, str]:
    if isinstance(item, list):
        return {f"Column{number}": _plain(value) for number, value in enumerate(item, 1) if _is_plain(value)}
    if not isinstance(item, dict):
        return {"Result": _plain(item)}
    names = item if everything else sorted(item)
    return {
        name[:1].upper() + name[1:]: _plain(item[name])
        for name in names
        if _is_plain(item[name]) and item[name] is not None and (everything or name not in HIDDEN_IN_TABLES)
    }


def _is_plain(value: Any) -> bool:
    return not isinstance(value, list | dict)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _aligned(line: list[str], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
