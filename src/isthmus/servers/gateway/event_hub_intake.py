"""Links that send to a hosted event hub: a transfer, one event or a batch, is accepted once all of it is durable.

Theory of operation. A transfer is split, placed in one partition, and handed to the log as one commit's worth; the log
says when it is durable, and one disposition settles all transfers of a commit. Nothing is kept here but what the log
gives back: the delivery's number. A sender that leaves is still heard to its end. When the log is behind by more than
`limits.LOG_BACKLOG_BYTES_MAX`, transfers are rejected with `com.microsoft:server-busy`, upon which the SDKs wait.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.limits import LOG_BACKLOG_BYTES_MAX
from isthmus.neighbours.event_hub import EventHub
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump, top_up
from isthmus.servers.gateway.hosted_event import Sender, take
from isthmus.telemetry.ports import EVENTS, Log, Partition
from isthmus.wire.amqp.events import Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import ACCEPTED_STATE, Rejected

ENDPOINTS: Final = (EVENTS,)
"""A hosted event hub has one view of its stream: everything."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a link sends: to one partition, or (None) to that of each event's key, or else to the next in `turns`.

    A partition in the address comes before a key: producers that spread keys themselves send both.
    """

    event_hub: EventHub
    partition: int | None
    turns: Iterator[int]

    def partition_for(self, key: str | None, publisher: str) -> Partition:
        """The partition of a transfer."""
        stream, count = self.event_hub.number, self.event_hub.partitions
        if self.partition is not None:
            return Partition(stream, self.partition)
        if key is None and not publisher:
            return Partition(stream, next(self.turns) % count)
        return Partition(stream, self.event_hub.partition_of(publisher or key or ""))


class EventIntake(LinkHandler):
    """Takes the events of one link."""

    def __init__(
        self,
        link: Link,
        pump: Pump,
        log: Log,
        clock: Clock,
        destination: Destination,
        sender: Sender,
        left: Callable[["EventIntake"], None],
    ) -> None:
        """`left` hears of the link's end, once."""
        self.event_hub = destination.event_hub
        self._left = left
        self._link = link
        self._pump = pump
        self._log = log
        self._clock = clock
        self._destination = destination
        self._sender = sender
        link.accept(properties=link.properties)

    def transfer(self, transfer: Transfer) -> None:
        top_up(self._link)
        try:
            self._append(transfer)
        except HubError as error:
            self._link.settle(transfer.delivery_id, Rejected(self._pump.refused(error)))

    def committed(self, cookies: list[int]) -> None:
        for delivery_id in dict.fromkeys(cookies):
            self._link.settle(delivery_id, ACCEPTED_STATE)
        self._pump.flush()

    def failed(self, cookies: list[int], reason: str) -> None:
        told = self._pump.refused(_not_stored(reason))
        for delivery_id in dict.fromkeys(cookies):
            self._link.settle(delivery_id, Rejected(told))
        self._pump.flush()

    def detached(self) -> None:
        self._left(self)

    def end(self, error: HubError) -> None:
        """Ends the link, because of a change that leaves nothing to send to."""
        self._link.detach(self._pump.refused(error))
        self._pump.flush()

    def _append(self, transfer: Transfer) -> None:
        behind = self._log.backlog_bytes
        if behind > LOG_BACKLOG_BYTES_MAX:
            raise _busy(behind)
        sent = take(transfer.payload, transfer.message_format, self._sender)
        partition = self._destination.partition_for(sent.partition_key, self._sender.publisher)
        now_ms = self._clock.utc_ms()
        self._log.append_all(partition, ENDPOINTS, sent.events, now_ms, self, transfer.delivery_id)


def _busy(behind: int) -> HubError:
    refusal = Refusal(Hop.LIMIT, "limit.backlog", f"{behind} bytes", "Send again later.")
    return HubError(Code.SERVER_BUSY, "The server is busy. Please try again later.", refusal)


def _not_stored(reason: str) -> HubError:
    return HubError(Code.SERVER_ERROR, f"The events could not be stored: {reason}")
