"""Servers that are not meant to start, devices that a seed file makes, and waiting for what a server does."""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from support.server import ISTHMUS

START_SECONDS_MAX = 30.0
WAIT_SECONDS_MAX = 20.0
POLL_SECONDS = 0.01
KEY = "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleSE="


class Ended(NamedTuple):
    """How `isthmus up` ended, and what it said."""

    code: int
    said: str


def failing_start(data: Path, *flags: object) -> Ended:
    """Starts a server that has to end by itself."""
    done = subprocess.run(
        [str(ISTHMUS), "up", "--data", str(data), *map(str, flags)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_SECONDS_MAX,
        check=False,
    )
    return Ended(done.returncode, done.stdout + done.stderr)


def seed_of(folder: Path, devices: int, more: str = "") -> Path:
    """A seed file of devices `d0`, `d1`, … that all have the same key."""
    path = folder / "seed.toml"
    entries = (f'[[devices]]\nid = "d{number}"\nprimary_key = "{KEY}"\n' for number in range(devices))
    path.write_text(more + "\n".join(entries))
    return path


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; raises AssertionError when it does not come true in time."""
    deadline, pause = time.monotonic() + WAIT_SECONDS_MAX, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "this did not come true"
        pause.wait(POLL_SECONDS)
