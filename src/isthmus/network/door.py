"""Through which door a socket came in."""

from dataclasses import dataclass
from enum import Enum


class DoorKind(Enum):
    """A public door is shared by all resources; a private one belongs to one resource; the local one is the CLI's."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Door:
    """A way in. `resource_id` and `connection` (the connection's name at the resource) are set for private doors.

    `network` is the virtual network that a private door is in, empty when it is in none.
    """

    kind: DoorKind
    resource_id: str = ""
    connection: str = ""
    network: str = ""

    @property
    def label(self) -> str:
        """`public`, `private:{connection}` or `local`: stands in sessions, logs, journal and records."""
        return f"private:{self.connection}" if self.kind is DoorKind.PRIVATE else self.kind.value


PUBLIC_DOOR = Door(DoorKind.PUBLIC)
LOCAL_DOOR = Door(DoorKind.LOCAL)
