"""Network namespaces for tests: made as root, named after this process, gone afterwards whatever happened."""

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND_SECONDS_MAX = 30.0
"""A namespace's commands take milliseconds."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Namespace:
    """A network namespace by its name."""

    name: str

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Runs a command inside and returns what it printed."""
        return _run(*self.inside(command), check=check)

    def inside(self, command: Sequence[str | Path]) -> list[str]:
        """The command that runs another one inside, with the namespace's own /etc/hosts and /etc/resolv.conf."""
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def ip(self, *words: str) -> str:
        """Runs ip(8) on the namespace."""
        return _run("ip", "-n", self.name, *words)

    def addresses(self) -> set[str]:
        """All addresses that are there, with their prefix, without those of `lo` and link-local ones."""
        lines = self.ip("-o", "addr", "show", "scope", "global").splitlines()
        return {line.split()[3] for line in lines}

    def name_hosts(self, **addresses: str) -> None:
        """Writes /etc/hosts for whatever runs inside: names (with _ for dots) and their addresses."""
        folder = Path("/etc/netns", self.name)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{address} {name.replace('_', '.')}" for name, address in addresses.items()]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def remove(self) -> None:
        """Deletes it with all that is only for it."""
        _run("ip", "netns", "del", self.name, check=False)
        folder = Path("/etc/netns", self.name)
        if folder.is_dir():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


def may_make_namespaces() -> bool:
    """True for root on a machine with ip(8); the reason of a skip is `NEEDS_ROOT`."""
    return os.geteuid() == 0 and Path("/usr/sbin/ip").exists()


NEEDS_ROOT = "network namespaces need root and iproute2"


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """Makes new namespaces with `lo` up; they are deleted afterwards."""
    made: list[Namespace] = []
    try:
        for _ in range(count):
            made.append(add_namespace(f"it{os.getpid()}x{next(_numbers)}"))
        yield made
    finally:
        for each in made:
            each.remove()


def add_namespace(name: str) -> Namespace:
    """Makes a namespace of that name."""
    _run("ip", "netns", "add", name)
    made = Namespace(name)
    made.ip("link", "set", "lo", "up")
    return made


def join(one: Namespace, address: str, other: Namespace, other_address: str) -> None:
    """A cable between two namespaces; addresses with their prefix, such as 10.1.0.1/24."""
    number = next(_numbers)
    near, far = f"a{number}", f"b{number}"
    _run("ip", "-n", one.name, "link", "add", near, "type", "veth", "peer", "name", far, "netns", other.name)
    for end, device, text in ((one, near, address), (other, far, other_address)):
        end.ip("addr", "add", text, "dev", device, *(["nodad"] if ":" in text else []))
        end.ip("link", "set", device, "up")


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
    )
    assert done.returncode == 0 or not check, f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}"
    return done.stdout
