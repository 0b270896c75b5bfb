"""The joined view of a device that queries look at: identity, twin and presence, found by the name of a property.

The first segment of a path decides the document: `tags` and `properties` stand in the twin, the connection state and
the last activity in the presence, everything else in the identity (IoT Hub developer guide, "Query language for device
and module twins"). A device without a presence document never connected and is seen as `NEVER_CONNECTED`.
"""

from collections.abc import Mapping

from isthmus.base.clock import NEVER
from isthmus.base.state import Equals

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


def holds(condition: Equals, document: object) -> bool:
    """True when the decoded document has the value at the path.

    What is not there equals nothing, not even null; values of different types are never equal, and a boolean is not a
    number.
    """
    found = document
    for segment in condition.path:
        if not isinstance(found, Mapping) or segment not in found:
            return False
        found = found[segment]
    return _same(found, condition.value)


def _same(found: object, wanted: str | int | float | bool | None) -> bool:
    if isinstance(wanted, bool) or wanted is None:
        return found is wanted
    if isinstance(wanted, str):
        return isinstance(found, str) and found == wanted
    return isinstance(found, int | float) and not isinstance(found, bool) and found == wanted
