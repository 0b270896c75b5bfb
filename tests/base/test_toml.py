"""Files of an owner, of which a key with many parts would take time as its square."""

import pytest

from isthmus.base.toml import DOTS_MAX, parse_toml


def test_a_line_has_so_many_dots() -> None:
    parts = ".".join("a" * (DOTS_MAX + 1))
    assert parse_toml(f"{parts} = 1")
    for line in (f"{parts}.a = 1", f"[{parts}.a]", '"a".' * (DOTS_MAX + 1) + "a = 1"):
        with pytest.raises(ValueError, match=f"line 2 has a key of more than {DOTS_MAX} parts"):
            parse_toml(f"x = 1\n{line}")


@pytest.mark.parametrize("dots", ["'{}'", '"{}"', '"\\"{}"', "1 # {}"])
def test_dots_that_part_nothing_are_not_counted(dots: str) -> None:
    assert set(parse_toml("a = " + dots.format("." * 100))) == {"a"}


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        parse_toml("a = " + "[" * 3_000)
