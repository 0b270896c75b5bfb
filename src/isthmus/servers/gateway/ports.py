"""What the device pumps need from the rest of the house, as narrow as they need it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef, HubId, TrackingId
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.gate import Admitted, Peer
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Session
from isthmus.telemetry.message import Envelope, PropertyValue
from isthmus.telemetry.ports import CommitWaiter


class DeviceConnection(Peer, Protocol):
    """A byte stream to a device, after TLS; `connection.Connection` is one."""

    @property
    def congested(self) -> bool:
        """True while what was written does not leave; `writable` follows."""

    def write(self, data: bytes) -> None:
        """Sends, or holds what cannot be sent yet; never blocks."""

    def close(self, reason: str = "closed") -> None:
        """Sends what was written, then closes."""

    def pause_reading(self) -> None:
        """Delivers nothing more for now."""

    def resume_reading(self) -> None:
        """Delivers again."""


class FrontDoor(Protocol):
    """The judgement at the door; `gate.Gate` is it."""

    def resolve(self, connection: Peer, plane: Plane, *names: str) -> Hub:
        """The hub that all names mean."""

    async def device(self, connection: Peer, plane: Plane, hub: Hub, ref: DeviceRef, password: str | None) -> Admitted:
        """Lets a device in, or raises `HubError`."""

    def refused(
        self, connection: Peer, plane: Plane, hub_name: str, device: str, error: HubError, *, principal: str = ""
    ) -> TrackingId:
        """Journals a refusal."""

    def admitted(self, connection: Peer, plane: Plane, admitted: Admitted) -> None:
        """Journals an admission."""


class ProbeOutlet(Protocol):
    """Where messages of probes go; `probe_mail.ProbeMail` is it."""

    async def send(self, hub: Hub, device_id: str, payload: bytes) -> None:
        """Returns when the message is durable; raises HubError when it never will be."""


class CurrentHubs(Protocol):
    """The hubs as they are now; `resources.hubs.Hubs` has them."""

    def by_number(self, number: HubId) -> Hub | None:
        """The hub of that number, or None when it is gone."""


class TelemetryInlet(Protocol):
    """Where telemetry goes; `routing.accept.Accept` is it."""

    async def attend(self, hub: Hub, ref: DeviceRef) -> None:
        """Makes ready what messages of a device are judged by, until `leave`."""

    def leave(self, ref: DeviceRef) -> None:
        """The device sends nothing more."""

    def telemetry(
        self,
        hub: Hub,
        envelope: Envelope,
        encoded: bytes,
        payload: bytes,
        ingress_ms: int,
        waiter: CommitWaiter,
        cookie: int,
    ) -> None:
        """Judges and appends a message; `waiter` hears when it is durable."""


class Backlog(Protocol):
    """How far the log is behind; `telemetry.ports.Log` tells."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes taken and not yet durable."""


class DeviceTwins(Protocol):
    """Twins as their devices reach them; `devices.twins.Twins` has them."""

    async def device_view(self, ref: DeviceRef) -> Mapping[str, object]:
        """`desired` and `reported`, each with `$version`."""

    async def patch_reported(self, ref: DeviceRef, patch: object, if_version: int | None = None) -> int:
        """Merges a patch and returns the new version."""

    async def set_model(self, ref: DeviceRef, model_id: str) -> None:
        """Keeps the id of the model that the device says it follows."""


class DeviceboundMessage(Protocol):
    """A cloud-to-device message handed out under a lock."""

    @property
    def lock_token(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def system(self) -> Mapping[str, PropertyValue]:
        """System properties under their canonical names."""

    @property
    def properties(self) -> Mapping[str, PropertyValue]:
        """Application properties."""

    @property
    def expiry_ms(self) -> int | None:
        """The end the sender gave it, None when the sender gave none."""

    @property
    def ack(self) -> str | None:
        """The feedback the sender asked for, None when the sender said nothing."""


class DeviceboundQueue(Protocol):
    """The cloud-to-device queues."""

    async def receive(self, ref: DeviceRef, limit: int) -> Sequence[DeviceboundMessage]:
        """Locks and hands out the first messages that wait, at most `limit`.

        Raises `Damaged` when the first cannot be read; the next call gives those behind it.
        """

    async def complete(self, ref: DeviceRef, lock_token: str) -> None:
        """Removes a message as delivered; raises `HubError` `MESSAGE_LOCK_LOST`."""

    async def reject(self, ref: DeviceRef, lock_token: str) -> None:
        """Removes a message as undeliverable; raises `HubError` `MESSAGE_LOCK_LOST`."""

    async def release_all(self, ref: DeviceRef, lock_tokens: Sequence[str]) -> None:
        """Gives messages back as if they had never been handed out."""


class PresenceReports(Protocol):
    """Who hears of connections; `devices.presence.Presence` does."""

    def connected(self, ref: DeviceRef, at_ms: int) -> None:
        """The device has a connection."""

    def disconnected(self, ref: DeviceRef, at_ms: int) -> None:
        """The device has lost its last connection."""


class SessionIndex(Protocol):
    """The index of live sessions; `sessions.Sessions` is it."""

    def add(self, session: Session) -> None:
        """Makes the session one that can be cut."""

    def remove(self, session: Session) -> None:
        """The session's socket is closed."""


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """It does not come."""


class Timers(Protocol):
    """Calls back later; an event loop does."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Calls `callback` after `delay` seconds."""
