"""The hub's own check of its sockets, from the lab's internet."""

import json
import subprocess
from typing import Any

from support.lab import COMMAND_SECONDS_MAX, RunningLab
from support.server import ISTHMUS

INTRUDER = "203.0.113.66"


def test_every_socket_answers_the_internet_as_documented(lab: RunningLab) -> None:
    """Knocked at by the intruder's machine, which finds no socket that the hub does not know of."""
    rows = exposure(lab)
    assert [row for row in rows if row["verdict"] != "as expected"] == []
    public = {row["plane"] for row in rows if row["address"] == "203.0.113.10"}
    assert {"mqtt", "amqp", "https", "link"} <= public


def exposure(lab: RunningLab) -> list[dict[str, Any]]:
    command = [str(ISTHMUS), "check", "exposure", "--data", str(lab.folder / "hub"), "--from", INTRUDER]
    done = subprocess.run(
        lab.within("intruder", [*command, "--output", "json"]),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows
