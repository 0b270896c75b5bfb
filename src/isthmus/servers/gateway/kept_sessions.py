"""What a kept MQTT session keeps: its subscriptions, as a document of the state.

Messages are not kept with the session: they wait in the device's queue whoever is connected. A session without
subscriptions keeps nothing, and then there is none. A document belongs to one generation of an identity, so that a
device made again under the same name begins anew.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from isthmus.base.ids import DeviceRef
from isthmus.base.state import Delete, Put, State
from isthmus.devices.documents import session_key


class KeptSession(msgspec.Struct, frozen=True, rename="camel"):
    """Topic filters with the QoS granted for each, and the generation of the identity that made them."""

    generation_id: str
    subscriptions: dict[str, int]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(KeptSession).decode


class KeptSessions(Protocol):
    """Reads and writes kept sessions; one session of an identity at a time uses it."""

    async def load(self, ref: DeviceRef, generation_id: str) -> dict[str, int]:
        """The subscriptions kept, empty when there are none."""

    async def save(self, ref: DeviceRef, generation_id: str, subscriptions: Mapping[str, int]) -> None:
        """Keeps these subscriptions, durably; none when empty."""


class StoredSessions:
    """Kept sessions in the transactional state."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def load(self, ref: DeviceRef, generation_id: str) -> dict[str, int]:
        """The subscriptions kept, empty when there are none."""
        stored = await self._state.get(session_key(ref))
        if stored is None:
            return {}
        kept = _decode(stored.body)
        return kept.subscriptions if kept.generation_id == generation_id else {}

    async def save(self, ref: DeviceRef, generation_id: str, subscriptions: Mapping[str, int]) -> None:
        """Keeps these subscriptions, durably; none when empty."""
        if subscriptions:
            body = _encode(KeptSession(generation_id, dict(subscriptions)))
            await self._state.commit([Put(session_key(ref), body)])
        elif await self._state.get(session_key(ref)) is not None:
            await self._state.commit([Delete(session_key(ref))])
