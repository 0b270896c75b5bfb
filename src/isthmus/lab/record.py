"""What a lab has made, written down before and after it is made, so that it can be taken away after any crash.

A folder for each lab, by default /run/isthmus-lab/{name}: it is gone after a restart of the machine, as namespaces are.
`made.jsonl` has a line for each thing. A namespace's line has its inode, so that a later one of the same name is not
taken for it. Processes carry a mark in their environment, the lab's own random word, which their children inherit: they
are found by it even when `lab up` was killed between starting one and writing so, and nobody else's process has it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.lab.errors import LabError

FOLDER = Path("/run/isthmus-lab")
MADE = "made.jsonl"
MARK = "mark"
LOCK = "lock"
FILE = "lab.toml"
"""The lab's file as it was when the lab was built."""


@dataclass(frozen=True, slots=True)
class Record:
    """The folder of one lab."""

    folder: Path

    @property
    def exists(self) -> bool:
        """True when there is something to take away."""
        return self.folder.is_dir()

    @property
    def mark(self) -> str:
        """The word that the lab's processes carry, empty when the lab came to nothing before it had one."""
        path = self.folder / MARK
        return path.read_text() if path.exists() else ""

    @property
    def hub_data(self) -> Path:
        """The hub's data folder."""
        return self.folder / "hub"

    @property
    def file(self) -> Path:
        """The copy of the lab's file."""
        return self.folder / FILE

    def path(self, name: str) -> Path:
        """A file of the lab."""
        return self.folder / name

    def begin(self, mark: str, text: str) -> None:
        """Makes the folder; raises LabError when this lab is there already, whole or in part."""
        self.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            self.folder.mkdir(mode=0o755)
        except FileExistsError as error:
            said = f"There is a lab in {self.folder} already: `isthmus lab down` takes it away."
            raise LabError(said) from error
        (self.folder / MARK).write_text(mark)
        self.file.write_text(text)

    def add(self, kind: str, name: str, **facts: Any) -> None:
        """Writes one thing down, in one write, so that no half line stands before a whole one."""
        line = json.dumps({"kind": kind, "name": name} | facts) + "\n"
        descriptor = os.open(self.folder / MADE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """The things of one kind by name, each with what was said of it last, in the order they were made."""
        found: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            if line["kind"] == kind:
                found[line["name"]] = found.get(line["name"], {}) | line
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps others from building and taking away at the same time; raises LabError when somebody does.

        The kernel lets go when the holder dies, however it dies.
        """
        with (self.folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LabError(f"Another `isthmus lab` is at work in {self.folder}: let it end first.") from error
            yield

    def remove(self) -> None:
        """Removes the folder, and the folder of all labs when this was the last one."""
        shutil.rmtree(self.folder)
        if self.folder.parent == FOLDER and not any(FOLDER.iterdir()):
            FOLDER.rmdir()

    def _lines(self) -> Iterator[dict[str, Any]]:
        path = self.folder / MADE
        for line in path.read_text().splitlines() if path.exists() else ():
            yield json.loads(line)
