"""The how-to pages about queries, jobs, files and configurations: commands do what is shown.

The hub hosts the account that they name.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from clients.devices import until
from house.source import ROOT
from support.server import ISTHMUS, RunningHub

PAGES = ROOT / "docs" / "how-to"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NEEDS_A_FILE = "address-with-signature.txt"
SECONDS_MAX = 60.0
BY_AND_BY = re.compile(r" (job show|(device|module)-twin show|show-metric) ")
"""Commands that show what the hub does by and by."""
AT_WORK = frozenset({"enqueued", "queued", "running"})


@pytest.mark.parametrize(
    "page",
    [
        "ask-the-fleet.md",
        "move-identities.md",
        "schedule-jobs.md",
        "upload-files.md",
        "keep-settings.md",
        "plug-and-play.md",
    ],
)
def test_what_is_shown_is_what_happens(hub: RunningHub, page: str) -> None:
    hub.create_device("press-1")
    hub.isthmus("device-twin", "update", "-d", "press-1", "--tags", '{"hall": 2}')
    ids: dict[str, str] = {}
    for command, shown in commands((PAGES / page).read_text()):
        if NEEDS_A_FILE in command:
            continue
        for told, actual in ids.items():
            command = command.replace(told, actual)
        wanted = UUID.sub("ID", shown)
        deadline = time.monotonic() + (SECONDS_MAX if BY_AND_BY.search(command) else 0)
        printed = run(hub, command)
        while wanted and UUID.sub("ID", printed) != wanted and time.monotonic() < deadline:
            printed = run(hub, command)
        assert not wanted or UUID.sub("ID", printed) == wanted, command
        ids |= dict(zip(UUID.findall(shown), UUID.findall(printed), strict=wanted != ""))
    until(lambda: not working(hub), SECONDS_MAX)
    hub.isthmus("device-identity", "delete", "-d", "press-1")


def working(hub: RunningHub) -> list[object]:
    """The jobs that may still write a device; one for next month may not."""
    jobs = json.loads(hub.isthmus("iot", "hub", "job", "list", "-o", "json"))
    return [job for job in jobs if job["status"] in AT_WORK]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a page's console blocks, with what is shown below each."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            last = next(place for place, line in enumerate(lines) if not line.endswith("\\\n"))
            yield "".join(lines[: last + 1]), "".join(lines[last + 1 :])


def run(hub: RunningHub, command: str) -> str:
    """What a shell prints that knows the hub's folder."""
    path = f"{ISTHMUS.parent}{os.pathsep}{os.environ['PATH']}"
    known = {**os.environ, "PATH": path, "ISTHMUS_DATA": str(hub.data)}
    done = subprocess.run(["sh", "-c", command], env=known, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout
