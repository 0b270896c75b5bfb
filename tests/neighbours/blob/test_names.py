"""Names and paths: what a request's path names, and what nobody may be called."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.names import ROOT, Target, is_container_name, target_of
from neighbours.blob.blobs import refused_as


@pytest.mark.parametrize(
    ("path", "of_container", "expected"),
    [
        ("/", False, Target()),
        ("", False, Target()),
        ("/box", True, Target("box")),
        ("/box/", True, Target("box")),
        ("/box/a", False, Target("box", "a")),
        ("/box/a/b//c", False, Target("box", "a/b//c")),
        ("/box/r%C3%A4te%20%2F%3F", False, Target("box", "räte /?")),
        ("/alone", False, Target(ROOT, "alone")),
        ("/box/...", False, Target("box", "...")),
        ("/box/a.", False, Target("box", "a.")),
    ],
)
def test_a_path_names(path: str, of_container: bool, expected: Target) -> None:
    assert target_of(path, of_container=of_container) == expected


@pytest.mark.parametrize(
    "path",
    ["/box/..", "/box/a/../b", "/box/%2e%2e/x", "/box/..%2f..%2fstate.db", "/box/..%5Cx", "/box/./x", "/box/a%00b",
     "/BOX/a", "/a--b/x", "/../x/y"],
)  # fmt: skip
def test_names_that_climb_or_break_rules_are_refused(path: str) -> None:
    with pytest.raises(StorageError) as refused:
        target_of(path, of_container=False)
    assert refused.value.storage_code in (StorageCode.INVALID_RESOURCE_NAME, StorageCode.INVALID_URI)


def test_long_names_are_refused() -> None:
    for name in ("a" * 1_025, "/".join("a" * 255)):
        with pytest.raises(StorageError) as refused:
            target_of(f"/box/{name}", of_container=False)
        assert refused.value.storage_code is StorageCode.INVALID_URI


@given(st.text(min_size=1, max_size=80))
def test_a_name_is_found_again_as_it_was_written(name: str) -> None:
    try:
        path = f"/box/{quote(name)}"
    except UnicodeEncodeError:
        return
    try:
        found = target_of(path, of_container=False)
    except StorageError:
        segments = name.replace("\\", "/").split("/")
        assert "\x00" in name or {".", ".."} & set(segments) or name == "/"
    else:
        assert found == Target("box", name)


@given(st.binary(max_size=40))
def test_any_path_is_read_or_refused(raw: bytes) -> None:
    code = refused_as(lambda: target_of("/" + raw.decode("latin-1"), of_container=False))
    assert code is None or code.status == 400


def test_names_of_containers() -> None:
    assert all(map(is_container_name, ("box", "a-b-c", "0" * 63, "$root", "$web")))
    assert not any(map(is_container_name, ("bo", "-box", "box-", "a--b", "Box", "0" * 64, "$logs", "b.x")))
