"""The journal as the auditor reads it: its records with their numbers, and making room in it.

`GET /audit` with the parameters of `explain` and `who` and `until`, `GET /audit/{sequence}`, and `POST /audit/prune`
with `{"upTo": sequence}`, which removes records from the front and says so in the journal.
"""

from dataclasses import dataclass

from isthmus.access.explain import filter_of, recorded
from isthmus.access.journal import Journal
from isthmus.base.errors import Code, HubError
from isthmus.base.state import JournalFilter
from isthmus.servers.management.request import Call, Reply


@dataclass(frozen=True, slots=True)
class Audit:
    """Answers calls about the journal; on the event loop only."""

    journal: Journal

    async def answer(self, call: Call) -> Reply:
        """The reply to a call below `/audit`; raises HubError."""
        match call.method, call.path:
            case "GET", ("audit",):
                return Reply(value=[recorded(each) for each in await self.journal.noted(filter_of(call.query))])
            case "GET", ("audit", number):
                return Reply(value=await self._record(_sequence(number)))
            case "POST", ("audit", "prune"):
                upto = _sequence(call.json().get("upTo"))
                return Reply(value={"upTo": upto, "removed": await self._prune(upto, call.who)})
            case _:
                raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")

    async def _record(self, sequence: int) -> dict[str, object]:
        found = await self.journal.noted(JournalFilter(entry_id=sequence, limit=1))
        if not found:
            ends = await self.journal.ends()
            here = f"{ends.base.entry_id + 1} to {ends.head.entry_id}"
            raise HubError(Code.NOT_FOUND, f"There is no record {sequence}; the journal holds {here}")
        return recorded(found[0])

    async def _prune(self, upto: int, who: str) -> int:
        ends = await self.journal.ends()
        if upto > ends.head.entry_id:
            raise HubError(Code.ARGUMENT_INVALID, f"The last record is {ends.head.entry_id}: no more can be removed")
        return await self.journal.prune(upto, who)


def _sequence(value: object) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number < 2**63:
        raise HubError(Code.ARGUMENT_INVALID, f"A record has a number from 1 on, and {value!r} is none")
    return number
