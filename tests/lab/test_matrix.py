"""How the matrix looks, and when it holds."""

import re

from house.source import ROOT
from isthmus.lab.matrix import Cell, holds, render
from isthmus.lab.probe import LINK, PLANES
from isthmus.lab.reach import attempts
from lab.plans import factory


def all_as_expected() -> list[Cell]:
    return [
        Cell(
            attempt,
            plane,
            (attempt.link if plane == LINK else attempt.expected).value,
            "vpn" if attempt.place == "plant" else "",
        )
        for attempt in attempts(factory())
        for plane in PLANES
    ]


def test_a_line_for_each_host_and_address_with_a_column_for_each_plane() -> None:
    lines = render(all_as_expected()).splitlines()
    assert lines[0].split("  ")[0] == "from"
    assert all(f"{plane} {port}" in lines[0] for plane, (port, _) in PLANES.items())
    assert len(lines) == 1 + len(attempts(factory())) + 2
    assert lines[1].startswith("press-1")
    assert "plant, vpn" in lines[1]
    assert "factory by name, 10.20.1.4 (works)" in lines[1]
    assert lines[-1] == f"{len(all_as_expected())} paths, all observed as expected."


def test_the_page_shows_what_the_example_makes() -> None:
    page = (ROOT / "docs" / "how-to" / "lab.md").read_text()
    rows = {" ".join(line.split()) for line in render(all_as_expected()).splitlines()}
    shown = re.findall(r"^(?:from|press-1|erp|robot|oven|till|intruder)  .*$", page, re.MULTILINE)
    assert len(shown) > 10
    assert [line for line in shown if " ".join(line.split()) not in rows] == []
    assert f"{len(all_as_expected())} paths, all observed as expected." in page


def test_a_difference_is_shouted_and_counted() -> None:
    cells = all_as_expected()
    assert holds(cells)
    first = cells[0]
    cells[0] = Cell(first.attempt, first.plane, "refused", first.way)
    assert not holds(cells)
    text = render(cells)
    assert "REFUSED, expected open" in text
    assert text.endswith(f"{len(cells)} paths, 1 observed otherwise than expected.\n")
    assert cells[0].facts()["ok"] is False
