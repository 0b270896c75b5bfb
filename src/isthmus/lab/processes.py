"""The lab's processes: started with a mark, found by it, and ended by a descriptor that cannot mean another process."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from isthmus.base.clock import Clock
from isthmus.lab.errors import LabError
from isthmus.lab.record import Record

MARK_VARIABLE = "ISTHMUS_LAB_MARK"
PATIENCE_SECONDS = 3.0
"""For a process to end by itself after SIGTERM; then it is killed: what it has is thrown away with the lab."""
END_SECONDS_MAX = 20.0
"""For all of them; a process in the kernel's hands may take a while even after SIGKILL."""

PROC = Path("/proc")
PYTHON = (sys.executable, "-m")


def start(
    record: Record,
    name: str,
    command: Sequence[str],
    *,
    namespace: str = "",
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process of the lab, in a namespace when one is named, and writes it down; its words go to `{name}.log`.

    It has a session of its own and lives on when the caller ends.
    """
    with record.path(f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*within(namespace), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {MARK_VARIABLE: record.mark} | dict(environment or {}),
        )
    record.add("process", name, pid=process.pid, started=start_time(process.pid), namespace=namespace)
    return process


def ended(
    command: Sequence[str], seconds: float, *, given: str = "", environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """A command that has run to its end; raises LabError when it does not end within the time."""
    try:
        return subprocess.run(
            command, input=given, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(command)}` does not end within {seconds:.0f} s.") from error


def within(namespace: str) -> tuple[str, ...]:
    """What makes a command run inside a namespace, with that one's files of /etc/netns."""
    return ("ip", "netns", "exec", namespace) if namespace else ()


def start_time(pid: int) -> int:
    """When a process started, in the kernel's ticks since boot: with the pid it names one process; 0 when it has ended.

    A process that has ended and is not waited for yet counts as ended (proc_pid_stat(5)).
    """
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def is_alive(record: Record, name: str) -> bool:
    """True when the process that was started under a name last still runs."""
    told = record.all("process").get(name)
    return told is not None and told["started"] != 0 and start_time(told["pid"]) == told["started"]


def last_words(record: Record, name: str) -> str:
    """The last line a process has printed."""
    path = record.path(f"{name}.log")
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "it said nothing"


def end_all(record: Record, clock: Clock) -> None:
    """Ends every process of a lab; raises LabError naming those that would not."""
    deadline = clock.monotonic() + END_SECONDS_MAX
    patience = clock.monotonic() + PATIENCE_SECONDS
    told: set[int] = set()
    while found := list(_processes_of(record)):
        for pid in found:
            number = signal.SIGKILL if clock.monotonic() >= patience else signal.SIGTERM
            if number is signal.SIGKILL or pid not in told:
                _signal(record, pid, number)
                told.add(pid)
        if clock.monotonic() > deadline:
            raise LabError(f"These processes do not end: {', '.join(str(pid) for pid in found)}.")
        _wait_for_one(found)


def strangers_in(namespaces: Sequence[str], record: Record) -> Iterator[tuple[int, str]]:
    """Processes inside the lab's namespaces that the lab did not start, each with its name."""
    inodes = {(Path("/run/netns") / name).stat().st_ino for name in namespaces if (Path("/run/netns") / name).exists()}
    own = set(_processes_of(record))
    for pid in _pids():
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if pid not in own and (PROC / str(pid) / "ns" / "net").stat().st_ino in inodes:
                yield pid, (PROC / str(pid) / "comm").read_text().strip()


def _processes_of(record: Record) -> Iterator[int]:
    """Those that carry the mark, and those that were written down."""
    if record.mark:
        yield from (pid for pid in _pids() if _has_mark(pid, record.mark))


def _pids() -> Iterator[int]:
    return (int(path.name) for path in PROC.iterdir() if path.name.isdecimal())


def _has_mark(pid: int, mark: str) -> bool:
    try:
        variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return f"{MARK_VARIABLE}={mark}".encode() in variables and start_time(pid) != 0


def _signal(record: Record, pid: int, number: signal.Signals) -> None:
    """Signals the process that is looked at, even if the number becomes another's meanwhile (pidfd_open(2))."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _has_mark(pid, record.mark):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _wait_for_one(pids: Sequence[int]) -> None:
    """Returns when one of them has ended, or after a twentieth of a second."""
    descriptors = []
    for pid in pids:
        with suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(pid))
    try:
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        if descriptors:
            poll.poll(50)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
