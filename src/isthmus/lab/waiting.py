"""Waiting for a condition with a deadline."""

import threading
from collections.abc import Callable

from isthmus.base.clock import Clock

POLL_SECONDS = 0.02


def wait_until(clock: Clock, seconds: float, condition: Callable[[], object]) -> bool:
    """Returns True once the condition holds, False when it does not within the time."""
    deadline = clock.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if clock.monotonic() > deadline:
            return False
        pause.wait(POLL_SECONDS)
    return True
