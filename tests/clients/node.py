"""Scripts on the stock Node clients: run with the hub's CA trusted and names that lead where the test wants."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "node"
SECONDS_MAX = 120.0


def node(script: str, *arguments: str, ca: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object that a script prints; skips the test, with the reason, where Node or its packages are missing."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node is not installed here")
    if not (FOLDER / "node_modules").is_dir():
        pytest.skip("the Node packages are not installed: tools/npm_packages.sh tests/node")
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(ca), "TEST_NAMES": json.dumps(names)}
    done = subprocess.run(
        [program, "--require", FOLDER / "names.cjs", FOLDER / script, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.stdout, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed
