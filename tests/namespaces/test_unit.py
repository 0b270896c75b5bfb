"""The unit that the documentation gives the helper is the one these tests run it under."""

import re
from pathlib import Path

from isthmus.cli.namespace_helper import namespace_helper
from isthmus.namespaces.serving import CAPABILITIES
from support import namespace_helper as support

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-as-a-service.md"


def test_the_unit_leaves_it_what_it_needs() -> None:
    unit = the_unit()
    (left,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    assert set(left.split()) == set(CAPABILITIES)
    assert {f"CAP_{name.upper()}" for name in support.CAPABILITIES} == set(CAPABILITIES)


def test_its_command_is_understood() -> None:
    (command,) = re.findall(r"^ExecStart=\S*/isthmus namespace-helper (.*)$", the_unit(), re.MULTILINE)
    understood = namespace_helper.make_context("namespace-helper", command.split())
    assert understood.params["path"].startswith("/run/isthmus/")
    assert understood.params["user"] == "isthmus"


def the_unit() -> str:
    (unit,) = re.findall(
        r"^```ini\n(\[Unit\]\nDescription=Isthmus namespace helper.*?)^```", PAGE.read_text(), re.M | re.S
    )
    return str(unit)
