"""Direct methods: call a connected device and wait for its answer; nothing is stored and nothing retried.

Rules are those of the IoT Hub developer guide, "Understand and invoke direct methods", and of the REST reference.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import msgspec

from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import METHOD_BYTES_MAX, METHODS_IN_FLIGHT_MAX
from isthmus.devices.ports import ConnectedDevice, ConnectedDevices, MethodAnswer
from isthmus.devices.registry import Registry

RESPONSE_SECONDS_MIN = 5
RESPONSE_SECONDS_MAX = 300
RESPONSE_SECONDS_DEFAULT = 30
CONNECT_SECONDS_MAX = 300
CONNECT_SECONDS_DEFAULT = 0

ANSWER_MARGIN_SECONDS = 0.25
"""How much earlier than the caller's own time-out the caller is told: clients abort after exactly the sum they gave."""

METHOD_NAME = re.compile(r"[!%&'*\-.0-9A-Z^_`a-z|~]{1,128}")
"""Printable ASCII without the separators that the guide excludes, and without `+` and `#`, which no topic may have."""

NULL = b"null"
"""The payload when none was given: device SDKs parse the payload as JSON and fail on an empty one."""

Deadline = Callable[[float], AbstractAsyncContextManager[object]]
"""Raises `TimeoutError` out of its block after so many seconds."""


@dataclass(frozen=True, slots=True)
class MethodRequest:
    """What a service asks of a device; `payload` is JSON text."""

    name: str
    payload: bytes
    response_seconds: int
    connect_seconds: int


class DeviceNotOnlineError(HubError):
    """The device was not connected, or had not subscribed to methods, within the seconds waited."""

    def __init__(self, waited_seconds: int) -> None:
        super().__init__(Code.DEVICE_NOT_ONLINE, "Timed out waiting for device to connect.")
        self.waited_seconds = waited_seconds


class _Body(msgspec.Struct, rename="camel"):
    method_name: str | None = None
    payload: msgspec.Raw = msgspec.Raw(NULL)
    response_timeout_in_seconds: int | None = None
    connect_timeout_in_seconds: int | None = None
    timeout_in_seconds: int | None = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_any = msgspec.json.Decoder().decode


def parse_method(body: bytes) -> MethodRequest:
    """The request in a JSON body; raises `ARGUMENT_INVALID`, `ARGUMENT_NULL`, `FORMAT_ERROR` or `MESSAGE_TOO_LARGE`."""
    try:
        body.decode()  # the payload goes on as it came, and its text is not looked at below
        parsed = _decode_body(body)
    except msgspec.ValidationError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"The method is not valid: {error}") from error
    except NOT_JSON as error:
        raise HubError(Code.FORMAT_ERROR, "The body is not valid JSON") from error
    if not parsed.method_name:
        raise HubError(Code.ARGUMENT_NULL, "methodName must not be empty")
    response_seconds = _first(parsed.response_timeout_in_seconds, parsed.timeout_in_seconds, RESPONSE_SECONDS_DEFAULT)
    request = MethodRequest(
        name=parsed.method_name,
        payload=bytes(parsed.payload),
        response_seconds=response_seconds,
        connect_seconds=_first(parsed.connect_timeout_in_seconds, CONNECT_SECONDS_DEFAULT),
    )
    _check(request)
    return request


class Methods:
    """Invokes direct methods on devices and modules; at most `METHODS_IN_FLIGHT_MAX` wait for one device's answer."""

    def __init__(
        self, registry: Registry, connected: ConnectedDevices, *, deadline: Deadline = asyncio.timeout
    ) -> None:
        self._registry = registry
        self._connected = connected
        self._deadline = deadline
        self._in_flight: Counter[DeviceRef] = Counter()

    async def invoke(self, ref: DeviceRef, request: MethodRequest) -> MethodAnswer:
        """Calls the device and returns its answer, whose payload is JSON, `null` when the device sent none.

        Waits up to `connect_seconds` for the device to come, then up to `response_seconds` less
        `ANSWER_MARGIN_SECONDS` for its answer. Raises `HubError`: `DEVICE_NOT_FOUND` (also when disabled),
        `MODULE_NOT_FOUND`, `DEVICE_NOT_ONLINE`, `DEVICE_CONNECTION_CLOSED`, `GATEWAY_TIMEOUT`,
        `IN_FLIGHT_METHODS_EXCEEDED`, `BAD_DEVICE_RESPONSE`, and those of `parse_method` for a request beyond its
        bounds. A late answer, or one after cancellation, is dropped by the device's session.
        """
        _check(request)
        await self._require_enabled(ref)
        if self._in_flight[ref] >= METHODS_IN_FLIGHT_MAX:
            raise HubError(
                Code.IN_FLIGHT_METHODS_EXCEEDED, f"The device has {METHODS_IN_FLIGHT_MAX} methods in flight already"
            )
        self._in_flight[ref] += 1
        try:
            return await self._call(await self._online(ref, request.connect_seconds), request)
        finally:
            self._in_flight[ref] -= 1
            if not self._in_flight[ref]:
                del self._in_flight[ref]

    async def _require_enabled(self, ref: DeviceRef) -> None:
        await self._registry.require(ref)
        device = await self._registry.require(ref._replace(module_id=""))
        if not device.enabled:
            raise HubError(Code.DEVICE_NOT_FOUND, f"Device {ref.device_id} not registered or disabled")

    async def _online(self, ref: DeviceRef, seconds: int) -> ConnectedDevice:
        device = self._connected.find(ref)
        if device is None or not device.accepts_methods():
            device = await self._connected.wait(ref, seconds)
        if device is None:
            raise DeviceNotOnlineError(seconds)
        return device

    async def _call(self, device: ConnectedDevice, request: MethodRequest) -> MethodAnswer:
        try:
            async with self._deadline(request.response_seconds - ANSWER_MARGIN_SECONDS):
                answer = await device.invoke(request.name, request.payload)
        except TimeoutError:
            raise HubError(Code.GATEWAY_TIMEOUT, "Timed out waiting for the response from device.") from None
        return MethodAnswer(answer.status, _checked_payload(answer.payload))


def _first(*values: int | None) -> int:
    """The first that was given; the last always is."""
    return next(value for value in values if value is not None)


def _check(request: MethodRequest) -> None:
    if METHOD_NAME.fullmatch(request.name) is None:
        raise HubError(Code.ARGUMENT_INVALID, "methodName is too long or has characters that a name may not have")
    if len(request.payload) > METHOD_BYTES_MAX:
        raise HubError(Code.MESSAGE_TOO_LARGE, f"The payload must not be larger than {METHOD_BYTES_MAX} bytes")
    _check_seconds("responseTimeoutInSeconds", request.response_seconds, RESPONSE_SECONDS_MIN, RESPONSE_SECONDS_MAX)
    _check_seconds("connectTimeoutInSeconds", request.connect_seconds, 0, CONNECT_SECONDS_MAX)


def _check_seconds(name: str, seconds: int, least: int, most: int) -> None:
    if not least <= seconds <= most:
        raise HubError(Code.ARGUMENT_INVALID, f"{name} must be within [{least}; {most}].")


def _checked_payload(payload: bytes) -> bytes:
    """The device's JSON; raises `BAD_DEVICE_RESPONSE` for anything else or too much of it."""
    if not payload:
        return NULL
    if len(payload) > METHOD_BYTES_MAX:
        raise HubError(Code.BAD_DEVICE_RESPONSE, f"The device answered with more than {METHOD_BYTES_MAX} bytes")
    try:
        _decode_any(payload)
    except NOT_JSON as error:
        raise HubError(Code.BAD_DEVICE_RESPONSE, "The device's answer is not valid JSON") from error
    return payload
