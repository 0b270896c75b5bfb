"""Writes the software bill of materials, CycloneDX 1.5 in JSON: `make sbom`.

Every package of `requirements.lock` with the hashes it is installed by, whether it runs in the server or only tests it,
and the licence that its installed metadata tells. Nothing is asked of a registry, and the same lock file gives the same
document but for its time, which `SOURCE_DATE_EPOCH` fixes.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
SPECIFICATION = "1.5"
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Package:
    """One package of the lock file."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def reference(self) -> str:
        """Its package URL, which names it in the document."""
        return f"pkg:pypi/{self.name}@{self.version}"


def main() -> int:
    """Writes the document to a file or to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", "-o", type=Path, help="Default: standard output.")
    output = parser.parse_args().output
    text = json.dumps(document(LOCK.read_text()), indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
    return 0


def document(lock: str) -> dict[str, Any]:
    """The whole bill of materials of a lock file's text."""
    packages = locked(lock)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = reached({normal(each) for each in project["dependencies"]}, packages)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(lock.encode()).hexdigest())}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
            "component": {
                "type": "application",
                "bom-ref": f"pkg:pypi/isthmus@{project['version']}",
                "name": "isthmus",
                "version": project["version"],
                "purl": f"pkg:pypi/isthmus@{project['version']}",
                "licenses": [{"license": {"id": project["license"]}}],
            },
        },
        "components": [component(each, required=each.name in runtime) for each in packages.values()],
        "dependencies": [
            {
                "ref": f"pkg:pypi/isthmus@{project['version']}",
                "dependsOn": sorted(packages[name].reference for name in map(normal, project["dependencies"])),
            },
            *({"ref": each.reference, "dependsOn": depends_on(each, packages)} for each in packages.values()),
        ],
    }


def locked(lock: str) -> dict[str, Package]:
    """The packages of a lock file by their normal names (PEP 503), in its order."""
    found: dict[str, Package] = {}
    starts = list(PINNED.finditer(lock))
    for match, following in zip(starts, [*starts[1:], None], strict=True):
        block = lock[match.start() : following.start() if following else len(lock)]
        name = normal(match["name"])
        found[name] = Package(name, match["version"], tuple(sorted(HASH.findall(block))))
    return found


def component(package: Package, *, required: bool) -> dict[str, Any]:
    """A package as the document tells it; `required` when the server needs it."""
    told: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.reference,
        "name": package.name,
        "version": package.version,
        "scope": "required" if required else "optional",
        "purl": package.reference,
        # One for each file that the lock file allows: which one is installed depends on the machine.
        "properties": [{"name": "isthmus:lock:sha256", "value": each} for each in package.hashes],
    }
    licence = licence_of(package.name)
    if licence:
        told["licenses"] = [{"license": {"name": licence}}]
    return told


def licence_of(name: str) -> str:
    """What the installed package says of its licence; empty where it is not installed or says nothing."""
    installed = installed_package(name)
    if installed is None:
        return ""
    said = installed.metadata
    fields = (said[field] for field in ("License-Expression", "License") if field in said)
    told = next(filter(None, fields), "")
    classifiers = (each for each in said.get_all("Classifier") or () if each.startswith("License ::"))
    # Some put the whole text there.
    return told if told and "\n" not in told else next((each.rpartition(":: ")[2] for each in classifiers), "")


def depends_on(package: Package, packages: dict[str, Package]) -> list[str]:
    """Which of the locked packages it needs, extras aside."""
    return sorted({packages[name].reference for name in needs(package.name) if name in packages})


def needs(name: str) -> Iterator[str]:
    """Normal names of what an installed package requires without extras."""
    installed = installed_package(name)
    for requirement in (installed.requires or ()) if installed else ():
        match = REQUIREMENT.match(requirement)
        if match and "extra ==" not in requirement:
            yield normal(match[0])


def reached(names: set[str], packages: dict[str, Package]) -> set[str]:
    """These and all that they need in turn."""
    waiting, found = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in packages and name not in found:
            found.add(name)
            waiting += needs(name)
    return found


def installed_package(name: str) -> Distribution | None:
    """The installed package, or None."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def normal(requirement: str) -> str:
    """The normal name (PEP 503) of a package or a requirement on it."""
    match = REQUIREMENT.match(requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


if __name__ == "__main__":
    sys.exit(main())
