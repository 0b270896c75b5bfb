"""What a queue has accepted outlives the server's death at any moment, and what was settled does not come back.

Senders and receivers on the stock client note what they were told; the server is killed while they work, and started
again. Afterwards the history must add up: every accepted message was received, none that was completed came again once
the server had said so, and a sender's messages came in the order in which it sent them.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.exceptions import ServiceBusError

from clients.bus_clients import client
from clients.devices import until
from clients.hosted import Namespace, namespace
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
KILLS = 2
BETWEEN = 40
"""Messages accepted between two deaths of the server."""


@dataclass
class History:
    """What clients were told; each list is written by one thread."""

    accepted: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)
    again_after_completion: list[int] = field(default_factory=list)


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    with namespace(hub, "servicebus") as made:
        made.make("queue", "create", "-n", "orders", "--max-delivery-count", "100")
        made.make("topic", "create", "-n", "alarms")
        made.make("topic", "subscription", "create", "--topic-name", "alarms", "-n", "s", "--max-delivery-count", "100")
        yield made


@pytest.mark.parametrize("through_topic", [False, True], ids=["queue", "topic"])
def test_nothing_accepted_is_lost_and_nothing_completed_comes_back(plant: Namespace, through_topic: bool) -> None:
    history, over = History(), threading.Event()
    string = plant.connection_string()
    threads = [
        threading.Thread(target=send, args=(plant, string, through_topic, history, over)),
        threading.Thread(target=receive, args=(plant, string, through_topic, history, over)),
    ]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        goal = len(history.accepted) + BETWEEN
        until(lambda goal=goal: len(history.accepted) >= goal)  # type: ignore[misc]
        plant.hub.kill()
        plant.hub.start()
    until(lambda: len(history.accepted) >= (KILLS + 1) * BETWEEN)
    over.set()
    threads[0].join()
    until(lambda: set(history.accepted) <= set(history.received))
    threads[1].join()
    first_seen = list(dict.fromkeys(history.received))
    accepted = set(history.accepted)
    assert [number for number in first_seen if number in accepted] == history.accepted
    assert history.again_after_completion == []


def send(plant: Namespace, string: str, through_topic: bool, history: History, over: threading.Event) -> None:
    """Sends numbers, each until it is accepted."""
    number = 0
    while not over.is_set():
        with suppress(ServiceBusError, OSError), client(plant, string) as bus:
            sender = bus.get_topic_sender("alarms") if through_topic else bus.get_queue_sender("orders")
            with sender:
                while not over.is_set():
                    sender.send_messages(ServiceBusMessage(str(number)))
                    history.accepted.append(number)
                    number += 1
        number += 1  # nobody knows what became of the one that was under way


def receive(plant: Namespace, string: str, through_topic: bool, history: History, over: threading.Event) -> None:
    """Receives and completes until everything that was accepted has come."""
    while not (over.is_set() and set(history.accepted) <= set(history.received)):
        with suppress(ServiceBusError, OSError), client(plant, string) as bus:
            source = bus.get_subscription_receiver("alarms", "s") if through_topic else bus.get_queue_receiver("orders")
            with source as receiver:
                for message in receiver.receive_messages(10, max_wait_time=1):
                    note(history, message)
                    receiver.complete_message(message)
                    history.completed.append(int(str(message)))


def note(history: History, message: ServiceBusReceivedMessage) -> None:
    number = int(str(message))
    history.received.append(number)
    if number in history.completed:
        history.again_after_completion.append(number)
