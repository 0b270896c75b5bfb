"""The stock client on all partitions of an event hub, in a process of its own; it prints how many events it has seen.

Its standard input is a line with the connection string, the path of the CA's file, the host name and the address it
leads to; the end of the input ends it. What the client reports as an error is printed as a line that is no number.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from azure.eventhub import EventData, EventHubConsumerClient

from clients.names import resolved

TESTS = Path(__file__).parent.parent
END_SECONDS_MAX = 30.0
BATCH = 1_000


class CountingReader:
    """The process, and what it has told last."""

    def __init__(self, connection_string: str, ca: str, host: str, address: str) -> None:
        """`host` is the name in the connection string, and `address` where it leads."""
        self.events = 0
        self.errors: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clients.counting_reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=TESTS,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{connection_string} {ca} {host} {address}\n")
        self._process.stdin.flush()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.strip().isdecimal():
                    self.events = int(line)
                else:
                    self.errors.append(line.strip())


class Counter:
    """Counts and prints."""

    def __init__(self) -> None:
        self._events = 0
        self._lock = threading.Lock()

    def take(self, context: Any, events: list[EventData]) -> None:
        with self._lock:
            self._events += len(events)
            sys.stdout.write(f"{self._events}\n")
            sys.stdout.flush()

    def failed(self, context: Any, error: Exception) -> None:
        sys.stdout.write(f"{type(error).__name__}: {error}".replace("\n", " ") + "\n")
        sys.stdout.flush()


def main() -> None:
    """Reads until the standard input ends."""
    connection_string, ca, host, address = sys.stdin.readline().split()
    counter = Counter()
    with resolved(host, address):
        client = EventHubConsumerClient.from_connection_string(connection_string, "$Default", connection_verify=ca)
        options = {"on_event_batch": counter.take, "on_error": counter.failed, "starting_position": "-1"}
        threading.Thread(target=client.receive_batch, kwargs={**options, "max_batch_size": BATCH}, daemon=True).start()
        sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
