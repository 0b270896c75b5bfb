"""A hub in a process of its own, as users run it: `isthmus up` on a loopback address, driven by the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from support.commands import COMMANDS, Forked

ISTHMUS = Path(sys.executable).with_name("isthmus")
START_SECONDS_MAX = 30.0
"""A first start makes keys and certificates; measured well below a second, and other tests may have the processor."""
STOP_SECONDS_MAX = 15.0
"""SIGTERM promises 10 s; the rest is the machine's."""
COMMAND_SECONDS_MAX = 30.0
POLL_SECONDS = 0.02


class RunningHub:
    """Starts, kills and restarts one server; only ever signals the process it started.

    Its host name is its address unless `hostname` is given. `log` has what the server printed, all starts in a row.
    `settings` is the text of a configuration file, `under` a command that starts the server with fewer rights. With
    `forked` it is forked from a process that has loaded Python's modules already (`support.commands`).
    """

    def __init__(
        self,
        folder: Path,
        address: str,
        *,
        hostname: str = "",
        options: Sequence[str] = (),
        settings: str = "",
        under: Sequence[str] = (),
        forked: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address: Final = address
        self.host_name: Final = hostname or address
        self.data = folder / "data"
        self.log: Final = folder / "server.log"
        self.ready_file = folder / "ready.json"
        self._options = tuple(options)
        if settings:
            (folder / "settings.toml").write_text(settings)
            self._options += ("--config", str(folder / "settings.toml"))
        self._under = tuple(under)
        self._forked = forked
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._strings: dict[tuple[str, ...], str] = {}
        self.ready: dict[str, Any] = {}

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._the_process().pid

    @property
    def ca(self) -> Path:
        """The certificate that clients have to trust, as the ready file tells it."""
        return Path(self.ready["ca"])

    def start(self) -> None:
        """Returns once every listener accepts; raises AssertionError with the server's words when it does not."""
        self.ready_file.unlink(missing_ok=True)
        self._strings.clear()
        self.launch()
        self._wait_until_ready(self._the_process())

    def launch(self) -> None:
        """Starts the process and does not wait for it."""
        assert not self.running, "this hub runs already"
        with self.log.open("ab") as log:
            if self._forked:
                self._process = COMMANDS.start(self.command()[1:], self.log.parent, log)
                return
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
            )

    def stop(self) -> None:
        """Asks it to drain and end; it must do so in time and with exit code 0."""
        self.signal(signal.SIGTERM)
        code = self.wait(STOP_SECONDS_MAX)
        assert code == 0, f"exit code {code} after SIGTERM\n{self.words()}"

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._the_process().send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit code of a server that was told to end; raises AssertionError, and kills it, when it does not."""
        try:
            return self._the_process().wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {seconds} s\n{self.words()}") from None

    def kill(self) -> None:
        """`kill -9`, as a power cut would do it to the process; does nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_SECONDS_MAX)

    def restart(self) -> None:
        """Kills it when it runs and starts it on the same data folder and address."""
        self.kill()
        self.start()

    def isthmus(self, *arguments: str, code: int = 0) -> str:
        """Runs a command against this hub and returns what it printed; `code` is the exit code it must have."""
        done = self.run(*arguments)
        assert done.returncode == code, f"isthmus {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command against this hub, whatever becomes of it."""
        return COMMANDS.run([*arguments, "--data", str(self.data)], COMMAND_SECONDS_MAX)

    def json(self, *arguments: str) -> Any:
        """What a command printed, parsed; None when it printed nothing."""
        text = self.isthmus(*arguments, "--output", "json")
        return json.loads(text) if text.strip() else None

    def connection_string(self, policy: str = "iothubowner") -> str:
        """For service SDKs."""
        return self._policy_string("connection-string", "--policy", policy)

    def events_connection_string(self, policy: str = "iothubowner") -> str:
        """For readers of the built-in endpoint."""
        return self._policy_string("connection-string", "--events", "--policy", policy)

    def device_connection_string(self, device_id: str, module_id: str = "") -> str:
        """For a device's SDK, or a module's."""
        module = ("--module-id", module_id) if module_id else ()
        return self.isthmus("connection-string", "--device-id", device_id, *module).strip()

    def create_device(self, device_id: str) -> str:
        """Registers a device and returns its connection string."""
        self.isthmus("device-identity", "create", "-d", device_id)
        return self.device_connection_string(device_id)

    def words(self) -> str:
        """The end of what the server printed."""
        return self.log.read_text(errors="replace")[-4000:]

    def command(self) -> list[str]:
        """What starts the server."""
        fixed = ["up", "--data", self.data, "--hostname", self.host_name, "--bind", self.address]
        return [str(part) for part in (*self._under, ISTHMUS, *fixed, "--ready-file", self.ready_file, *self._options)]

    def _policy_string(self, *command: str) -> str:
        """What a command prints, asked once for each start, because nobody changes a policy's keys in between."""
        if command not in self._strings:
            self._strings[command] = self.isthmus(*command).strip()
        return self._strings[command]

    def _the_process(self) -> subprocess.Popen[bytes] | Forked:
        assert self._process is not None, "this hub was not started"
        return self._process

    def _wait_until_ready(self, process: subprocess.Popen[bytes] | Forked) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.ready_file.exists():
                self.ready = json.loads(self.ready_file.read_bytes())
                return
            try:
                code = process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"isthmus up ended with code {code}\n{self.words()}")
        os.kill(process.pid, 9)
        process.wait(STOP_SECONDS_MAX)
        raise AssertionError(f"isthmus up was not ready within {START_SECONDS_MAX} s\n{self.words()}")
