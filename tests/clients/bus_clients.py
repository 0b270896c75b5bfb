"""Stock azure-servicebus clients of a hosted namespace, and what tests of it read and wait for."""

import time
from typing import Any

from azure.servicebus import ServiceBusClient, ServiceBusReceivedMessage, ServiceBusReceiver

from clients.hosted import Namespace

WAIT_SECONDS = 30.0


def client(plant: Namespace, string: str = "", **options: Any) -> ServiceBusClient:
    """A client by a connection string, that of the namespace's root unless another is given."""
    return ServiceBusClient.from_connection_string(
        string or plant.connection_string(), connection_verify=str(plant.hub.ca), **{"retry_total": 0} | options
    )


def bearer_client(plant: Namespace, credential: Any, **options: Any) -> ServiceBusClient:
    """A client by a credential."""
    return ServiceBusClient(plant.host, credential, connection_verify=str(plant.hub.ca), **{"retry_total": 0} | options)


def receive(receiver: ServiceBusReceiver, count: int) -> list[ServiceBusReceivedMessage]:
    """The next messages, in the order they came, once there are so many."""
    messages: list[ServiceBusReceivedMessage] = []
    end = time.monotonic() + WAIT_SECONDS
    while len(messages) < count:
        assert time.monotonic() < end, f"{len(messages)} of {count} messages"
        messages += receiver.receive_messages(count - len(messages), max_wait_time=1)
    return messages


def texts(messages: list[ServiceBusReceivedMessage]) -> list[str]:
    """Their bodies."""
    return [str(message) for message in messages]
