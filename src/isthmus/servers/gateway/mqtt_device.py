"""One connected device, as the house sees it: its telemetry, subscriptions, methods, twin and commands.

Theory of operation. `take` is the hot path. A PUBLISH under a topic seen before on this connection finds its envelope
made and encoded, so it meets four calls on its way: the pump, the engine, this file, the inlet. It is acknowledged only
from `committed`, which the log calls once per commit with all that became durable, so a commit costs a connection one
write. `failed` means that an acknowledgement can never come: the connection ends, and the device sends again.

Reading pauses, and the device feels it through its own socket, when as many messages as `INBOUND_WINDOW` wait for
their commit, when the log is behind, when the device is faster than its rate, when it asks more than is answered, and
when it does not read what it is sent. Each bound is looked at behind a read, so it may be passed by one read.

What a device asks (`mqtt_requests`) and what it is sent (`mqtt_delivery`) run in tasks that live only while there is
something to do. `ended` stops the device at once; `gone` returns when also the messages it held are given back.
"""

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from isthmus.access.principal import Principal
from isthmus.base.errors import Code, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import LOG_BACKLOG_BYTES_MAX
from isthmus.base.token_bucket import TokenBucket
from isthmus.devices.ports import MethodAnswer
from isthmus.network.door import Door
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.gate import Admitted
from isthmus.servers.gateway.method_calls import MethodCalls
from isthmus.servers.gateway.mqtt_contract import (
    RETAIN_PROPERTY,
    Introduction,
    MethodResponse,
    Telemetry,
    TwinGet,
    TwinPatch,
    check_publish,
    desired_topic,
    intent_of,
    method_topic,
    will_bag,
)
from isthmus.servers.gateway.mqtt_delivery import Delivery
from isthmus.servers.gateway.mqtt_ports import DeviceServices, Line
from isthmus.servers.gateway.mqtt_requests import RequestLine, TwinRequests
from isthmus.servers.gateway.mqtt_subscriptions import Feed, Subscriptions
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.property_bag import PropertyBag
from isthmus.servers.gateway.shaping import Pause
from isthmus.servers.gateway.telemetry_contract import base_envelope, check_size
from isthmus.servers.gateway.throttles import TOLD_SECONDS, device_rate_refusal
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.wire.mqtt.events import Failed, ServerEvent
from isthmus.wire.mqtt.packets import Connect, Disconnect, PubAck, Publish, Subscribe, Unsubscribe

INBOUND_WINDOW = 512
"""Messages of one device that wait for their commit: a tenth of a second at its highest rate, several commits."""

OUTBOUND_WINDOW = 50
"""Commands of one device that wait for its PUBACK: as many as its queue holds."""

TOPICS_MAX = 16
"""Topics remembered for a connection; one more forgets them all. A device that stamps each topic gains nothing."""

TOPIC_REMEMBERED_BYTES_MAX = 512
"""A longer topic is not remembered: a fleet that idles must stay small."""

BACKLOG_SECONDS = 0.01
"""How long reading pauses before the log's backlog is looked at again: some ten commits."""

ANY_RATE = 1e12
"""Messages a second of a device that may send as it likes."""


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownTopic:
    """A topic of telemetry, made into what is stored; `size` counts for the message size."""

    envelope: Envelope
    encoded: bytes
    size: int


class MqttDevice:
    """A device or module that has proved itself on one MQTT connection.

    It is the connection's entry in the session index, the `ConnectedDevice` of the domain, the `CommitWaiter` of its
    telemetry, and what its deliveries are sent by.
    """

    __slots__ = (
        "_attended",
        "_base",
        "_bucket",
        "_calls",
        "_delivery",
        "_ending",
        "_generation_id",
        "_keeps",
        "_leaves",
        "_line",
        "_open",
        "_requests",
        "_services",
        "_subscriptions",
        "_told_slow",
        "_topics",
        "_twin",
        "_uncommitted",
        "_will",
        "address",
        "connected_ms",
        "device",
        "door",
        "hub",
        "plane",
        "principal",
        "ref",
        "session_present",
    )

    built_in = False

    def __init__(
        self,
        services: DeviceServices,
        line: Line,
        ref: DeviceRef,
        admitted: Admitted,
        claimed: Introduction,
        connect: Connect,
    ) -> None:
        """Raises `HubError` when the CONNECT's will is not one that can be kept."""
        self.plane = Plane.MQTT
        self.ref = ref
        self.hub = ref.hub
        self.door: Door = admitted.door
        self.address = admitted.address
        self.device = ref.name
        self.principal: Principal = admitted.principal
        self.connected_ms = services.clock.utc_ms()
        self.session_present = False
        self._attended = False
        self._services = services
        self._line = line
        self._generation_id = admitted.identity.generation_id if admitted.identity is not None else ""
        self._base = base_envelope(ref, admitted, claimed.model_id)
        self._will = self._make_will(connect)
        self._keeps = not connect.clean_session
        self._topics: dict[bytes, KnownTopic] = {}
        self._bucket = TokenBucket(services.throttles.device_rate or ANY_RATE, services.clock.monotonic())
        self._told_slow = 0.0
        self._subscriptions = Subscriptions(ref)
        self._requests = RequestLine(line.broken)
        self._twin = TwinRequests(ref, services, line.refused)
        self._delivery = Delivery(ref, services.devicebound, self, line.broken)
        self._calls = MethodCalls()
        self._uncommitted = 0
        self._open = False
        self._leaves = False
        self._ending: asyncio.Task[None] | None = None

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def restore(self, hub: Hub) -> None:
        """Takes up the kept session, or forgets it for a clean one [MQTT-3.1.2-4] [MQTT-3.1.2-6]."""
        self._attended = True
        await self._services.inlet.attend(hub, self.ref)
        if self._base.model_id:
            await self._services.twins.set_model(self.ref, self._base.model_id)
        kept = self._services.kept
        if self._keeps:
            filters = await kept.load(self.ref, self._generation_id)
            self._subscriptions = Subscriptions(self.ref, filters)
            self.session_present = bool(filters)
        else:
            await kept.save(self.ref, self._generation_id, {})

    def begin(self) -> None:
        """The CONNECT was accepted: what waits is delivered, before any SUBSCRIBE."""
        self._open = True
        self._services.connected.begun(self.ref, self)
        self._feeds_changed()

    def ended(self) -> None:
        """Stops everything at once; called once, by the line."""
        was_open, self._open = self._open, False
        self._services.counts.stale_pubacks += self._line.engine.stale_pubacks
        self._services.connected.leave(self.ref, self)
        self._calls.connection_closed()
        if was_open and self._will is not None:
            self._publish_will(*self._will)
        self._ending = self._line.spawn(self._give_up())

    async def gone(self) -> None:
        """Returns when nothing is held any more."""
        if self._ending is not None:
            await asyncio.wait([self._ending])

    def replaced(self) -> None:
        """Ends at once: a newer connection of the same identity has proved itself [MQTT-3.1.4-2]."""
        self._services.counts.takeovers += 1
        self._line.end("replaced by a newer connection")

    def cut(self, refusal: Refusal, code: Code) -> None:
        """Closes, which is all the goodbye MQTT has, and journals why."""
        if self._ending is None:
            self._line.refuse(HubError(code, "The connection is not admitted any more", refusal))

    def _publish_will(self, will: KnownTopic, payload: bytes) -> None:
        """Sends the will as telemetry [MQTT-3.1.2-8]."""
        services = self._services
        hub = services.hubs.by_number(self.hub)
        if hub is not None:
            self._uncommitted += 1
            services.inlet.telemetry(hub, will.envelope, will.encoded, payload, services.clock.utc_ms(), self, 0)

    async def _give_up(self) -> None:
        if self._attended:
            self._services.inlet.leave(self.ref)
        try:
            await self._requests.close(finish=self._leaves)
            await self._delivery.close()
        except Exception as error:
            # The locks run out by themselves.
            logger.warning("messages not given back", extra={"device_id": self.ref.name}, exc_info=error)
        finally:
            self._services.connected.left(self.ref, self)

    # ── what it sends ────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, events: list[ServerEvent], now: float) -> None:
        """Handles the events of one read, at `now` on the monotonic clock."""
        services = self._services
        hub = services.hubs.by_number(self.hub)
        if hub is None:
            self._line.end("hub deleted")
            return
        ingress_ms = services.clock.utc_ms()
        published, before = 0, services.counts.messages
        for event in events:
            if not self._open:
                return
            if isinstance(event, Publish):
                published += 1
                self._publish(event, hub, ingress_ms)
            else:
                self._take_other(event)
        if events and self._open:
            self._slow_down(published, now)
            if services.throttles.meters_telemetry:
                self._shape(hub, services.counts.messages - before, now)

    def committed(self, cookies: list[int]) -> None:
        """Acknowledges what is durable now, in one write; a cookie is a packet identifier, 0 at QoS 0."""
        self._uncommitted -= len(cookies)
        if not self._open:
            return
        line = self._line
        packet_ids = [cookie for cookie in cookies if cookie] if 0 in cookies else cookies
        if packet_ids:
            line.connection.write(line.engine.puback(packet_ids))
        if line.reading.reasons and not self._is_full():
            line.reading.resume(Pause.IN_FLIGHT)

    def failed(self, cookies: list[int], reason: str) -> None:
        """What was sent is lost, and the device has to send it again: on a new connection."""
        self._uncommitted -= len(cookies)
        if self._open:
            self._line.end(f"log: {reason}")

    def _publish(self, publish: Publish, hub: Hub, ingress_ms: int) -> None:
        services = self._services
        topic = publish.topic + b"\0" if publish.retain else publish.topic
        known = self._topics.get(topic)
        try:
            if known is None or publish.qos == 2:
                known = self._understand(publish, topic)
                if known is None:
                    return
            size = known.size + len(publish.payload)
            check_size(size)
            if services.throttles.limits_hubs:
                services.throttles.admit(hub, size)
        except HubError as error:
            self._line.refuse(error)
            return
        self._uncommitted += 1
        services.counts.messages += 1
        services.inlet.telemetry(
            hub, known.envelope, known.encoded, publish.payload, ingress_ms, self, publish.packet_id
        )

    def _understand(self, publish: Publish, key: bytes) -> KnownTopic | None:
        """The telemetry that a topic means, or None when it meant something else, which is done or begun then.

        `key` is the topic and, behind a zero byte that no topic has, whether RETAIN was set.
        """
        check_publish(publish)
        intent = intent_of(self.ref, publish.topic.decode())
        if isinstance(intent, Telemetry):
            known = self._known(intent.bag, retain=publish.retain)
            if len(key) <= TOPIC_REMEMBERED_BYTES_MAX:
                if len(self._topics) >= TOPICS_MAX:
                    self._topics.clear()
                self._topics[key] = known
            return known
        if isinstance(intent, MethodResponse):
            if not self._calls.answered(intent.request_id, MethodAnswer(intent.status, publish.payload)):
                self._services.counts.late_method_answers += 1
            self._acknowledge(publish)
        else:
            self._requests.add(lambda: self._answer_twin(intent, publish))
        return None

    def _known(self, bag: PropertyBag, *, retain: bool) -> KnownTopic:
        properties = {**bag.properties, RETAIN_PROPERTY: "true"} if retain else bag.properties
        envelope = msgspec.structs.replace(self._base, system=bag.system, properties=properties)
        return KnownTopic(envelope, encode_envelope(envelope), bag.size)

    def _make_will(self, connect: Connect) -> tuple[KnownTopic, bytes] | None:
        if connect.will is None:
            return None
        known = self._known(will_bag(self.ref, connect.will), retain=False)
        check_size(known.size + len(connect.will.payload))
        return known, connect.will.payload

    def _take_other(self, event: ServerEvent) -> None:
        if isinstance(event, PubAck):
            self._delivery.acknowledged(event.packet_id)
        elif isinstance(event, Subscribe):
            self._requests.add(lambda: self._subscribe(event))
        elif isinstance(event, Unsubscribe):
            self._requests.add(lambda: self._unsubscribe(event))
        elif isinstance(event, Disconnect):
            self._will = None  # [MQTT-3.14.4-3] [MQTT-3.1.2-10]
            self._leaves = True
            self._line.end("disconnect")
        elif isinstance(event, Failed):
            self._line.rule_broken(event.error)

    # ── what it asks ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _answer_twin(self, request: TwinGet | TwinPatch, publish: Publish) -> None:
        topic, body = await self._twin.answer(request, publish.payload)
        if not self._open:
            return
        self._acknowledge(publish)
        if self._subscriptions.qos(Feed.TWIN_REPLIES) is not None:
            self._send(topic, body)
        self._answered()

    async def _subscribe(self, event: Subscribe) -> None:
        before = self._subscriptions.filters
        codes = [self._subscriptions.add(topic_filter, qos) for topic_filter, qos in event.filters]
        await self._keep(before)
        if self._open:
            self._line.connection.write(self._line.engine.suback(event.packet_id, codes))
            self._feeds_changed()
            self._answered()

    async def _unsubscribe(self, event: Unsubscribe) -> None:
        before = self._subscriptions.filters
        for topic_filter in event.filters:
            self._subscriptions.remove(topic_filter)
        await self._keep(before)
        if self._open:
            self._line.connection.write(self._line.engine.unsuback(event.packet_id))
            self._answered()

    async def _keep(self, before: dict[str, int]) -> None:
        filters = self._subscriptions.filters
        if self._keeps and filters != before:
            await self._services.kept.save(self.ref, self._generation_id, filters)

    def _feeds_changed(self) -> None:
        if self.accepts_methods():
            self._services.connected.accepts_methods(self.ref)
        self._delivery.wake()

    def _answered(self) -> None:
        if not self._requests.full:
            self._line.reading.resume(Pause.REQUESTS)
        if not self._is_full():
            self._line.reading.resume(Pause.IN_FLIGHT)

    # ── what it is sent ──────────────────────────────────────────────────────────────────────────────────────────

    def accepts_methods(self) -> bool:
        """True when it has subscribed to direct methods."""
        return self._open and self._subscriptions.qos(Feed.METHODS) is not None

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        """Sends a direct method and waits for its answer, without a deadline of its own.

        An empty `payload` is sent as `null`: client libraries parse it. Raises `HubError` `DEVICE_NOT_ONLINE` when the
        device does not take this method, and as `MethodCalls.call`.
        """
        if not (self._open and self._subscriptions.takes_method(name)):
            raise HubError(Code.DEVICE_NOT_ONLINE, "The device has not subscribed to the method")
        return await self._calls.call(lambda request_id: self._send(method_topic(name, request_id), payload or b"null"))

    def desired_changed(self, patch: bytes, version: int) -> None:
        """Tells it of a change of its desired properties; nothing happens when it has not subscribed."""
        if self._open and self._subscriptions.qos(Feed.DESIRED) is not None:
            self._send(desired_topic(version), patch)

    def c2d_available(self) -> None:
        """Tells the session that a cloud-to-device message waits."""
        self._delivery.wake()

    def writable(self) -> None:
        """The device reads what it is sent: deliveries go on."""
        self._delivery.wake()

    def window(self) -> int:
        """How many cloud-to-device messages may be sent now."""
        if not self._open or self._line.connection.congested:
            return 0
        if self._subscriptions.qos(Feed.DEVICEBOUND) is None:
            return 0
        return self._line.engine.outbound_free

    def send(self, topic: bytes, payload: bytes) -> int | None:
        """Sends a cloud-to-device message by the QoS of its subscription; see `mqtt_delivery.Outgoing`."""
        qos = self._subscriptions.qos(Feed.DEVICEBOUND)
        if not self._open or qos is None:
            return None
        if qos == 0:
            self._send(topic, payload)
            return 0
        packet_id, data = self._line.engine.publish_acknowledged(topic, payload)
        self._line.connection.write(data)
        return packet_id

    def _send(self, topic: bytes, payload: bytes) -> None:
        # A device that does not read is cut by its connection, whose buffer is bounded.
        self._line.connection.write(self._line.engine.publish(topic, payload))

    def _acknowledge(self, publish: Publish) -> None:
        if publish.qos:
            self._line.connection.write(self._line.engine.puback([publish.packet_id]))

    # ── how it is slowed down ────────────────────────────────────────────────────────────────────────────────────

    def _slow_down(self, published: int, now: float) -> None:
        line = self._line
        reading = line.reading
        if self._is_full():
            reading.pause(Pause.IN_FLIGHT)
        if self._requests.full:
            reading.pause(Pause.REQUESTS)
        if line.connection.congested:
            reading.pause(Pause.CONGESTED)
        if self._services.backlog.backlog_bytes > LOG_BACKLOG_BYTES_MAX:
            reading.pause(Pause.BACKLOG)
            line.later(BACKLOG_SECONDS, self._wait_for_log)
        seconds = self._bucket.take(published, now)
        if seconds > 0:
            self._wait(Pause.RATE, seconds, device_rate_refusal(self._services.throttles.device_rate, seconds), now)

    def _shape(self, hub: Hub, messages: int, now: float) -> None:
        """Holds the device back for what all devices of the hub send."""
        seconds = self._services.throttles.delay(hub, messages, now)
        if seconds > 0:
            self._wait(Pause.HUB_RATE, seconds, self._services.throttles.telemetry_refusal(hub, seconds), now)

    def _wait(self, reason: int, seconds: float, why: Refusal, now: float) -> None:
        """Reads nothing for some time, and tells the owner why, now and then."""
        line, throttles = self._line, self._services.throttles
        line.reading.pause(reason)
        line.later(seconds, lambda: line.reading.resume(reason))
        throttles.slowed_seconds += seconds
        if now >= self._told_slow:
            self._told_slow = now + TOLD_SECONDS
            line.slowed(why)

    def _is_full(self) -> bool:
        """As many messages as agreed wait for their commit, those of QoS 0 counted, which the engine does not see."""
        return self._line.engine.paused or self._uncommitted >= INBOUND_WINDOW

    def _wait_for_log(self) -> None:
        if self._services.backlog.backlog_bytes > LOG_BACKLOG_BYTES_MAX:
            self._line.later(BACKLOG_SECONDS, self._wait_for_log)
        else:
            self._line.reading.resume(Pause.BACKLOG)
