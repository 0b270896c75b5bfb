"""What devices ask by HTTPS: to take their messages, to hand out and to settle commands, and where to put a file.

Theory of operation. A request is one visit: a device that comes this way is never connected, so it receives neither
methods nor desired properties, and nothing is told about its presence. A message is answered when it is durable. All
messages of a batch are judged before the first is taken, and then taken in one go, so that a batch comes whole or not
at all. Messages of one device keep the order in which their requests had come whole.

A device that is ahead of its rate, and anybody while the log is far behind, is refused before the body is read: there
is no connection whose reading could be paused, as MQTT's is.

What is handed out stays locked until it is settled by a later request, or until the lock runs out. A command that
headers cannot carry is dead-lettered, which its sender is told by feedback, and those behind it are served.

Files do not come this way: a device is told where to put one, and tells that it has (IoT Hub REST reference).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import msgspec

from isthmus.access.principal import PrincipalKind
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef, is_probe
from isthmus.base.limits import C2D_QUEUE_DEPTH_MAX, LOG_BACKLOG_BYTES_MAX
from isthmus.base.state import Damaged
from isthmus.commands.cloud_to_device import Locked
from isthmus.commands.file_uploads import Credential, Opened
from isthmus.resources.hub import Hub
from isthmus.resources.throttling import Operation
from isthmus.servers.gateway.awaited_commit import AwaitedCommit
from isthmus.servers.gateway.device_rates import DeviceRates
from isthmus.servers.gateway.gate import Admitted
from isthmus.servers.gateway.http_device_contract import (
    BATCH_TYPE,
    DeviceMessage,
    batch_messages,
    devicebound_headers,
    single_message,
)
from isthmus.servers.gateway.http_file_contract import file_name, upload_answer, upload_end
from isthmus.servers.gateway.http_message import Reply, json_reply
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.ports import Backlog, CurrentHubs, ProbeOutlet, TelemetryInlet
from isthmus.servers.gateway.telemetry_contract import base_envelope
from isthmus.servers.gateway.throttles import Throttles
from isthmus.telemetry.message import encode_envelope

METERED: Mapping[Action, Operation] = MappingProxyType(
    {
        Action.SEND_EVENTS: Operation.TELEMETRY,
        Action.RECEIVE_COMMAND: Operation.COMMAND_RECEIVES,
        Action.OPEN_UPLOAD: Operation.UPLOADS,
    }
)
"""What requests count as at their hub."""


class Devicebound(Protocol):
    """The cloud-to-device queues; `commands.cloud_to_device.CloudToDevice` has them."""

    async def receive(self, ref: DeviceRef, limit: int = 1) -> Sequence[Locked]:
        """Locks and hands out the first messages that wait; raises `Damaged` when the first cannot be read."""

    async def complete(self, ref: DeviceRef, lock_token: str) -> None:
        """Removes a message as delivered; raises `HubError` `MESSAGE_LOCK_LOST`, as the other two do."""

    async def reject(self, ref: DeviceRef, lock_token: str) -> None:
        """Dead-letters a message."""

    async def abandon(self, ref: DeviceRef, lock_token: str) -> None:
        """Gives a message back, counting a failed delivery."""


class Uploads(Protocol):
    """File uploads; `commands.file_uploads.FileUploads` has them."""

    async def open(self, hub: Hub, device_id: str, name: str, credential: Credential) -> Opened:
        """Opens an upload; raises `HubError`, as the other one does."""

    async def complete(self, hub: Hub, device_id: str, correlation_id: str, *, succeeded: bool) -> None:
        """Completes an upload."""


@dataclass(frozen=True, slots=True)
class DeviceHttpServices:
    """What requests of devices need of the process."""

    hubs: CurrentHubs
    inlet: TelemetryInlet
    backlog: Backlog
    devicebound: Devicebound
    uploads: Uploads
    probe_mail: ProbeOutlet
    throttles: Throttles
    clock: Clock


@dataclass(frozen=True, slots=True)
class DeviceCall:
    """A request of a device that has proved itself.

    `headers` are as they came; `lock_token` is that of the path, or the correlation id there; `host` is the name that
    the device called.
    """

    admitted: Admitted
    ref: DeviceRef
    query: Mapping[str, str]
    headers: Sequence[tuple[str, str]]
    media_type: str
    body: bytes
    lock_token: str = ""
    host: str = ""


class DeviceApi:
    """Answers the requests of devices."""

    def __init__(self, services: DeviceHttpServices) -> None:
        self._services = services
        self._rates = DeviceRates(services.clock, services.throttles.device_rate)
        self.messages = 0
        self._handlers: Mapping[Action, Callable[[DeviceCall], Awaitable[Reply]]] = {
            Action.SEND_EVENTS: self._send_events,
            Action.RECEIVE_COMMAND: self._receive_command,
            Action.SETTLE_COMMAND: self._settle_command,
            Action.ABANDON_COMMAND: self._abandon_command,
            Action.OPEN_UPLOAD: self._open_upload,
            Action.COMPLETE_UPLOAD: self._complete_upload,
        }

    def check_offered(self, action: Action, ref: DeviceRef) -> None:
        """Raises `HubError` for what is not offered and for messages there is no room for, before a body is read.

        `NOT_IMPLEMENTED`, `THROTTLED`, `DEVICE_THROTTLED`, `QUOTA_EXCEEDED` when the day's messages are used up, or
        `SERVER_BUSY` while the log is behind. Probes may send only.
        """
        if action not in self._handlers or (is_probe(ref.device_id) and action is not Action.SEND_EVENTS):
            raise HubError(Code.NOT_IMPLEMENTED, "This operation is not implemented yet")
        self._require(action, ref)
        if action is Action.SEND_EVENTS:
            self._rates.require_room(ref)
            behind = self._services.backlog.backlog_bytes
            if behind > LOG_BACKLOG_BYTES_MAX:
                refusal = Refusal(Hop.LIMIT, "limit.backlog", f"{behind} bytes", "Send again later.")
                raise HubError(Code.SERVER_BUSY, "The hub is busy, try again", refusal)

    def _require(self, action: Action, ref: DeviceRef) -> None:
        """A hub that is gone meanwhile is found so later."""
        hub, operation = self._services.hubs.by_number(ref.hub), METERED.get(action)
        if hub is None or operation is None or is_probe(ref.device_id):
            return
        if action is Action.SEND_EVENTS:
            self._services.throttles.require_day(hub)
        self._services.throttles.require(hub, operation)

    async def answer(self, action: Action, call: DeviceCall) -> Reply:
        """The reply to a call that is offered; raises `HubError`."""
        return await self._handlers[action](call)

    async def _send_events(self, call: DeviceCall) -> Reply:
        if is_probe(call.ref.device_id):
            await self._services.probe_mail.send(self._hub(call.ref), call.ref.device_id, call.body)
            return Reply(204)
        is_batch = call.media_type == BATCH_TYPE
        messages = batch_messages(call.body) if is_batch else [single_message(call.headers, call.body)]
        hub, inlet = self._hub(call.ref), self._services.inlet
        try:
            await inlet.attend(hub, call.ref)
            appended = self._append(call, messages)
        finally:
            inlet.leave(call.ref)
        await appended.durable()
        return Reply(204)

    def _append(self, call: DeviceCall, messages: Sequence[DeviceMessage]) -> AwaitedCommit:
        """Takes all messages in."""
        services, waiter = self._services, AwaitedCommit(len(messages))
        hub, base, now_ms = self._hub(call.ref), base_envelope(call.ref, call.admitted), services.clock.utc_ms()
        self._rates.sent(call.ref, len(messages))
        services.throttles.owe(hub, Operation.TELEMETRY, len(messages) - 1)
        for message in messages:
            services.throttles.count_day(hub, message.bag.size + len(message.payload))
        self.messages += len(messages)
        for number, message in enumerate(messages):
            bag = message.bag
            envelope = msgspec.structs.replace(base, system=bag.system, properties=bag.properties)
            encoded = encode_envelope(envelope)
            services.inlet.telemetry(hub, envelope, encoded, message.payload, now_ms, waiter, number)
        return waiter

    async def _receive_command(self, call: DeviceCall) -> Reply:
        queue = self._services.devicebound
        for _ in range(C2D_QUEUE_DEPTH_MAX):
            try:
                received = await queue.receive(call.ref)
            except Damaged:
                continue  # it stays where it is, and those behind it are served
            if not received:
                break
            headers = devicebound_headers(call.ref, received[0])
            if headers is not None:
                return Reply(200, received[0].payload, headers)
            await queue.reject(call.ref, received[0].lock_token)
        return Reply(204)

    async def _settle_command(self, call: DeviceCall) -> Reply:
        queue = self._services.devicebound
        rejects = any(name.lower() == "reject" for name in call.query)
        await (queue.reject if rejects else queue.complete)(call.ref, call.lock_token)
        return Reply(204)

    async def _abandon_command(self, call: DeviceCall) -> Reply:
        await self._services.devicebound.abandon(call.ref, call.lock_token)
        return Reply(204)

    async def _open_upload(self, call: DeviceCall) -> Reply:
        asker = call.admitted.principal
        credential = Credential(asker.key_fingerprint, asker.name if asker.kind is PrincipalKind.POLICY else "")
        hub, name = self._hub(call.ref), file_name(call.body)
        opened = await self._services.uploads.open(hub, call.ref.device_id, name, credential)
        return json_reply(upload_answer(opened, call.host or hub.host_name))

    async def _complete_upload(self, call: DeviceCall) -> Reply:
        correlation_id, succeeded = upload_end(call.body, call.lock_token)
        hub, device_id = self._hub(call.ref), call.ref.device_id
        await self._services.uploads.complete(hub, device_id, correlation_id, succeeded=succeeded)
        return Reply(204)

    def _hub(self, ref: DeviceRef) -> Hub:
        """The hub as it is now: its routes may have changed since the request came."""
        hub = self._services.hubs.by_number(ref.hub)
        if hub is None:
            raise HubError(Code.HUB_NOT_FOUND, "The hub was deleted")
        return hub
