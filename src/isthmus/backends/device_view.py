"""The joined view of a device that queries look at: identity, twin and presence, found by the name of a property.

The first segment of a path decides the document: `tags`, `properties` and what else services write stand in the twin,
the connection state and the last activity in the presence, everything else in the identity (IoT Hub developer guide,
"Query language for device and module twins"). A device without a presence document never connected and is seen as
`NEVER_CONNECTED`.
"""

from collections.abc import Mapping

import msgspec

from isthmus.base.clock import NEVER
from isthmus.base.filters import Filter, Path, fields

IDENTITY = "identity"
TWIN = "twin"
PRESENCE = "presence"

TWIN_MEMBERS = frozenset(
    {
        "tags",
        "properties",
        "metadata",
        "configurations",
        "version",
        "etagNumber",
        "desiredVersion",
        "reportedVersion",
        "modelId",
    }
)
PRESENCE_MEMBERS = frozenset({"connectionState", "connectionStateUpdatedTime", "lastActivityTime"})

NEVER_CONNECTED = (
    f'{{"connectionState":"Disconnected","connectionStateUpdatedTime":"{NEVER}","lastActivityTime":"{NEVER}"}}'
)


def home_of(path: Path) -> str:
    """Kind of the document that holds the property."""
    if path[0] in TWIN_MEMBERS:
        return TWIN
    return PRESENCE if path[0] in PRESENCE_MEMBERS else IDENTITY


def homes_of(where: Filter) -> frozenset[str]:
    """Kinds of the documents that a filter looks at."""
    return frozenset(home_of(path) for path in fields(where))


def joined(bodies: Mapping[str, str | bytes]) -> dict[str, object]:
    """The view of some of a device's documents, by their kinds: their members side by side."""
    view: dict[str, object] = {}
    for kind, body in bodies.items():
        members: dict[str, object] = msgspec.json.decode(body)
        view |= {name: value for name, value in members.items() if home_of((name,)) == kind}
    return view
