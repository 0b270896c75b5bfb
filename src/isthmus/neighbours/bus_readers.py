"""Who waits for messages of which queue: one reader is woken for each message that can be had, in turn."""

from collections import deque
from typing import Protocol

from isthmus.queues import QueueAddress


class Reader(Protocol):
    """Takes messages of one queue while it wants some."""

    def wake(self) -> bool:
        """Looks for messages soon; False when it wants none now."""


class BusReaders:
    """The readers of all queues; belongs to one event loop."""

    def __init__(self) -> None:
        self._readers: dict[QueueAddress, deque[Reader]] = {}

    def enter(self, address: QueueAddress, reader: Reader) -> None:
        """Wakes a reader from now on, when its turn comes."""
        self._readers.setdefault(address, deque()).append(reader)

    def leave(self, address: QueueAddress, reader: Reader) -> None:
        """Forgets a reader; another one is woken, for what the first was woken for and did not take."""
        readers = self._readers.get(address)
        if readers is None or reader not in readers:
            return
        readers.remove(reader)
        if not readers:
            del self._readers[address]
        self.wake(address)

    def wake(self, address: QueueAddress) -> None:
        """Wakes the next reader that wants messages."""
        readers = self._readers.get(address)
        if readers is None:
            return
        for _ in range(len(readers)):
            reader = readers[0]
            readers.rotate(-1)
            if reader.wake():
                return

    def count(self, address: QueueAddress) -> int:
        """How many readers wait for messages of a queue."""
        return len(self._readers.get(address, ()))
