"""The examples, as a person runs them: with what `isthmus env` prints, and nothing else."""

import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from house.source import ROOT
from support.server import RunningHub

EXAMPLES = ROOT / "examples"
WAIT_SECONDS = 40.0

pytestmark = pytest.mark.clients


def test_device_reader_and_backend_play_together(running_hub: RunningHub) -> None:
    running_hub.create_device("press-1")
    variables = environment_of(running_hub, "press-1")
    with running("reader.py", variables) as reader, running("device.py", variables) as device:
        wait_for(device, "sent 1")
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "backend.py"), "press-1"],
            env=variables,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "method 200 {'done': 'calibrate'}",
            "desired version 2",
            "command sent",
            "connected ['press-1']",
        ]
        wait_for(device, "command lubricate the bearing")
        assert wait_for(reader, "press-1 ").endswith('/0 {"number": 1}')
    twin = running_hub.json("device-twin", "show", "-d", "press-1")
    assert twin["properties"]["reported"]["interval"] == 0.5


def test_seed_makes_what_it_says(make_hub: Callable[..., RunningHub], loopback_address: str, tmp_path: Path) -> None:
    seed = tmp_path / "seed.toml"
    seed.write_text((EXAMPLES / "seed.toml").read_text().replace("127.0.0.2", loopback_address))
    hub = make_hub("--ephemeral", "--seed", str(seed))
    statuses = {twin["deviceId"]: twin["status"] for twin in hub.json("device-identity", "list")}
    assert statuses == {"press-1": "enabled", "press-2": "enabled", "retired": "disabled"}
    twin = hub.json("device-twin", "show", "-d", "press-1")
    assert (twin["tags"], twin["properties"]["desired"]["interval"]) == ({"hall": 2}, 0.5)
    assert [module["moduleId"] for module in hub.json("module-identity", "list", "-d", "press-2")] == ["vision"]
    (endpoint,) = hub.json("network", "private-endpoint", "list")
    assert endpoint["properties"]["customDnsConfigs"][0]["ipAddresses"] == [loopback_address]


def environment_of(hub: RunningHub, device_id: str) -> dict[str, str]:
    """The variables that `eval "$(isthmus env)"` sets, over those there are."""
    lines = shlex.split(hub.isthmus("env", "--device-id", device_id), comments=True)
    return os.environ | dict(word.split("=", 1) for word in lines if word != "export")


@contextmanager
def running(example: str, variables: dict[str, str]) -> Iterator["queue.SimpleQueue[str | None]"]:
    """Runs an example until the block ends and gives its lines; None stands for its end."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / example)],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reading = threading.Thread(target=read, args=(process, lines))
    reading.start()
    try:
        yield lines
    finally:
        process.kill()
        process.wait()
        reading.join()
        if process.stdout is not None:
            process.stdout.close()


def read(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    for line in process.stdout or ():
        lines.put(line.rstrip())
    lines.put(None)


def wait_for(lines: "queue.SimpleQueue[str | None]", beginning: str) -> str:
    """The next line that begins so."""
    heard: list[str] = []
    while True:
        try:
            line = lines.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no {beginning!r} within {WAIT_SECONDS} s among {heard}") from None
        assert line is not None, f"it ended before {beginning!r}: {heard}"
        if line.startswith(beginning):
            return line
        heard.append(line)
