"""A reader of the built-in endpoint on the stock azure-eventhub client, for tests that wait for events.

It reads in batches: with single events the client takes one event of each partition in turn, and waits a fifth of a
second at each partition that has none. While events trickle in, the client goes on reading until all its credit is
used: a test that sends until something arrives gives a small `prefetch`.
"""

import threading
from collections.abc import Callable
from typing import Any

from azure.eventhub import EventData, EventHubConsumerClient

WAIT_SECONDS = 30.0


class EventCollector:
    """Reads all partitions in a thread of its own and keeps what came; `wait` returns when enough of it is there."""

    def __init__(self, connection_string: str, ca_path: str, **options: Any) -> None:
        group = options.pop("consumer_group", "$Default")
        retries = options.pop("retry_total", 3)
        self.receive_options = {"starting_position": "-1"} | options
        self.events: list[EventData] = []
        self.errors: list[Exception] = []
        self._partitions: dict[int, str] = {}
        self._grown = threading.Condition()
        self.client = EventHubConsumerClient.from_connection_string(
            connection_string, group, connection_verify=ca_path, retry_total=retries
        )
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def wait(
        self, wanted: Callable[[EventData], bool], count: int = 1, timeout: float = WAIT_SECONDS
    ) -> list[EventData]:
        """The events that fulfil `wanted`, in the order they came, once `count` of them are there."""

        def found() -> list[EventData]:
            return [event for event in self.events if wanted(event)]

        with self._grown:
            if not self._grown.wait_for(lambda: len(found()) >= count or self.errors, timeout):
                raise AssertionError(f"{len(found())} of {count} events within {timeout} s")
            if len(found()) < count:
                raise AssertionError(f"the reader failed: {self.errors}")
            return found()

    def of_device(self, device_id: str, count: int = 1, timeout: float = WAIT_SECONDS) -> list[EventData]:
        """The events of one device."""
        return self.wait(lambda event: sender(event) == device_id, count, timeout)

    def partition_of(self, event: EventData) -> str:
        """The partition that one of `events` came from."""
        return self._partitions[id(event)]

    def wait_for_error(self, timeout: float = WAIT_SECONDS) -> Exception:
        """The first error that the client reported."""
        with self._grown:
            assert self._grown.wait_for(lambda: self.errors, timeout), f"no error within {timeout} s"
            return self.errors[0]

    def close(self) -> None:
        self.client.close()
        self._thread.join(WAIT_SECONDS)

    def _receive(self) -> None:
        self.client.receive_batch(on_event_batch=self._take, on_error=self._failed, **self.receive_options)

    def _take(self, context: Any, events: list[EventData]) -> None:
        with self._grown:
            self.events += events
            self._partitions |= {id(event): str(context.partition_id) for event in events}
            self._grown.notify_all()

    def _failed(self, context: Any, error: Exception) -> None:
        with self._grown:
            self.errors.append(error)
            self._grown.notify_all()


def sender(event: EventData) -> str:
    """The device that sent an event."""
    value = event.system_properties.get(b"iothub-connection-device-id", b"")
    return value.decode() if isinstance(value, bytes) else str(value)
