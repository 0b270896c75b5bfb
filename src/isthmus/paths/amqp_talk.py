"""A device on AMQP, and a reader of the built-in endpoint: open, a token for `$cbs`, and links.

As a device the walker sends a message, waits until it is accepted, and receives one. As a reader it receives one from
the built-in endpoint's side of the hub, whose network rules may be others (claims-based security for AMQP; IoT Hub
developer guide, "Communicate with your IoT hub by using the AMQP protocol").
"""

from collections.abc import Callable
from typing import TypeVar

from isthmus.base.clock import Clock
from isthmus.paths.errand import Errand, Station
from isthmus.paths.steps import Met, Steps, Trouble
from isthmus.paths.talk import Talk
from isthmus.wire.amqp import message
from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.events import (
    ConnectionClosed,
    CreditGranted,
    Disposition,
    Event,
    LinkAttached,
    LinkDetached,
    Opened,
    Transfer,
)
from isthmus.wire.amqp.link import Link, LinkRole
from isthmus.wire.amqp.message import Message, Properties
from isthmus.wire.amqp.performatives import Attach, Open, SaslChoice
from isthmus.wire.amqp.session import Session
from isthmus.wire.amqp.states import ACCEPTED_STATE, Error, Source, Target

CONTAINER = "isthmus-check"
OK = 200

Found = TypeVar("Found")


async def amqp(errand: Errand, talk: Talk, steps: Steps, clock: Clock) -> None:
    """Talks as a device does; raises `Ended`."""
    client = await _let_in(errand, talk, steps, clock, scheme="")
    await steps.take(Station.MESSAGE, _there_and_back(errand, client))


async def events(errand: Errand, talk: Talk, steps: Steps, clock: Clock) -> None:
    """Talks as a reader of the built-in endpoint does; raises `Ended`."""
    client = await _let_in(errand, talk, steps, clock, scheme="sb://")
    await steps.take(Station.MESSAGE, _received(errand, client, "events"))


async def _let_in(errand: Errand, talk: Talk, steps: Steps, clock: Clock, *, scheme: str) -> "_Client":
    client = _Client(talk, clock)
    await steps.take(Station.PROTOCOL, client.open(errand.host_name))
    await steps.take(Station.AUTHENTICATION, _proved(errand, client, f"{scheme}{errand.host_name}"))
    return client


async def _proved(errand: Errand, client: "_Client", base: str) -> Met[None]:
    answers = await client.receiver("$cbs")
    requests = await client.sender("$cbs")
    asked = (
        Properties(message_id="1", reply_to="cbs").encode()
        + message.application_properties(
            {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": _name(errand, base)}
        )
        + message.value(errand.token)
    )
    requests.send(asked, settled=True)
    answer = Message((await client.transfer(answers)).payload).application_properties
    status = answer.get("status-code")
    if status != OK:
        raise Trouble(f"$cbs answers {status if isinstance(status, int) else 'without a status'}")
    return Met(None, f"$cbs answers {OK}")


async def _there_and_back(errand: Errand, client: "_Client") -> Met[None]:
    link = await client.sender(f"devices/{errand.device_id}/messages/events")
    sent = link.send(message.data(errand.device_id.encode()))
    accepted = await client.until(
        lambda event: event.state if isinstance(event, Disposition) and event.delivery_id == sent else None
    )
    if accepted != ACCEPTED_STATE:
        raise Trouble("the message was not accepted")
    met = await _received(errand, client, "devicebound")
    return Met(None, f"accepted, and {met.detail}")


async def _received(errand: Errand, client: "_Client", node: str) -> Met[None]:
    link = await client.receiver(f"devices/{errand.device_id}/messages/{node}")
    came = await client.transfer(link)
    if Message(came.payload).data != [errand.device_id.encode()]:
        raise Trouble("another message came than the probe's own")
    link.settle(came.delivery_id, ACCEPTED_STATE)
    client.flush()
    return Met(None, "a message came back")


def _name(errand: Errand, base: str) -> str:
    return f"{base}/devices/{errand.device_id}"


class _Client:
    """The engine's client half over a connection."""

    def __init__(self, talk: Talk, clock: Clock) -> None:
        self._talk = talk
        self._clock = clock
        self._engine = Connection(CONTAINER, clock.monotonic())
        self._session: Session | None = None
        self._links = 0

    async def open(self, host_name: str) -> Met[None]:
        """SASL without a name, which leaves it to `$cbs`, and the connection's open."""
        self._engine.open(Open(CONTAINER, host_name), SaslChoice("ANONYMOUS", b"", host_name))
        await self.until(lambda event: event if isinstance(event, Opened) else None)
        self._session = self._engine.begin()
        return Met(None, "open")

    async def sender(self, address: str) -> Link:
        """A link that may send."""
        link = self._attach(address, LinkRole.SENDER)
        await self.until(lambda event: event if isinstance(event, CreditGranted) and event.link is link else None)
        return link

    async def receiver(self, address: str) -> Link:
        """A link whose peer may send."""
        link = self._attach(address, LinkRole.RECEIVER)
        await self.until(lambda event: event if isinstance(event, LinkAttached) and event.link is link else None)
        link.grant(1)
        return link

    async def transfer(self, link: Link) -> Transfer:
        """The next message of a link."""
        return await self.until(lambda event: event if isinstance(event, Transfer) and event.link is link else None)

    async def until(self, wanted: Callable[[Event], Found | None]) -> Found:
        """The first thing that is wanted, of what happens from now on; raises `Trouble` when the peer ends it."""
        while True:
            for event in self._engine.events():
                _check(event)
                found = wanted(event)
                if found is not None:
                    self.flush()
                    return found
            self.flush()
            self._engine.receive(await self._talk.read(), self._clock.monotonic())

    def flush(self) -> None:
        """Sends what the engine has to say."""
        if data := self._engine.data_to_send():
            self._talk.send(data)

    def _attach(self, address: str, role: LinkRole) -> Link:
        assert self._session is not None, "a link needs an open connection"
        self._links += 1
        source, target = Source(address), Target(address)
        return self._session.attach(
            Attach(
                f"check-{self._links}",
                0,
                role is LinkRole.RECEIVER,
                source=source,
                target=target,
                initial_delivery_count=0 if role is LinkRole.SENDER else None,
            ),
            role,
        )


def _check(event: Event) -> None:
    match event:
        case ConnectionClosed(error=error) | LinkDetached(error=error):
            raise Trouble(_told(error))


def _told(error: Error | None) -> str:
    if error is None:
        return "the peer ended it"
    return f"{error.condition}: {(error.description or '').partition(' TrackingId')[0]}"
