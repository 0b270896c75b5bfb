"""Labs for tests that need one."""

from collections.abc import Iterator

import pytest

from lab.plans import FACTORY
from support.lab import RunningLab, why_no_lab


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """The factory, up; taken away afterwards, and nothing of it may be left."""
    if reason := why_no_lab():
        pytest.skip(reason)
    running = RunningLab(FACTORY, "lab")
    try:
        running.run("up")
        mark = running.mark()
        yield running
    finally:
        running.down()
    assert not running.leavings()
    assert not running.marked(mark)
