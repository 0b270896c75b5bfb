"""Twins at hand: the last committed ones of devices that are being judged by them, read without waiting.

Theory of operation. Who wants a twin at hand holds it: it is read once and replaced with every commit from then on. A
commit that happens while it is read wins by its revision. What is not held costs nothing and is not there.
"""

from collections.abc import Mapping

from isthmus.base.ids import DeviceRef
from isthmus.base.state import State
from isthmus.devices.documents import twin_key
from isthmus.devices.twin import Twin, decode_twin

Section = Mapping[str, object]


class TwinSnapshots:
    """The held twins. Used on the event loop only."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._held: dict[DeviceRef, tuple[int, Section | None]] = {}

    async def hold(self, ref: DeviceRef) -> None:
        """Has the twin at hand until `release`; held ones are not read again. Cancelling leaves it held."""
        if ref in self._held:
            return
        self._held[ref] = (0, None)
        stored = await self._state.get(twin_key(ref))
        if stored is not None:
            self.committed(ref, decode_twin(stored.body), stored.revision)

    def release(self, ref: DeviceRef) -> None:
        """Forgets a twin; without effect when it is not held."""
        self._held.pop(ref, None)

    def committed(self, ref: DeviceRef, twin: Twin, revision: int) -> None:
        """Replaces a held twin by a newer one."""
        held = self._held.get(ref)
        if held is not None and held[0] < revision:
            self._held[ref] = (revision, section_of(twin))

    def get(self, ref: DeviceRef) -> Section | None:
        """A held twin with `tags` and `properties`; None for one that is not held, or is not there."""
        held = self._held.get(ref)
        return None if held is None else held[1]

    async def read(self, ref: DeviceRef) -> Section | None:
        """As `get`, for twins that are not held: read from the state."""
        held = self.get(ref)
        if held is not None:
            return held
        stored = await self._state.get(twin_key(ref))
        return None if stored is None else section_of(decode_twin(stored.body))


def section_of(twin: Twin) -> Section:
    """What conditions ask of a twin."""
    properties = {"desired": twin.properties.desired, "reported": twin.properties.reported}
    return {"tags": twin.tags, "properties": properties}
