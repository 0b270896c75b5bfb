"""Cloud-to-device messages: one durable queue for each device, handed out under a lock and settled by the device.

The life of a message (IoT Hub developer guide, "Send cloud-to-device messages"): enqueued, invisible while it is
locked, then completed, enqueued again, or dead-lettered. Only an abandonment counts as a failed delivery; a lock that
runs out and a link that is detached do not. What became of a message is told to its sender as feedback, in the commit
that decides it, if the sender asked for that.

A message is sent to one generation of an identity: the commit that stores it checks that the identity is still the one
that was looked up, and the deletion of a device takes its queue along (`removal`), whatever happens at the same time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef, HubId, Ids
from isthmus.base.limits import C2D_BYTES_MAX, C2D_QUEUE_DEPTH_MAX
from isthmus.base.state import Change, Check, Damaged, State, Wake
from isthmus.commands.feedback import Feedback, StatusCode
from isthmus.commands.ports import HubOf, HubSettings
from isthmus.commands.settling import lock_kept
from isthmus.devices.commit import compare_and_set
from isthmus.devices.documents import identity_key
from isthmus.devices.identity import Identity, decode_identity
from isthmus.devices.ports import ConnectedDevices
from isthmus.queues import (
    Departure,
    LockedMessage,
    LockQueues,
    Outcome,
    QueueAddress,
    QueueFull,
    QueueHooks,
    QueuePolicy,
    Sequel,
)
from isthmus.telemetry.message import Properties, PropertyValue

LOCK_MS = 60_000
"""How long a device may take to settle a message; fixed (IoT Hub developer guide)."""

PREFIX = "c2d/"

NUMBER_BYTES = 8
"""What a property that is a number counts in a message's size."""


class Ack(StrEnum):
    """Of which outcomes the sender wants to hear: success is positive, a dead letter negative."""

    NONE = "none"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class C2DMessage:
    """A cloud-to-device message as its sender gave it.

    `expiry_ms` is milliseconds since the epoch, None for the hub's default; `ack` is None when the sender said nothing,
    which means the same as `NONE`. An empty `to` is filled in by `send`, and so is a missing message id.
    """

    payload: bytes
    message_id: str | None = None
    correlation_id: str | None = None
    user_id: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    to: str = ""
    expiry_ms: int | None = None
    ack: Ack | None = None
    properties: Properties = field(default_factory=dict)

    @property
    def system(self) -> Properties:
        """The system properties that have a value, under their canonical names."""
        named = {
            "message-id": self.message_id,
            "correlation-id": self.correlation_id,
            "user-id": self.user_id,
            "to": self.to or None,
            "content-type": self.content_type,
            "content-encoding": self.content_encoding,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def size(self) -> int:
        """Bytes that count against the limit: the payload, the values of system properties, names and values of others.

        IoT Hub developer guide, "Create and read IoT Hub messages".
        """
        system = sum(len(str(value).encode()) for value in self.system.values())
        own = sum(len(name.encode()) + _value_size(value) for name, value in self.properties.items())
        return len(self.payload) + system + own


@dataclass(frozen=True, slots=True)
class Locked:
    """A message handed out to its device; `lock_token` settles it.

    `delivery_count` counts earlier deliveries that failed, from 0; `sequence` is the message's number in its device's
    queue, from 1; `expires_ms` is when it ends, given by the sender or not.
    """

    lock_token: str
    delivery_count: int
    sequence: int
    enqueued_ms: int
    expires_ms: int
    message: C2DMessage

    @property
    def payload(self) -> bytes:
        return self.message.payload

    @property
    def system(self) -> Properties:
        """System properties under their canonical names."""
        return self.message.system

    @property
    def properties(self) -> Properties:
        """Application properties."""
        return self.message.properties

    @property
    def expiry_ms(self) -> int | None:
        """The end the sender gave it, None when the sender gave none."""
        return self.message.expiry_ms

    @property
    def ack(self) -> Ack | None:
        """The feedback the sender asked for, None when the sender said nothing."""
        return self.message.ack


class _Stored(msgspec.Struct, frozen=True, rename="camel"):
    """A message as the body of a queue's document. Fields are only ever added, with defaults."""

    generation_id: str
    message: C2DMessage


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class CloudToDevice:
    """The queues of all devices; belongs to one event loop. `DeviceQueues` of the registry is implemented here.

    Modules have no queue: they receive nothing, and sending to one is sending to no device.
    """

    def __init__(
        self, state: State, clock: Clock, ids: Ids, *, hub_of: HubOf, feedback: Feedback, connected: ConnectedDevices
    ) -> None:
        self._state = state
        self._clock = clock
        self._ids = ids
        self._hub_of = hub_of
        self._feedback = feedback
        self._connected = connected
        self._queues = LockQueues(
            state,
            clock,
            ids,
            prefix=PREFIX,
            policy=self._policy,
            hooks=QueueHooks(settled=self._settled, available=self._available),
        )

    async def start(self, hubs: Iterable[HubId]) -> None:
        """Finds what waited when the process ended; before anything else is called."""
        await self._queues.start(hubs)

    async def close(self) -> None:
        """Waits for the operations under way."""
        await self._queues.close()

    async def send(self, hub: HubSettings, device_id: str, message: C2DMessage) -> None:
        """Stores a message for a device; returns when it is durable.

        Raises `HubError`: `DEVICE_NOT_FOUND`, `QUEUE_DEPTH_EXCEEDED`, `MESSAGE_TOO_LARGE`, `INVALID_EXPIRY` for an
        expiry that has passed, `SERVER_BUSY`. Once called it runs to its end: a caller who is cancelled does not know.
        """
        if message.size > C2D_BYTES_MAX:
            raise _too_large(message.size)
        if message.expiry_ms is not None and message.expiry_ms <= self._clock.utc_ms():
            raise _invalid_expiry(message.expiry_ms)
        complete = replace(
            message,
            message_id=message.message_id or self._ids.uuid(),
            to=message.to or f"/devices/{device_id}/messages/devicebound",
        )
        await compare_and_set(lambda: self._store(DeviceRef(hub.number, device_id), complete))

    async def receive(self, ref: DeviceRef, limit: int = 1) -> list[Locked]:
        """Hands out the first messages that wait, at most `limit`, each under a lock of `LOCK_MS`.

        Raises `Damaged` when the first cannot be read; the next call gives those behind it.
        """
        received: list[Locked] = []
        while len(received) < limit and not ref.module_id:
            try:
                locked = await self._queues.lock(_address(ref))
            except Damaged:
                if not received:
                    raise
                break
            if locked is None:
                break
            received.append(_handed_out(locked))
        return received

    async def complete(self, ref: DeviceRef, lock_token: str) -> None:
        """Removes a message as delivered; raises `HubError` (`MESSAGE_LOCK_LOST`)."""
        with lock_kept():
            await self._queues.complete(_address(ref), lock_token)

    async def reject(self, ref: DeviceRef, lock_token: str) -> None:
        """Dead-letters a message; raises `HubError` (`MESSAGE_LOCK_LOST`)."""
        with lock_kept():
            await self._queues.reject(_address(ref), lock_token)

    async def abandon(self, ref: DeviceRef, lock_token: str) -> None:
        """Gives a message back, counting a failed delivery; the last one dead-letters it.

        Raises `HubError` (`MESSAGE_LOCK_LOST`).
        """
        with lock_kept():
            await self._queues.abandon(_address(ref), lock_token)

    async def release_all(self, ref: DeviceRef, lock_tokens: Sequence[str]) -> None:
        """Gives messages back as if they had never been handed out; lost locks are passed over."""
        for lock_token in lock_tokens:
            self._queues.release(_address(ref), lock_token)

    async def purge(self, ref: DeviceRef) -> int:
        """Removes all messages of a device, locked ones too; returns how many."""
        return 0 if ref.module_id else await self._queues.purge(_address(ref))

    async def count(self, ref: DeviceRef) -> int:
        """Messages of a device, locked ones included."""
        return 0 if ref.module_id else await self._queues.count(_address(ref))

    async def removal(self, ref: DeviceRef) -> Sequence[Change]:
        """The changes that forget everything queued for a device, to be part of the commit that deletes it.

        A message sent before that commit makes it a `Conflict`; one sent after it finds no device.
        """
        return () if ref.module_id else await self._queues.removal(_address(ref))

    def identity_changed(self, ref: DeviceRef, old: Identity | None, new: Identity | None) -> None:
        """Listens to the registry: what is in memory of a deleted device's queue is dropped."""
        if new is None and not ref.module_id:
            self._queues.forget(_address(ref))

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do; None while nothing is due ever."""
        return self._queues.next_deadline_ms()

    def on_earlier(self, wake: Wake) -> None:
        """Calls `wake` when `next_deadline_ms` has become earlier."""
        self._queues.on_earlier(wake)

    async def tick(self) -> None:
        """Expires messages and takes back locks, also of devices that nobody asks for."""
        await self._queues.tick()

    async def _store(self, ref: DeviceRef, message: C2DMessage) -> None:
        stored = await self._state.get(identity_key(ref))
        if stored is None:
            raise HubError(Code.DEVICE_NOT_FOUND, f"Device {ref.device_id} not registered")
        body = _encode(_Stored(decode_identity(stored.body).generation_id, message))
        unchanged = Check(stored.key, stored.revision)
        try:
            await self._queues.enqueue(_address(ref), body, expires_ms=message.expiry_ms, along=[unchanged])
        except QueueFull as error:
            raise _queue_full() from error

    def _policy(self, hub: HubId) -> QueuePolicy | None:
        settings = self._hub_of(hub)
        if settings is None:
            return None
        return QueuePolicy(
            depth_max=C2D_QUEUE_DEPTH_MAX,
            ttl_ms=settings.cloud_to_device.default_ttl_ms,
            lock_ms=LOCK_MS,
            delivery_count_max=settings.cloud_to_device.max_delivery_count,
            lock_expiry_counts=False,
        )

    def _settled(self, hub: HubId, name: str, departure: Departure) -> Sequel:
        stored = _decode(departure.body)
        message = stored.message
        if message.ack not in _WANTING[departure.outcome]:
            return Sequel()
        device = DeviceRef(hub, name.removeprefix(PREFIX))
        status = _STATUS[departure.outcome]
        return self._feedback.record(device, stored.generation_id, message.message_id or "", status, departure.at_ms)

    def _available(self, hub: HubId, name: str) -> None:
        connected = self._connected.find(DeviceRef(hub, name.removeprefix(PREFIX)))
        if connected is not None:
            connected.c2d_available()


def parse_ack(text: str) -> Ack:
    """The feedback asked for, whatever the letters' case; raises `HubError` (`ARGUMENT_INVALID`)."""
    try:
        return Ack(text.lower())
    except ValueError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"The value '{text}' is not valid for iothub-ack") from error


_POSITIVE = frozenset({Ack.POSITIVE, Ack.FULL})
_NEGATIVE = frozenset({Ack.NEGATIVE, Ack.FULL})
_WANTING: dict[Outcome, frozenset[Ack]] = {
    Outcome.COMPLETED: _POSITIVE,
    Outcome.REJECTED: _NEGATIVE,
    Outcome.EXPIRED: _NEGATIVE,
    Outcome.DELIVERY_COUNT_EXCEEDED: _NEGATIVE,
    Outcome.PURGED: _NEGATIVE,
}
_STATUS = {
    Outcome.COMPLETED: StatusCode.SUCCESS,
    Outcome.REJECTED: StatusCode.REJECTED,
    Outcome.EXPIRED: StatusCode.EXPIRED,
    Outcome.DELIVERY_COUNT_EXCEEDED: StatusCode.DELIVERY_COUNT_EXCEEDED,
    Outcome.PURGED: StatusCode.PURGED,
}


def _address(ref: DeviceRef) -> QueueAddress:
    return QueueAddress(ref.hub, PREFIX + ref.device_id)


def _handed_out(locked: LockedMessage) -> Locked:
    return Locked(
        lock_token=locked.token,
        delivery_count=locked.delivery_count,
        sequence=locked.sequence,
        enqueued_ms=locked.enqueued_ms,
        expires_ms=locked.expires_ms,
        message=_decode(locked.body).message,
    )


def _value_size(value: PropertyValue) -> int:
    if isinstance(value, str | bytes):
        return len(value.encode() if isinstance(value, str) else value)
    return 0 if value is None else NUMBER_BYTES


def _too_large(size: int) -> HubError:
    refusal = Refusal(Hop.LIMIT, "limit.message-size", f"{size} bytes", f"send at most {C2D_BYTES_MAX} bytes")
    return HubError(Code.MESSAGE_TOO_LARGE, f"A cloud-to-device message has at most {C2D_BYTES_MAX} bytes", refusal)


def _invalid_expiry(expiry_ms: int) -> HubError:
    refusal = Refusal(
        Hop.CONTRACT, "contract.expiry", f"{expiry_ms} ms", "give an expiry that lies ahead, in milliseconds since 1970"
    )
    return HubError(Code.INVALID_EXPIRY, "The message has expired before it was sent", refusal)


def _queue_full() -> HubError:
    refusal = Refusal(
        Hop.LIMIT,
        "limit.c2d-queue-depth",
        f"{C2D_QUEUE_DEPTH_MAX} messages wait",
        "let the device receive them, give messages a shorter life, or purge the queue",
    )
    return HubError(
        Code.QUEUE_DEPTH_EXCEEDED, f"Device queue depth cannot exceed {C2D_QUEUE_DEPTH_MAX} messages", refusal
    )
