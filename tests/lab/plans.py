"""Plans for the lab's tests: the factory of the examples, and changes of it."""

from pathlib import Path

import pytest

from house.source import ROOT
from isthmus.lab.errors import LabError
from isthmus.lab.plan import Plan, load_plan

FACTORY = ROOT / "examples" / "factory.toml"


def factory() -> Plan:
    """The example's plan."""
    return load_plan(FACTORY)


def changed(folder: Path, old: str, new: str) -> Path:
    """The example's file with one piece of its text in another form."""
    text = FACTORY.read_text()
    assert old in text, f"the example does not have {old!r}"
    path = folder / "changed.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def complaint(path: Path) -> str:
    """What is wrong with a file, in the words of the error."""
    with pytest.raises(LabError) as caught:
        load_plan(path)
    return str(caught.value)
