"""Twins at hand: the last committed ones of devices that are being judged by them, read without waiting.

Theory of operation. Who wants a twin at hand holds it: it is read once and replaced with every commit from then on. A
commit that happens while it is read wins by its revision. What is not held is not there. A device without a session
holds its twin for one message only, and the next will come: what was released lingers, still replaced with every
commit, so that it need not be read again; the longest released is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Mapping

from isthmus.base.ids import DeviceRef
from isthmus.base.state import State
from isthmus.devices.documents import twin_key
from isthmus.devices.identity import Identity
from isthmus.devices.twin import Twin, decode_twin

Section = Mapping[str, object]

LINGERING_MAX = 1_024
"""Twins kept after their release: devices that send by single requests within the same minute or so. A twin is some
kilobytes, and at its own limits some hundred, so that this is at most a hundred megabytes."""


class TwinSnapshots:
    """The held twins. Used on the event loop only."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._held: dict[DeviceRef, tuple[int, Section | None]] = {}
        self._lingering: OrderedDict[DeviceRef, tuple[int, Section | None]] = OrderedDict()

    async def hold(self, ref: DeviceRef) -> None:
        """Has the twin at hand, from when this returns until `release`; what was read is not read again.

        Cancelling leaves it held.
        """
        revision, _ = self._held.setdefault(ref, self._lingering.pop(ref, (0, None)))
        if revision:
            return
        stored = await self._state.get(twin_key(ref))
        if stored is not None:
            self.committed(ref, decode_twin(stored.body), stored.revision)

    def release(self, ref: DeviceRef) -> None:
        """Lets a twin linger, or go; without effect when it is not held."""
        revision, section = self._held.pop(ref, (0, None))
        if revision:
            self._lingering[ref] = (revision, section)
            if len(self._lingering) > LINGERING_MAX:
                self._lingering.popitem(last=False)

    def committed(self, ref: DeviceRef, twin: Twin, revision: int) -> None:
        """Replaces a twin that is held, or lingers, by a newer one."""
        for twins in (self._held, self._lingering):
            known = twins.get(ref)
            if known is not None and known[0] < revision:
                twins[ref] = (revision, section_of(twin))

    def identity_changed(self, ref: DeviceRef, old: Identity | None, new: Identity | None) -> None:
        """Listens to the registry: the twin of an identity that is gone is not kept for one of the same name.

        Who holds it is about to be cut; until then it has none, and its release leaves nothing.
        """
        if old is not None and new is not None and new.generation_id == old.generation_id:
            return
        self._lingering.pop(ref, None)
        if old is not None and ref in self._held:
            self._held[ref] = (0, None)

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
