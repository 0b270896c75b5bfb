"""What routing needs from outside."""

from collections.abc import Mapping
from typing import Protocol

from isthmus.base.ids import DeviceRef


class TwinsAtHand(Protocol):
    """Committed twins to judge by; `devices.twin_snapshots.TwinSnapshots` has them."""

    async def hold(self, ref: DeviceRef) -> None:
        """Has a twin at hand until it is released."""

    def release(self, ref: DeviceRef) -> None:
        """Forgets it."""

    def get(self, ref: DeviceRef) -> Mapping[str, object] | None:
        """A twin that is held, with `tags` and `properties`."""

    async def read(self, ref: DeviceRef) -> Mapping[str, object] | None:
        """A twin, held or not."""
