"""A probe on an MQTT connection: what it publishes is stored for nobody, acknowledged, and sent back to it.

It is the connection's entry in the session index, so that a closed door cuts it as it cuts devices, and nothing else:
no presence, no twin, no queue, no kept session hears of it.
"""

from isthmus.base.errors import Code, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.servers.gateway.gate import Admitted
from isthmus.servers.gateway.mqtt_ports import Line
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.ports import ProbeOutlet
from isthmus.wire.mqtt.events import Failed, ServerEvent
from isthmus.wire.mqtt.packets import Disconnect, Publish, Subscribe

MESSAGES_MAX = 8
"""Of one connection; a walk sends one."""


class MqttProbe:
    """A probe that has proved itself on one MQTT connection."""

    plane = Plane.MQTT
    built_in = False
    session_present = False

    def __init__(self, mail: ProbeOutlet, line: Line, ref: DeviceRef, admitted: Admitted) -> None:
        self.hub = admitted.hub.number
        self.door = admitted.door
        self.address = admitted.address
        self.device = ref.name
        self.principal = admitted.principal
        self._mail = mail
        self._line = line
        self._admitted = admitted
        self._taken = 0
        self._over = False

    def begin(self) -> None:
        """Nothing waits for a probe."""

    def ended(self) -> None:
        """Nothing is held."""
        self._over = True

    def writable(self) -> None:
        """What is sent to a probe is too little to congest anything."""

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Closes, which is all the goodbye MQTT has, and journals why."""
        if not self._over:
            self._line.refuse(HubError(code, "The connection is not admitted any more", refusal))

    def take(self, events: list[ServerEvent], now: float) -> None:
        """Handles the events of one read."""
        for event in events:
            if self._over:
                return
            self._handle(event)

    def _handle(self, event: ServerEvent) -> None:
        line = self._line
        match event:
            case Publish():
                self._taken += 1
                if self._taken > MESSAGES_MAX:
                    line.end("a probe sends no more")
                else:
                    line.spawn(self._answer(event))
            case Subscribe():
                line.connection.write(line.engine.suback(event.packet_id, [0] * len(event.filters)))
            case Failed():
                line.rule_broken(event.error)
            case Disconnect():
                line.end("disconnected")

    async def _answer(self, publish: Publish) -> None:
        """Acknowledges the message once it is durable, and sends it back."""
        try:
            await self._mail.send(self._admitted.hub, self.device, publish.payload)
        except HubError as error:
            if not self._over:
                self._line.broken(error)
            return
        if self._over:
            return
        line = self._line
        if publish.packet_id:
            line.connection.write(line.engine.puback([publish.packet_id]))
        topic = f"devices/{self.device}/messages/devicebound/".encode()
        line.connection.write(line.engine.publish(topic, publish.payload))
