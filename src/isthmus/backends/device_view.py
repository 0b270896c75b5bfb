"""The joined view of a device that queries look at: identity, twin and presence, found by the name of a property.

The first segment of a path decides the document: `tags` and `properties` stand in the twin, the connection state and
the last activity in the presence, everything else in the identity (IoT Hub developer guide, "Query language for device
and module twins"). A device without a presence document never connected and is seen as `NEVER_CONNECTED`.
"""

from isthmus.base.clock import NEVER

IDENTITY = "identity"
TWIN = "twin"
PRESENCE = "presence"

TWIN_SECTIONS = frozenset({"tags", "properties"})
PRESENCE_MEMBERS = frozenset({"connectionState", "connectionStateUpdatedTime", "lastActivityTime"})

NEVER_CONNECTED = (
    f'{{"connectionState":"Disconnected","connectionStateUpdatedTime":"{NEVER}","lastActivityTime":"{NEVER}"}}'
)


def home_of(path: tuple[str, ...]) -> str:
    """Kind of the document that holds the property."""
    if path[0] in TWIN_SECTIONS:
        return TWIN
    return PRESENCE if path[0] in PRESENCE_MEMBERS else IDENTITY
