"""A folder for the helper's files, as root has it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.namespace_helper import may_run_as_nobody
from support.netns import NEEDS_ROOT, may_make_namespaces


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """Others may read in it and in what is above it, which pytest's own folders do not allow."""
    if not may_make_namespaces():
        pytest.skip(NEEDS_ROOT)
    with TemporaryDirectory(prefix="isthmus-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def nobody() -> None:
    """A user without rights who can run what is tested here."""
    if not may_run_as_nobody():
        pytest.skip("the user nobody cannot read this checkout")
