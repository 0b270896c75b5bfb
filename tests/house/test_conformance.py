"""The rules of MQTT and AMQP: tests name only rules there are, touch each one that applies, and the page tells it."""

import subprocess
import sys

from house.source import ROOT


def test_each_rule_that_applies_is_touched_and_told() -> None:
    command = [sys.executable, str(ROOT / "tools" / "conformance.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make docs`: {done.stdout}{done.stderr}"
