"""The transactional state port: documents under compare-and-set, the outbox, the journal.

Rules live in the domain as pure functions; a backend only compares, sets and queries. Everything durable that is not a
telemetry record is a document: `Key(kind, hub, name)` with a body of JSON bytes and a revision the backend counts.

A commit is one transaction: all changes and all outbox rows, or none. It returns only when the bytes are durable. When
an expectation does not hold, `Conflict` is raised and nothing of that commit is applied; the caller reads again,
applies its pure rule again, and tries again, a bounded number of times.

Kinds in use, and the names below them:

| kind       | name                              | body                                             |
|------------|-----------------------------------|--------------------------------------------------|
| `hub`      | hub name (hub 0)                  | the hub resource                                 |
| `endpoint` | private endpoint name (hub 0)     | the private endpoint, consumer's side            |
| `token`    | token name (hub 0)                | a token for management from elsewhere            |
| `user-identity` | user-assigned identity name (hub 0) | the identity, its secrets as hashes |
| `role`     | role assignment's GUID (hub 0)    | the role assignment                              |
| `authority`| `keys` (hub 0)                    | the keys that sign access tokens                 |
| `network`  | `facts` (hub 0)                   | all virtual networks and sites that are declared |
| `connector`| connector name (hub 0)            | the connector, its tokens as hashes              |
| `dns-zone` | zone name (hub 0)                 | a private DNS zone with its links and records    |
| `dns-group`| private endpoint name (hub 0)     | the private endpoint's DNS zone group            |
| `identity` | `device` or `device/module`       | the identity, keys included                      |
| `twin`     | `device` or `device/module`       | tags, desired, reported, metadata, counters      |
| `presence` | `device` or `device/module`       | connected or not, since when, last activity      |
| `online`   | `device` or `device/module`       | a note that it is connected, nothing in it       |
| `disabled` | `device`                          | a note that it is disabled, nothing in it        |
| `session`  | `device` or `device/module`       | stored MQTT subscriptions of a kept session      |
| `event-hub` | event hub name (the namespace's number) | a hosted event hub |
| `job`      | job id                            | a job that imports or exports, and how far it is |
| `job-errors` | `{job id}/{16 hex digits}`      | lines of an import's error log, not yet staged   |
| `upload`   | `device`                          | the device's file uploads that are under way     |
| `scheduled-job` | job id                       | a scheduled job, and how far it is               |
| `device-job` | `{job id}/{device or device/module}` | what became of a scheduled job there        |
| `configuration` | configuration id           | a configuration or edge deployment               |
| `configuration-pass` | `wanted` or `reached` | how many changes of configurations there were; how far twins follow |
| `queue`    | `{queue name}\n{16 hex sequence}` | one message of a lock-queue                      |
| `bus-entity` | path in its namespace, in small letters | a queue, topic or subscription of a namespace (the hub) |
| `meta`     | `queue {queue name}`              | the queue's next sequence, a JSON integer        |
| `meta`     | `deleted {number}` (hub 0)        | a deleted hub whose documents may still be there |
| `meta`     | other names                       | counters, versions, what the last start used     |
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple, Protocol

from isthmus.base.filters import Filter
from isthmus.base.ids import HubId

NO_HUB = HubId(0)
"""The hub number of documents that belong to the installation."""

COMMIT_TRIES_MAX = 16
"""How often a read-modify-write is tried again on `Conflict` before it is given up as busy."""

MUST_NOT_EXIST = 0
"""Expectation of a document that is to be created."""


class Key(NamedTuple):
    """Names a document."""

    kind: str
    hub: HubId
    name: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as committed; `revision` starts at 1 and rises with each put of that key."""

    key: Key
    revision: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """Writes a document; `expect` is the revision it must have now, 0 for "must not exist", None for whatever."""

    key: Key
    body: bytes
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a document; `expect` as in `Put`. Removing what is not there is not an error when `expect` is None."""

    key: Key
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Changes nothing, but lets the commit pass only while the document has this revision (0: is not there)."""

    key: Key
    expect: int


Change = Put | Delete | Check


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event about a state change, committed with it and relayed to the log in order afterwards."""

    hub: HubId
    body: bytes


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event that waits for the relay; `row_id` rises in commit order, is never reused, and starts at 1."""

    row_id: int
    hub: HubId
    body: bytes


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One decision as stored: `chain` is SHA-256 over the previous entry's chain and this entry's columns."""

    entry_id: int
    utc_ms: int
    hub: str
    device: str
    address: str
    tracking_id: str
    verdict: str
    body: bytes
    chain: bytes


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One decision to be stored; the backend adds the number and the chain."""

    utc_ms: int
    hub: str
    device: str
    address: str
    tracking_id: str
    verdict: str
    body: bytes


@dataclass(frozen=True, slots=True)
class JournalFilter:
    """Which decisions to read; an empty field matches all; newest first.

    `principal` is looked for inside the bodies, entry by entry. `since_ms` is the first moment, `until_ms` the first
    one that is too late, `entry_id` the number of one entry, and `before_id` that of the first
    one which is too late.
    """

    hub: str = ""
    device: str = ""
    address: str = ""
    tracking_id: str = ""
    verdict: str = ""
    principal: str = ""
    since_ms: int = 0
    until_ms: int = 0
    entry_id: int = 0
    before_id: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Number and chain of an entry: the last one written, or the last one removed from the front."""

    entry_id: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class JournalEnds:
    """The journal holds the entries behind `base` up to and including `head`."""

    base: ChainEnd
    head: ChainEnd

    @property
    def entries(self) -> int:
        """How many these are: numbers have no gaps."""
        return self.head.entry_id - self.base.entry_id


class WhenFull(StrEnum):
    """What becomes of a decision that the journal has no room for."""

    DROP_OLDEST = "drop-oldest"
    REFUSE_CHANGES = "refuse-changes"


@dataclass(frozen=True, slots=True)
class JournalLimit:
    """How many decisions are kept, and what happens there."""

    entries_max: int
    when_full: WhenFull = WhenFull.DROP_OLDEST

    def is_reached(self, entries: int) -> bool:
        """True when a journal of so many entries takes no more, and none of them may go by itself."""
        return self.when_full is WhenFull.REFUSE_CHANGES and entries >= self.entries_max


class Conflict(Exception):  # noqa: N818 - the word of compare-and-set
    """An expectation did not hold; `index` is the change that failed."""

    def __init__(self, index: int) -> None:
        super().__init__(f"change {index} found another revision")
        self.index = index


class StateClosed(Exception):  # noqa: N818 - a state, not a fault of the caller
    """The backend has been closed or its disk has failed; nothing was committed."""


class Damaged(Exception):  # noqa: N818 - a state, not a fault of the caller
    """A stored document does not match its checksum, or no key opens it; it is never served."""

    def __init__(self, key: Key, trouble: str = "does not match its checksum") -> None:
        super().__init__(f"stored document {key.kind} {key.name!r} of hub {key.hub} {trouble}")
        self.key: Key | None = key


class DamagedStore(Damaged):
    """The store itself is damaged where it was to be read; `said` names it."""

    def __init__(self, said: str) -> None:
        Exception.__init__(self, said)
        self.key = None


def overlaid(found: Iterable[Stored], written: Mapping[str, Stored | None], limit: int) -> list[Stored]:
    """The first documents of a scan, in the order of their names, as if `written` were committed; None is removed.

    `found` reaches as far as `limit` and one more for each name in `written`.
    """
    merged: dict[str, Stored | None] = {stored.key.name: stored for stored in found}
    merged.update(written)
    return list(islice((stored for _, stored in sorted(merged.items()) if stored is not None), limit))


class Documents(Protocol):
    """The documents of a store, and their commit: of a `State`, or of a draft that stands before one."""

    async def get(self, key: Key) -> Stored | None:
        """The committed document, or None."""

    async def scan(
        self, kind: str, hub: HubId, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Stored]:
        """Documents in the order of their names: those after `after` whose name begins with `prefix`."""

    async def count(self, kind: str, hub: HubId, *, prefix: str = "") -> int:
        """How many documents `scan` would find without a limit."""

    async def query_devices(
        self, hub: HubId, where: Filter, *, modules: bool, after: str, limit: int
    ) -> list[tuple[Stored, Stored, Stored | None]]:
        """(identity, twin, presence) of devices or modules for which the filter holds, in the order of names.

        A field's path leads through the joined view: the members of the three documents side by side, whose names
        differ.
        """

    async def count_devices(self, hub: HubId, where: Filter, *, modules: bool) -> int:
        """How many rows `query_devices` would give without a limit."""

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        """Applies all or nothing, durably, and returns the new revision of each put (0 for others).

        Raises `Conflict` or `StateClosed`. Once called it runs to its end: cancelling the wait does not undo it.
        """


class State(Documents, Protocol):
    """What the domain needs from a transactional store."""

    async def outbox(self, *, after: int, limit: int) -> list[OutboxRow]:
        """Events that wait for the relay, in order."""

    async def outbox_done(self, upto: int) -> None:
        """Forgets events up to and including `upto`; they are in the log."""

    def on_outbox(self, wake: "Wake") -> None:
        """Calls `wake` on the event loop after each commit that carried outbox events."""

    def journal(self, row: JournalRow) -> None:
        """Appends a decision with the next group commit; does not wait.

        Dropped when the backend is closed; dropped and counted, unless it is a change, while the journal is full.
        """

    async def journal_flushed(self) -> None:
        """Returns when every decision given before the call is durable."""

    async def journal_read(self, wanted: JournalFilter) -> list[JournalEntry]:
        """Decisions that match, newest first."""

    async def journal_ends(self) -> JournalEnds:
        """Where the journal begins and ends."""

    async def journal_prune(self, upto: int, principal: str, utc_ms: int) -> int:
        """Removes the entries up to and including a number, says so in the journal, and returns how many they were."""

    @property
    def journal_full(self) -> bool:
        """True while the limit is reached and nothing goes by itself; see `JournalLimit.is_reached`."""

    async def close(self) -> None:
        """Finishes what was given, then closes; idempotent."""


class Wake(Protocol):
    """A plain call without arguments, on the event loop."""

    def __call__(self) -> None: ...
