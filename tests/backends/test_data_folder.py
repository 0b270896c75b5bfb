"""The data folder: its owner's alone, and one server's at a time."""

import stat
from pathlib import Path

import pytest

from isthmus.backends.data_folder import held
from isthmus.base.errors import ConfigurationError


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"

    with held(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_one_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path):
        with pytest.raises(ConfigurationError, match=r"^A server runs on .* already: .*\.$"), held(tmp_path):
            pass
        with pytest.raises(ConfigurationError), held(tmp_path):
            pass

    with held(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(ConfigurationError, match=r"cannot be used as the data folder: Not a directory\.$"),
        held(tmp_path / "file" / "data"),
    ):
        pass
