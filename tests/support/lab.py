"""A lab as users run it: `isthmus lab`, under a name of this process's own, and what it may have left behind."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from isthmus.base.clock import SystemClock
from isthmus.lab.processes import MARK_VARIABLE
from isthmus.lab.waiting import wait_until
from support.server import ISTHMUS

COMMAND_SECONDS_MAX: Final = 120.0
WAY_SECONDS_MAX: Final = 30.0
"""For WireGuard to shake hands again after an outage, and for a dead process to be started again."""

LABS: Final = Path("/run/isthmus-lab")
TOOLS: Final = ("ip", "setpriv", "wg", "wireguard-go")


def why_no_lab() -> str:
    """Why no lab can be built here; empty when one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


class RunningLab:
    """One lab; `name` is the process's own, so that labs of several test runs are beside each other."""

    def __init__(self, file: Path, label: str) -> None:
        self.file = file
        self.name = f"{label}{os.getpid()}"
        self.folder = LABS / self.name

    def command(self, verb: str, *arguments: str) -> list[str]:
        """What runs a command on the lab."""
        return [str(ISTHMUS), "lab", verb, str(self.file), *arguments, "--name", self.name]

    def run(self, verb: str, *arguments: str, code: int | None = 0) -> str:
        """Runs a command and returns what it printed, or its complaint; None stands for any exit code."""
        done = subprocess.run(
            self.command(verb, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert code in {None, done.returncode}, (
            f"lab {verb}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.words()}"
        )
        return done.stdout or done.stderr

    def json(self, verb: str, *arguments: str, code: int | None = 0) -> Any:
        """What a command printed, parsed."""
        return json.loads(self.run(verb, *arguments, "--output", "json", code=code))

    def isthmus(self, *arguments: str, code: int = 0) -> str:
        """Runs a command against the lab's hub."""
        done = subprocess.run(
            [str(ISTHMUS), *arguments, "--data", str(self.folder / "hub")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == code, f"isthmus {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    @property
    def ca(self) -> Path:
        """The certificate that clients have to trust."""
        return self.folder / "hub" / "tls" / "ca.pem"

    def within(self, node: str, command: Sequence[str]) -> list[str]:
        """What runs a command on a host."""
        return ["ip", "netns", "exec", f"{self.name}-{node}", *command]

    def make_device(self, host: str, hub: str = "factory") -> str:
        """Registers a device for a host, new each time, and returns its id."""
        device_id = f"{host}-{uuid.uuid4().hex[:6]}"
        self.isthmus("device-identity", "create", "-n", hub, "-d", device_id)
        return device_id

    def await_way(self, way: str) -> None:
        """Returns when both ends of the plant's VPN agree that this way carries."""
        wanted = (way, [way == "vpn"] * 2)
        asked = SystemClock()
        assert wait_until(asked, WAY_SECONDS_MAX, lambda: self._way() == wanted), f"not by {way}: {self._way()}"

    def _way(self) -> tuple[str, list[bool]]:
        (way,) = self.json("status", code=None)["ways"]
        return way["carries"], way["vpn"]

    def down(self) -> None:
        """Takes it away, however far it came."""
        self.run("down")

    def leavings(self) -> list[str]:
        """Namespaces, files, sockets and processes of this lab that are there."""
        folders = (Path("/run/netns"), Path("/etc/netns"), LABS)
        left = [str(path) for folder in folders for path in folder.glob(f"{self.name}*")]
        wireguard = Path("/var/run/wireguard")
        mine = {line["name"] for line in self._made() if line["kind"] == "file"}
        left += [str(path) for path in wireguard.glob("*") if str(path) in mine]
        return left

    def marked(self, mark: str) -> list[int]:
        """Processes that carry a lab's mark."""
        wanted = f"{MARK_VARIABLE}={mark}".encode()
        return [pid for pid in _pids() if wanted in _variables(pid)]

    def mark(self) -> str:
        """The mark of the lab that is there."""
        return (self.folder / "mark").read_text()

    def words(self) -> str:
        """The ends of what the lab's processes printed."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)

    def _made(self) -> list[dict[str, Any]]:
        path = self.folder / "made.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _variables(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
