"""What a lab needs and the machine lacks is told before anything is made."""

import pytest

from isthmus.lab.errors import LabError
from isthmus.lab.tools import require_tools
from lab.plans import factory


def test_missing_packages_are_named() -> None:
    with pytest.raises(
        LabError, match="wireguard-tools and wireguard-go: apt-get install wireguard-tools wireguard-go"
    ):
        require_tools(factory(), lambda tool: None if tool.startswith("w") else tool)


def test_a_machine_that_has_all_is_not_told_anything() -> None:
    require_tools(factory(), lambda tool: tool)
