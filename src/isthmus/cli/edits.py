"""The generic changes of `az`: `--set a.b=c`, `--add a.list x=y`, `--remove a.b`, applied to a JSON document."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.cli.errors import CommandError

_ASSIGNMENT = re.compile(r"((?:[^=\[\]]|\[[^\]]*\])+)=(.*)", re.DOTALL)
_DOT = re.compile(r"\.(?![^\[]*\])")
"""A dot outside brackets."""
_PLACE = re.compile(r"([^\[\]]*)((?:\[[^\[\]]+\])*)")


@dataclass(frozen=True, slots=True)
class Edits:
    """What --set, --add and --remove were given, each a group of words per time the flag stood there."""

    to_set: Sequence[Sequence[str]] = ()
    to_add: Sequence[Sequence[str]] = ()
    to_remove: Sequence[Sequence[str]] = ()

    def __bool__(self) -> bool:
        return bool(self.to_set or self.to_add or self.to_remove)

    def apply(self, document: dict[str, Any]) -> None:
        """Changes the document in place; raises CommandError for a place that is not in it."""
        for pair in (pair for group in self.to_set for pair in group):
            found = _ASSIGNMENT.fullmatch(pair)
            if found is None:
                raise CommandError(f"--set takes PLACE=VALUE, and {pair!r} is none.")
            _set(document, _steps(found[1]), read_value(found[2]))
        for group in self.to_add:
            _add(document, group)
        for group in self.to_remove:
            _remove(document, group)


def read_value(text: str) -> Any:
    """JSON when it is JSON, else the text itself, as `az` reads values."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_json(given: str, flag: str) -> Any:
    """JSON given inline, in a file, or in `@FILE`; raises CommandError naming the flag."""
    text = given
    path = Path(given.removeprefix("@"))
    if given.startswith("@") or _is_file(path):
        try:
            text = path.read_text()
        except OSError as error:
            raise CommandError(f"{flag} names the file {path}, which cannot be read: {error.strerror}.") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{flag} takes JSON or a file of JSON: {error}.") from error


def read_pairs(words: Sequence[str], flag: str) -> dict[str, str]:
    """`name=value` words as a dictionary; raises CommandError naming the flag."""
    wrong = next((word for word in words if "=" not in word), None)
    if wrong is not None:
        raise CommandError(f"{flag} takes NAME=VALUE, and {wrong!r} has no value.")
    return dict(word.partition("=")[::2] for word in words)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # JSON is often longer than a file's name may be
        return False


def _steps(place: str) -> list[str | int]:
    """`a.b[0].c[name=x]` as its steps; a filter stays text in brackets."""
    steps: list[str | int] = []
    for part in _DOT.split(place):
        found = _PLACE.fullmatch(part)
        if found is None or not part:
            raise CommandError(f"{place!r} is not a place in a document.")
        steps += [found[1]] if found[1] else []
        steps += [_index(text) for text in re.findall(r"\[([^\[\]]+)\]", found[2])]
    return steps


def _index(text: str) -> str | int:
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else f"[{text}]"


def _set(document: Any, steps: Sequence[str | int], value: Any) -> None:
    holder = _walk(document, steps[:-1], make=True)
    last = steps[-1]
    try:
        holder[last] = value
    except (IndexError, TypeError) as error:
        raise CommandError(f"There is no {last} to set in {_kind(holder)}.") from error


def _add(document: Any, group: Sequence[str]) -> None:
    target = _list(document, _steps(group[0]))
    if not isinstance(target, list):
        raise CommandError(f"--add takes the place of a list, and {group[0]!r} is {_kind(target)}.")
    values = group[1:]
    if values and all("=" in word and not word.startswith(("{", "[")) for word in values):
        target.append({name: read_value(value) for name, value in read_pairs(values, "--add").items()})
    else:
        target.extend(read_value(value) for value in values)


def _list(document: Any, steps: Sequence[str | int]) -> Any:
    """What is at the place; an empty list where nothing is yet."""
    holder = _walk(document, steps[:-1], make=True)
    last = steps[-1]
    if isinstance(holder, dict) and isinstance(last, str) and holder.get(last) is None:
        holder[last] = []
    return _walk(holder, [last], make=False)


def _remove(document: Any, group: Sequence[str]) -> None:
    steps = [*_steps(group[0]), *(_index(word) for word in group[1:])]
    holder = _walk(document, steps[:-1], make=False)
    last = steps[-1]
    if isinstance(holder, list) and isinstance(last, str):
        holder.remove(_filtered(holder, last))
        return
    try:
        del holder[last]
    except (KeyError, IndexError, TypeError) as error:
        raise CommandError(f"There is no {'.'.join(map(str, steps))} to remove.") from error


def _walk(document: Any, steps: Sequence[str | int], *, make: bool) -> Any:
    for step in steps:
        if isinstance(document, list) and isinstance(step, str):
            document = _filtered(document, step)
            continue
        if make and isinstance(document, dict) and isinstance(step, str) and document.get(step) is None:
            document[step] = {}
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError) as error:
            raise CommandError(f"There is no {step} in {_kind(document)}.") from error
    return document


def _filtered(items: list[Any], step: str) -> Any:
    name, separator, value = step.strip("[]").partition("=")
    for item in items:
        if separator and isinstance(item, dict) and str(item.get(name)) == value:
            return item
    raise CommandError(f"No item of the list matches {step}.")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "a plain value"
