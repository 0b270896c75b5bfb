"""What a probe may do at the doors: send itself a message, and nothing that anybody else may."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from devices.fakes import HUB
from isthmus.base.ids import DeviceRef
from isthmus.wire.amqp.events import Disposition
from isthmus.wire.amqp.message import data
from isthmus.wire.amqp.states import ACCEPTED_STATE
from isthmus.wire.mqtt.events import Failed
from isthmus.wire.mqtt.packets import PubAck, Publish
from servers.amqp_world import AmqpClient, AmqpWorld, amqp_world
from servers.gate_world import HOST, device_token
from servers.mqtt_world import World

PROBE = "~probe-1"
OWN = f"devices/{PROBE}/messages"


@pytest.fixture
async def amqp(tmp_path: Path) -> AsyncIterator[AmqpWorld]:
    async with amqp_world(tmp_path) as world:
        world.doors.identities.add("dev1")
        known = world.doors.identities.known
        known[DeviceRef(HUB, PROBE)] = msgspec.structs.replace(known[DeviceRef(HUB, "dev1")], device_id=PROBE)
        yield world


async def probe(amqp: AmqpWorld, scheme: str = "") -> AmqpClient:
    """A connection on which a probe has proved itself."""
    client = await amqp.opened()
    assert await client.put_token(f"{scheme}{HOST}/devices/{PROBE}", device_token(PROBE)) == 200
    return client


async def test_over_mqtt_it_hears_its_own_message_and_nobody_hears_of_it() -> None:
    world = World()
    device = world.device(PROBE)
    await device.connect()
    await device.subscribe(f"{OWN}/devicebound/#")
    device.telemetry(b"there")
    heard = await device.heard()
    assert any(isinstance(event, PubAck) for event in heard)
    assert [event.payload for event in heard if isinstance(event, Publish)] == [b"there"]
    assert world.probe_mail.sent == [(PROBE, b"there")]
    assert (world.inlet.appended, world.inlet.attended, world.presence.told) == ([], [], [])


async def test_over_mqtt_it_sends_no_more_than_a_walk_needs() -> None:
    device = World().device(PROBE)
    await device.connect()
    for _ in range(9):
        device.telemetry(b"again")
    assert not any(isinstance(event, Failed) for event in await device.heard())
    assert device.reason() == "a probe sends no more"


async def test_over_amqp_it_sends_and_receives(amqp: AmqpWorld) -> None:
    client = await probe(amqp)
    link = await client.sender(f"{OWN}/events")
    link.send(data(b"there"))
    await client.run()
    assert [event.state for event in client.of(Disposition) if event.link is link] == [ACCEPTED_STATE]
    assert client.bodies(await client.receiver(f"{OWN}/devicebound", credit=1)) == [PROBE.encode()]


async def test_for_the_built_in_endpoint_it_proves_that_alone(amqp: AmqpWorld) -> None:
    client = await probe(amqp, "sb://")
    assert client.bodies(await client.receiver(f"{OWN}/events", credit=1)) == [PROBE.encode()]
    assert client.condition(await client.sender(f"{OWN}/events")) == "amqp:unauthorized-access"


@pytest.mark.parametrize("scheme", ["", "sb://"])
async def test_it_reaches_nothing_of_the_hub(amqp: AmqpWorld, scheme: str) -> None:
    client = await probe(amqp, scheme)
    assert client.condition(await client.reader()) == "amqp:unauthorized-access"
    for address in ("/messages/devicebound", f"devices/{PROBE}-2/messages/events"):
        assert client.condition(await client.sender(address)) == "amqp:unauthorized-access"
    for address in ("/messages/serviceBound/feedback", "hub/$management"):
        assert client.condition(await client.receiver(address, credit=1)) == "amqp:unauthorized-access"


async def test_a_name_that_is_no_probe_of_the_hub_is_refused_and_told(amqp: AmqpWorld) -> None:
    client = await amqp.opened()
    assert await client.put_token(f"{HOST}/devices/{PROBE}-2", device_token(f"{PROBE}-2")) == 401
    (decision,) = [each for each in await amqp.doors.decisions() if each.rule]
    assert (decision.rule, decision.device) == ("auth.unknown-device", f"{PROBE}-2")


async def test_services_reach_no_probes_node(amqp: AmqpWorld) -> None:
    client = await amqp.service()
    link = await client.receiver(f"{OWN}/events", credit=1)
    assert client.bodies(link) == []
    assert client.condition(link) == "amqp:unauthorized-access"
