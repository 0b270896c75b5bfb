"""Programs inside network namespaces, watched from here."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.netns import Namespace
from support.server import RunningHub

WAIT_SECONDS = 40.0
PROGRAM = Path(__file__).with_name("far_side.py")


class Far:
    """One program on the far side and what it has told so far."""

    def __init__(self, namespace: Namespace, *arguments: str, ca: Path) -> None:
        self._told: list[dict[str, Any]] = []
        self._grown = threading.Condition()
        self._process = subprocess.Popen(
            namespace.inside([sys.executable, PROGRAM, *arguments]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"REQUESTS_CA_BUNDLE": str(ca)},
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def say(self, line: str) -> None:
        """Hands it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self, wanted: Callable[[dict[str, Any]], bool], *, after: int = 0) -> int:
        """The place behind the first thing it told from `after` on that is wanted; raises AssertionError in time."""

        def place() -> int:
            found = (number for number, each in enumerate(self._told) if number >= after and wanted(each))
            return next(found, -1) + 1

        with self._grown:
            assert self._grown.wait_for(place, WAIT_SECONDS), f"only {self._told[after:]}"
            return place()

    def heard(self, *, after: int = 0, **what: Any) -> int:
        """As `wait`, for what has just these members."""
        return self.wait(lambda told: told == what, after=after)

    def send(self, text: str) -> int:
        """Has a device send a message and waits for its acknowledgement."""
        before = len(self._told)
        self.say(text)
        return self.heard(sent=text, after=before)

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for end in (self._process.stdin, self._process.stdout):
            assert end is not None
            end.close()

    def __enter__(self) -> "Far":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._grown:
                self._told.append(json.loads(line))
                self._grown.notify_all()


def far_device(namespace: Namespace, hub: RunningHub, device_id: str) -> Far:
    """A registered device in a namespace, connected."""
    made = Far(namespace, "device", hub.create_device(device_id), str(hub.ca), ca=hub.ca)
    try:
        made.heard(connected=True)
    except AssertionError:
        made.close()
        raise
    return made


def far_service(namespace: Namespace, hub: RunningHub, device_id: str) -> Far:
    """An application in a namespace."""
    strings = hub.connection_string(), hub.events_connection_string()
    return Far(namespace, "service", *strings, str(hub.ca), device_id, ca=hub.ca)
