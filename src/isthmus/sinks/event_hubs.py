"""Delivers to an event hub, each device to one partition of it.

Theory of operation. The partition key of a message is its device id. A batch of the client may hold one key only, and
a fleet sends few messages a device at a time, so the key's partition is computed here, as the client's own buffered
producer does, and each batch goes to a partition with messages of all devices of that partition; the key stands on each
message for its readers. Partitions are written to side by side, one batch at a time each, so that a device's messages
stay in order. What was written when another partition failed is told by the first message that was not, and is sent
again from there.

A client is made when it is needed and given up after any failure, for its clients raise what they please: the next one
resolves the target's name anew, asks for a token anew and learns how many partitions there are.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from azure.eventhub import EventDataBatch, TransportType
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageProperties

from isthmus.base.partitioning import partition_of
from isthmus.resources.routing_endpoint import RoutingEndpoint
from isthmus.routing.sink import Delivery, Unacceptable
from isthmus.sinks.amqp_properties import amqp_time, amqp_value, milliseconds, text
from isthmus.sinks.clients import EVENT_HUBS_SCOPE, WayOut
from isthmus.sinks.failures import failure_of, reason_of
from isthmus.sinks.lasting import Lasting
from isthmus.sinks.messaging_target import SEND_SECONDS_MAX, MessagingTarget

_ANNOTATIONS: Final = ("dt-subject", "iothub-interface-id", "iothub-message-schema", "Diagnostic-Id")


@dataclass(frozen=True, slots=True)
class _Connected:
    """A client and the partitions that it found."""

    client: EventHubProducerClient
    partition_ids: Sequence[str]


@dataclass(slots=True)
class _Progress:
    """What became of a batch of deliveries."""

    done: list[bool]
    unacceptable: dict[int, str] = field(default_factory=dict)
    failed: list[Exception] = field(default_factory=list)

    @property
    def first_left(self) -> int:
        """Index of the first delivery that is not durable at the target."""
        return self.done.index(False) if False in self.done else len(self.done)

    def verdict(self) -> None:
        """Raises what the batch comes to, or nothing."""
        left = self.first_left
        if left in self.unacceptable:
            raise Unacceptable(left, self.unacceptable[left])
        if self.failed:
            raise failure_of(self.failed[0], left) from self.failed[0]


class EventHubSink:
    """Delivers to one event hub; makes no connection before it is asked to deliver. On one event loop."""

    def __init__(self, endpoint: RoutingEndpoint, way: WayOut) -> None:
        self._target = MessagingTarget(endpoint)
        self._way = way
        self._connection = Lasting(self._connect, _disconnect)
        self._tries = 0

    async def deliver(self, partition: int, batch: Sequence[Delivery]) -> None:
        """As `Sink.deliver`."""
        connected = await self._connected()
        groups: dict[str, list[int]] = defaultdict(list)
        ids = connected.partition_ids
        for index, delivery in enumerate(batch):
            groups[ids[partition_of(delivery.envelope.device_id, len(ids))]].append(index)
        progress = _Progress([False] * len(batch))
        async with asyncio.TaskGroup() as tasks:
            for target, indexes in groups.items():
                tasks.create_task(_send(connected.client, target, batch, indexes, progress))
        if progress.failed:
            await self._connection.give_up(connected)
        progress.verdict()

    async def probe(self) -> None:
        """As `Sink.probe`: opens a sender's link, and sends nothing.

        On a connection of its own: the client does not look whether the target has closed the link it has.
        """
        try:
            connected = await self._connect()
            async with connected.client, asyncio.timeout(SEND_SECONDS_MAX):
                await connected.client.create_batch()
        except Exception as error:
            self._tries += 1
            raise failure_of(error) from error

    async def close(self) -> None:
        """As `Sink.close`."""
        await self._connection.close()

    async def _connected(self) -> _Connected:
        try:
            return await self._connection.get()
        except Exception as error:
            self._tries += 1
            raise failure_of(error) from error

    async def _connect(self) -> _Connected:
        client = await self._client()
        try:
            return _Connected(client, await client.get_partition_ids())
        except BaseException:
            await client.close()
            raise

    async def _client(self) -> EventHubProducerClient:
        target, endpoint = self._target, self._target.endpoint
        found = await target.destinations(self._way)
        options = target.options(self._way, found[self._tries % len(found)])
        options["transport_type"] = TransportType.Amqp
        if target.by_key:
            return EventHubProducerClient.from_connection_string(
                target.connection_string, eventhub_name=endpoint.entity, **options
            )
        credential = self._way.credential(endpoint.identity)
        await credential.get_token(EVENT_HUBS_SCOPE)
        return EventHubProducerClient(endpoint.host, endpoint.entity, credential, **options)


async def _disconnect(connected: _Connected) -> None:
    await connected.client.close()


async def _send(
    client: EventHubProducerClient,
    target: str,
    batch: Sequence[Delivery],
    indexes: Sequence[int],
    progress: _Progress,
) -> None:
    """Sends what goes to one partition, in order, up to what fails or is not acceptable."""
    at = 0
    try:
        while at < len(indexes):
            events = await client.create_batch(partition_id=target)
            end, why = _fill(events, batch, indexes, at)
            if end == at:
                progress.unacceptable[indexes[at]] = why
                return
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await client.send_batch(events)
            for index in indexes[at:end]:
                progress.done[index] = True
            at = end
    except Exception as error:
        progress.failed.append(error)


def _fill(events: EventDataBatch, batch: Sequence[Delivery], indexes: Sequence[int], at: int) -> tuple[int, str]:
    """Adds as many as there is room for; answers where the next batch begins, and why that one is not in this."""
    for place in range(at, len(indexes)):
        try:
            events.add(event_of(batch[indexes[place]]))
        except Exception as error:
            return place, reason_of(error)
    return len(indexes), ""


def event_of(delivery: Delivery) -> AmqpAnnotatedMessage:
    """A message as readers of event hubs find it (IoT Hub developer guide, "System properties")."""
    envelope, record, system = delivery.envelope, delivery.record, delivery.envelope.system
    told: dict[str, str | None] = {
        "iothub-connection-device-id": envelope.device_id,
        "iothub-connection-module-id": envelope.module_id,
        "iothub-connection-auth-method": envelope.auth_method,
        "iothub-connection-auth-generation-id": envelope.generation_id,
        "iothub-message-source": envelope.source.value,
        "dt-dataschema": envelope.model_id,
        "x-opt-partition-key": envelope.device_id,
        **{name: text(system, name) for name in _ANNOTATIONS if name in system},
    }
    annotations = {name: amqp_value(value) for name, value in told.items() if value}
    annotations["iothub-enqueuedtime"] = amqp_time(record.ingress_ms)
    application = {name: amqp_value(value) for name, value in envelope.properties.items()}
    user_id = text(system, "user-id")
    return AmqpAnnotatedMessage(
        data_body=record.payload,
        annotations=annotations,
        application_properties=application or None,
        properties=AmqpMessageProperties(
            message_id=text(system, "message-id"),
            user_id=None if user_id is None else user_id.encode(),
            to=text(system, "to"),
            correlation_id=text(system, "correlation-id"),
            content_type=text(system, "content-type"),
            content_encoding=text(system, "content-encoding"),
            creation_time=milliseconds(system, "creation-time"),
            absolute_expiry_time=milliseconds(system, "absolute-expiry-time"),
        ),
    )
