"""Calls about tokens: `/tokens` and `/tokens/{name}`, of this product's own, for ARM has none."""

from dataclasses import dataclass, replace

from isthmus.access.explain import change_texts
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
                made = token_to_json(token)
                what = f"token {token.name} created: {token.role.value} of {token.scope}"
                self._note(call, what, None, made)
                return Reply(CREATED, {**made, "token": shown})
            case "DELETE", (name,):
                before = token_to_json(self.tokens.require(name))
                await self.tokens.delete(name)
                self._note(call, f"token {name} deleted", before, None)
                return Reply(NO_CONTENT)
            case _:
                raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")

    def _note(self, call: Call, what: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        self.journal.write(replace(change_of(call, "", what), before=was, after=now))
