"""What a lost lock is called on the wire."""

from collections.abc import Iterator
from contextlib import contextmanager

from isthmus.base.errors import Code, HubError
from isthmus.queues import LockLost


@contextmanager
def lock_kept() -> Iterator[None]:
    """Turns a lost lock into `HubError` (`MESSAGE_LOCK_LOST`)."""
    try:
        yield
    except LockLost as error:
        raise HubError(Code.MESSAGE_LOCK_LOST, "The lock on the message is lost") from error
