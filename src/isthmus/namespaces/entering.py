"""Entering a network namespace for a moment.

setns(2) moves one thread, and a socket stays for life in the namespace it was made in. So the work is done in a thread
of its own, which ends afterwards: no other thread has ever been anywhere else.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

NAMESPACES = Path("/run/netns")
"""Where `ip netns add` keeps its namespaces (ip-netns(8))."""

CLONE_NEWNET = 0x40000000
"""Network namespaces only (setns(2))."""

Result = TypeVar("Result")


class NoNamespace(OSError):  # noqa: N818 - a case of OSError, named by what happened
    """There is no network namespace of that name."""


def inside(namespace: str, work: Callable[[], Result]) -> Result:
    """Does the work in the namespace of that name, on this machine for none, and returns what it returns.

    Raises `NoNamespace`, OSError when it may not be entered, and whatever the work raises.
    """
    if not namespace:
        return work()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix=namespace) as leaving:
        return leaving.submit(_enter_and, namespace, work).result()


def _enter_and(namespace: str, work: Callable[[], Result]) -> Result:
    try:
        descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise NoNamespace(f"There is no network namespace {namespace}: ip netns add {namespace}.") from error
    try:
        _set_namespace(descriptor)
    finally:
        os.close(descriptor)
    return work()


def _set_namespace(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
