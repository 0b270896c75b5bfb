"""Statements of MQTT 3.1.1 about a connected device that no other test needs: what a packet means twice, or no more."""

import pytest

from isthmus.base.ids import DeviceRef, HubId
from isthmus.wire.mqtt.packets import Publish, UnsubAck, encode
from servers.mqtt_world import Device, World, settled

REF = DeviceRef(HubId(1), "dev1")
EVENTS = "devices/dev1/messages/events/"
DEVICEBOUND = "devices/dev1/messages/devicebound/#"


@pytest.fixture
def world() -> World:
    """A fresh world."""
    return World()


@pytest.fixture
async def device(world: World) -> Device:
    """A device that was let in."""
    return await world.connected_device()


@pytest.mark.rule("MQTT-4.3.2-2")
async def test_an_identifier_that_was_acknowledged_means_a_new_message(world: World, device: Device) -> None:
    again = encode(Publish(EVENTS.encode(), b"1", 1, 7, duplicate=True))
    for _ in range(2):
        device.client.waiting.add(7)
        device.give(again)
        world.inlet.commit()
        assert await device.acknowledged() == 1

    assert world.inlet.payloads == [b"1", b"1"]


@pytest.mark.rule("MQTT-3.8.4-3")
async def test_subscribing_again_replaces_the_quality_and_interrupts_nothing(world: World, device: Device) -> None:
    world.queue.put(b"1", b"2")
    first = await device.subscribe(DEVICEBOUND, qos=1)
    again = await device.subscribe(DEVICEBOUND, qos=0)
    world.queue.put(b"3")
    found = world.connected.find(REF)
    assert found is not None
    found.c2d_available()
    later = await device.heard()

    assert [(event.payload, event.qos) for event in first if isinstance(event, Publish)] == [(b"1", 1), (b"2", 1)]
    assert again == []
    assert [(event.payload, event.qos) for event in later if isinstance(event, Publish)] == [(b"3", 0)]


@pytest.mark.rule("MQTT-3.10.4-2", "MQTT-3.10.4-3")
async def test_unsubscribing_stops_what_is_new_and_completes_what_has_begun(world: World, device: Device) -> None:
    world.queue.put(b"1")
    (begun,) = await device.subscribe(DEVICEBOUND)
    assert isinstance(begun, Publish)
    device.give(device.client.unsubscribe(DEVICEBOUND))
    world.queue.put(b"2")
    found = world.connected.find(REF)
    assert found is not None
    found.c2d_available()
    assert await device.heard() == [UnsubAck(2)]
    device.give(device.client.puback([begun.packet_id]))
    await settled()

    assert world.queue.completed == ["t1"]
    assert [command.payload for command in world.queue.waiting] == [b"2"]
