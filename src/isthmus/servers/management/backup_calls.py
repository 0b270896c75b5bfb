"""The management call that makes a backup: `POST /backup`, of the local owner only, for it writes where he says."""

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Protocol

from isthmus.access.journal import Journal, Verdict
from isthmus.base.errors import Code, HubError
from isthmus.network.door import LOCAL_DOOR
from isthmus.resources.members import known_members
from isthmus.servers.management.arm import change_of
from isthmus.servers.management.request import Call, Reply

Json = dict[str, object]


class BackupMaker(Protocol):
    """Makes backups, one at a time."""

    async def make(self, destination: str) -> Json:
        """What the backup holds; raises HubError. Cancelled, it leaves nothing."""


@dataclass(frozen=True, slots=True)
class BackupCalls:
    """Answers the call; on the event loop only."""

    maker: BackupMaker
    journal: Journal

    async def answer(self, call: Call) -> Reply:
        """Answers when the backup is durable; raises HubError."""
        if call.method != "POST" or len(call.path) != 1 or call.door != LOCAL_DOOR.label:
            raise HubError(Code.NOT_FOUND, f"There is nothing at {call.method} /{'/'.join(call.path)}")
        destination = destination_of(call)
        made = await self.maker.make(destination)
        told = change_of(call, "", f"backup of everything, keys included, made in {destination}")
        self.journal.write(replace(told, verdict=Verdict.READ))
        return Reply(value=made)


def destination_of(call: Call) -> str:
    """The folder that a backup is wanted in; raises HubError ArgumentInvalid."""
    body = call.json()
    known_members(body, "the body", ("destination",))
    destination = body.get("destination")
    if not isinstance(destination, str) or not PurePath(destination).is_absolute() or "\0" in destination:
        raise HubError(Code.ARGUMENT_INVALID, "destination is the absolute path of a folder")
    return destination
