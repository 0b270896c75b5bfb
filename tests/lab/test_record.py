"""What a lab has made, written down."""

from pathlib import Path

import pytest

from isthmus.lab.errors import LabError
from isthmus.lab.record import Record


def begun(folder: Path) -> Record:
    record = Record(folder / "labs" / "one")
    record.begin("mark-1", 'name = "one"\n')
    return record


def test_what_was_said_last_of_a_thing_holds_and_order_is_kept(tmp_path: Path) -> None:
    record = begun(tmp_path)
    record.add("namespace", "one-a")
    record.add("namespace", "one-a", inode=7)
    record.add("file", "/etc/netns/one-a/hosts")
    record.add("namespace", "one-b")
    assert [(name, told.get("inode")) for name, told in record.all("namespace").items()] == [
        ("one-a", 7),
        ("one-b", None),
    ]
    assert list(record.all("file")) == ["/etc/netns/one-a/hosts"]


def test_a_lab_is_begun_once(tmp_path: Path) -> None:
    record = begun(tmp_path)
    with pytest.raises(LabError, match="already: `isthmus lab down`"):
        record.begin("mark-2", "")
    assert record.mark == "mark-1"


def test_two_do_not_work_on_a_lab_at_once(tmp_path: Path) -> None:
    record = begun(tmp_path)
    with record.held(), pytest.raises(LabError, match="is at work"), record.held():
        pass
    with record.held():
        pass


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    record = begun(tmp_path)
    record.remove()
    assert not record.exists
