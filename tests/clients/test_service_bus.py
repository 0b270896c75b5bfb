"""Stock azure-servicebus, sync and aio, against a hosted Service Bus namespace: queues, topics and what they do."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import (
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceivedMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
    TransportType,
)
from azure.servicebus.aio import ServiceBusClient as AsyncClient
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusError,
)

from clients.bus_clients import client, receive, texts
from clients.devices import until
from clients.hosted import Namespace, namespace
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
QUEUE = "orders"
TOPIC = "alarms"


@pytest.fixture(scope="module")
def plant(hub: RunningHub) -> Iterator[Namespace]:
    with namespace(hub, "servicebus") as made:
        yield made


@pytest.fixture
def queue(plant: Namespace) -> str:
    """A queue of the test's own."""
    return made_queue(plant)


def made_queue(plant: Namespace, *options: str) -> str:
    name = f"{QUEUE}-{uuid.uuid4().hex[:8]}"
    plant.make("queue", "create", "-n", name, *options)
    return name


def test_single_messages_lists_and_batches_come_in_order(plant: Namespace, queue: str) -> None:
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("single"))
        sender.send_messages([ServiceBusMessage(f"listed {number}") for number in range(3)])
        batch = sender.create_message_batch()
        for number in range(3):
            batch.add_message(ServiceBusMessage(f"batched {number}"))
        sender.send_messages(batch)
        messages = receive(receiver, 7)
        assert texts(messages) == [
            "single",
            *(f"listed {number}" for number in range(3)),
            *(f"batched {number}" for number in range(3)),
        ]
        assert [message.sequence_number for message in messages] == list(range(1, 8))
        for message in messages:
            receiver.complete_message(message)
        assert receiver.peek_messages(10) == []


def test_a_name_with_slashes_is_a_name_like_any_other(plant: Namespace) -> None:
    name = f"plant/Line-{uuid.uuid4().hex[:6]}"
    assert plant.make("queue", "create", "-n", name)["id"].endswith(f"/queues/{name.replace('/', '~')}")
    with client(plant) as bus, bus.get_queue_sender(name) as sender, bus.get_queue_receiver(name.lower()) as receiver:
        sender.send_messages(ServiceBusMessage("x"))
        receiver.dead_letter_message(receive(receiver, 1)[0])
        with bus.get_queue_receiver(name, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as morgue:
            assert texts(receive(morgue, 1)) == ["x"]
    assert plant.make("queue", "show", "-n", name)["name"] == name


def test_every_part_of_a_message_comes_back(plant: Namespace, queue: str) -> None:
    message = ServiceBusMessage(
        b"\x00\xff",
        application_properties={"text": "ü", "number": 5, "fraction": 0.5, "flag": True},
        content_type="application/json",
        correlation_id="c1",
        message_id="m1",
        partition_key="p1",
        reply_to="back",
        subject="press",
        time_to_live=timedelta(minutes=5),
        to="line",
    )
    annotated = AmqpAnnotatedMessage(value_body={"deep": [1, None, "x"]}, annotations={"own": "mine"})
    before = datetime.now(UTC) - timedelta(seconds=1)
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages([message, annotated])
        plain, value = receive(receiver, 2)
    assert b"".join(plain.body) == b"\x00\xff"
    assert plain.application_properties == {b"text": "ü".encode(), b"number": 5, b"fraction": 0.5, b"flag": True}
    told = (plain.content_type, plain.correlation_id, plain.message_id, plain.partition_key, plain.reply_to)
    assert told == ("application/json", "c1", "m1", "p1", "back")
    assert (plain.subject, plain.to, plain.time_to_live) == ("press", "line", timedelta(minutes=5))
    assert (plain.delivery_count, plain.state, plain.enqueued_sequence_number) == (0, ServiceBusMessageState.ACTIVE, 1)
    assert plain.enqueued_time_utc is not None
    assert before < plain.enqueued_time_utc < datetime.now(UTC) + timedelta(seconds=1)
    assert plain.locked_until_utc is not None
    assert timedelta(seconds=58) < plain.locked_until_utc - plain.enqueued_time_utc < timedelta(seconds=75)
    assert value.body_type is AmqpMessageBodyType.VALUE
    assert value.raw_amqp_message.annotations is not None
    assert value.raw_amqp_message.annotations[b"own"] == b"mine"


def test_the_four_ways_to_settle(plant: Namespace, queue: str) -> None:
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage(name) for name in ("complete", "abandon", "defer", "dead")])
        complete, abandon, defer, dead = receive(receiver, 4)
        receiver.complete_message(complete)
        receiver.abandon_message(abandon)
        receiver.defer_message(defer)
        receiver.dead_letter_message(dead, reason="broken", error_description="both wheels")
        (again,) = receive(receiver, 1)
        assert (str(again), again.delivery_count, again.sequence_number) == ("abandon", 1, abandon.sequence_number)
        receiver.complete_message(again)
        (deferred,) = receiver.receive_deferred_messages(defer.sequence_number or 0)
        assert (str(deferred), deferred.state) == ("defer", ServiceBusMessageState.DEFERRED)
        receiver.complete_message(deferred)
        with pytest.raises(MessageNotFoundError):
            receiver.receive_deferred_messages(defer.sequence_number or 0)
        with bus.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as morgue:
            (found,) = receive(morgue, 1)
            assert (found.dead_letter_reason, found.dead_letter_error_description) == ("broken", "both wheels")
            assert (str(found), found.dead_letter_source) == ("dead", queue)
            morgue.complete_message(found)
    assert counts(plant, queue) == (0, 0, 0)


def test_receive_and_delete_hands_out_once(plant: Namespace, queue: str) -> None:
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with client(plant) as bus, bus.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(number)) for number in range(10)])
        with bus.get_queue_receiver(queue, receive_mode=mode) as receiver:
            assert texts(receive(receiver, 10)) == [str(number) for number in range(10)]
    assert counts(plant, queue) == (0, 0, 0)


def test_the_last_delivery_dead_letters(plant: Namespace) -> None:
    queue = made_queue(plant, "--max-delivery-count", "2")
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("hot"))
        for _ in range(2):
            receiver.abandon_message(receive(receiver, 1)[0])
        with bus.get_queue_receiver(queue, sub_queue="deadletter") as morgue:
            (found,) = receive(morgue, 1)
            assert found.dead_letter_reason == "MaxDeliveryCountExceeded"


def test_a_lock_that_runs_out_counts_and_settles_nothing(plant: Namespace) -> None:
    queue = made_queue(plant, "--lock-duration", "PT5S")
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage("slow"), ServiceBusMessage("kept")])
        slow, kept = receive(receiver, 2)
        until(lambda: bool(slow._lock_expired))
        again = receive(receiver, 1)[0]
        assert again.delivery_count == 1
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(slow)
        receiver.renew_message_lock(again)
        assert kept.sequence_number == (again.sequence_number or 0) + 1


def test_a_renewed_lock_holds(plant: Namespace) -> None:
    queue = made_queue(plant, "--lock-duration", "PT5S")
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("slow"))
        (message,) = receive(receiver, 1)
        first = message.locked_until_utc
        assert first is not None
        for _ in range(3):
            receiver.renew_message_lock(message)
        assert message.locked_until_utc is not None
        assert message.locked_until_utc > first
        receiver.complete_message(message)


def test_what_a_receiver_holds_and_gives_back_is_not_counted(plant: Namespace, queue: str) -> None:
    with client(plant) as bus, bus.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(str(number)) for number in range(20)])
        with bus.get_queue_receiver(queue, prefetch_count=20) as greedy:
            receive(greedy, 1)
        with bus.get_queue_receiver(queue) as receiver:
            messages = receive(receiver, 19)
    assert [message.delivery_count for message in messages] == [0] * 19


def test_scheduled_messages_come_in_their_time_unless_cancelled(plant: Namespace, queue: str) -> None:
    soon, far = datetime.now(UTC) + timedelta(seconds=2), datetime.now(UTC) + timedelta(hours=1)
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.schedule_messages([ServiceBusMessage("soon")], soon)
        (never,) = sender.schedule_messages(ServiceBusMessage("never"), far)
        sender.send_messages(ServiceBusMessage("also", scheduled_enqueue_time_utc=far))
        seen = receiver.peek_messages(10)
        assert [message.state for message in seen] == [ServiceBusMessageState.SCHEDULED] * 3
        sender.cancel_scheduled_messages(never)
        with pytest.raises(MessageNotFoundError):
            sender.cancel_scheduled_messages(never)
        (message,) = receive(receiver, 1)
        assert (str(message), message.state) == ("soon", ServiceBusMessageState.ACTIVE)
        assert message.enqueued_time_utc is not None
        assert message.enqueued_time_utc >= soon - timedelta(milliseconds=1)
        receiver.complete_message(message)
    assert counts(plant, queue) == (0, 0, 1)


def test_messages_end_silently_or_as_dead_letters_as_the_queue_says(plant: Namespace, queue: str) -> None:
    keeps = made_queue(plant, "--enable-dead-lettering-on-message-expiration", "true")
    short = timedelta(milliseconds=200)
    with client(plant) as bus:
        for name in (queue, keeps):
            with bus.get_queue_sender(name) as sender:
                sender.send_messages(ServiceBusMessage("brief", time_to_live=short))
        until(lambda: counts(plant, keeps) == (0, 1, 0))
        until(lambda: counts(plant, queue) == (0, 0, 0))
        with bus.get_queue_receiver(keeps, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as morgue:
            assert receive(morgue, 1)[0].dead_letter_reason == "TTLExpiredException"


def test_the_queue_gives_messages_their_longest_life(plant: Namespace) -> None:
    queue = made_queue(plant, "--default-message-time-to-live", "PT1H")
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b", time_to_live=timedelta(days=1))])
        assert [message.time_to_live for message in receive(receiver, 2)] == [timedelta(hours=1)] * 2


def test_a_look_begins_anywhere_and_shows_locked_ones(plant: Namespace, queue: str) -> None:
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages([ServiceBusMessage(str(number)) for number in range(5)])
        receive(receiver, 2)
        assert texts(receiver.peek_messages(3, sequence_number=1)) == ["0", "1", "2"]
        assert texts(receiver.peek_messages(3)) == ["3", "4"]
        assert texts(receiver.peek_messages(2, sequence_number=2)) == ["1", "2"]
        sender.send_messages([ServiceBusMessage(str(number)) for number in range(5, 50)])
        assert texts(receiver.peek_messages(100, sequence_number=1)) == [str(number) for number in range(50)]


def test_receivers_compete_and_none_is_given_twice(plant: Namespace, queue: str) -> None:
    seen: list[ServiceBusReceivedMessage] = []
    with client(plant) as bus, bus.get_queue_receiver(queue) as one, bus.get_queue_receiver(queue) as other:
        with bus.get_queue_sender(queue) as sender:
            sender.send_messages([ServiceBusMessage(str(number)) for number in range(40)])
        while len(seen) < 40:
            for receiver in (one, other):
                taken = receiver.receive_messages(5, max_wait_time=0.5)
                for message in taken:
                    receiver.complete_message(message)
                seen += taken
    assert sorted(map(int, texts(seen))) == list(range(40))


def test_a_large_message_passes_and_one_too_large_does_not(plant: Namespace, queue: str) -> None:
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage(b"x" * 1_000_000))
        (message,) = receive(receiver, 1)
        assert len(b"".join(message.body)) == 1_000_000
        with pytest.raises(MessageSizeExceededError):
            sender.send_messages(ServiceBusMessage(b"x" * 1_100_000))


def test_a_topic_gives_each_subscription_what_its_rules_select(plant: Namespace) -> None:
    topic = f"{TOPIC}-{uuid.uuid4().hex[:8]}"
    below = ("--topic-name", topic)
    plant.make("topic", "create", "-n", topic)
    for name in ("all", "hot", "none"):
        plant.make("topic", "subscription", "create", *below, "-n", name)
    hot = (*below, "--subscription-name", "hot")
    plant.make(
        "topic",
        "subscription",
        "rule",
        "create",
        *hot,
        "-n",
        "hot",
        "--label",
        "hot",
        "--correlation-filter-property",
        "line=1",
    )
    plant.hub.isthmus(
        "servicebus", "topic", "subscription", "rule", "delete", *hot, "-n", "$Default", "--namespace-name", plant.name
    )
    plant.make(
        "topic",
        "subscription",
        "rule",
        "create",
        *below,
        "--subscription-name",
        "none",
        "-n",
        "$Default",
        "--filter-sql-expression",
        "1=0",
    )
    with client(plant) as bus:
        with bus.get_topic_sender(topic) as sender:
            sender.send_messages(ServiceBusMessage("a", subject="hot", application_properties={"line": "1"}))
            sender.send_messages([ServiceBusMessage("b", subject="hot"), ServiceBusMessage("c")])
        with bus.get_subscription_receiver(topic, "all") as receiver:
            messages = receive(receiver, 3)
            assert texts(messages) == ["a", "b", "c"]
            receiver.dead_letter_message(messages[0])
        with bus.get_subscription_receiver(topic, "all", sub_queue="deadletter") as receiver:
            assert receive(receiver, 1)[0].dead_letter_source == f"{topic}/Subscriptions/all"
        with bus.get_subscription_receiver(topic, "hot") as receiver:
            assert texts(receiver.receive_messages(5, max_wait_time=1)) == ["a"]
        with bus.get_subscription_receiver(topic, "none") as receiver:
            assert receiver.peek_messages(5) == []
        with bus.get_topic_sender(topic) as sender:
            later = datetime.now(UTC) + timedelta(seconds=1)
            sender.schedule_messages(
                ServiceBusMessage("later", subject="hot", application_properties={"line": "1"}), later
            )
        with bus.get_subscription_receiver(topic, "hot") as receiver:
            assert texts(receive(receiver, 1)) == ["later"]


def test_what_is_not_there_and_what_is_not_offered_is_refused(plant: Namespace, queue: str) -> None:
    with client(plant) as bus:
        with pytest.raises(MessagingEntityNotFoundError), bus.get_queue_sender("nothing") as sender:
            sender.send_messages(ServiceBusMessage("x"))
        with pytest.raises(MessagingEntityNotFoundError), bus.get_queue_receiver("nothing") as receiver:
            receiver.receive_messages(1, max_wait_time=1)
        with pytest.raises(ServiceBusError), bus.get_queue_receiver(queue, session_id="s") as receiver:
            receiver.receive_messages(1, max_wait_time=1)
    refused = plant.hub.run(
        "servicebus", "queue", "create", "-n", "s", "--namespace-name", plant.name, "--enable-session", "true"
    )
    assert refused.returncode != 0
    assert "requiresSession is not offered here" in refused.stderr


def test_a_deleted_queue_ends_its_links_and_is_empty_when_made_again(plant: Namespace, queue: str) -> None:
    with client(plant) as bus, bus.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("old"))
        plant.hub.isthmus("servicebus", "queue", "delete", "-n", queue, "--namespace-name", plant.name)
        with pytest.raises(ServiceBusError):
            sender.send_messages(ServiceBusMessage("nobody's"))
    plant.make("queue", "create", "-n", queue)
    with client(plant) as bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage("new"))
        (message,) = receive(receiver, 1)
        assert (str(message), message.sequence_number) == ("new", 1)


def test_disabled_ways_are_refused_and_live_links_end(plant: Namespace, queue: str) -> None:
    with client(plant) as bus, bus.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("before"))
        plant.make("queue", "update", "-n", queue, "--status", "SendDisabled")
        with pytest.raises(ServiceBusError):
            sender.send_messages(ServiceBusMessage("x"))
    plant.make("queue", "update", "-n", queue, "--status", "Active")
    with client(plant) as bus, bus.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("after"))


def test_the_asynchronous_client_does_the_same(plant: Namespace, queue: str) -> None:
    assert asyncio.run(sent_and_received(plant, queue)) == [str(number) for number in range(51)]
    assert counts(plant, queue) == (0, 0, 0)


async def sent_and_received(plant: Namespace, queue: str) -> list[str]:
    bus = AsyncClient.from_connection_string(plant.connection_string(), connection_verify=str(plant.hub.ca))
    async with bus, bus.get_queue_sender(queue) as sender, bus.get_queue_receiver(queue, max_wait_time=5) as receiver:
        await sender.send_messages([ServiceBusMessage(str(number)) for number in range(50)])
        await sender.send_messages(ServiceBusMessage("50"))
        seen = []
        async for message in receiver:
            await receiver.complete_message(message)
            seen.append(str(message))
            if len(seen) == 51:
                break
    return seen


def test_by_websocket(plant: Namespace, queue: str) -> None:
    options = {"transport_type": TransportType.AmqpOverWebsocket}
    with client(plant, **options) as bus, bus.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("carried"))
        with bus.get_queue_receiver(queue) as receiver:
            (message,) = receive(receiver, 1)
            receiver.complete_message(message)
    assert counts(plant, queue) == (0, 0, 0)


def counts(plant: Namespace, queue: str) -> tuple[int, int, int]:
    """Active, dead-lettered and scheduled messages of a queue."""
    details = plant.make("queue", "show", "-n", queue)["countDetails"]
    return (details["activeMessageCount"], details["deadLetterMessageCount"], details["scheduledMessageCount"])
