"""Everything a user can name has its paragraph: commands, errors, configuration keys, rules of refusals, metrics."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from house.source import ROOT, calls, modules
from isthmus.config import Config

REFERENCE = ROOT / "docs" / "reference"
RULE = re.compile(r"(socket|tls|name|network|auth|contract|limit|link|egress|storage)\.[a-z]+(-[a-z]+)*")
METRIC = re.compile(r"isthmus_[a-z_]+")


def _pages() -> list[Path]:
    """Every Markdown file of the project, not those of packages that tests have installed."""
    folders = ("", "benchmarks", "changes", "docs/**", "examples", "tests/**")
    found = (page for folder in folders for page in ROOT.glob(f"{folder}/*.md".lstrip("/")))
    return sorted(page for page in found if "node_modules" not in page.parts)


def test_generated_pages_are_what_the_source_says() -> None:
    command = [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make docs`: {done.stdout}{done.stderr}"


def test_every_configuration_key_is_explained() -> None:
    page = (REFERENCE / "configuration.md").read_text()
    missing = [key for key in _keys(Config, "") if f"`{key}`" not in page]
    assert not missing, f"docs/reference/configuration.md does not explain {missing}"


def test_every_rule_of_a_refusal_is_explained() -> None:
    page = (REFERENCE / "refusals.md").read_text()
    rules = {text for text in _texts() if RULE.fullmatch(text)}
    assert "auth.signature" in rules
    missing = sorted(rule for rule in rules if f"`{rule}`" not in page)
    assert not missing, f"docs/reference/refusals.md does not explain {missing}"


def test_no_rule_is_explained_that_is_not_there() -> None:
    page = (REFERENCE / "refusals.md").read_text()
    source = "\n".join(module.text for module in modules())
    told: set[str] = set(re.findall(r"^\| `([a-z.-]+)` \|", page, re.MULTILINE))
    gone = sorted(rule for rule in told if rule not in source and not rule.startswith("network.private-endpoint-"))
    assert not gone, f"docs/reference/refusals.md explains {gone}, which nothing refuses by"


def test_every_metric_is_explained() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    named = {text for text in _texts() if METRIC.fullmatch(text)} | {f"isthmus_{name}" for name in _readings()}
    assert "isthmus_log_records" in named
    missing = sorted(name for name in named if not re.search(f"`{name}(_total)?`", page))
    assert not missing, f"docs/reference/metrics.md does not explain {missing}"


def test_nothing_is_explained_that_is_not_there() -> None:
    metrics = set(re.findall(r"^\| `(isthmus_[a-z_]+)` \|", (REFERENCE / "metrics.md").read_text(), re.MULTILINE))
    known = _texts() | {f"isthmus_{name}" for name in _readings()}
    gone = {name for name in metrics if name.removesuffix("_total") not in known}
    assert not gone, f"docs/reference/metrics.md explains {sorted(gone)}, which nobody counts"
    settings = (REFERENCE / "configuration.md").read_text().partition("## The seed")[0]
    told = set(re.findall(r"^\| `([a-z_.]+)` \|", settings, re.MULTILINE))
    assert told == set(_keys(Config, "")), "docs/reference/configuration.md explains keys that are not there"


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/decisions/[0-9]*.md")), ids=lambda path: path.stem)
def test_a_decision_has_its_parts(path: Path) -> None:
    text = path.read_text()
    assert re.match(r"# \d{4}: ", text), "a decision begins with its number and its sentence"
    assert "**Decided.**" in text or "## Decision" in text


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    broken = [f"{target}{anchor}" for target, anchor in _links(page) if not _leads(page, target, anchor)]
    assert not broken, f"{page.relative_to(ROOT)} links to {broken}"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / target).resolve() for target, _ in _links(index)}
    pages = {page for folder in ("concepts", "how-to", "reference") for page in (ROOT / "docs" / folder).glob("*.md")}
    assert len(pages) > 10
    missing = sorted(page.name for page in pages - reached)
    assert not missing, f"docs/README.md does not lead to {missing}"


def _links(page: Path) -> list[tuple[str, str]]:
    """Relative links of a page outside its code blocks: target, which is empty for the page itself, and anchor."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: list[tuple[str, str]] = re.findall(r"\]\(([^)#:\s]*)(#[^)\s]+)?\)", prose)
    return found


def _leads(page: Path, target: str, anchor: str) -> bool:
    place = page.parent / target if target else page
    return place.exists() and (not anchor or anchor[1:] in _anchors(place))


def _anchors(page: Path) -> set[str]:
    """The names that headings have on a rendered page: lower case, words joined by dashes, no other punctuation."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _keys(kind: type[msgspec.Struct], prefix: str) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _keys(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _readings() -> Iterator[str]:
    """First arguments of `Reading(...)`, whose names get their prefix at the scrape."""
    for module in modules():
        for name, call in calls(module.tree):
            if name == "Reading" and isinstance(call.args[0], ast.Constant):
                yield str(call.args[0].value)


def _texts() -> set[str]:
    return {
        node.value
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
