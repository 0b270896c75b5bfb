"""What has arrived at a target, read by its stock client with a bearer token, again and again; it takes nothing."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from azure.core.credentials import TokenCredential
from azure.eventhub import EventHubConsumerClient
from azure.eventhub.exceptions import EventHubError
from azure.servicebus import ServiceBusClient, ServiceBusReceiver
from azure.storage.blob import BlobServiceClient

PEEKED_MAX: Final = 250
JOIN_SECONDS_MAX: Final = 30

MakeReceiver = Callable[[ServiceBusClient], ServiceBusReceiver]
"""Of a queue, or of a subscription."""


class TargetReader(Protocol):
    """Reads JSON bodies of the form `{"number": 1}`."""

    def numbers(self) -> list[int]:
        """All that arrived, in the order in which the target keeps them."""

    def close(self) -> None:
        """Ends what reads."""


class EventHubReader:
    """Collects one partition of an event hub, in a thread of its own."""

    def __init__(self, host: str, entity: str, partition: int, credential: TokenCredential, ca: str) -> None:
        self._numbers: list[int] = []
        self._client = EventHubConsumerClient(host, entity, "$Default", credential, connection_verify=ca)
        self._thread = threading.Thread(target=self._receive, args=(str(partition),))
        self._thread.start()

    def numbers(self) -> list[int]:
        return list(self._numbers)

    def close(self) -> None:
        self._client.close()
        self._thread.join(JOIN_SECONDS_MAX)

    def _receive(self, partition: str) -> None:
        with suppress(EventHubError):
            self._client.receive(on_event=self._take, partition_id=partition, starting_position="-1")

    def _take(self, context: Any, event: Any) -> None:
        self._numbers.append(json.loads(event.body_as_str())["number"])


class ServiceBusPeeker:
    """Looks into a queue, or a subscription of a topic."""

    def __init__(
        self,
        host: str,
        receiver: Callable[[ServiceBusClient], ServiceBusReceiver],
        credential: TokenCredential,
        ca: str,
    ) -> None:
        self._client = ServiceBusClient(host, credential, connection_verify=ca)
        self._receiver = receiver

    def numbers(self) -> list[int]:
        with self._receiver(self._client) as receiver:
            messages = receiver.peek_messages(PEEKED_MAX)
        return [json.loads(str(message))["number"] for message in messages]

    def close(self) -> None:
        self._client.close()


class ContainerReader:
    """Reads all blobs of JSON lines in a container, in the order of their names."""

    def __init__(self, host: str, container: str, credential: TokenCredential, ca: str) -> None:
        self._service = BlobServiceClient(f"https://{host}", credential, connection_verify=ca)
        self._container = container

    def numbers(self) -> list[int]:
        there = self._service.get_container_client(self._container)
        named = sorted(there.list_blobs(), key=lambda blob: (blob.creation_time, blob.name))
        lines = [line for blob in named for line in there.download_blob(blob.name).readall().splitlines()]
        return [json.loads(line)["Body"]["number"] for line in lines]

    def close(self) -> None:
        self._service.close()
