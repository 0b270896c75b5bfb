"""File notifications over AMQP; how they are locked and settled is feedback's, whose tests are in the commands'."""

import json

import pytest

from devices.fakes import HUB
from isthmus.wire.amqp.events import Transfer
from isthmus.wire.amqp.performatives import Disposition
from isthmus.wire.amqp.states import RELEASED_STATE, Accepted, DeliveryState
from isthmus.wire.amqp.values import Long, Symbol, Timestamp
from servers.amqp_world import AmqpWorld

NODE = "/messages/serviceBound/filenotifications"
TOLD = {"deviceId": "dev1", "blobName": "dev1/a.txt"}


@pytest.mark.parametrize("address", [NODE, "/messages/servicebound/fileuploadnotifications"])
async def test_a_notification_waits_for_its_reader(amqp: AmqpWorld, address: str) -> None:
    await amqp.file_notifications.send(HUB, json.dumps(TOLD).encode())
    client = await amqp.service()
    link = await client.receiver(address, credit=5)
    (received,) = client.messages(link)
    assert json.loads(b"".join(received.data)) == TOLD
    assert received.properties.content_type == "application/json"
    assert received.properties.user_id == b"hub"
    assert isinstance(received.annotations[Symbol("iothub-enqueuedtime")], Timestamp)
    assert isinstance(received.annotations[Symbol("x-opt-sequence-number")], Long)


async def test_one_that_comes_wakes_a_reader(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.receiver(NODE, credit=5)
    await amqp.file_notifications.send(HUB, b"{}")
    await client.run()
    assert len(client.messages(link)) == 1


@pytest.mark.parametrize(("state", "left"), [(Accepted(), []), (RELEASED_STATE, [1])])
async def test_its_reader_settles_it(amqp: AmqpWorld, state: DeliveryState, left: list[int]) -> None:
    await amqp.file_notifications.send(HUB, b"{}")
    client = await amqp.service()
    link = await client.receiver(NODE, credit=1)
    (delivery,) = (event for event in client.of(Transfer) if event.link is link)
    client.session.write(Disposition(True, delivery.delivery_id, delivery.delivery_id, True, state).encode())
    await client.run()
    link.detach()
    await client.run()
    assert [each.delivery_count for each in await amqp.file_notifications.receive(HUB, 10)] == left


async def test_who_may_not_serve_may_not_read(amqp: AmqpWorld) -> None:
    client = await amqp.service("device")
    link = await client.receiver(NODE)
    assert client.condition(link) == "amqp:unauthorized-access"
