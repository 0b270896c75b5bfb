"""Links that send to a queue or topic: a transfer, one message or a batch, is accepted once all of it is durable.

Theory of operation. What comes while a commit is under way waits for it, and is then one commit together: under load
the commits grow, without load a message waits for nobody. Messages are stored in the order in which they came. When a
commit with several transfers is refused because the entity is full, they are tried one by one, so that those for which
there is room are taken. How much waits is bounded by what the engine takes unsettled
(`wire.amqp.limits.UNSETTLED_BYTES_MAX`); then the connection is not read.
"""

from collections.abc import Sequence
from typing import NamedTuple

from isthmus.base.errors import Code, HubError
from isthmus.neighbours.bus import Bus
from isthmus.neighbours.bus_entity import Entity
from isthmus.neighbours.bus_message import Incoming
from isthmus.servers.gateway.amqp_links import Pump, top_up
from isthmus.servers.gateway.bus_codec import take
from isthmus.servers.gateway.bus_links import BusLink, BusLinks
from isthmus.wire.amqp.events import Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import ACCEPTED_STATE, Rejected


class _Waiting(NamedTuple):
    delivery_id: int
    messages: list[Incoming]


class BusIntake(BusLink):
    """Takes the messages of one link."""

    def __init__(self, link: Link, pump: Pump, bus: Bus, links: BusLinks, entity: Entity) -> None:
        super().__init__(link, pump, links, entity, sends=True)
        self._bus = bus
        self._entity = entity
        self._waiting: list[_Waiting] = []
        self._storing = False
        link.accept(
            properties=link.properties,
            sender_settle_mode=link.sender_settle_mode,
            receiver_settle_mode=link.receiver_settle_mode,
        )

    def transfer(self, transfer: Transfer) -> None:
        top_up(self.link)
        try:
            messages = take(transfer.payload, transfer.message_format, self._bus.message_id)
        except HubError as error:
            self._refuse(transfer.delivery_id, error)
            return
        self._waiting.append(_Waiting(transfer.delivery_id, messages))
        if not self._storing:
            self._storing = True
            self.pump.spawn(self._store())

    def changed(self, entity: Entity) -> None:
        """What is sent from now on goes to the entity as it is now."""
        self._entity = entity

    async def _store(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                await self._store_all(taken)
                self.pump.flush()
        finally:
            self._storing = False

    async def _store_all(self, taken: Sequence[_Waiting]) -> None:
        try:
            await self._bus.send(self._entity, [message for one in taken for message in one.messages])
        except HubError as error:
            if len(taken) == 1 or error.code is not Code.QUOTA_EXCEEDED:
                for one in taken:
                    self._refuse(one.delivery_id, error)
                return
            for one in taken:
                await self._store_all([one])
        else:
            for one in taken:
                self.link.settle(one.delivery_id, ACCEPTED_STATE)

    def _refuse(self, delivery_id: int, error: HubError) -> None:
        self.link.settle(delivery_id, Rejected(self.pump.refused(error)))
