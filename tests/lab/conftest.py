"""Labs for tests that need one."""

from collections.abc import Iterator

import pytest

from lab.plans import FACTORY
from support.lab import RunningLab, why_no_lab


@pytest.fixture(scope="session")
def lab() -> Iterator[RunningLab]:
    """The factory, up once for all tests, which leave it as it was; afterwards nothing of it may be there."""
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
