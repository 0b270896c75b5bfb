"""Writes the generated pages of the reference: `docs/reference/cli.md` and `docs/reference/errors.md`.

reference.py            writes them
reference.py --check    exits 1 and names those that differ from what would be written
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from isthmus.base.errors import Code
from isthmus.cli.command import HubCommand
from isthmus.cli.main import root

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
GENERATED = "<!-- Written by `make docs`; change the source instead. -->\n"
COMMON = frozenset({"data_folder", "login", "management", "hub", "resource_group", "subscription", "output", "query"})


def main() -> int:
    """Writes or compares every page."""
    check = "--check" in sys.argv[1:]
    different = [path.name for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if check:
        for name in different:
            print(f"docs/reference/{name} is not what `make docs` writes")
        return 1 if different else 0
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


def pages() -> dict[Path, str]:
    """The text of each generated page."""
    return {REFERENCE / "cli.md": cli_page(), REFERENCE / "errors.md": errors_page()}


def cli_page() -> str:
    """Every command with its options; those that all commands share once, on top."""
    every = list(commands(root, "isthmus"))
    common = next(command for _, command in every if _is_remote(command))
    shared = [option for option in common.params if option.name in COMMON]
    parts = [
        "# Commands\n",
        GENERATED,
        "The commands mirror `az`: the same paths, flags and output. The words `iot hub` (or `iot device`) may be\n"
        "left out. A command of `az` that is not here yet says so and exits with 2; a command that cannot be carried\n"
        "out prints one sentence on standard error and exits with 1.\n",
        "## Options of every command\n",
        _options(shared),
        "Commands that manage hubs, networks and tokens have another `--login`, of a token:\n"
        "`Management=https://HOST:PORT;Token=TOKEN`, in a file or a variable as well (`ISTHMUS_MANAGEMENT_LOGIN`). It\n"
        "is missing where only the local owner may ask. `-n` names something else where `az` has it so.\n",
    ]
    for path, command in sorted(every, key=lambda entry: entry[0]):
        parts += [f"## `{path}`\n", inspect.cleandoc(command.help or "") + "\n", _options(_own(command))]
    return "\n".join(part for part in parts if part)


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command once, under its shortest path: `iot hub show` is `show` too, and stands under the long one."""
    for name, command in group.commands.items():
        if path == "isthmus" and name != "iot" and _is_hubs(command):
            continue
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def errors_page() -> str:
    """The error catalogue."""
    rows = "\n".join(f"| {code.number} | `{code.wire_name}` | {code.http_status} |" for code in Code)
    return (
        f"# Errors on the wire\n\n{GENERATED}\n"
        "Codes and names are those of the IoT Hub error reference; the last ones, from `MissingApiVersionParameter`,\n"
        "are Azure Resource Manager's, which has names only. A peer hears no more than this, with a tracking id where\n"
        "its protocol has room; why something was refused is the owner's to ask: `isthmus explain`.\n\n"
        f"| number | name | HTTP status |\n|---|---|---|\n{rows}\n"
    )


def _is_hubs(command: click.Command) -> bool:
    """True for what stands below `iot`, and at the root only as a short form."""
    iot = root.commands["iot"]
    assert isinstance(iot, click.Group)
    below = [group for group in iot.commands.values() if isinstance(group, click.Group)]
    return any(command in group.commands.values() for group in below)


def _is_remote(command: click.Command) -> bool:
    return any(option.name == "login" for option in command.params)


def _own(command: click.Command) -> list[click.Parameter]:
    return [option for option in command.params if option.name not in COMMON or not isinstance(command, HubCommand)]


def _options(options: list[click.Parameter]) -> str:
    with click.Context(click.Command("isthmus")) as context:
        records = [record for option in options if (record := _record(option, context))]
    if not records:
        return ""
    rows = "\n".join(f"| `{flags}` | {text} |" for flags, text in records)
    return f"| option | meaning |\n|---|---|\n{rows}\n"


def _record(option: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    if isinstance(option, click.Argument):
        return option.make_metavar(context), ""
    record = option.get_help_record(context)
    return None if record is None else (record[0].replace("|", "\\|"), " ".join(record[1].split()).replace("|", "\\|"))


if __name__ == "__main__":
    sys.exit(main())
