"""A sending device inside a network namespace, a lab's or another, followed from outside."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self

from house.source import ROOT

PROGRAM: Final = ROOT / "tests" / "clients" / "grid_sender.py"
WAIT_SECONDS: Final = 40.0
"""For a client to come back: its own retry, and the patience it has with a connection that died silently."""

END_SECONDS_MAX: Final = 20.0


class Surroundings(Protocol):
    """Where a device and its hub are."""

    @property
    def ca(self) -> Path:
        """What the device trusts."""

    def isthmus(self, *arguments: str) -> str:
        """Runs a command against the hub."""

    def within(self, node: str, command: Sequence[str]) -> list[str]:
        """The command that runs another one where the device is."""


class Sender:
    """One device that sends as fast as it is acknowledged, some twenty messages a second at most."""

    def __init__(self, lab: Surroundings, host: str, device_id: str, hub: str = "factory") -> None:
        self.device_id = device_id
        self._told: list[dict[str, Any]] = []
        self._grown = threading.Condition(threading.RLock())
        string = lab.isthmus("connection-string", "-n", hub, "--device-id", device_id).strip()
        self._process = subprocess.Popen(
            lab.within(host, [sys.executable, str(PROGRAM)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin is not None
        task = {"connection_string": string, "ca": str(lab.ca), "mark": device_id}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def acknowledged(self) -> list[int]:
        """The numbers of the messages that were acknowledged so far."""
        return [told["number"] for told in self.told("acknowledged")]

    def told(self, what: str) -> list[dict[str, Any]]:
        """All happenings of a kind so far."""
        with self._grown:
            return [told for told in self._told if told["what"] == what]

    def acknowledge_more(self, count: int = 5, seconds: float = WAIT_SECONDS) -> None:
        """Returns when so many more messages were acknowledged than there are now."""
        wanted = len(self.acknowledged) + count
        self.wait(lambda: len(self.acknowledged) >= wanted, f"{count} more acknowledgements", seconds)

    def cut_within(self, seconds: float, act: Callable[[], object]) -> float:
        """Does something that must cut the session, and asserts it did so within the time after it was done."""
        before = len(self.told("disconnected"))
        act()
        done = self.now()
        self.wait(lambda: len(self.told("disconnected")) > before, "a cut")
        took = float(self.told("disconnected")[before]["at"]) - done
        assert took < seconds, f"cut {took:.2f} s after the command had ended"
        return took

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        """Returns when the condition holds, which is asked again at each happening."""
        with self._grown:
            assert self._grown.wait_for(condition, seconds), f"no {what} within {seconds} s: {self._last()}"

    def end(self) -> None:
        """Ends the device; without effect when it has ended."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reading.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @staticmethod
    def now() -> float:
        """The wall clock, which all namespaces of the machine share."""
        return time.time()

    def _last(self) -> list[dict[str, Any]]:
        return self._told[-8:]

    def _read(self) -> None:
        for line in self._process.stdout or ():
            happening = json.loads(line)
            with self._grown:
                self._told.append(happening)
                self._grown.notify_all()
