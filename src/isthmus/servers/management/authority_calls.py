"""Calls about the token authority: `/authority`, of this product's own."""

from dataclasses import dataclass

from isthmus.access.journal import Journal
from isthmus.base.errors import Code, HubError
from isthmus.resources.members import integer, known_members
from isthmus.resources.token_authority import LEAD_SECONDS_MAX, TokenAuthority
from isthmus.servers.management.arm import change_of
from isthmus.servers.management.request import Call, Reply


@dataclass(frozen=True, slots=True)
class AuthorityCalls:
    """Answers calls about the authority; used on the event loop only."""

    authority: TokenAuthority
    journal: Journal

    async def answer(self, call: Call) -> Reply:
        """Answers `GET /authority` and `POST /authority/rotate`; raises HubError."""
        match call.method, call.path[1:]:
            case "GET", ():
                return Reply(value=self.authority.describe())
            case "POST", ("rotate",):
                body = call.json()
                known_members(body, "the body", ("lead",))
                lead = integer(body.get("lead", 0), "lead", least=0, most=LEAD_SECONDS_MAX)
                key = await self.authority.rotate(lead)
                self.journal.write(change_of(call, "", f"signing key {key.key_id} of access tokens made"))
                return Reply(value=self.authority.describe())
            case _:
                raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")
