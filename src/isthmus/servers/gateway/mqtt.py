"""The MQTT pump: one device's connection, from its CONNECT to its end.

Theory of operation. The engine (`wire.mqtt`) turns each read into events. Until a CONNECT has been answered they mean
nothing but that CONNECT: the pump stops reading, and a task asks the gate. The order there is: who is claimed, which
hub, `admit` and credentials, the session index, the will, takeover, the kept session, CONNACK. Nothing is awaited
between the verdict and the entry into the session index, so a cut cannot miss a connection that is on its way in. From
then on events belong to `mqtt_device.MqttDevice`.

A connection ends once, by `end`, whatever the cause; that stops everything that is the device's at once, while the
socket may take some seconds more to send its last bytes. MQTT 3.1.1 has no word of goodbye for a server: where it
refuses, it closes, and the journal says why.

One timer serves the engine's deadlines and the token's. It is not moved by traffic; when it comes, it asks whether the
deadline has moved, so a message costs no timer.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import TrackingId, is_probe
from isthmus.resources.throttling import Operation
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.gate import Admitted
from isthmus.servers.gateway.kept_sessions import KeptSessions
from isthmus.servers.gateway.lasting_work import LastingWork
from isthmus.servers.gateway.mqtt_contract import (
    REMAINING_LENGTH_MAX,
    SILENCE_SECONDS_MAX,
    TOKEN_GRACE_SECONDS,
    connect_code,
    introduction,
)
from isthmus.servers.gateway.mqtt_device import INBOUND_WINDOW, OUTBOUND_WINDOW, MqttDevice
from isthmus.servers.gateway.mqtt_ports import MqttCounts
from isthmus.servers.gateway.mqtt_probe import MqttProbe
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import (
    Backlog,
    CurrentHubs,
    DeviceboundQueue,
    DeviceConnection,
    DeviceTwins,
    FrontDoor,
    ProbeOutlet,
    SessionIndex,
    TelemetryInlet,
    Timer,
    Timers,
)
from isthmus.servers.gateway.shaping import Pause, Reading
from isthmus.servers.gateway.socket_refusals import NOTHING_PROVED
from isthmus.servers.gateway.throttles import Throttles
from isthmus.wire.mqtt.errors import ConnectCode, ProtocolError
from isthmus.wire.mqtt.events import Failed, ServerEvent, TimedOut
from isthmus.wire.mqtt.packets import Connect
from isthmus.wire.mqtt.session import ServerSession, SessionState

DECISION_SECONDS_MAX = 25.0
"""For answering a CONNECT: shortly before the first client libraries give up; then it is told to come again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MqttServices:
    """What all MQTT connections of a process share."""

    gate: FrontDoor
    hubs: CurrentHubs
    inlet: TelemetryInlet
    backlog: Backlog
    twins: DeviceTwins
    devicebound: DeviceboundQueue
    kept: KeptSessions
    connected: Connected
    sessions: SessionIndex
    throttles: Throttles
    clock: Clock
    probe_mail: ProbeOutlet
    counts: MqttCounts = field(default_factory=MqttCounts)


class MqttGateway:
    """Makes the pumps of a process and outlives them."""

    def __init__(self, services: MqttServices, timers: Callable[[], Timers] = asyncio.get_running_loop) -> None:
        self.services = services
        self._timers = timers
        self._work = LastingWork()

    def make_pump(self) -> "MqttPump":
        """A pump for one connection."""
        return MqttPump(self.services, self._timers(), self._work.spawn)

    async def drained(self) -> None:
        """Returns when no work of any connection is left; for the time after all connections were closed."""
        await self._work.drained()


class MqttPump:
    """Carries one MQTT connection; use it on its loop only."""

    __slots__ = (
        "_accepted",
        "_device",
        "_device_name",
        "_ended",
        "_hub_name",
        "_services",
        "_since",
        "_spawn",
        "_timer",
        "_timers",
        "_token_deadline",
        "connection",
        "engine",
        "reading",
    )

    connection: DeviceConnection
    engine: ServerSession
    reading: Reading

    def __init__(
        self,
        services: MqttServices,
        timers: Timers,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._services = services
        self._timers = timers
        self._spawn = spawn
        self._timer: Timer | None = None
        self._token_deadline: float | None = None
        self._device: MqttDevice | MqttProbe | None = None
        self._accepted: MqttDevice | MqttProbe | None = None
        self._hub_name = ""
        self._device_name = ""
        self._ended = ""
        self._since = 0.0

    # ── the connection's side ────────────────────────────────────────────────────────────────────────────────────

    def opened(self, connection: DeviceConnection) -> None:
        """Waits for the CONNECT."""
        self._since = self._services.clock.monotonic()
        self.connection = connection
        self.reading = Reading(connection)
        self.engine = ServerSession(
            self._since,
            remaining_length_max=REMAINING_LENGTH_MAX,
            silence_seconds_max=SILENCE_SECONDS_MAX,
            inbound_window_max=INBOUND_WINDOW,
            outbound_window_max=OUTBOUND_WINDOW,
        )
        self._arm()

    def received(self, data: bytes) -> None:
        """Takes one read."""
        now = self._services.clock.monotonic()
        events = self.engine.receive(data, now)
        if self.engine.output:
            self.connection.write(self.engine.take_output())
        if self._accepted is not None:
            self._accepted.take(events, now)
        else:
            self._take_early(events)

    def writable(self) -> None:
        """The device reads again."""
        self.reading.resume(Pause.CONGESTED)
        if self._accepted is not None:
            self._accepted.writable()

    def closed(self, reason: str) -> None:
        """The socket is gone."""
        self.end(reason)
        device = self._device
        if device is not None:
            self._services.sessions.remove(device)
        duration = self._services.clock.monotonic() - self._since
        logger.info(
            "connection ended",
            extra={
                "hub": self._hub_name if device is not None else "",
                "device_id": self._device_name if device is not None else "",
                "plane": Plane.MQTT.value,
                "door": self.connection.door.label,
                "address": self.connection.peer_address,
                "connection_id": self.connection.connection_id,
                "duration_ms": round(duration * 1000),
                "reason": self._ended,
            },
        )

    # ── the device's side (see `mqtt_device.Line`) ───────────────────────────────────────────────────────────────

    def refused(self, error: HubError) -> TrackingId:
        """Journals a refusal."""
        principal = self._device.principal.label if self._device is not None else ""
        return self._services.gate.refused(
            self.connection, Plane.MQTT, self._hub_name, self._device_name, error, principal=principal
        )

    def slowed(self, why: Refusal) -> None:
        """Tells the owner that the device is read slowly."""
        principal = self._device.principal.label if self._device is not None else ""
        self._services.throttles.slowed(
            self.connection, Plane.MQTT, hub=self._hub_name, device=self._device_name, principal=principal, why=why
        )

    def refuse(self, error: HubError) -> None:
        """Journals a refusal and ends the connection for it, with a CONNACK when one is owed.

        The journal hears of it also when the peer has gone meanwhile.
        """
        self.refused(error)
        self._answer_connect(connect_code(error))
        self.end(error.refusal.rule if error.refusal is not None else error.code.wire_name)

    def broken(self, error: Exception) -> None:
        """Ends the connection for whatever stopped its work."""
        if isinstance(error, HubError):
            self.refuse(error)
            return
        extra = {"connection_id": self.connection.connection_id}
        logger.error("mqtt connection failed", extra=extra, exc_info=error)
        self._answer_connect(ConnectCode.SERVER_UNAVAILABLE)
        self.end("internal error")

    def rule_broken(self, error: ProtocolError) -> None:
        """Ends the connection for bytes that are not what MQTT 3.1.1 allows [MQTT-4.8.0-1]."""
        if error.rule == "limit":
            code, hop, rule = Code.MESSAGE_TOO_LARGE, Hop.LIMIT, "limit.packet"
        else:
            code, hop, rule = Code.GENERIC_BAD_REQUEST, Hop.CONTRACT, "contract.protocol"
        self.refuse(HubError(code, "Protocol error", Refusal(hop, rule, str(error), "Send what MQTT 3.1.1 allows.")))

    def end(self, reason: str) -> None:
        """Ends everything at once, and closes the socket behind what was written. Idempotent."""
        if self._ended:
            return
        self._ended = reason
        if self._timer is not None:
            self._timer.cancel()
        self.engine.close()
        if self._device is not None:
            self._device.ended()
        self.connection.close(reason)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work that outlives the connection, until it is done."""
        return self._spawn(work)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Calls back, unless the connection has ended by then."""
        self._timers.call_later(seconds, lambda: None if self._ended else action())

    # ── the CONNECT ──────────────────────────────────────────────────────────────────────────────────────────────

    def _take_early(self, events: list[ServerEvent]) -> None:
        for event in events:
            if isinstance(event, Connect):
                self.reading.pause(Pause.DECIDING)
                self._spawn(self._decide(event))
            elif isinstance(event, Failed):
                self.rule_broken(event.error)

    async def _decide(self, connect: Connect) -> None:
        try:
            async with asyncio.timeout(DECISION_SECONDS_MAX):
                await self._let_in(connect)
        except TimeoutError:
            busy = Refusal(Hop.LIMIT, "limit.decision-time", f"{DECISION_SECONDS_MAX:g} s", "Try again later.")
            self.refuse(HubError(Code.SERVER_BUSY, "Server busy", busy))
        except Exception as error:
            self.broken(error)

    async def _let_in(self, connect: Connect) -> None:
        services = self._services
        claimed = introduction(connect)
        self._hub_name, self._device_name = claimed.host, claimed.name
        hub = services.gate.resolve(self.connection, Plane.MQTT, claimed.host)
        self._hub_name = hub.name
        password = (connect.password or b"").decode(errors="replace") or None
        ref = claimed.ref(hub.number)
        admitted = await services.gate.device(self.connection, Plane.MQTT, hub, ref, password)
        if self._is_over():
            return
        if is_probe(ref.device_id):
            self._take_probe(MqttProbe(services.probe_mail, self, ref, admitted), connect, admitted)
            return
        services.throttles.require(hub, Operation.CONNECTIONS)
        device = MqttDevice(services, self, ref, admitted, claimed, connect)
        self._device = device
        services.sessions.add(device)
        await services.connected.enter(ref, device)
        if self._is_over():
            return
        await device.restore(hub)
        if not self._is_over():
            self._accept(connect, admitted, device)

    def _take_probe(self, probe: MqttProbe, connect: Connect, admitted: Admitted) -> None:
        self._device = probe
        self._services.sessions.add(probe)
        self._accept(connect, admitted, probe)

    def _accept(self, connect: Connect, admitted: Admitted, device: MqttDevice | MqttProbe) -> None:
        now = self._services.clock.monotonic()
        connack, events = self.engine.accept(
            keep_alive=connect.keep_alive, session_present=device.session_present, now=now
        )
        self.connection.write(connack)
        self._services.gate.admitted(self.connection, Plane.MQTT, admitted)
        self._token_deadline = self._end_of_token(admitted, now)
        self._accepted = device
        device.begin()
        device.take(events, now)
        if not self._ended:
            self.reading.resume(Pause.DECIDING)
            self._arm()

    def _answer_connect(self, code: ConnectCode) -> None:
        """Says no to a CONNECT that still waits for its answer."""
        if self.engine.state is SessionState.DECIDING and not self._ended:
            self.connection.write(self.engine.refuse(code))

    def _is_over(self) -> bool:
        return bool(self._ended)

    # ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────

    def _end_of_token(self, admitted: Admitted, now: float) -> float | None:
        expires_s = admitted.principal.expires_s
        if not expires_s:
            return None
        return now + expires_s + TOKEN_GRACE_SECONDS - self._services.clock.utc_ms() / 1000

    def _expired(self) -> Refusal:
        if self._accepted is not None and self._accepted.principal.by_authority:
            remedy = "Give the device its next certificate before the old one ends."
            return Refusal(Hop.AUTHENTICATION, "auth.certificate-expired", "a certificate of a live connection", remedy)
        remedy = "Connect again with a new token before the old one expires."
        return Refusal(Hop.AUTHENTICATION, "auth.expired", "the token of a live connection", remedy)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadlines = [each for each in (self.engine.next_deadline(), self._token_deadline) if each is not None]
        if deadlines:
            seconds = max(0.0, min(deadlines) - self._services.clock.monotonic())
            self._timer = self._timers.call_later(seconds, self._tick)

    def _tick(self) -> None:
        if self._ended:
            return
        now = self._services.clock.monotonic()
        if self.reading.reasons & ~Pause.CONGESTED:
            # We do not read, so its silence says nothing; a device that does not read us is not spared.
            self.engine.heard(now)
        if self._token_deadline is not None and now >= self._token_deadline:
            self.refuse(HubError(Code.UNAUTHORIZED, "The credential has expired", self._expired()))
            return
        for event in self.engine.tick(now):
            if isinstance(event, TimedOut):
                if event.awaiting_connect:
                    self.refused(HubError(Code.UNAUTHORIZED, "There was no CONNECT in time", NOTHING_PROVED))
                self.end("no CONNECT in time" if event.awaiting_connect else "keep-alive")
                return
        self._arm()
