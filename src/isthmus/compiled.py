"""Chooses between the two builds of the core: compiled by `tools/compile_core.py`, or the source itself.

Both are the same source, and nobody else knows which one runs. Extensions lie in a folder of their own on the module
path, `isthmus-core`, beside a list of every source file they were made of, with a digest of them all. They are used
only when those files still say the same, so that an edited source is never hidden by what was compiled before; and all
of them or none, because compiled modules call each other without asking what is there.

`ISTHMUS_PURE=1` in the environment chooses the source whatever is there.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

FOLDER = "isthmus-core"
"""The folder of extensions on the module path."""

MANIFEST = "manifest.json"
"""What lies in it besides: what was compiled, of what, for which interpreter, or why nothing was."""

PURE_VARIABLE = "ISTHMUS_PURE"
"""The environment variable that chooses the source, unless it is empty or 0."""

SOURCE = Path(__file__).parent.parent
"""The folder that the package lies in."""


@dataclass(frozen=True, slots=True)
class Core:
    """What runs: the extensions of `modules`, or the source, for `reason`."""

    modules: dict[str, str]
    reason: str = ""

    @property
    def is_compiled(self) -> bool:
        """True when extensions run."""
        return bool(self.modules)

    @property
    def word(self) -> str:
        """`compiled` or `pure`, as log lines and metrics have it."""
        return "compiled" if self.modules else "pure"

    def __str__(self) -> str:
        return "compiled core" if self.modules else f"pure Python: {self.reason}"


class Finder:
    """Finds the extensions where the source would be found otherwise."""

    def __init__(self, modules: dict[str, str]) -> None:
        self._modules = modules

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Python's finder protocol."""
        place = self._modules.get(name)
        if place is None:
            return None
        return spec_from_file_location(name, place, loader=ExtensionFileLoader(name, place))


def digest(source: Path, files: Iterable[str], suffix: str = EXTENSION_SUFFIXES[0]) -> str:
    """Tells apart everything that extensions depend on; raises OSError for a file that is not there.

    `files` are relative to `source`; `suffix` names interpreter and machine.
    """
    said = hashlib.blake2b(suffix.encode())
    for file in files:
        content = (source / file).read_bytes()
        said.update(f"\0{file}\0{len(content)}\0".encode() + content)
    return said.hexdigest()


def choose(folders: Iterable[Path], source: Path = SOURCE, *, pure: str = "") -> Core:
    """The extensions in the first of `folders` that has a manifest, if they are those of `source`."""
    if pure not in ("", "0"):
        return Core({}, f"{PURE_VARIABLE} is set")
    folder = next((folder for folder in folders if (folder / MANIFEST).is_file()), None)
    if folder is None:
        return Core({}, "the core is not compiled")
    try:
        said = json.loads((folder / MANIFEST).read_text())
        if said["reason"]:
            return Core({}, said["reason"])
        if said["digest"] != digest(source, said["files"]):
            return Core({}, "the source has changed since it was compiled")
    except (OSError, ValueError, LookupError, TypeError):
        return Core({}, "what was compiled is of another version")
    return Core({name: str(folder / (name + EXTENSION_SUFFIXES[0])) for name in said["modules"]})


def _folders() -> list[Path]:
    """Found as any package would be."""
    spec = PathFinder.find_spec(FOLDER)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []


def _chosen() -> Core:
    core = choose(_folders(), pure=os.environ.get(PURE_VARIABLE, ""))
    if core.is_compiled:
        sys.meta_path.insert(0, Finder(core.modules))
    return core


CORE = _chosen()
"""What runs in this process: chosen once, before any module of the core is loaded."""
