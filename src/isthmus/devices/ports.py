"""What the devices package needs from outside: who is connected now, and the queues that a deletion empties."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import Change


@dataclass(frozen=True, slots=True)
class MethodAnswer:
    """A device's answer to a direct method; `payload` is JSON text, empty when the device sent none."""

    status: int
    payload: bytes


class ConnectedDevice(Protocol):
    """Our handle on a device or module that is connected now."""

    @property
    def connected_ms(self) -> int:
        """When it connected, milliseconds since the epoch."""

    def accepts_methods(self) -> bool:
        """True when it has subscribed to direct methods."""

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        """Sends a direct method and waits for its answer, without a deadline of its own.

        Raises `HubError` with `DEVICE_CONNECTION_CLOSED` when the connection ends before the answer. Cancelling the
        call forgets the request; a late answer is dropped.
        """

    def desired_changed(self, patch: bytes, version: int) -> None:
        """Tells it of a change of its desired properties; nothing happens when it has not subscribed."""

    def c2d_available(self) -> None:
        """Tells its session that a cloud-to-device message waits."""


class ConnectedDevices(Protocol):
    """Who is connected, at whichever node."""

    def find(self, ref: DeviceRef) -> ConnectedDevice | None:
        """The handle of a connected device, or None."""

    async def wait(self, ref: DeviceRef, timeout: float) -> ConnectedDevice | None:
        """Waits until the device is connected and accepts methods; None after `timeout` seconds (0: now or never)."""

    def count(self, hub: HubId) -> int:
        """How many devices and modules of the hub are connected."""


class DeviceQueues(Protocol):
    """What waits for a device or is under way for it, and goes with its identity."""

    async def removal(self, ref: DeviceRef) -> Sequence[Change]:
        """The changes that forget everything of a device, to be part of the commit that deletes it."""
