"""The formats of `az`."""

import pytest

from isthmus.cli.errors import CommandError
from isthmus.cli.output import Readable, as_table, as_tsv, show

ITEMS = [
    {"deviceId": "a", "etag": "x", "enabled": True, "tags": {"n": 1}, "list": [1, 2], "none": None},
    {"deviceId": "bb", "etag": "y", "enabled": False, "tags": {}, "list": [], "none": None},
]


def test_tsv_has_plain_values_in_the_order_of_their_names() -> None:
    assert as_tsv(ITEMS) == "a\ttrue\tx\t2\tNone\t\nbb\tfalse\ty\t0\tNone\t\n"
    assert as_tsv("text") == "text\n"
    assert as_tsv([["a", 1], ["b", 2]]) == "a\t1\nb\t2\n"


def test_table_has_a_heading_and_leaves_out_what_az_leaves_out() -> None:
    assert as_table(ITEMS, everything=False).splitlines() == [
        "DeviceId  Enabled",
        "--------  -------",
        "a         true",
        "bb        false",
    ]


def test_table_of_a_query_keeps_all_it_selected() -> None:
    assert as_table({"etag": "x", "b": 1}, everything=True).splitlines()[0] == "Etag  B"
    assert as_table([["a", 1]], everything=True).splitlines() == ["Column1  Column2", "-------  -------", "a        1"]
    assert as_table([], everything=False) == ""


def test_nothing_is_printed_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(None, output="", query="")
    show({"a": 1}, output="", query="b")
    assert capsys.readouterr().out == ""


def test_a_readable_result_is_prose_unless_a_format_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    result = Readable("prose\n\n", {"a": 1})
    show(result, output="", query="")
    show(result, output="tsv", query="")
    show(result, output="", query="a")
    show(result, output="jsonc", query="")
    assert capsys.readouterr().out == 'prose\n1\n1\n{\n  "a": 1\n}\n'


def test_a_query_that_does_not_parse_is_told() -> None:
    with pytest.raises(CommandError, match="--query"):
        show({}, output="", query="[")
