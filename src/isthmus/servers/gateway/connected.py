"""Which devices are connected here: the `ConnectedDevices` port of the domain, and takeover.

Theory of operation. An identity has one connection. A session enters when its device has proved itself; if another one
is there, that one is told to end. A session that ends leaves at once, but it may hold messages a little longer; until
it says that it has given them back (`left`), whoever enters for the same identity waits, so that messages reach a
newcomer in order. Several newcomers at once form a chain in which each has ended the one before it, and the last one
stays. Only a session that is still the present one makes the device disconnected when it leaves.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from isthmus.access.principal import Principal
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError, Refusal
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.limits import METHODS_IN_FLIGHT_MAX
from isthmus.devices.ports import ConnectedDevice
from isthmus.servers.gateway.ports import PresenceReports

TAKEOVER_SECONDS_MAX = 5.0
"""How long a newcomer waits for the former session to give back its messages; then it begins without them."""


class DeviceSession(ConnectedDevice, Protocol):
    """A session of a device, as the registry needs it."""

    @property
    def principal(self) -> Principal:
        """Who proved himself."""

    def replaced(self) -> None:
        """Ends at once: a newer connection of the same identity has proved itself."""

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Ends because it lost its right."""

    async def gone(self) -> None:
        """Returns when the session holds nothing any more."""


class Connected:
    """The devices and modules connected to this process, of all hubs; one entry for each, so bounded by the socket
    budget.
    """

    def __init__(self, presence: PresenceReports, clock: Clock) -> None:
        self._presence = presence
        self._clock = clock
        self._sessions: dict[DeviceRef, DeviceSession] = {}
        self._families: dict[tuple[HubId, str], set[DeviceRef]] = {}
        self._counts: dict[HubId, int] = {}
        self._leaving: dict[DeviceRef, list[DeviceSession]] = {}
        self._waiting: dict[DeviceRef, set[asyncio.Future[None]]] = {}
        self._method_listeners: list[Callable[[DeviceRef], None]] = []

    def on_methods(self, listener: Callable[[DeviceRef], None]) -> None:
        """Calls `listener` on the event loop whenever a device has subscribed to direct methods."""
        self._method_listeners.append(listener)

    async def enter(self, ref: DeviceRef, session: DeviceSession) -> None:
        """Makes `session` the device's, ends the former one, and waits until nothing is held by any that was there.

        It waits `TAKEOVER_SECONDS_MAX` at most. The session has to `leave` also when this is cancelled.
        """
        former = self._sessions.get(ref)
        self._sessions[ref] = session
        if former is None:
            self._counts[ref.hub] = self._counts.get(ref.hub, 0) + 1
            self._families.setdefault((ref.hub, ref.device_id), set()).add(ref)
        else:
            former.replaced()
        try:
            async with asyncio.timeout(TAKEOVER_SECONDS_MAX):
                for leaving in tuple(self._leaving.get(ref, ())):
                    await leaving.gone()
        except TimeoutError:
            # Their messages come back when the locks run out; the device is not kept waiting for that.
            return

    def begun(self, ref: DeviceRef, session: DeviceSession) -> None:
        """The session has been accepted: the device is connected."""
        if self._sessions.get(ref) is session:
            self._presence.connected(ref, self._clock.utc_ms())

    def leave(self, ref: DeviceRef, session: DeviceSession) -> None:
        """The session has ended; it has to call `left` when it holds nothing any more. Called once."""
        self._leaving.setdefault(ref, []).append(session)
        if self._sessions.get(ref) is session:
            del self._sessions[ref]
            self._counts[ref.hub] -= 1
            self._leave_family(ref)
            self._presence.disconnected(ref, self._clock.utc_ms())

    def left(self, ref: DeviceRef, session: DeviceSession) -> None:
        """The session holds nothing any more."""
        leaving = self._leaving[ref]
        leaving.remove(session)
        if not leaving:
            del self._leaving[ref]

    def accepts_methods(self, ref: DeviceRef) -> None:
        """The device has subscribed to methods: whoever waits for that is woken."""
        for waiting in self._waiting.pop(ref, ()):
            if not waiting.done():
                waiting.set_result(None)
        for listener in self._method_listeners:
            listener(ref)

    def find(self, ref: DeviceRef) -> DeviceSession | None:
        """The session of a connected device, or None."""
        return self._sessions.get(ref)

    def below(self, ref: DeviceRef) -> list[tuple[DeviceRef, DeviceSession]]:
        """The sessions of an identity and, for a device, of its modules."""
        family = self._families.get((ref.hub, ref.device_id), ())
        return [(each, self._sessions[each]) for each in family if not ref.module_id or each == ref]

    async def wait(self, ref: DeviceRef, timeout: float) -> DeviceSession | None:
        """Waits until the device is connected and accepts methods; None after `timeout` seconds (0: now or never).

        Raises `HubError` `IN_FLIGHT_METHODS_EXCEEDED` when `METHODS_IN_FLIGHT_MAX` wait for this device already.
        """
        session = self._ready(ref)
        if session is not None or timeout <= 0:
            return session
        try:
            async with asyncio.timeout(timeout):
                while session is None:
                    await self._woken(ref)
                    session = self._ready(ref)
        except TimeoutError:
            return None
        return session

    def count(self, hub: HubId) -> int:
        """How many devices and modules of the hub are connected."""
        return self._counts.get(hub, 0)

    def _ready(self, ref: DeviceRef) -> DeviceSession | None:
        session = self._sessions.get(ref)
        return session if session is not None and session.accepts_methods() else None

    def _leave_family(self, ref: DeviceRef) -> None:
        family = self._families[ref.hub, ref.device_id]
        family.discard(ref)
        if not family:
            del self._families[ref.hub, ref.device_id]

    async def _woken(self, ref: DeviceRef) -> None:
        waiting = self._waiting.setdefault(ref, set())
        if len(waiting) >= METHODS_IN_FLIGHT_MAX:
            raise HubError(Code.IN_FLIGHT_METHODS_EXCEEDED, "Too many direct methods wait for the device")
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.add(wake)
        try:
            await wake
        finally:
            waiting.discard(wake)
            if not waiting and self._waiting.get(ref) is waiting:
                del self._waiting[ref]
