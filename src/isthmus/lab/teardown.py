"""Takes a lab away: its processes, its namespaces, its files, its folder, and nothing else."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from isthmus.base.clock import Clock
from isthmus.lab.kernel import namespace_inode, remove_namespace
from isthmus.lab.processes import end_all, strangers_in
from isthmus.lab.record import Record

Say = Callable[[str], None]


def take_down(record: Record, clock: Clock, say: Say) -> None:
    """Takes away what was written down, whole or half built; raises LabError when a process does not end.

    The caller holds the record. A namespace that is not the one that was made is left alone, as are processes inside
    that the lab did not start: they are told of.
    """
    end_all(record, clock)
    namespaces = [name for name, told in record.all("namespace").items() if _is_ours(name, told.get("inode", 0))]
    for pid, command in strangers_in(namespaces, record):
        say(f"process {pid} ({command}) is not the lab's: it lives on, without a network")
    for name in namespaces:
        remove_namespace(name)
    for path in record.all("file"):
        Path(path).unlink(missing_ok=True)
    for path in reversed(record.all("folder")):
        # Somebody else's file in it, such as another lab's in /etc/netns, keeps a folder.
        with suppress(OSError):
            Path(path).rmdir()
    record.remove()


def _is_ours(name: str, inode: int) -> bool:
    """A namespace without an inode in the record was being made when the lab was killed."""
    found = namespace_inode(name)
    return bool(found) and inode in {0, found}
