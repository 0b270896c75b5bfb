"""Links that messages are received by: each handed out under a lock until its receiver settles it, or taken at once.

Theory of operation. One task sends at a time, for as long as there is credit, room and messages; what wakes it
meanwhile makes it look again. Which receiver is woken for a message is `BusReaders`' matter. A receiver that drains has
its credit used or given back, and is told so.

Settlement is told in two ways. A receiver that settles has decided; one that tells an outcome and does not settle waits
for ours, which repeats the outcome, or is a rejection where the lock was lost. A released delivery that is settled goes
back as if it had never been handed out: clients so give back what they have buffered. What is completed while a commit
is under way waits for it, and is then one commit together. When a link ends its locks stay:
its client may still settle by the management node, and else they run out (Service Bus AMQP protocol guide; "Message
transfers, locks, and settlement").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from isthmus.base.errors import HubError
from isthmus.base.state import Damaged
from isthmus.neighbours.bus import Bus, lock_lost
from isthmus.neighbours.bus_entity import Entity
from isthmus.neighbours.bus_message import edited, refused
from isthmus.queues import LockedMessage, QueueAddress
from isthmus.servers.gateway.amqp_links import Pump
from isthmus.servers.gateway.bus_codec import DESCRIPTION, REASON, edits_of, give, tag_of
from isthmus.servers.gateway.bus_links import BusLink, BusLinks
from isthmus.wire.amqp.events import CreditGranted, Disposition
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.performatives import SenderSettleMode
from isthmus.wire.amqp.states import ACCEPTED_STATE, Accepted, DeliveryState, Modified, Rejected, Released

HANDED_OUT_AT_ONCE: Final = 64
"""Messages locked in one go, so that a receiver that leaves gives back few."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a link's messages come from."""

    entity: Entity
    address: QueueAddress


class BusOutlet(BusLink):
    """Hands the messages of a queue to one receiver."""

    def __init__(self, link: Link, pump: Pump, bus: Bus, links: BusLinks, source: Source) -> None:
        super().__init__(link, pump, links, source.entity, sends=False)
        self._bus = bus
        self._address = source.address
        self._takes = link.sender_settle_mode is SenderSettleMode.SETTLED
        self._tokens: dict[int, str] = {}
        self._done: list[tuple[Disposition, str]] = []
        self._completing = False
        self._sending = False
        self._woken = False
        self._is_over = False
        link.accept(
            properties=link.properties,
            sender_settle_mode=link.sender_settle_mode,
            receiver_settle_mode=link.receiver_settle_mode,
        )
        bus.readers.enter(self._address, self)

    def wake(self) -> bool:
        """Looks for messages soon; False when the receiver wants none now."""
        if self._is_over or not self.link.sendable or self.pump.congested:
            return False
        self._look()
        return True

    def credit(self, granted: CreditGranted) -> None:
        self._look()

    def writable(self) -> None:
        self._look()

    def disposition(self, disposition: Disposition) -> None:
        token = self._tokens.pop(disposition.delivery_id, None)
        if token is None:
            return
        if disposition.settled and isinstance(disposition.state, Released):
            self._bus.release(self._address, token)
            return
        if isinstance(disposition.state, Accepted | None):
            self._complete(disposition, token)
        else:
            self.pump.spawn(self._settle(disposition, token))

    def detached(self) -> None:
        self._is_over = True
        super().detached()
        self._bus.readers.leave(self._address, self)
        self._tokens.clear()

    def _look(self) -> None:
        self._woken = True
        if not self._sending:
            self._sending = True
            self.pump.spawn(self._send())

    async def _send(self) -> None:
        try:
            while self._woken:
                self._woken = False
                await self._send_readable()
        except HubError as error:
            self.end(error)
        finally:
            self._sending = False
        self.pump.flush()

    async def _send_readable(self) -> None:
        try:
            await self._send_waiting()
        except Damaged:
            self._woken = True  # it stays locked, and those behind it are served

    async def _send_waiting(self) -> None:
        while self.link.sendable and not self.pump.congested:
            wanted = min(self.link.sendable, HANDED_OUT_AT_ONCE)
            messages = await (self._bus.take if self._takes else self._bus.lock)(self._address, wanted)
            for message in messages:
                self._hand_out(message)
            self.pump.flush()
            if not messages:
                self.link.drained()
                return
        if not self.link.credit:
            self.link.drained()

    def _hand_out(self, message: LockedMessage) -> None:
        """Sends a message, unless the receiver has left or taken back its credit meanwhile."""
        if self._takes:
            if self.link.sendable:
                self.link.send(give(message), settled=True, tag=message.sequence.to_bytes(16, "big"))
            return
        if not self.link.sendable:
            self._bus.release(self._address, message.token)
            return
        self._tokens[self.link.send(give(message), tag=tag_of(message.token))] = message.token

    def _complete(self, disposition: Disposition, token: str) -> None:
        self._done.append((disposition, token))
        if not self._completing:
            self._completing = True
            self.pump.spawn(self._complete_waiting())

    async def _complete_waiting(self) -> None:
        try:
            while self._done:
                done, self._done = self._done, []
                await self._complete_all(done)
                self.pump.flush()
        finally:
            self._completing = False

    async def _complete_all(self, done: Sequence[tuple[Disposition, str]]) -> None:
        try:
            kept = await self._bus.complete_all(self._address, [token for _, token in done])
        except HubError as error:
            told = Rejected(self.pump.refused(error))
            outcomes: list[DeliveryState] = [told] * len(done)
        else:
            outcomes = [ACCEPTED_STATE if held else Rejected(self.pump.refused(lock_lost())) for held in kept]
        for (disposition, _), outcome in zip(done, outcomes, strict=True):
            if not disposition.settled:
                self.link.settle(disposition.delivery_id, outcome)

    async def _settle(self, disposition: Disposition, token: str) -> None:
        try:
            told = await self._settled(disposition.state, token)
        except HubError as error:
            told = Rejected(self.pump.refused(error))
        if not disposition.settled:
            self.link.settle(disposition.delivery_id, told)
        self.pump.flush()

    async def _settled(self, state: DeliveryState, token: str) -> DeliveryState:
        """Does what the outcome says and gives the outcome that repeats it."""
        match state:
            case Modified(undeliverable_here=True, annotations=annotations):
                await self._bus.defer(self._address, token, edited(edits_of(annotations)))
                return state
            case Modified(annotations=annotations):
                await self._bus.abandon(self._address, token, edited(edits_of(annotations)))
                return state
            case Released():
                await self._bus.abandon(self._address, token)
                return state
            case Rejected():
                reason, description, edits = _dead_letter(state)
                await self._bus.reject(self._address, token, refused(reason, description, edits))
                return Rejected()
            case _:
                await self._bus.complete(self._address, token)
                return ACCEPTED_STATE


def _dead_letter(state: Rejected) -> tuple[str | None, str | None, dict[str, str | int | float | bool | None]]:
    """Reason, description and changed properties of a message that its receiver refuses."""
    info = edits_of(state.error.info if state.error is not None else None)
    reason, description = info.pop(REASON, None), info.pop(DESCRIPTION, None)
    if description is None and state.error is not None:
        description = state.error.description
    return (None if reason is None else str(reason), None if description is None else str(description), info)
