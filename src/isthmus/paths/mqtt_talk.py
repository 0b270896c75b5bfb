"""A device on MQTT: CONNECT, a message to the cloud with its PUBACK, and one to the device as the hub's answer."""

from isthmus.base.clock import Clock
from isthmus.paths.errand import Errand, Station
from isthmus.paths.steps import Met, Steps, Trouble
from isthmus.paths.talk import Talk
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.events import ClientEvent, Failed
from isthmus.wire.mqtt.packets import ConnAck, Connect, PubAck, Publish

API_VERSION = "2021-04-12"
KEEP_ALIVE_SECONDS = 30


async def mqtt(errand: Errand, talk: Talk, steps: Steps, clock: Clock) -> None:
    """Talks as a device does; raises `Ended`."""
    session = ClientSession()
    code = await steps.take(Station.PROTOCOL, _connected(errand, talk, session))
    await steps.take(Station.AUTHENTICATION, _let_in(code))
    await steps.take(Station.MESSAGE, _there_and_back(errand, talk, session))
    talk.send(session.disconnect())


async def _connected(errand: Errand, talk: Talk, session: ClientSession) -> Met[ConnectCode]:
    user = f"{errand.host_name}/{errand.device_id}/?api-version={API_VERSION}"
    password = errand.token.encode()
    talk.send(session.connect(Connect(errand.device_id, True, KEEP_ALIVE_SECONDS, user, password)))
    while True:
        for event in _events(session, await talk.read()):
            if isinstance(event, ConnAck):
                return Met(event.code, f"CONNACK {event.code.value}")


async def _let_in(code: ConnectCode) -> Met[None]:
    if code is not ConnectCode.ACCEPTED:
        raise Trouble(f"CONNACK {code.value}, {code.name.lower().replace('_', ' ')}")
    return Met(None)


async def _there_and_back(errand: Errand, talk: Talk, session: ClientSession) -> Met[None]:
    payload = errand.device_id.encode()
    talk.send(session.subscribe((f"devices/{errand.device_id}/messages/devicebound/#", 0)))
    talk.send(session.publish(f"devices/{errand.device_id}/messages/events/".encode(), payload, qos=1))
    acknowledged = answered = False
    while not (acknowledged and answered):
        for event in _events(session, await talk.read()):
            acknowledged |= isinstance(event, PubAck)
            answered |= isinstance(event, Publish) and event.payload == payload
    return Met(None, "PUBACK, and the answer by a message to the device")


def _events(session: ClientSession, data: bytes) -> list[ClientEvent]:
    events = session.receive(data)
    for event in events:
        if isinstance(event, Failed):
            raise Trouble(f"what answers is no MQTT 3.1.1: {event.error}")
    return events
