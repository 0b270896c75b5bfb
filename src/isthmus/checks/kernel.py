"""Listening sockets as the kernel tells them, in every network namespace (proc_pid_net(5)), whatever a process says.

A socket is found by its inode: `/proc/PID/fd` says which inodes a process holds, and the tables of a namespace say
where the socket of an inode listens. A process may hold sockets of namespaces that it is not in, so the tables of every
namespace are read that can be: those of processes, and the named ones, which need root to be entered. Where one cannot
be entered and a socket was found nowhere else, that is said: it may listen there.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from isthmus.namespaces.entering import NAMESPACES, inside

PROC = Path("/proc")
LISTENING = "0A"
"""TCP_LISTEN in the tables of TCP."""
UNCONNECTED = "07"
"""TCP_CLOSE in the tables of UDP: takes datagrams from everybody."""
ACCEPTS = 0x10000
"""__SO_ACCEPTCON in the table of Unix sockets."""
TABLES = ("tcp", "tcp6", "udp", "udp6", "unix")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something listens; `place` is empty for the machine itself, else `netns:NAME`."""

    place: str
    protocol: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Found:
    """A listening socket, and the processes that hold it."""

    spot: Spot
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, and what could not be looked at: processes and namespaces, each with the reason."""

    found: tuple[Found, ...]
    blind: tuple[str, ...]


def survey(pids: Iterable[int], home: int, paths: Iterable[str] = ()) -> Survey:
    """Every socket that listens in one of the processes or their descendants; `home` is the process whose place is ''.

    So do the processes that listen at one of the Unix sockets at `paths`, whoever runs them. Reads /proc; enters named
    namespaces where it may.
    """
    servants = _at_paths(home, frozenset(paths))
    holders: dict[str, list[int]] = {inode: [] for inode in servants}
    blind: list[str] = []
    for pid in sorted(family([*pids, *(pid for each in servants.values() for pid in each)])):
        try:
            for inode in _inodes(pid):
                holders.setdefault(inode, []).append(pid)
        except PermissionError:
            blind.append(f"process {pid}: its sockets are shown to its user and to root only")
        except FileNotFoundError:
            continue
    found: dict[str, Found] = {}
    unplaced, closed = set(holders), list[str]()
    for place, tables in _namespaces(home, closed):
        unplaced -= {inode for inode, *_ in _rows(tables)}
        for inode, protocol, address, port in _listening(tables):
            if inode in holders:
                found.setdefault(inode, Found(Spot(place, protocol, address, port), tuple(holders[inode])))
    return Survey(tuple(found.values()), (*blind, *(closed if unplaced else ())))


def family(pids: Iterable[int]) -> set[int]:
    """The processes and all their descendants."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _at_paths(home: int, paths: frozenset[str]) -> dict[str, list[int]]:
    """By inode, who listens at the paths, as far as that may be seen."""
    table = _tables(PROC / str(home) / "net") if paths else {}
    found: dict[str, list[int]] = {inode: [] for inode, _, path, _ in _listening(table) if path in paths}
    for process in PROC.glob("[0-9]*") if found else ():
        pid = int(process.name)
        with contextlib.suppress(OSError):
            for inode in found.keys() & set(_inodes(pid)):
                found[inode].append(pid)
    return found


def _inodes(pid: int) -> Iterator[str]:
    for descriptor in (PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]


def _namespaces(home: int, blind: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each namespace once, with its tables: the home one, the named ones, and those that only processes are in."""
    seen = {_identity(PROC / str(home) / "ns/net")}
    yield "", _tables(PROC / str(home) / "net")
    for name in sorted(os.listdir(NAMESPACES)) if NAMESPACES.is_dir() else ():
        identity = _identity(NAMESPACES / name)
        if identity in seen:
            continue
        try:
            tables = inside(name, lambda: _tables(PROC / "thread-self" / "net"))
        except OSError as error:
            blind.append(f"namespace {name}: {error.strerror or error}; only root may look into it")
            continue
        seen.add(identity)
        yield f"netns:{name}", tables
    for process in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            identity = _identity(process / "ns/net")
            if identity and identity not in seen:
                seen.add(identity)
                yield f"netns of process {process.name}", _tables(process / "net")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _tables(folder: Path) -> dict[str, str]:
    """The text of each table that there is; a machine without IPv6 lacks two."""
    tables: dict[str, str] = {}
    for name in TABLES:
        with contextlib.suppress(FileNotFoundError):
            tables[name] = (folder / name).read_text()
    return tables


def _listening(tables: dict[str, str]) -> Iterator[tuple[str, str, str, int]]:
    """Inode, protocol, address or path, and port."""
    for inode, name, fields in _rows(tables):
        if name == "unix":
            named = len(fields) > 7
            if int(fields[3], 16) & ACCEPTS or (named and int(fields[4], 16) == socket.SOCK_DGRAM):
                yield inode, "unix", fields[7] if named else "", 0
        elif fields[3] == (LISTENING if name.startswith("tcp") else UNCONNECTED):
            yield inode, name[:3], *_address(fields[1])


def _rows(tables: dict[str, str]) -> Iterator[tuple[str, str, list[str]]]:
    """Inode, table and columns of every socket."""
    for name, text in tables.items():
        for fields in (line.split() for line in text.splitlines()[1:]):
            yield fields[6 if name == "unix" else 9], name, fields


def _address(text: str) -> tuple[str, int]:
    """The kernel prints each 32-bit word of an address in its own byte order."""
    address, _, port = text.partition(":")
    words = bytes.fromhex(address)
    count = len(words) // 4
    packed = struct.pack(f"={count}I", *struct.unpack(f">{count}I", words))
    if count == 1:
        return socket.inet_ntop(socket.AF_INET, packed), int(port, 16)
    return str(IPv6Address(packed)), int(port, 16)
