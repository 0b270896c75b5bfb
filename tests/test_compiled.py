"""Which build of the core runs: extensions only where they are of this very source."""

import json
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from isthmus import CORE
from isthmus.compiled import FOLDER, MANIFEST, PURE_VARIABLE, SOURCE, Core, choose, digest

ROOT = Path(__file__).parent.parent
FILES = ["isthmus/one.py", "isthmus/two.py"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A package with two files."""
    place = tmp_path / "source"
    (place / "isthmus").mkdir(parents=True)
    for file in FILES:
        (place / file).write_text(f"NAME = {file!r}\n")
    return place


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    """What was compiled of it."""
    place = tmp_path / FOLDER
    place.mkdir()
    _write(place, digest(source, FILES))
    return place


def test_extensions_of_this_source_run(source: Path, folder: Path) -> None:
    core = choose([folder], source)
    assert core.is_compiled
    assert core.modules == {"isthmus.one": str(folder / f"isthmus.one{EXTENSION_SUFFIXES[0]}")}
    assert (core.word, str(core)) == ("compiled", "compiled core")


@pytest.mark.parametrize("file", FILES)
def test_an_edited_source_runs_itself(source: Path, folder: Path, file: str) -> None:
    """Also where the file edited is not compiled: what is was compiled against it."""
    path = source / file
    path.write_text(path.read_text() + "# edited\n")
    core = choose([folder], source)
    assert not core.is_compiled
    assert str(core) == "pure Python: the source has changed since it was compiled"


def test_text_that_moves_from_one_file_to_the_next_is_an_edit(source: Path) -> None:
    before = digest(source, FILES)
    (source / FILES[0]).write_text("")
    (source / FILES[1]).write_text("".join(f"NAME = {file!r}\n" for file in FILES))
    assert digest(source, FILES) != before


def test_another_interpreter_runs_the_source(source: Path) -> None:
    assert digest(source, FILES) != digest(source, FILES, ".cpython-399-x86_64-linux-gnu.so")


def test_a_source_that_has_gone_runs_nothing_compiled(source: Path, folder: Path) -> None:
    (source / FILES[1]).unlink()
    assert not choose([folder], source).is_compiled


@pytest.mark.parametrize("said", ["", "{", "[]", "{}", '{"reason": ""}'])
def test_a_manifest_that_says_something_else_is_not_followed(source: Path, folder: Path, said: str) -> None:
    (folder / MANIFEST).write_text(said)
    assert choose([folder], source) == Core({}, "what was compiled is of another version")


def test_why_nothing_was_compiled_is_told(source: Path, folder: Path) -> None:
    _write(folder, "", reason="there is no gcc here")
    assert str(choose([folder], source)) == "pure Python: there is no gcc here"


def test_without_a_folder_the_source_runs(tmp_path: Path, source: Path) -> None:
    assert choose([tmp_path / "nowhere"], source) == Core({}, "the core is not compiled")


@pytest.mark.parametrize(("value", "is_compiled"), [("", True), ("0", True), ("1", False), ("yes", False)])
def test_the_environment_can_choose_the_source(source: Path, folder: Path, value: str, is_compiled: bool) -> None:
    assert choose([folder], source, pure=value).is_compiled is is_compiled


@pytest.mark.parametrize("environment", [{}, {PURE_VARIABLE: "1"}], ids=["as it is", "pure"])
def test_a_process_tells_which_one_runs(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "isthmus", "--version"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    core = f"pure Python: {PURE_VARIABLE} is set" if environment else str(CORE)
    assert done.stdout == f"isthmus 0.1.0 ({core})\n"


def test_every_module_that_was_compiled_runs_compiled() -> None:
    if not CORE.is_compiled:
        pytest.skip(f"{CORE}")
    names = json.dumps([name for name in CORE.modules if name.startswith("isthmus.")])
    told = f"import importlib, json; print(*{{importlib.import_module(name).__file__ for name in {names}}}, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert all(place.endswith(EXTENSION_SUFFIXES[0]) for place in done.stdout.split())


def test_mypyc_takes_the_source() -> None:
    """Wherever it was tried: no machine is asked for a compiler."""
    assert "mypyc refuses the source" not in CORE.reason


def test_a_core_that_is_up_to_date_is_left_alone() -> None:
    if not CORE.is_compiled:
        pytest.skip(f"{CORE}")
    folder = Path(next(iter(CORE.modules.values()))).parent
    before = (folder / MANIFEST).stat()
    done = _compile(folder.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / MANIFEST).stat() == before


def test_a_machine_without_a_compiler_is_told_in_a_line(tmp_path: Path) -> None:
    done = _compile(tmp_path, CC="no-such-compiler")
    why = "the core is not compiled: there is no no-such-compiler here"
    assert (done.returncode, done.stderr) == (0, f"isthmus: {why}; everything runs in pure Python\n")
    assert str(choose([tmp_path / FOLDER], SOURCE)) == f"pure Python: {why}"


def _compile(into: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "compile_core.py"), "--into", str(into)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def _write(folder: Path, said: str, reason: str = "") -> None:
    manifest = {"digest": said, "files": FILES, "modules": ["isthmus.one"], "reason": reason}
    (folder / MANIFEST).write_text(json.dumps(manifest))
