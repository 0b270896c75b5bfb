"""Delivers to a Service Bus queue or topic.

Theory of operation. Each partition of the hub has a sender of its own, and each sender one batch on its way, so that
the messages of a device stay in order while partitions do not wait for each other. A client and its senders are made
when they are needed and given up after any failure; what was sent before that is told.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from azure.servicebus import ServiceBusMessageBatch, TransportType
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageProperties

from isthmus.resources.routing_endpoint import EndpointKind, RoutingEndpoint
from isthmus.routing.sink import Delivery, Unacceptable
from isthmus.sinks.amqp_properties import amqp_value, text
from isthmus.sinks.clients import SERVICE_BUS_SCOPE, WayOut
from isthmus.sinks.failures import failure_of, reason_of
from isthmus.sinks.lasting import Lasting
from isthmus.sinks.messaging_target import SEND_SECONDS_MAX, MessagingTarget

RETRY_SECONDS: Final = 0.1
"""Before the one more try that finds a link again which the target ended because it was idle."""

_SYSTEM: Final = ("dt-subject", "iothub-interface-id", "iothub-message-schema", "Diagnostic-Id")


@dataclass(frozen=True, slots=True)
class _Connected:
    """A client and its senders, one a partition of the hub; a hub has 32 at most."""

    client: ServiceBusClient
    senders: dict[int, ServiceBusSender] = field(default_factory=dict)


class ServiceBusSink:
    """Delivers to one queue or topic; makes no connection before it is asked to deliver. On one event loop."""

    def __init__(self, endpoint: RoutingEndpoint, way: WayOut) -> None:
        self._target = MessagingTarget(endpoint)
        self._way = way
        self._connection = Lasting(self._connect, _disconnect)
        self._tries = 0

    async def deliver(self, partition: int, batch: Sequence[Delivery]) -> None:
        """As `Sink.deliver`."""
        connected = await self._connected()
        at = 0
        while at < len(batch):
            try:
                async with asyncio.timeout(SEND_SECONDS_MAX):
                    sender = self._sender(connected, partition)
                    messages = await sender.create_message_batch()
                    end, why = _fill(messages, batch, at)
                    if end > at:
                        await sender.send_messages(messages)
            except Exception as error:
                await self._connection.give_up(connected)
                raise failure_of(error, at) from error
            if end == at:
                raise Unacceptable(at, why)
            at = end

    async def probe(self) -> None:
        """As `Sink.probe`: opens a sender's link, and sends nothing."""
        connected = await self._connected()
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                async with self._new_sender(connected) as sender:
                    await sender.create_message_batch()
        except Exception as error:
            await self._connection.give_up(connected)
            raise failure_of(error) from error

    async def close(self) -> None:
        """As `Sink.close`."""
        await self._connection.close()

    async def _connected(self) -> _Connected:
        try:
            return await self._connection.get()
        except Exception as error:
            raise failure_of(error) from error

    async def _connect(self) -> _Connected:
        target = self._target
        found = await target.destinations(self._way)
        self._tries += 1
        options = target.options(self._way, found[self._tries % len(found)])
        options |= {"transport_type": TransportType.Amqp, "retry_total": 1, "retry_backoff_factor": RETRY_SECONDS}
        if target.by_key:
            return _Connected(ServiceBusClient.from_connection_string(target.connection_string, **options))
        credential = self._way.credential(target.endpoint.identity)
        await credential.get_token(SERVICE_BUS_SCOPE)
        return _Connected(ServiceBusClient(target.endpoint.host, credential, **options))

    def _sender(self, connected: _Connected, partition: int) -> ServiceBusSender:
        sender = connected.senders.get(partition)
        if sender is None:
            sender = connected.senders[partition] = self._new_sender(connected)
        return sender

    def _new_sender(self, connected: _Connected) -> ServiceBusSender:
        entity, client = self._target.endpoint.entity, connected.client
        is_queue = self._target.endpoint.kind is EndpointKind.QUEUE
        return client.get_queue_sender(entity) if is_queue else client.get_topic_sender(entity)


async def _disconnect(connected: _Connected) -> None:
    await connected.client.close()


def _fill(messages: ServiceBusMessageBatch, batch: Sequence[Delivery], at: int) -> tuple[int, str]:
    """Adds as many as there is room for; answers where the next batch begins, and why that one is not in this."""
    for place in range(at, len(batch)):
        try:
            messages.add_message(message_of(batch[place]))
        except Exception as error:
            return place, reason_of(error)
    return len(batch), ""


def message_of(delivery: Delivery) -> AmqpAnnotatedMessage:
    """A message as readers of Service Bus find it (IoT Hub developer guide, "System properties")."""
    envelope, system = delivery.envelope, delivery.envelope.system
    told: dict[str, str | None] = {
        "iothub-connection-device-id": envelope.device_id,
        "iothub-connection-module-id": envelope.module_id,
        "iothub-connection-auth-method": envelope.auth_method,
        "iothub-connection-auth-generation-id": envelope.generation_id,
        "iothub-message-source": envelope.source.value,
        "dt-dataschema": envelope.model_id,
        **{name: text(system, name) for name in _SYSTEM if name in system},
    }
    application = {name: amqp_value(value) for name, value in envelope.properties.items()}
    application.update({name: amqp_value(value) for name, value in told.items() if value})
    user_id = text(system, "user-id")
    return AmqpAnnotatedMessage(
        data_body=delivery.record.payload,
        application_properties=application,
        properties=AmqpMessageProperties(
            message_id=text(system, "message-id"),
            user_id=None if user_id is None else user_id.encode(),
            to=text(system, "to"),
            correlation_id=text(system, "correlation-id"),
            content_type=text(system, "content-type"),
            content_encoding=text(system, "content-encoding"),
        ),
    )
