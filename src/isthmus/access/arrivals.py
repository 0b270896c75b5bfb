"""Who came to a hub lately, from where and by which door: a view of the journal's admitted connections."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from isthmus.access.journal import BUILT_IN, Journal, Verdict, group_of
from isthmus.base.ids import is_probe
from isthmus.base.state import JournalFilter

PAGE_ENTRIES = 2_000
"""Decisions read at a time: some milliseconds, after which the loop is given back."""

ARRIVALS_MAX = 100_000
"""Different arrivals kept of one hub, the latest: the devices of a large hub; beyond it the oldest are left out."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody who was let in, in the words of the journal (`Decision`).

    `principal` is a label such as `device:d1` or `policy:service`, `door` the door's label, `asked` a part of the hub,
    `key` the fingerprint of the key that was used, empty where it is not known.
    """

    device: str = ""
    principal: str = ""
    address: str = ""
    door: str = ""
    plane: str = ""
    asked: str = ""
    key: str = ""

    @property
    def consumer_group(self) -> str:
        """The consumer group it reads by, empty when it does not read."""
        return group_of(self.asked)

    @property
    def built_in(self) -> bool:
        """True when it came to the built-in endpoint only."""
        return self.asked.startswith(BUILT_IN)

    @property
    def shared_access_policy(self) -> str:
        """The policy whose key it used, empty when it used a key of its own."""
        kind, _, name = self.principal.partition(":")
        return name if kind == "policy" else ""

    @property
    def device_id(self) -> str:
        """The device, of a module its device; empty for services."""
        return self.device.partition("/")[0]


_decode = msgspec.json.Decoder(Arrival).decode
"""Of a stored decision what makes the arrival; the rest is skipped."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When each was admitted last, milliseconds since the epoch; not `complete` when the oldest were left out."""

    seen: Mapping[Arrival, int]
    complete: bool


async def arrivals(journal: Journal, hub: str, since_ms: int) -> Arrivals:
    """The arrivals at a hub since a moment, as far back as the journal goes.

    A connection is noted when it is admitted: one that was open all the time is found among the live ones.
    """
    seen: dict[Arrival, int] = {}
    wanted = JournalFilter(hub=hub, verdict=Verdict.ALLOWED, since_ms=since_ms, limit=PAGE_ENTRIES)
    async with aclosing(journal.pages(wanted)) as pages:
        async for page in pages:
            for entry in page:
                arrival = _decode(entry.body)
                if arrival in seen or not arrival.door or is_probe(arrival.device):
                    # A probe is gone by itself. An entry without a door had a body that was too large to be kept.
                    continue
                if len(seen) >= ARRIVALS_MAX:
                    return Arrivals(seen, complete=False)
                seen[arrival] = entry.utc_ms
    return Arrivals(seen, complete=True)
