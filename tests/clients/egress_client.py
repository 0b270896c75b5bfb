"""What became of a device's messages at each target, read on the official SDKs, as a process inside a namespace.

Takes its task as JSON from standard input and prints, as JSON, for each target what of the wanted texts was found, or
the error. It has no secret: `ManagedIdentityCredential` gets tokens because of where the process runs, unless the task
brings connection strings. Nothing here waits for longer than the task says.
"""

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import fastavro
from azure.eventhub import EventHubConsumerClient
from azure.identity import ManagedIdentityCredential
from azure.servicebus import ServiceBusClient
from azure.storage.blob import BlobServiceClient, ContainerClient

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Task:
    """Which texts are looked for, and where; a target is `ACCOUNT_URL container format`, `HOST eventhub`, …"""

    ca: str
    wanted: tuple[str, ...]
    json_blobs: tuple[str, str]
    avro_blobs: tuple[str, str]
    event_hub: tuple[str, str]
    queue: tuple[str, str]
    topic: tuple[str, str, str]
    strings: tuple[str, str, str] = ("", "", "")
    seconds: float = 60.0


def text_of(body: str | bytes) -> str:
    """The text in a body; of messages of others, which are there as well, nothing."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("text", "")) if isinstance(found, dict) else ""


class Readers:
    """The stock clients of one task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._store, self._events, self._bus = task.strings
        self._credential = None if self._store else ManagedIdentityCredential()

    def of_json(self) -> Iterator[str]:
        """Bodies in JSON lines."""
        for blob in self._blobs(self._task.json_blobs):
            bodies = (json.loads(line)["Body"] for line in blob.splitlines())
            yield from (body["text"] for body in bodies if isinstance(body, dict))

    def of_avro(self) -> Iterator[str]:
        """Bodies in Avro files."""
        for blob in self._blobs(self._task.avro_blobs):
            records: Any = fastavro.reader(io.BytesIO(blob))
            yield from (text_of(record["Body"]) for record in records)

    def of_event_hub(self) -> Iterator[str]:
        """Bodies of all events from the beginning on."""
        host, name = self._task.event_hub
        trusted: dict[str, Any] = {"connection_verify": self._task.ca, "retry_total": 0}
        if self._events:
            client = EventHubConsumerClient.from_connection_string(self._events, "$Default", **trusted)
        else:
            client = EventHubConsumerClient(host, name, "$Default", self._credential, **trusted)
        found: list[str] = []
        failures: list[Exception] = []

        def take(_: Any, events: list[Any]) -> None:
            found.extend(text_of(event.body_as_str()) for event in events)
            if set(self._task.wanted) <= set(found):
                over.set()

        def fail(_: Any, error: Exception) -> None:
            failures.append(error)
            over.set()

        over = threading.Event()
        reading = {"on_error": fail, "max_wait_time": 1, "starting_position": "-1"}
        with client:
            worker = threading.Thread(target=client.receive_batch, args=(take,), kwargs=reading, daemon=True)
            worker.start()
            over.wait(self._task.seconds)
        if failures:
            raise failures[0]
        yield from found

    def of_queue(self) -> Iterator[str]:
        """Bodies of messages, which are completed."""
        host, name = self._task.queue
        with self._bus_client(host) as client, client.get_queue_receiver(name, max_wait_time=1) as receiver:
            yield from self._completed(receiver)

    def of_topic(self) -> Iterator[str]:
        """The same of a subscription."""
        host, name, subscription = self._task.topic
        client = self._bus_client(host)
        with client, client.get_subscription_receiver(name, subscription, max_wait_time=1) as receiver:
            yield from self._completed(receiver)

    def _completed(self, receiver: Any) -> Iterator[str]:
        for message in receiver:
            receiver.complete_message(message)
            yield text_of(str(message))

    def _bus_client(self, host: str) -> ServiceBusClient:
        trusted: dict[str, Any] = {"connection_verify": self._task.ca, "retry_total": 0}
        if self._bus:
            return ServiceBusClient.from_connection_string(self._bus, **trusted)
        return ServiceBusClient(host, self._credential, **trusted)

    def _blobs(self, where: tuple[str, str]) -> Iterator[bytes]:
        container = self._container(*where)
        for found in container.list_blobs():
            yield container.download_blob(found.name).readall()

    def _container(self, url: str, name: str) -> ContainerClient:
        options: dict[str, Any] = {"connection_verify": self._task.ca, "retry_total": 0}
        if self._store:
            return BlobServiceClient.from_connection_string(self._store, **options).get_container_client(name)
        return ContainerClient(url, name, self._credential, **options)


def run(task: Task) -> dict[str, str]:
    """`ok` for each target that has all wanted texts, else what is missing or the error's name and first line."""
    readers = Readers(task)
    targets: dict[str, Callable[[], Iterator[str]]] = {
        "json blobs": readers.of_json,
        "avro blobs": readers.of_avro,
        "event hub": readers.of_event_hub,
        "queue": readers.of_queue,
        "topic": readers.of_topic,
    }
    return {name: _found(read, task) for name, read in targets.items()}


def _found(read: Callable[[], Iterator[str]], task: Task) -> str:
    missing, ends_at = set(task.wanted), time.monotonic() + task.seconds
    try:
        while missing and time.monotonic() < ends_at:
            missing -= set(read())
            if missing:
                time.sleep(POLL_SECONDS)
    except Exception as error:
        return f"{type(error).__name__}: {getattr(error, 'error_code', '')} {' '.join(str(error).split())}"
    return f"missing: {len(missing)}" if missing else "ok"


def main() -> None:
    given: dict[str, Any] = json.load(sys.stdin)
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    json.dump(run(Task(**given)), sys.stdout)


if __name__ == "__main__":
    main()
