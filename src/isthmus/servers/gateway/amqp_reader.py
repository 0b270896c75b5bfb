"""Readers of the built-in endpoint: one link, one partition, one cursor on the log.

Theory of operation. A reader sends as long as there is credit, the connection takes bytes, and the log has events; it
sleeps on whichever is missing and is woken by the engine (credit), the connection (writable) or the log (growth). Each
turn sends a bounded batch and gives the loop back, so one greedy reader delays nobody. Nothing is kept per message:
events are sent settled and reading removes nothing (Event Hubs AMQP protocol guide).

A peer that drains gets what there is; then its unused credit is given back. While the connection is congested or the
session's window is closed nothing is said about credit, because there may be more to send.

`Readers` knows who reads what, for door policies that change, and for the rule of epochs: the newest reader of an equal
or higher epoch owns a partition and consumer group, and the others are detached with `amqp:link:stolen`. A stolen link
leaves the table when its own pump hears of the detach, which is before `enter` returns.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from isthmus.access.refusals import denied
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId
from isthmus.network.door import Door
from isthmus.network.door_policies import Caller, wrong_door
from isthmus.resources.consumer_groups import find_group
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_contract import (
    EARLIEST,
    READERS_PER_PARTITION_MAX,
    Claim,
    StartKind,
    StartPosition,
    judge_claim,
    not_found,
    parse_selector,
)
from isthmus.servers.gateway.amqp_event import EventEncoder
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.gate import Peer
from isthmus.telemetry.ports import Log, Partition, PartitionInfo, Record
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.events import CreditGranted
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import Error, Source
from isthmus.wire.amqp.values import Described, Symbol

BATCH_EVENTS_MAX: Final = 256
BATCH_BYTES_MAX: Final = 512 * 1024
"""Events and bytes of one turn, so that the loop is given back within about a millisecond."""

RUNTIME_METRIC: Final = "com.microsoft:enable-receiver-runtime-metric"
SELECTOR: Final = "apache.org:selector-filter:string"
EPOCH: Final = Symbol("com.microsoft:epoch")


Encode = Callable[[Record, PartitionInfo | None, int], bytes]
"""Makes the message of a record; with a `PartitionInfo` and the time now it carries the runtime metric."""


class Place(NamedTuple):
    """What readers contend for: a partition as a consumer group reads it; the group's name is in lower case."""

    partition: Partition
    group: str


class PartitionReader(LinkHandler):
    """One attached receiver of a partition; `epoch` is None for one that shares it."""

    def __init__(
        self,
        link: Link,
        pump: Pump,
        readers: "Readers",
        place: Place,
        *,
        cursor: int,
        epoch: int | None,
        encode: Encode,
    ) -> None:
        self.place = place
        self.epoch = epoch
        self._encode = encode
        self._link = link
        self._pump = pump
        self._readers = readers
        self._log = readers.log
        self._tracks = RUNTIME_METRIC in link.desired_capabilities
        self._cursor = cursor
        self._turn: asyncio.Handle | None = None
        self._forget_growth = readers.log.on_growth(place.partition, self._wake)

    def credit(self, granted: CreditGranted) -> None:
        self._wake()

    def writable(self) -> None:
        self._wake()

    def detached(self) -> None:
        self._forget_growth()
        self._readers.leave(self)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def steal(self, epoch: int | None) -> None:
        """Ends this reader because a newer one owns the partition."""
        self._link.detach(
            Error(
                str(Condition.STOLEN),
                f"New receiver with higher epoch of '{epoch}' is created hence current receiver with epoch "
                f"'{self.epoch}' is getting disconnected. If you are recreating the receiver, make sure a higher epoch "
                "is used.",
            )
        )
        self._pump.flush()

    def judge_again(self, hub: Hub) -> None:
        """Ends this reader when its group is gone, or door policies do not let it read by its door any more."""
        try:
            if find_group(hub, self.place.group) is None:
                raise not_found(self.place.group, "Make the consumer group again, or read by another one.")
            check_group_door(hub, self.place.group, self.peer.door)
        except HubError as error:
            self.end(error)

    def end(self, error: HubError) -> None:
        """Ends this reader, because of a change that leaves it nothing to read."""
        self._link.detach(self._pump.refused(error))
        self._pump.flush()

    @property
    def peer(self) -> Peer:
        """The connection it reads on."""
        return self._pump.connection

    @property
    def principal(self) -> str:
        """The label of who reads."""
        return self._pump.principal

    def _wake(self) -> None:
        if self._turn is None:
            self._turn = self._pump.soon(self._send)

    def _send(self) -> None:
        """One turn."""
        self._turn = None
        if self._pump.congested:
            return
        room = min(self._link.sendable, BATCH_EVENTS_MAX)
        if room > 0:
            records, self._cursor = self._log.read(self.place.partition, self._cursor, room, BATCH_BYTES_MAX)
            if records:
                self._link.send_settled(self._encoded(records))
                self._wake()
            else:
                self._link.drained()
        elif not self._link.credit:
            self._link.drained()

    def _encoded(self, records: list[Record]) -> list[bytes]:
        if not self._tracks:
            return [self._encode(record, None, 0) for record in records]
        last, now_ms = self._log.info(self.place.partition), self._readers.clock.utc_ms()
        return [self._encode(record, last, now_ms) for record in records]


class Readers:
    """What readers share, and who reads which partition by which consumer group, over all connections of the process.

    Readers without an epoch are bounded by `READERS_PER_PARTITION_MAX`, with one by taking over.
    """

    def __init__(self, log: Log, encoder: EventEncoder, clock: Clock) -> None:
        self.log = log
        self.encoder = encoder
        self.clock = clock
        self._present: dict[Place, list[PartitionReader]] = {}

    def judge(self, place: Place, epoch: int | None) -> None:
        """Raises HubError LINK_CREATION_CONFLICT or QUOTA_EXCEEDED when a new reader may not come."""
        present = self._present.get(place, [])
        claim = judge_claim([reader.epoch for reader in present], epoch)
        if claim is Claim.STOLEN:
            raise _epoch_refused(max(reader.epoch for reader in present if reader.epoch is not None), epoch)
        if claim is Claim.FULL:
            raise _too_many(place)

    def enter(self, reader: PartitionReader) -> None:
        """Adds a reader that was judged; one with an epoch disconnects those that are there."""
        present = self._present.setdefault(reader.place, [])
        stolen = list(present) if reader.epoch is not None else []
        present.append(reader)
        for other in stolen:
            other.steal(reader.epoch)

    def of_hub(self, hub: HubId) -> list[PartitionReader]:
        """All readers of a hub."""
        return [
            reader for place, present in self._present.items() if place.partition.stream == hub for reader in present
        ]

    def judge_again(self, hub: Hub) -> None:
        """Ends the readers whose group the hub has no more, and those that its door policies bind to other doors."""
        for reader in self.of_hub(hub.number):
            reader.judge_again(hub)

    def leave(self, reader: PartitionReader) -> None:
        """Forgets a reader; called once."""
        present = self._present[reader.place]
        present.remove(reader)
        if not present:
            del self._present[reader.place]


def open_reader(
    link: Link, pump: Pump, readers: Readers, place: Place, encode: Encode, *, earliest: int = 0
) -> PartitionReader:
    """Accepts a link as a reader of a place, from where its filter says, but nothing before the cursor `earliest`.

    Raises HubError as `Readers.judge`, and ARGUMENT_INVALID for a filter that cannot be read from.
    """
    epoch = _epoch(link)
    readers.judge(place, epoch)
    start = _start(link)
    require_reached(readers.log.info(place.partition), start, end=readers.log.seek_end(place.partition))
    tracks = (RUNTIME_METRIC,) if RUNTIME_METRIC in link.desired_capabilities else ()
    link.accept(properties=link.properties, offered_capabilities=tracks)
    cursor = max(start_cursor(readers.log, place.partition, start), earliest)
    reader = PartitionReader(link, pump, readers, place, cursor=cursor, epoch=epoch, encode=encode)
    readers.enter(reader)
    return reader


def _epoch(link: Link) -> int | None:
    value = link.properties.get(EPOCH)
    return int(value) if isinstance(value, int) else None


def _start(link: Link) -> StartPosition:
    source = link.source
    if not isinstance(source, Source) or SELECTOR not in source.filters:
        return EARLIEST
    found = source.filters[SELECTOR]
    return parse_selector(str(found.value if isinstance(found, Described) else found))


def check_group_door(hub: Hub, group: str, door: Door) -> None:
    """Raises HubError IotHubUnauthorizedAccess when a door policy does not let a consumer group read by a door."""
    refusal = wrong_door(hub.door_policies, Caller(consumer_group=group), door)
    if refusal is not None:
        raise denied(refusal)


def start_cursor(log: Log, partition: Partition, start: StartPosition) -> int:
    """The log cursor of a start position."""
    first = start.value if start.inclusive else start.value + 1
    match start.kind:
        case StartKind.LATEST:
            return log.seek_end(partition)
        case StartKind.OFFSET:
            return log.seek_offset(partition, max(first, 0))
        case StartKind.SEQUENCE_NUMBER:
            return log.seek_sequence(partition, max(first, 0))
        case StartKind.ENQUEUED_TIME:
            return log.seek_time(partition, first)


def require_reached(info: PartitionInfo, start: StartPosition, *, end: int) -> None:
    """Raises HubError ARGUMENT_INVALID for a position that was never reached, in Event Hubs' words.

    A checkpoint that says so is of another hub, or of a log that was put back to an earlier time: to wait there would
    pass over what comes. Offsets are good up to the log's `end`, also where the event itself is lost, and so is the
    number that the next event will have.
    """
    if info.last_offset < 0:
        return
    if start.kind is StartKind.OFFSET and start.value >= end:
        raise _never_reached("offset", start.value, info.last_offset)
    following = info.next_sequence - 1 + start.inclusive
    if start.kind is StartKind.SEQUENCE_NUMBER and start.value > following:
        raise _never_reached("sequence number", start.value, info.last_sequence)


def _never_reached(word: str, supplied: int, last: int) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        f"The supplied {word} '{supplied}' is invalid. The last {word} in the system is '{last}'",
        Refusal(
            Hop.CONTRACT,
            "contract.position",
            f"{word} {supplied}, and {last} was the last",
            "Delete the reader's checkpoint: it is of another hub, or of a later state of this one.",
        ),
    )


def _epoch_refused(owner: int, epoch: int | None) -> HubError:
    wanted = "without epoch" if epoch is None else f"with epoch '{epoch}'"
    return HubError(
        Code.LINK_CREATION_CONFLICT,
        f"Receiver {wanted} cannot be created because a receiver with epoch '{owner}' owns the partition.",
        Refusal(
            Hop.CONTRACT, "contract.epoch", wanted, f"Use an owner level of at least {owner}, or close that reader."
        ),
    )


def _too_many(place: Place) -> HubError:
    return HubError(
        Code.QUOTA_EXCEEDED,
        "Exceeded the maximum number of allowed receivers per partition in a consumer group which is "
        f"{READERS_PER_PARTITION_MAX}.",
        Refusal(
            Hop.LIMIT,
            "limit.readers",
            f"{place.group}/{place.partition.number}",
            "Close a reader or use another group.",
        ),
    )
