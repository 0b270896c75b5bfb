"""Calls about tokens: `/tokens` and `/tokens/{name}`, of this product's own, for ARM has none."""

from dataclasses import dataclass

from isthmus.access.journal import Journal
from isthmus.base.errors import Code, HubError
from isthmus.resources.tokens import Tokens, token_to_json
from isthmus.servers.management.arm import CREATED, NO_CONTENT, change_of
from isthmus.servers.management.request import Call, Reply


@dataclass(frozen=True, slots=True)
class TokenCalls:
    """Answers calls about tokens; used on the event loop only."""

    tokens: Tokens
    journal: Journal

    async def answer(self, call: Call, names: tuple[str, ...]) -> Reply:
        """Answers a call below `/tokens`; raises HubError."""
        match call.method, names:
            case "GET", ():
                return Reply(value={"value": [token_to_json(token) for token in self.tokens.all()]})
            case "GET", (name,):
                return Reply(value=token_to_json(self.tokens.require(name)))
            case "PUT", (name,):
                token, shown = await self.tokens.create(name, call.json(), call.who)
                what = f"token {token.name} created: {token.role.value} of {token.scope}"
                self.journal.write(change_of(call, "", what))
                return Reply(CREATED, {**token_to_json(token), "token": shown})
            case "DELETE", (name,):
                await self.tokens.delete(name)
                self.journal.write(change_of(call, "", f"token {name} deleted"))
                return Reply(NO_CONTENT)
            case _:
                raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")
