"""The pure core beside whichever one the tests run on: a process that answers the same questions."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from core.answers import SIZE
from isthmus.compiled import PURE_VARIABLE

TESTS = Path(__file__).parent.parent


class PureCore:
    """Answers as `answers.answer` does, from a process with `ISTHMUS_PURE` set."""

    def __init__(self) -> None:
        environment = {**os.environ, PURE_VARIABLE: "1", "PYTHONPATH": str(TESTS)}
        command = [sys.executable, str(TESTS / "core" / "answers.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.word = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def answer(self, name: str, data: bytes) -> str:
        """What the other core makes of the same bytes."""
        assert self._process.stdin is not None
        question = name.encode() + b"\n" + data
        self._process.stdin.write(SIZE.pack(len(question)) + question)
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        size = self._process.stdout.read(SIZE.size)
        assert size, "the process has ended"
        return self._process.stdout.read(SIZE.unpack(size)[0]).decode()
