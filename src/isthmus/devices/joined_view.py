"""The joined view of a device or module that conditions look at: the members of its documents side by side."""

from collections.abc import Mapping

import msgspec

from isthmus.base.state import Stored
from isthmus.devices.presence import encode_presence, presence_of

View = Mapping[str, object]

_decode = msgspec.json.Decoder(dict[str, object]).decode


def view_of(identity: Stored, twin: Stored, presence: Stored | None) -> View:
    """The joined view of committed documents."""
    seen = _decode(presence.body if presence is not None else encode_presence(presence_of(None)))
    return {**_decode(identity.body), **_decode(twin.body), **seen}
