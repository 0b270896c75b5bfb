"""The journal: every decision at the doors and every administrative change, one append-only record each.

Theory of operation. `write` gives a decision to the state's group commit and does not wait. What strangers cause is
bounded: of the refusals in a minute with the same door, plane, source prefix and rule the first ones are stored one by
one; the rest are counted, and one entry tells their number when the minute is over. Each door has a share of entries
per hour, each source a part of it, and there is a bounded table of counters; beyond that everything of a door is
counted together, one entry a minute. So nobody can fill the journal or flush it, a flood at one door does not silence
another, and a flood from one source does not silence its door. Refusals of those who had proved who they are have a
share of their own, with the principal as the source, so that strangers cannot use it up, and so have looks at keys:
a service that reads devices all day does not flush the rest. What was allowed and what was changed is stored each.

A journal whose policy is to drop nothing refuses changes at its limit (`require_room`), whoever makes them and
wherever: who changes something while nobody can note it would leave no trace.
"""

import ipaddress
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.state import JournalEnds, JournalEntry, JournalFilter, JournalRow

STORED_EACH_MAX = 50
"""Refusals of one door, plane, source, rule and minute stored one by one: a plant's devices, each named."""

DOOR_ENTRIES_MAX = 5_000
"""A door's entries in an hour, summaries included: five megabytes; the journal holds those of eight days of flood."""

SOURCE_ENTRIES_MAX = 2_000
"""A source's part of its door's share: a whole plant may come from one translated address."""

SOURCES_PER_DOOR_MAX = 1_024
"""Sources of a door whose parts are counted apart in an hour; further ones have one part together."""

BUCKETS_PER_DOOR_MAX = 256
"""Counters (plane, source and rule) of a door in a minute; further ones are counted together."""

DOORS_MAX = 256
"""Doors that have a share of their own in an hour; further ones have one together."""

VALUE_CHARACTERS_MAX = 256
"""A text that a stranger may have chosen is cut at this length."""

ELSEWHERE = "elsewhere"
"""Stands for what was not counted apart."""

IPV4_PREFIX = 24
IPV6_PREFIX = 64
"""Bits of an address that tell sources apart: a small network, and what one subscriber is given."""

_MINUTE_MS = 60_000
_HOUR_MINUTES = 60


BUILT_IN = "messages/events"
"""Stands in `Decision.asked` for the built-in endpoint."""

_GROUPS = f"{BUILT_IN}/ConsumerGroups/"


class Verdict(StrEnum):
    """What a decision was.

    `READ` is a look at keys; `DELAYED` somebody who is faster than his rate and is read more slowly, which is told now
    and then. The last two are the journal's own: entries that were removed from its front, and
    decisions that it could not store.
    """

    ALLOWED = "allowed"
    REFUSED = "refused"
    DELAYED = "delayed"
    CHANGED = "changed"
    READ = "read"
    PRUNED = "pruned"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision; an empty field does not apply.

    `hub` is the hub's name, `device` is `device` or `device/module`, `code` the code's wire name; `hop`, `rule`,
    `value` and `remedy` are those of the refusal. An entry that stands for several refusals tells their `count`, and
    its address is a source prefix. `asked` is the part of the hub that a connection was admitted to: `BUILT_IN`, or the
    consumer group it reads by (`asked_of_group`). `before` and `after` are JSON texts of a change, without secrets.
    `key` is the fingerprint of the key or thumbprint that let somebody in (`Principal.key_fingerprint`).
    """

    verdict: Verdict
    utc_ms: int = 0
    hub: str = ""
    plane: str = ""
    door: str = ""
    address: str = ""
    device: str = ""
    principal: str = ""
    code: str = ""
    hop: str = ""
    rule: str = ""
    value: str = ""
    remedy: str = ""
    tracking_id: str = ""
    detail: str = ""
    asked: str = ""
    before: str = ""
    after: str = ""
    count: int = 1
    key: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """A decision with the number under which the journal keeps it."""

    sequence: int
    decision: Decision


class JournalStore(Protocol):
    """What the journal needs of the state."""

    def journal(self, row: JournalRow) -> None: ...
    async def journal_flushed(self) -> None: ...
    async def journal_read(self, wanted: JournalFilter) -> list[JournalEntry]: ...
    async def journal_ends(self) -> JournalEnds: ...
    async def journal_prune(self, upto: int, principal: str, utc_ms: int) -> int: ...
    @property
    def journal_full(self) -> bool: ...


class Journal:
    """Writes decisions and reads them back; used on the event loop only."""

    def __init__(self, store: JournalStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._minute = 0
        self._shares: dict[tuple[str, str], _DoorShare] = {}
        self.written = 0
        """Decisions stored since the start, the counts of a minute not among them."""

    def write(self, decision: Decision) -> bool:
        """Stamps the time, cuts over-long texts, and stores the decision (True) or counts it (False); does not wait."""
        now_ms = self._clock.utc_ms()
        self.close_minute(now_ms)
        stamped = _cut(replace(decision, utc_ms=now_ms))
        if stamped.verdict in _SHARED and not self._share(stamped).take(stamped):
            return False
        self.written += 1
        self._store.journal(row_of(stamped))
        return True

    def close_minute(self, now_ms: int | None = None) -> None:
        """Stores the summaries of a minute that is over; without a time, those of the current one too.

        Every write does it; a timer should as well, or a flood's last summary waits for the next decision, and so
        should the end of the process.
        """
        minute = self._minute if now_ms is None else now_ms // _MINUTE_MS
        if now_ms is not None and minute == self._minute:
            return
        for share in self._shares.values():
            for summary in share.close_minute():
                self._store.journal(row_of(summary))
        if minute // _HOUR_MINUTES != self._minute // _HOUR_MINUTES:
            self._shares.clear()
        self._minute = minute

    @property
    def is_full(self) -> bool:
        """True while nothing may be changed, because the journal has no room to note it."""
        return self._store.journal_full

    def require_room(self) -> None:
        """Raises HubError IotHubQuotaExceeded while nothing may be changed."""
        if self.is_full:
            raise HubError(
                Code.QUOTA_EXCEEDED,
                "The journal is full and may drop nothing (audit.when_full), so nothing can be changed: `isthmus audit "
                "export` its records elsewhere and then `isthmus audit prune` them, or raise audit.entries_max",
                Refusal(Hop.LIMIT, "limit.journal", "the journal is full", "isthmus audit prune"),
            )

    async def prune(self, upto: int, principal: str) -> int:
        """Removes the decisions up to and including a number, says who did it, and returns how many they were."""
        await self._store.journal_flushed()
        return await self._store.journal_prune(upto, principal, self._clock.utc_ms())

    async def ends(self) -> JournalEnds:
        """Where the journal begins and ends, decisions given before the call included."""
        await self._store.journal_flushed()
        return await self._store.journal_ends()

    async def read(self, wanted: JournalFilter) -> list[Decision]:
        """Decisions that match, as `noted` finds them."""
        return [each.decision for each in await self.noted(wanted)]

    async def noted(self, wanted: JournalFilter) -> list[Noted]:
        """Decisions that match with their numbers, newest first, those given before the call included.

        A wanted address is also looked for in the entries that count its source prefix.
        """
        await self._store.journal_flushed()
        entries = await self._store.journal_read(wanted)
        prefix = source_prefix(wanted.address)
        if prefix != wanted.address:
            entries += await self._store.journal_read(replace(wanted, address=prefix))
            entries.sort(key=lambda entry: entry.entry_id, reverse=True)
        return [Noted(entry.entry_id, decision_of(entry)) for entry in entries[: wanted.limit]]

    async def pages(self, wanted: JournalFilter) -> AsyncGenerator[list[JournalEntry], None]:
        """All entries that match, newest first, `wanted.limit` at a time; those given before the call included."""
        await self._store.journal_flushed()
        while page := await self._store.journal_read(wanted):
            yield page
            wanted = replace(wanted, before_id=page[-1].entry_id)

    def _share(self, decision: Decision) -> "_DoorShare":
        key = (decision.door, _kind(decision))
        if key not in self._shares and len(self._shares) >= DOORS_MAX:
            key = (ELSEWHERE, key[1])
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = _DoorShare()
        return share


def row_of(decision: Decision) -> JournalRow:
    """The columns by which decisions are found, and the whole as JSON."""
    return JournalRow(
        utc_ms=decision.utc_ms,
        hub=decision.hub,
        device=decision.device,
        address=decision.address,
        tracking_id=tracking_key(decision.tracking_id),
        verdict=decision.verdict,
        body=msgspec.json.encode(decision),
    )


def asked_of_group(group: str) -> str:
    """What stands in `Decision.asked` for a consumer group."""
    return f"{_GROUPS}{group}"


def group_of(asked: str) -> str:
    """The consumer group in a `Decision.asked`, empty when there is none."""
    return asked.removeprefix(_GROUPS) if asked.startswith(_GROUPS) else ""


def tracking_key(tracking_id: str) -> str:
    """What a decision is found by: the part before the first dash, for the rest has a space and is easily cut off."""
    return tracking_id.strip().partition("-")[0]


def decision_of(entry: JournalEntry) -> Decision:
    """The decision of a stored entry; of one whose body cannot be read, what the columns tell."""
    try:
        return msgspec.json.decode(entry.body, type=Decision)
    except msgspec.DecodeError:
        return Decision(
            next((verdict for verdict in Verdict if verdict == entry.verdict), Verdict.LOST),
            utc_ms=entry.utc_ms,
            hub=entry.hub,
            device=entry.device,
            address=entry.address,
            tracking_id=entry.tracking_id,
            detail="the record was too large to be kept whole, or was damaged: isthmus audit verify",
        )


def source_prefix(address: str) -> str:
    """The network an address is counted in: /24 for IPv4, /64 for IPv6; the text itself when it is no address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    bits = IPV4_PREFIX if parsed.version == 4 else IPV6_PREFIX
    return str(ipaddress.ip_network((parsed, bits), strict=False))


class _Bucket:
    """Refusals of one source and rule in the running minute; `last` is the newest that was not stored."""

    __slots__ = ("counted", "last", "seen")

    def __init__(self) -> None:
        self.seen = 0
        self.counted = 0
        self.last: Decision | None = None


class _DoorShare:
    """What may be stored in an hour about the refusals at one door, of strangers or of proven peers."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str, str], _Bucket] = {}
        self._stored = 0
        self._stored_of: dict[str, int] = {}

    def take(self, decision: Decision) -> bool:
        """True when the refusal is to be stored by itself; otherwise it has been counted."""
        bucket = self._bucket(decision)
        bucket.seen += 1
        if bucket.seen <= STORED_EACH_MAX and self._note_entry(_source(decision)):
            return True
        bucket.counted += 1
        bucket.last = decision
        return False

    def close_minute(self) -> list[Decision]:
        """The summaries of the minute, as many as the shares allow, the rest in one."""
        summaries: list[Decision] = []
        left = _Bucket()
        for key, bucket in self._buckets.items():
            if bucket.last is None:
                continue
            if key != _TOGETHER and self._note_entry(_source(bucket.last)):
                summaries.append(_summary(bucket, bucket.last, source_prefix(bucket.last.address)))
            else:
                left.counted += bucket.counted
                left.last = bucket.last
        if left.last is not None:
            together = replace(left.last, plane="", hop="", rule="", value="", remedy="", principal="", code="")
            summaries.append(_summary(left, together, ELSEWHERE))
        self._buckets.clear()
        return summaries

    def _bucket(self, decision: Decision) -> _Bucket:
        key = (decision.plane, _source(decision), decision.rule)
        if key not in self._buckets and len(self._buckets) >= BUCKETS_PER_DOOR_MAX:
            key = _TOGETHER
        return self._buckets.setdefault(key, _Bucket())

    def _note_entry(self, source: str) -> bool:
        """Takes one entry of the share, when there is one left for this source."""
        if source not in self._stored_of and len(self._stored_of) >= SOURCES_PER_DOOR_MAX:
            source = ELSEWHERE
        stored = self._stored_of.get(source, 0)
        if stored >= SOURCE_ENTRIES_MAX or self._stored >= DOOR_ENTRIES_MAX:
            return False
        self._stored_of[source] = stored + 1
        self._stored += 1
        return True


_TOGETHER = ("", ELSEWHERE, "")

_SHARED = frozenset({Verdict.REFUSED, Verdict.DELAYED, Verdict.READ})
"""What has a share of the journal; the rest is stored each."""


def _kind(decision: Decision) -> str:
    """Strangers' refusals, proven peers' refusals, delays and looks at keys have shares of their own."""
    if decision.verdict in (Verdict.READ, Verdict.DELAYED):
        return decision.verdict.value
    return "proven" if decision.principal else "stranger"


def _source(decision: Decision) -> str:
    return decision.principal or source_prefix(decision.address)


def _summary(bucket: _Bucket, last: Decision, address: str) -> Decision:
    return replace(
        last,
        address=address,
        device=last.device if last.principal else "",
        count=bucket.counted,
        detail=f"{bucket.counted} more {_what(last)} within a minute were counted, not stored; this is the last",
    )


def _what(decision: Decision) -> str:
    return {Verdict.READ: "looks at keys", Verdict.DELAYED: "delays"}.get(decision.verdict, "refusals")


def _cut(decision: Decision) -> Decision:
    return replace(
        decision,
        hub=_shortened(decision.hub),
        address=_shortened(decision.address),
        device=_shortened(decision.device),
        principal=_shortened(decision.principal),
        value=_shortened(decision.value),
        remedy=_shortened(decision.remedy),
        detail=_shortened(decision.detail),
    )


def _shortened(text: str) -> str:
    """The text not longer than the limit and without what would act on a terminal or is not in JSON."""
    sound = text if text.isprintable() else "".join(map(_printable, text[:VALUE_CHARACTERS_MAX]))
    return sound if len(sound) <= VALUE_CHARACTERS_MAX else sound[: VALUE_CHARACTERS_MAX - 1] + "…"


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
