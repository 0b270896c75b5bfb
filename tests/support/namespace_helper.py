"""The root helper as a process of its own, as systemd would start it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from support.server import ISTHMUS, POLL_SECONDS, START_SECONDS_MAX, STOP_SECONDS_MAX

NOBODY: Final = 65_534
"""The user without rights whom the helper serves in tests."""

CAPABILITIES: Final = ("sys_admin", "net_admin", "net_bind_service")
"""All that the unit of `docs/how-to/run-as-a-service.md` leaves it."""


class RunningHelper:
    """Starts, stops and kills one helper; it has the capabilities of its unit and no more."""

    def __init__(self, folder: Path, *options: str, user: int = NOBODY) -> None:
        self.socket: Final = folder / "helper.sock"
        self.record: Final = folder / "helper.sock.record"
        self.log: Final = folder / "helper.log"
        self._command = ["namespace-helper", "--socket", str(self.socket), "--allow-user", str(user), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it answers."""
        kept = ",".join(["-all", *(f"+{name}" for name in CAPABILITIES)])
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", f"--bounding-set={kept}", "--no-new-privs", ISTHMUS, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Tells it to end; it must do so with exit code 0."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(STOP_SECONDS_MAX) == 0, self.log.read_text()

    def kill(self) -> None:
        """`kill -9`; does nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_SECONDS_MAX)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            return asking.connect_ex(str(self.socket)) == 0


def as_nobody(*command: str | Path) -> Sequence[str]:
    """The command that runs another one as a user without rights."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", *map(str, command)]


def may_run_as_nobody() -> bool:
    """False where a user without rights cannot read this checkout."""
    return subprocess.run(as_nobody(ISTHMUS, "--help"), capture_output=True, check=False).returncode == 0


def own(folder: Path) -> None:
    """Gives a folder to the user without rights."""
    os.chown(folder, NOBODY, NOBODY)
