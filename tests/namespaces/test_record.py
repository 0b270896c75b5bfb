"""What was added is known to the next one, unless the machine was started anew."""

import json
from pathlib import Path

import pytest

from isthmus.namespaces.orders import Spot
from isthmus.namespaces.record import Added, Record

HERE = Spot("plant", "10.1.0.5")
ADDED = Added(7, 4711)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own" / "record"


def test_the_next_one_knows_what_was_added(path: Path) -> None:
    record = Record(path, wait=False)
    record.note(HERE, ADDED)
    record.close()
    again = Record(path, wait=True)
    assert (again.spots, again.added(HERE)) == ((HERE,), ADDED)
    again.strike(HERE)
    again.strike(HERE)
    assert again.added(HERE) is None
    again.close()
    assert not path.exists()


def test_what_was_added_before_the_machine_started_is_forgotten(path: Path) -> None:
    record = Record(path, wait=False)
    record.note(HERE, ADDED)
    record.close()
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"boot": "another"}))
    again = Record(path, wait=False)
    assert again.spots == ()
    again.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot":1}', b'{"entries":[{}]}'])
def test_a_damaged_record_is_an_empty_one(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    record = Record(path, wait=False)
    assert record.spots == ()
    record.close()


def test_a_record_has_one_helper_at_a_time(path: Path) -> None:
    record = Record(path, wait=False)
    with pytest.raises(OSError, match="another helper has it"):
        Record(path, wait=False)
    record.close()
    Record(path, wait=False).close()


def test_a_folder_where_others_write_is_refused(path: Path) -> None:
    """Who may write there could have root write elsewhere, through a link."""
    path.parent.chmod(0o777)
    with pytest.raises(OSError, match="others may write in"):
        Record(path, wait=False)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    record = Record(path, wait=False)
    target = tmp_path / "target"
    path.with_name("record.draft").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        record.note(HERE, ADDED)
    assert not target.exists()
    record.close()
