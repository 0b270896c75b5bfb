"""The threat model names tests that are there, and the supply chain is what it says."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from house.source import ROOT

MODEL = ROOT / "docs" / "security" / "threat-model.md"
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)::((?:[A-Za-z]+::)?test_[a-z0-9_]+)`")
ROW = re.compile(r"^\| .* \| .* \| (?P<tests>.*) \|$", re.MULTILINE)


def named() -> list[tuple[str, str]]:
    return sorted(set(NAMED.findall(MODEL.read_text())))


@pytest.mark.parametrize(("file", "test"), named())
def test_a_test_that_the_threat_model_names_is_there(file: str, test: str) -> None:
    assert test in defined_in(ROOT / file), f"{MODEL.name} names {file}::{test}, which is not there"


def test_every_threat_names_a_test() -> None:
    threats = MODEL.read_text().partition("## Strangers")[2].partition("## Accepted")[0]
    rows = [row for row in ROW.finditer(threats) if row["tests"].strip("- ") and "Tests that fail" not in row["tests"]]

    assert len(rows) > 25
    assert [row[0] for row in rows if not NAMED.search(row["tests"])] == []


def test_every_package_is_locked_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.split(r"(?m)^(?=[A-Za-z0-9._-]+==)", lock)[1:]

    assert pinned
    assert [each.split()[0] for each in pinned if "--hash=sha256:" not in each] == []
    assert "--require-hashes" in (ROOT / "Makefile").read_text()


def test_the_bill_of_materials_has_every_locked_package() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    told = bill_of_materials()

    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.5")
    wanted = {(name.lower(), version) for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;]+)", lock)}
    assert {(each["name"], each["version"]) for each in told["components"]} == wanted
    assert all(each["properties"] for each in told["components"])
    required = {each["name"] for each in told["components"] if each["scope"] == "required"}
    assert {"aiohttp", "cryptography", "yarl"} <= required
    assert "pytest" not in required


def test_every_part_of_the_bill_of_materials_is_named_once() -> None:
    told = bill_of_materials()
    references = [each["bom-ref"] for each in told["components"]]

    assert len(set(references)) == len(references)
    own = told["metadata"]["component"]["bom-ref"]
    assert {each["ref"] for each in told["dependencies"]} == {*references, own}
    assert {other for each in told["dependencies"] for other in each["dependsOn"]} <= set(references)


@cache
def bill_of_materials() -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tools" / "sbom.py")]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return told


@cache
def defined_in(path: Path) -> frozenset[str]:
    """The names of a file's tests, those of a class behind its name."""
    tree = ast.parse(path.read_text())
    found = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    classes = (each for each in tree.body if isinstance(each, ast.ClassDef))
    return frozenset(
        found
        | {
            f"{each.name}::{inner.name}"
            for each in classes
            for inner in each.body
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    )
