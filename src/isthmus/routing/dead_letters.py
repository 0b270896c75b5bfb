"""The dead-letter log: records that an endpoint was not to get, each with its reason, to be looked at and re-driven.

Theory of operation. It is a log of its own beside the hub's, with a stream for each hub and a partition for each
endpoint, so that dead letters have a number and an order, and go by a retention of their own. What was re-driven or
purged is told by a mark for each endpoint, the number of the first dead letter that is still there; it is moved after
the re-driven records are durable in the hub's log, so that a crash in between drives some twice and loses none.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import Key, Put, State
from isthmus.resources.hub import Hub
from isthmus.resources.routing_endpoint import BUILT_IN_NUMBER
from isthmus.routing.appends import Appends
from isthmus.telemetry.message import Envelope, decode_envelope
from isthmus.telemetry.ports import EVENTS, Log, Partition, Record

KIND = "dead-letter"

READ_RECORDS_MAX = 256
READ_BYTES_MAX = 1024 * 1024
"""Dead letters handled at a time, in the hub's own process: some milliseconds."""

FIND_LETTERS_MAX = 100_000
"""Dead letters looked at for one record: a second or so, the loop given back between."""

LIST_MAX = 1_000
"""Dead letters listed in one call."""


class DeadLetter(msgspec.Struct, frozen=True, array_like=True):
    """What is stored around a dead record's payload. Append fields at the end only, with defaults.

    `partition` and `offset` are its place in the hub's log, `sequence` its number there, -1 for one that readers of
    the built-in endpoint never saw; `envelope` is the stored form that it had. `endpoint` is what the endpoint was
    called, which may be no more.
    """

    partition: int
    offset: int
    sequence: int
    enqueued_ms: int
    ingress_ms: int
    buried_ms: int
    reason: str
    code: str
    envelope: bytes
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Buried:
    """A dead letter as it is read: `number` names it among those of its endpoint."""

    number: int
    letter: DeadLetter
    payload: bytes

    @property
    def envelope(self) -> Envelope | None:
        """What the record said; None where that cannot be read."""
        try:
            return decode_envelope(self.letter.envelope)
        except msgspec.DecodeError:
            return None


class DeadLetters:
    """Buries, lists, re-drives and purges. On the event loop only."""

    def __init__(self, state: State, dead: Log, log: Log, clock: Clock) -> None:
        """`dead` is the dead-letter log, `log` the hub's."""
        self._state = state
        self._dead = dead
        self._log = log
        self._clock = clock
        self._marks: dict[tuple[HubId, int], int] = {}
        self._busy: set[tuple[HubId, int]] = set()
        self.buried = 0
        self.redriven = 0

    async def load(self, hub: HubId) -> None:
        """Reads the marks of a hub."""
        for stored in await self._state.scan(KIND, hub):
            self._marks[(hub, int(stored.key.name))] = msgspec.json.decode(stored.body, type=int)

    async def bury(
        self, hub: HubId, endpoint: int, records: Sequence[Record], reason: str, code: str, *, name: str = ""
    ) -> str:
        """Makes records durable here; answers what went wrong, or nothing. `name` is that of the endpoint."""
        group, place = Appends(), Partition(hub, endpoint)
        now_ms = self._clock.utc_ms()
        for record in records:
            letter = msgspec.structs.replace(_letter(record, now_ms, reason, code), endpoint=name)
            self._dead.append(place, (EVENTS,), _encode(letter), record.payload, record.ingress_ms, group, 0)
            group.appended += 1
        await group.settled()
        self.buried += group.durable
        return group.reason

    def count(self, hub: HubId, endpoint: int) -> int:
        """Dead letters of an endpoint that are there."""
        info = self._dead.info(Partition(hub, endpoint))
        return max(0, info.last_sequence + 1 - max(info.begin_sequence, self._mark(hub, endpoint)))

    def listed(self, hub: HubId, endpoint: int, first: int = 0, most: int = LIST_MAX) -> list[Buried]:
        """Dead letters of an endpoint from a number on, the oldest first."""
        found: list[Buried] = []
        for each in self._from(hub, endpoint, max(first, self._mark(hub, endpoint))):
            if len(found) == most:
                break
            found.append(each)
        return found

    async def find(self, hub: HubId, endpoint: int, place: tuple[int, int]) -> tuple[Buried, bool] | None:
        """The dead letter of a record, by its partition and offset, and whether it is still there.

        One that was re-driven or purged is found until the dead-letter log lets it go; with more than
        `FIND_LETTERS_MAX` the oldest of these are looked at.
        """
        for looked, each in enumerate(self._from(hub, endpoint, 0), start=1):
            if (each.letter.partition, each.letter.offset) == place:
                return each, each.number >= self._mark(hub, endpoint)
            if looked >= FIND_LETTERS_MAX:
                return None
            if looked % READ_RECORDS_MAX == 0:
                await asyncio.sleep(0)
        return None

    def name(self, hub: Hub, endpoint: int) -> str:
        """What an endpoint is called, or was when its first dead letter was buried; empty for one without any."""
        present = next((each.name for each in hub.endpoints if each.number == endpoint), "")
        first = "" if present else next((each.letter.endpoint for each in self.listed(hub.number, endpoint, 0, 1)), "")
        return present or first

    def of_name(self, hub: Hub, name: str) -> tuple[int, ...]:
        """The numbers of endpoints of that name that have dead letters, those that are no more among them, in order."""
        numbers = range(BUILT_IN_NUMBER + 1, hub.last_endpoint + 1)
        return tuple(
            number
            for number in numbers
            if self.count(hub.number, number) and self.name(hub, number).lower() == name.lower()
        )

    async def redrive(self, hub: Hub, endpoint: int, until: int | None = None, *, to: int = 0) -> int:
        """Sends dead letters to their endpoint, or to another one, in their order, up to and including a number.

        Answers how many. They become records of the hub's log that name this endpoint only. Raises HubError ServerBusy
        where the log fails; those that were driven until then do not come again. GenericConflict while another call
        re-drives or purges.
        """
        with self._alone(hub.number, endpoint):
            last = self._last(hub.number, endpoint, until)
            total = 0
            while self._mark(hub.number, endpoint) <= last:
                piece = [each for each in self.listed(hub.number, endpoint, 0, READ_RECORDS_MAX) if each.number <= last]
                if not piece:
                    break
                await self._drive(hub, to or endpoint, piece)
                await self._move(hub.number, endpoint, piece[-1].number + 1)
                total += len(piece)
            return total

    async def purge(self, hub: HubId, endpoint: int, until: int | None = None) -> int:
        """Removes dead letters up to and including a number, and answers how many."""
        with self._alone(hub, endpoint):
            before = self.count(hub, endpoint)
            await self._move(hub, endpoint, self._last(hub, endpoint, until) + 1)
            return before - self.count(hub, endpoint)

    async def _drive(self, hub: Hub, endpoint: int, piece: Sequence[Buried]) -> None:
        group = Appends()
        for each in piece:
            place = Partition(hub.number, min(each.letter.partition, hub.partitions - 1))
            self._log.append(
                place, (endpoint,), each.letter.envelope, each.payload, each.letter.ingress_ms, group, each.number
            )
            group.appended += 1
        await group.settled()
        if group.reason:
            raise HubError(Code.SERVER_BUSY, f"The log takes nothing now: {group.reason}")
        self.redriven += len(piece)

    async def _move(self, hub: HubId, endpoint: int, mark: int) -> None:
        if mark > self._mark(hub, endpoint):
            await self._state.commit([Put(Key(KIND, hub, str(endpoint)), msgspec.json.encode(mark))])
            self._marks[(hub, endpoint)] = mark

    def _from(self, hub: HubId, endpoint: int, first: int) -> Iterator[Buried]:
        place = Partition(hub, endpoint)
        cursor = self._dead.seek_sequence(place, first)
        while True:
            records, following = self._dead.read(place, cursor, READ_RECORDS_MAX, READ_BYTES_MAX)
            for record in records:
                yield Buried(record.sequence, _decode(record.envelope), record.payload)
            if not records or following == cursor:
                return
            cursor = following

    def _last(self, hub: HubId, endpoint: int, until: int | None) -> int:
        last = self._dead.info(Partition(hub, endpoint)).last_sequence
        return last if until is None else min(until, last)

    def _mark(self, hub: HubId, endpoint: int) -> int:
        return self._marks.get((hub, endpoint), 0)

    @contextmanager
    def _alone(self, hub: HubId, endpoint: int) -> Iterator[None]:
        """One call at a time moves an endpoint's mark; another one is told to wait."""
        if (hub, endpoint) in self._busy:
            raise HubError(Code.CONFLICT, "This endpoint's dead letters are being re-driven or purged; try again")
        self._busy.add((hub, endpoint))
        try:
            yield
        finally:
            self._busy.discard((hub, endpoint))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(DeadLetter).decode


def _letter(record: Record, now_ms: int, reason: str, code: str) -> DeadLetter:
    return DeadLetter(
        partition=record.partition.number,
        offset=record.offset,
        sequence=record.sequence,
        enqueued_ms=record.enqueued_ms,
        ingress_ms=record.ingress_ms,
        buried_ms=now_ms,
        reason=reason,
        code=code,
        envelope=record.envelope,
    )
