"""What an MQTT connection and the device on it need of each other and of the process."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from isthmus.base.clock import Clock
from isthmus.base.errors import HubError, Refusal
from isthmus.base.ids import TrackingId
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.kept_sessions import KeptSessions
from isthmus.servers.gateway.ports import (
    Backlog,
    CurrentHubs,
    DeviceboundQueue,
    DeviceConnection,
    DeviceTwins,
    TelemetryInlet,
)
from isthmus.servers.gateway.shaping import Reading
from isthmus.servers.gateway.throttles import Throttles
from isthmus.wire.mqtt.errors import ProtocolError
from isthmus.wire.mqtt.session import ServerSession


@dataclass(slots=True)
class MqttCounts:
    """What the MQTT connections of a process have counted since its start."""

    messages: int = 0
    late_method_answers: int = 0
    stale_pubacks: int = 0
    takeovers: int = 0


class DeviceServices(Protocol):
    """What a device needs of the process; `mqtt.MqttServices` has it."""

    @property
    def hubs(self) -> CurrentHubs: ...
    @property
    def inlet(self) -> TelemetryInlet: ...
    @property
    def backlog(self) -> Backlog: ...
    @property
    def twins(self) -> DeviceTwins: ...
    @property
    def devicebound(self) -> DeviceboundQueue: ...
    @property
    def kept(self) -> KeptSessions: ...
    @property
    def connected(self) -> Connected: ...
    @property
    def throttles(self) -> Throttles: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def counts(self) -> MqttCounts: ...


class Line(Protocol):
    """The connection below a device; `mqtt.MqttPump` is it."""

    connection: DeviceConnection
    engine: ServerSession
    reading: Reading

    def refused(self, error: HubError) -> TrackingId:
        """Journals a refusal."""

    def refuse(self, error: HubError) -> None:
        """Journals a refusal and ends the connection for it."""

    def slowed(self, why: Refusal) -> None:
        """Tells the owner that the connection is read slowly."""

    def rule_broken(self, error: ProtocolError) -> None:
        """Ends the connection for bytes that are not MQTT."""

    def broken(self, error: Exception) -> None:
        """Ends the connection for whatever stopped its work."""

    def end(self, reason: str) -> None:
        """Ends the connection."""

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Calls back, unless the connection has ended by then."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work that outlives the connection."""
