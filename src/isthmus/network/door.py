"""Through which door a socket came in."""

from dataclasses import dataclass
from enum import Enum


class DoorKind(Enum):
    """A public door is shared by all resources; a private one belongs to one resource; the local one is the CLI's.

    By the link door connectors come in; what they carry comes in by the private door that it was meant for. The
    management door is for operators with a token and leads to no resource's data, as does the metadata door inside a
    network namespace, whose `connection` is the namespace.
    """

    PUBLIC = "public"
    PRIVATE = "private"
    LOCAL = "local"
    LINK = "link"
    MANAGEMENT = "management"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Door:
    """A way in. `resource_id` and `connection` (the connection's name at the resource) are set for private doors.

    The link door's `connection` is the connector's name, once that is proved.

    `network` is the virtual network that a private door is in, empty when it is in none.
    """

    kind: DoorKind
    resource_id: str = ""
    connection: str = ""
    network: str = ""

    @property
    def label(self) -> str:
        """`public`, `private:{connection}`, `link`, `link:{connector}`, `local`, …, as journaled."""
        named = self.kind is DoorKind.PRIVATE or self.connection
        return f"{self.kind.value}:{self.connection}" if named else self.kind.value


PUBLIC_DOOR = Door(DoorKind.PUBLIC)
LOCAL_DOOR = Door(DoorKind.LOCAL)
LINK_DOOR = Door(DoorKind.LINK)
MANAGEMENT_DOOR = Door(DoorKind.MANAGEMENT)
