"""What a device asks of its hub over MQTT and has to be answered in order: subscriptions and its twin.

Theory of operation. Requests stand in a line and are worked off one at a time by a task that lives only while there are
any: two patches of one device are applied in the order in which they were sent, and a twin that is asked for behind a
SUBSCRIBE is answered to that subscription. At `REQUESTS_MAX` the owner stops reading the device.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.base.ids import DeviceRef, TrackingId
from isthmus.resources.throttling import Operation
from isthmus.servers.gateway.mqtt_contract import TwinGet, TwinPatch, twin_error_body, twin_reply_topic
from isthmus.servers.gateway.ports import CurrentHubs, DeviceTwins
from isthmus.servers.gateway.throttles import Throttles

REQUESTS_MAX = 16
"""Requests of one connection that wait; then it is not read until they are answered."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class TwinServices(Protocol):
    """What answering needs of the process; `mqtt.MqttServices` has it."""

    @property
    def hubs(self) -> CurrentHubs: ...
    @property
    def twins(self) -> DeviceTwins: ...
    @property
    def throttles(self) -> Throttles: ...
    @property
    def clock(self) -> Clock: ...


class RequestLine:
    """Works off requests in order; `failed` is called with what ends it, and then no more are worked off."""

    __slots__ = ("_closed", "_failed", "_task", "_waiting")

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._waiting: list[Callable[[], Awaitable[None]]] = []
        self._failed = failed
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """True while the owner should not bring more."""
        return len(self._waiting) >= REQUESTS_MAX

    def add(self, request: Callable[[], Awaitable[None]]) -> None:
        """Puts a request at the end of the line."""
        if self._closed:
            return
        self._waiting.append(request)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, *, finish: bool) -> None:
        """Takes no more; works off those that wait, or forgets them; returns when the last one is done."""
        self._closed = True
        if not finish:
            self._waiting.clear()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._waiting.pop(0)()
        except Exception as error:
            self._closed = True
            self._waiting.clear()
            self._failed(error)
        finally:
            self._task = None


class TwinRequests:
    """Answers a device's requests about its twin; `refused` journals a refusal and gives its tracking id."""

    __slots__ = ("_ref", "_refused", "_services")

    def __init__(self, ref: DeviceRef, services: TwinServices, refused: Callable[[HubError], TrackingId]) -> None:
        self._ref = ref
        self._services = services
        self._refused = refused

    async def answer(self, request: TwinGet | TwinPatch, body: bytes) -> tuple[bytes, bytes]:
        """The topic and the body of the answer; the body of a `TwinGet` is not looked at."""
        services = self._services
        try:
            if isinstance(request, TwinGet):
                self._require(Operation.TWIN_READS)
                view = await services.twins.device_view(self._ref)
                return twin_reply_topic(200, request.request_id), _encode(view)
            self._require(Operation.TWIN_UPDATES)
            version = await services.twins.patch_reported(self._ref, _parse(body), request.version)
            return twin_reply_topic(204, request.request_id, version), b""
        except HubError as error:
            tracking_id = self._refused(error)
            topic = twin_reply_topic(error.code.http_status, request.request_id)
            return topic, twin_error_body(error, tracking_id, services.clock.utc_ms())

    def _require(self, operation: Operation) -> None:
        hub = self._services.hubs.by_number(self._ref.hub)
        if hub is not None:
            self._services.throttles.require(hub, operation)


def _parse(body: bytes) -> object:
    try:
        patch: object = _decode(body)
    except NOT_JSON as error:
        raise HubError(Code.ARGUMENT_INVALID, "Provided json is not a valid 'properties' object") from error
    return patch
