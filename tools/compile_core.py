"""Compiles the core by mypyc from the same source that runs without it, when a compiler is at hand.

    compile_core.py [--into FOLDER] [--force]

Writes the folder `isthmus-core` into FOLDER, by default where this interpreter's packages lie: extensions, and what
they were made of (`isthmus.compiled` says how that is used). Does nothing when they are up to date. Where it cannot
compile, it says so in one line, which is no error: everything runs without.
"""

import argparse
import ast
import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import PIPE, STDOUT, CalledProcessError, SubprocessError, run

from isthmus.compiled import FOLDER, MANIFEST, SOURCE, digest

MODULES = (
    "isthmus.wire.mqtt.events",
    "isthmus.wire.mqtt.packets",
    "isthmus.wire.mqtt.reader",
    "isthmus.wire.mqtt.session",
    "isthmus.wire.amqp.connection",
    "isthmus.wire.amqp.decode",
    "isthmus.wire.amqp.deliveries",
    "isthmus.wire.amqp.encode",
    "isthmus.wire.amqp.events",
    "isthmus.wire.amqp.fields",
    "isthmus.wire.amqp.framing",
    "isthmus.wire.amqp.handshake",
    "isthmus.wire.amqp.incoming",
    "isthmus.wire.amqp.limits",
    "isthmus.wire.amqp.link",
    "isthmus.wire.amqp.message",
    "isthmus.wire.amqp.outgoing",
    "isthmus.wire.amqp.outlet",
    "isthmus.wire.amqp.performatives",
    "isthmus.wire.amqp.session",
    "isthmus.wire.amqp.transfer",
    "isthmus.telemetry.batch",
    "isthmus.telemetry.record",
    "isthmus.wire.tls",
    "isthmus.servers.gateway.connection",
    "isthmus.servers.gateway.mqtt",
    "isthmus.servers.gateway.mqtt_device",
    "isthmus.servers.gateway.shaping",
    "isthmus.routing.accept",
    "isthmus.base.token_bucket",
)
"""What is compiled: what each message passes, and what that calls."""

LIBRARY = "isthmus_core__mypyc"
"""The extension with all the code; those of the modules only point into it."""

FLAGS = ("-O2", "-g0", "-w", "-fPIC", "-DNDEBUG")
"""Optimised, and without what debuggers want: the source is debugged in pure Python."""

REFUSED = "mypyc refuses the source"
"""The one reason that is a fault of ours, and fails a test."""

SECONDS_MAX = 300.0
"""For one call of the compiler, which takes less than a tenth of that."""


class CannotCompile(Exception):  # noqa: N818 - what the machine is
    """This machine has not what it takes."""


def main() -> int:
    options = _options()
    folder: Path = options.into / FOLDER
    files = sorted(_sources(MODULES))
    # Told before anything is read to be compiled: what changes meanwhile counts as changed since.
    source = digest(SOURCE, files)
    stamp = f"{source} {digest(Path(__file__).parent, [Path(__file__).name])} mypy {_version('mypy')}"
    if not options.force and _is_done(folder, stamp):
        return 0
    with tempfile.TemporaryDirectory(prefix=f".{FOLDER}-", dir=options.into) as draft:
        place = Path(draft) / FOLDER
        place.mkdir()
        reason = ""
        try:
            compile_into(place)
        except CannotCompile as failure:
            reason = f"the core is not compiled: {failure}"
            print(f"isthmus: {reason}; everything runs in pure Python", file=sys.stderr)
            shutil.rmtree(place)
            place.mkdir()
        modules = [] if reason else [LIBRARY, *MODULES]
        said = {"digest": source, "files": files, "modules": modules, "reason": reason, "stamp": stamp}
        (place / MANIFEST).write_text(json.dumps(said, indent=1))
        _replace(folder, place)
    return 0


def compile_into(place: Path) -> None:
    """Makes the extensions; raises `CannotCompile`."""
    compiler = _compiler()
    print(f"Compiling {len(MODULES)} modules of the core, once ...", file=sys.stderr)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="isthmus-core-") as folder:
        units = _translated(Path(folder))
        jobs = [(unit, source) for unit in units for source in unit.sources]
        try:
            with ThreadPoolExecutor(os.cpu_count()) as workers:
                objects = list(workers.map(lambda job: _object(compiler, *job), jobs))
            for unit in units:
                made = [made for (owner, _), made in zip(jobs, objects, strict=True) if owner is unit]
                _link(place / unit.name, made)
        except (OSError, SubprocessError) as failure:
            said = failure.stdout if isinstance(failure, CalledProcessError) else str(failure)
            raise CannotCompile(f"{compiler[0]} failed: {said.strip()[-300:]}") from failure
    print(f"Compiled in {time.monotonic() - began:.0f} s.", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Unit:
    """An extension that mypyc has written in C."""

    name: str
    sources: tuple[str, ...]
    includes: tuple[str, ...]


def _translated(folder: Path) -> list[Unit]:
    """The core in C; tracebacks show paths relative to the source's folder, which is on the module path."""
    from mypyc.build import mypycify

    arguments = ["--config-file=", "--strict", "--cache-dir", str(folder / "cache")]
    said = io.StringIO()
    try:
        with contextlib.chdir(SOURCE), contextlib.redirect_stdout(said):
            extensions = mypycify(
                [*arguments, *(_file(module) for module in MODULES)],
                target_dir=str(folder),
                group_name=LIBRARY.removesuffix("__mypyc"),
                multi_file=True,
            )
    except (Exception, SystemExit) as failure:
        print(said.getvalue(), failure, file=sys.stderr)
        raise CannotCompile(REFUSED) from failure
    return [Unit(made.name, tuple(made.sources), tuple(made.include_dirs)) for made in extensions]


def _compiler() -> list[str]:
    """The command that made this interpreter, or the one that CC names."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(command[0]) is None:
        raise CannotCompile(f"there is no {command[0]} here")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise CannotCompile("Python's headers are missing (Debian: python3-dev)")
    try:
        version("mypy")
    except PackageNotFoundError:
        raise CannotCompile("mypy is not installed") from None
    return command


def _object(compiler: list[str], unit: Unit, source: str) -> str:
    made = f"{source}.o"
    includes = [f"-I{place}" for place in (sysconfig.get_path("include"), *unit.includes)]
    _run([*compiler, *FLAGS, *includes, "-c", source, "-o", made])
    return made


def _link(place: Path, objects: list[str]) -> None:
    linker = shlex.split(sysconfig.get_config_var("LDSHARED"))
    _run([*linker, *objects, "-o", f"{place}{EXTENSION_SUFFIXES[0]}"])


def _run(command: list[str]) -> None:
    run(command, check=True, stdout=PIPE, stderr=STDOUT, text=True, timeout=SECONDS_MAX)


def _sources(modules: Iterable[str]) -> set[str]:
    """The files of these modules and of all of ours that they import: what mypyc knows when it compiles them."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file in found or not (SOURCE / file).is_file():
            continue
        found.add(file)
        waiting += [name.rpartition(".")[0]]
        for node in ast.walk(ast.parse((SOURCE / file).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _file(module: str) -> str:
    """The module's file, relative to the source's folder."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (SOURCE / path).is_dir() else f"{path}.py"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _is_done(folder: Path, stamp: str) -> bool:
    """True when the folder was made of the same source, by the same means."""
    try:
        said = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    # Where nothing could be compiled, it is tried again: a compiler may have come.
    return bool(said.get("stamp") == stamp and not said["reason"])


def _replace(folder: Path, made: Path) -> None:
    """Puts the new folder in place of the old one, whose extensions may run in processes: they keep what they have."""
    old = made.with_name("old")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    made.rename(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path(sysconfig.get_path("platlib")))
    parser.add_argument("--force", action="store_true", help="also when it is up to date")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
