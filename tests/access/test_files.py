"""Files with keys on a disk that fails at any step: the old content or the new one, whole, and nothing beside it."""

import errno
import itertools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isthmus.access.files import read_sealed, write_sealed
from isthmus.base.errors import ConfigurationError
from isthmus.base.sealing import UNSEALED

OLD, NEW = b"old" * 1_000, b"new" * 1_000
STEPS = ("open", "fsync", "replace")


class FailingSteps:
    """The calls by which a file is replaced; the one numbered `at` fails."""

    def __init__(self, at: int, error: int, patch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self._at = at
        self._error = error
        for name in STEPS:
            patch.setattr(os, name, self._failing(name, getattr(os, name)))

    def _failing(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            self.done.append(name)
            if len(self.done) - 1 == self._at:
                raise OSError(self._error, os.strerror(self._error))
            return call(*arguments, **options)

        return step


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_step_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    path = tmp_path / "ca.key"
    for at in itertools.count():
        write_sealed(path, OLD, UNSEALED)
        with monkeypatch.context() as patch:
            steps = FailingSteps(at, error, patch)
            said = refusal(path)
        assert os.listdir(tmp_path) == ["ca.key"], "no draft is left"
        if not said:
            break
        assert os.strerror(error) in said
        assert read_sealed(path, UNSEALED) == (NEW if "replace" in steps.done[:at] else OLD)
        write_sealed(path, NEW, UNSEALED)
        assert read_sealed(path, UNSEALED) == NEW
    assert steps.done == ["open", "fsync", "replace", "open", "fsync"], "the file is durable before its name, then that"
    assert read_sealed(path, UNSEALED) == NEW


def refusal(path: Path) -> str:
    """Why the new content was not taken; empty when it was."""
    try:
        write_sealed(path, NEW, UNSEALED)
    except ConfigurationError as refused:
        return str(refused)
    return ""


def test_a_disk_that_is_full_halfway_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "ca.key"
    write_sealed(path, OLD, UNSEALED)
    with files_limited_to(1_000), pytest.raises(ConfigurationError, match="cannot be written"):
        write_sealed(path, NEW, UNSEALED)
    assert (read_sealed(path, UNSEALED), os.listdir(tmp_path)) == (OLD, ["ca.key"])


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Lets this process write no file beyond `size`, so that a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
