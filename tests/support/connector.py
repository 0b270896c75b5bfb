"""A connector in a process of its own, as users run it: `isthmus connector run`, enrolled by a hub's token."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from support.server import ISTHMUS, POLL_SECONDS, RunningHub

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
"""SIGTERM promises 10 s for what is carried; the rest is the machine's."""
OUTSIDE = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ISTHMUS_ENROLMENT_TOKEN")
"""What of the environment would change what is tested."""


class RunningConnector:
    """Starts, kills and restarts one connector; only ever signals the process it started.

    `log` has what it said, all starts in a row. `under` is a command that starts it with fewer rights or elsewhere.
    """

    def __init__(self, folder: Path, *, options: Sequence[str] = (), under: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data: Final = folder / "data"
        self.log: Final = folder / "connector.log"
        self.ready_file: Final = folder / "ready.json"
        self._options = tuple(options)
        self._under = tuple(under)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._the_process().pid

    def start(self, token: str = "") -> dict[str, Any]:
        """Returns what the ready file says, once the hub's setup is applied; AssertionError when it never is."""
        self.launch(token)
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.ready_file.exists():
                ready: dict[str, Any] = json.loads(self.ready_file.read_bytes())
                return ready
            try:
                code = self._the_process().wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"connector run ended with code {code}\n{self.words()}")
        self.kill()
        raise AssertionError(f"connector run was not ready within {START_SECONDS_MAX} s\n{self.words()}")

    def launch(self, token: str = "") -> None:
        """Starts the process and does not wait for it."""
        assert not self.running, "this connector runs already"
        self.ready_file.unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
        if token:
            environment["ISTHMUS_ENROLMENT_TOKEN"] = token
        fixed = ("connector", "run", "--data", self.data, "--ready-file", self.ready_file)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in (*self._under, ISTHMUS, *fixed, *self._options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def stop(self) -> None:
        """Asks it to end; it must do so in time and with exit code 0."""
        self._the_process().send_signal(signal.SIGTERM)
        code = self.wait(STOP_SECONDS_MAX)
        assert code == 0, f"exit code {code} after SIGTERM\n{self.words()}"

    def wait(self, seconds: float) -> int:
        """The exit code of one that ends by itself; raises AssertionError, and kills it, when it does not."""
        try:
            return self._the_process().wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {seconds} s\n{self.words()}") from None

    def kill(self) -> None:
        """`kill -9`; does nothing when it has ended."""
        if self.running:
            process = self._the_process()
            process.kill()
            process.wait(STOP_SECONDS_MAX)

    def words(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-4000:]

    def _the_process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "this connector was not started"
        return self._process


def plant(hub: RunningHub, address: str, *, prefix: str = "127.0.0.0/8", name: str = "plant") -> str:
    """Declares a network that a connector is present in, with the hub's private endpoint at an address; its token."""
    hub.isthmus(
        *("network", "vnet", "create", "-n", name, "--presence", f"connector:{name}", "--address-prefixes", prefix),
        *("--subnet-name", "line", "--subnet-prefixes", prefix),
    )
    hub.isthmus(
        *("network", "private-endpoint", "create", "-n", name, "--connection-name", name, "--group-id", "iotHub"),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"]),
        *("--vnet-name", name, "--subnet", "line"),
        *("--ip-config", f"name={name}", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={address}"),
    )
    return token_for(hub, name)


def token_for(hub: RunningHub, name: str = "plant") -> str:
    """A new enrolment token."""
    return str(hub.json("connector", "enrol", "-n", name)["token"])
