"""Readers of the built-in endpoint: one link, one partition, one cursor on the log.

Theory of operation. A reader sends as long as there is credit, the connection takes bytes, and the log has events; it
sleeps on whichever is missing and is woken by the engine (credit), the connection (writable) or the log (growth). Each
turn sends a bounded batch and gives the loop back, so one greedy reader delays nobody. Nothing is kept per message:
events are sent settled and reading removes nothing (Event Hubs AMQP protocol guide).

`Readers` knows who reads what, for the rule of epochs: the newest reader of an equal or higher epoch owns a partition
and consumer group, and the others are detached with `amqp:link:stolen`.
"""

import asyncio
from typing import Final

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.servers.gateway.amqp_contract import Claim, StartKind, StartPosition, judge_claim
from isthmus.servers.gateway.amqp_event import EventEncoder
from isthmus.servers.gateway.amqp_links import Pump
from isthmus.telemetry.ports import Log, Partition
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import Error

BATCH_EVENTS_MAX: Final = 256
BATCH_BYTES_MAX: Final = 512 * 1024
"""Events and bytes of one turn, so that the loop is given back within about a millisecond."""

RUNTIME_METRIC: Final = "com.microsoft:enable-receiver-runtime-metric"


class PartitionReader:
    """One attached receiver of a partition."""

    def __init__(
        self,
        link: Link,
        pump: Pump,
        log: Log,
        *,
        partition: Partition,
        start: StartPosition,
        epoch: int | None,
        encoder: EventEncoder,
        clock: Clock,
        readers: "Readers",
        group: str,
    ) -> None:
        self.epoch = epoch
        self.key = (partition, group.lower())
        self._link = link
        self._pump = pump
        self._log = log
        self._partition = partition
        self._encoder = encoder
        self._clock = clock
        self._readers = readers
        self._tracks = RUNTIME_METRIC in link.desired_capabilities
        self._cursor = start_cursor(log, partition, start)
        self._turn: asyncio.Handle | None = None
        self._forget_growth = log.on_growth(partition, self._wake)

    def transfer(self, transfer: Transfer) -> None:
        """Receivers send nothing; the engine has no credit for it."""

    def disposition(self, disposition: Disposition) -> None:
        """Events are sent settled: what the peer says of them changes nothing."""

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

    def _wake(self) -> None:
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._turn = None
        room = min(self._link.sendable, BATCH_EVENTS_MAX)
        if room <= 0 or self._pump.congested:
            return
        records, cursor = self._log.read(self._partition, self._cursor, room, BATCH_BYTES_MAX)
        if records:
            last = self._log.info(self._partition) if self._tracks else None
            now_ms = self._clock.utc_ms() if self._tracks else 0
            encode = self._encoder.encode
            self._link.send_settled([encode(record, last, now_ms) for record in records])
            self._wake()
        elif self._link.drain:
            self._link.drained()
        self._cursor = cursor
        self._pump.flush()


class Readers:
    """Who reads which partition by which consumer group, over all connections of the process."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[Partition, str], list[PartitionReader]] = {}

    def judge(self, partition: Partition, group: str, epoch: int | None) -> None:
        """Raises HubError LINK_CREATION_CONFLICT or QUOTA_EXCEEDED when a new reader may not come."""
        present = self._by_key.get((partition, group.lower()), [])
        claim = judge_claim([reader.epoch for reader in present], epoch)
        if claim is Claim.STOLEN:
            owner = max(reader.epoch for reader in present if reader.epoch is not None)
            raise _epoch_refused(owner, epoch)
        if claim is Claim.FULL:
            raise HubError(
                Code.QUOTA_EXCEEDED,
                "Exceeded the maximum number of allowed receivers per partition in a consumer group which is 5.",
                Refusal(
                    Hop.LIMIT, "limit.readers", f"{group}/{partition.number}", "Close a reader or use another group."
                ),
            )

    def enter(self, reader: PartitionReader) -> None:
        """Adds a reader that was judged; one with an epoch disconnects those that are there."""
        present = self._by_key.setdefault(reader.key, [])
        stolen = list(present) if reader.epoch is not None else []
        present.append(reader)
        for other in stolen:
            other.steal(reader.epoch)

    def leave(self, reader: PartitionReader) -> None:
        """Forgets a reader; without effect when it is not there."""
        present = self._by_key.get(reader.key, [])
        if reader in present:
            present.remove(reader)
        if not present:
            self._by_key.pop(reader.key, None)


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


def _epoch_refused(owner: int, epoch: int | None) -> HubError:
    wanted = "without epoch" if epoch is None else f"with epoch '{epoch}'"
    return HubError(
        Code.LINK_CREATION_CONFLICT,
        f"Receiver {wanted} cannot be created because a receiver with epoch '{owner}' owns the partition.",
        Refusal(
            Hop.CONTRACT, "contract.epoch", wanted, f"Use an owner level of at least {owner}, or close that reader."
        ),
    )
