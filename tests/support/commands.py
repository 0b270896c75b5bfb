"""The command `isthmus` for tests that call it often: a process that has loaded it once, and forks for each call.

What runs is the same entry point with the same arguments, environment, folder and output; only the time in which Python
loads its modules, half a second for commands and more than one for a server, is spent once for each process of the
suite. `python -m support.commands SOCKET` is the process itself; it ends when its parent does, because the listening
socket's other end is gone.
"""

import atexit
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

TESTS = Path(__file__).parent.parent
STATUS = struct.Struct("!i")
START_SECONDS_MAX = 30.0
"""The first server has to be loaded."""
KILLED = 128
"""Added to the number of a signal that ended a command, as shells do."""


class Commands:
    """Runs commands in forks of a process that is started with the first one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._starting = threading.Lock()

    def run(self, arguments: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of the command with its output captured; raises TimeoutExpired likewise."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            command = self._order(arguments, Path.cwd(), out.fileno(), err.fileno(), server=False)
            code = command.wait(seconds)
            out.seek(0)
            err.seek(0)
            texts = [file.read().decode(errors="replace") for file in (out, err)]
            return subprocess.CompletedProcess(list(arguments), code, *texts)

    def start(self, arguments: Sequence[str], folder: Path, log: BinaryIO) -> "Forked":
        """A server in the background, which prints into `log`."""
        return self._order(arguments, folder, log.fileno(), log.fileno(), server=True)

    def _order(self, arguments: Sequence[str], folder: Path, out: int, err: int, *, server: bool) -> "Forked":
        near, far = socket.socketpair()
        order = {
            "arguments": list(arguments),
            "environment": dict(os.environ),
            "folder": str(folder),
            "server": server,
        }
        with far:
            socket.send_fds(self._started(), [json.dumps(order).encode()], [far.fileno(), out, err])
        return Forked(near, arguments)

    def _started(self) -> socket.socket:
        with self._starting:
            return self._orders or self._start()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            cwd=TESTS,
        )
        theirs.close()
        self._orders = ours
        atexit.register(self._end)
        return ours

    def _end(self) -> None:
        if self._orders is not None and self._process is not None:
            self._orders.close()
            self._process.wait(5)


class Forked:
    """A command that was forked, as far as `subprocess.Popen` is needed of it."""

    def __init__(self, told: socket.socket, arguments: Sequence[str]) -> None:
        self._told = told
        self._arguments = list(arguments)
        self._code: int | None = None
        self.pid = self._hear(START_SECONDS_MAX)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self._code is None and select.select([self._told], [], [], 0)[0]:
            self.wait(START_SECONDS_MAX)
        return self._code

    def wait(self, seconds: float) -> int:
        """The exit code; raises TimeoutExpired."""
        if self._code is None:
            self._code = self._hear(seconds)
            self._told.close()
        return self._code

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and is about to tell
                os.kill(self.pid, number)

    def kill(self) -> None:
        """As `kill -9`."""
        self.send_signal(signal.SIGKILL)

    def _hear(self, seconds: float) -> int:
        self._told.settimeout(seconds)
        try:
            answer = self._told.recv(STATUS.size, socket.MSG_WAITALL)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self._arguments, seconds) from None
        if len(answer) < STATUS.size:
            raise ChildProcessError(f"nobody ran {self._arguments}")
        return int(STATUS.unpack(answer)[0])


COMMANDS = Commands()


def main() -> None:
    """Loads the command, and forks for each order until there can be none any more."""
    from isthmus.cli.main import main as isthmus

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    orders = socket.socket(fileno=int(sys.argv[1]))
    while True:
        text, descriptors, _, _ = socket.recv_fds(orders, 1_048_576, 3)
        if not text:
            return
        order = json.loads(text)
        if order["server"]:
            importlib.import_module("isthmus.app.serving")
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(_watch(order, descriptors, isthmus))
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(order: dict[str, Any], descriptors: Sequence[int], isthmus: Any) -> int:
    """Runs the command in a process of its own, and tells its number and then its exit code."""
    answer, out, err = descriptors
    command = os.fork()
    if command == 0:
        os.close(answer)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = ["isthmus", *order["arguments"]]
        os._exit(_code_of(isthmus))
    os.write(answer, STATUS.pack(command))
    _, status = os.waitpid(command, 0)
    code = os.waitstatus_to_exitcode(status)
    os.write(answer, STATUS.pack(code if code >= 0 else KILLED - code))
    return 0


def _code_of(isthmus: Any) -> int:
    """Runs it, and gives what a process would end with."""
    code: Any = 0
    try:
        isthmus()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


if __name__ == "__main__":
    main()
