"""Devices over HTTP on a loopback socket: real routes, log and command queues, behind the real gate."""

from collections.abc import Mapping
from pathlib import Path

from commands.storage import FakeStorage, notification_queue
from isthmus.base.ids import DeviceRef
from isthmus.commands.cloud_to_device import C2DMessage, CloudToDevice
from isthmus.commands.feedback import Feedback
from isthmus.commands.file_uploads import FileUploads
from isthmus.resources.throttling import DEFAULT_POLICY, ThrottlePolicy
from isthmus.routing.accept import Accept
from isthmus.servers.gateway.http_device import DeviceApi, DeviceHttpServices
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, decode_envelope
from isthmus.telemetry.ports import Partition
from servers.http_world import HOST, Answer, HttpWorld
from servers.probe_mail import FakeProbeMail
from telemetry.fakes import Disk, SetClock, read_whole


class Backlog:
    """How far the log is said to be behind."""

    backlog_bytes = 0


class DeviceHttpWorld(HttpWorld):
    """A world whose devices are answered; `disk` fails on demand."""

    def __init__(self, folder: Path, policy: ThrottlePolicy = DEFAULT_POLICY) -> None:
        self.disk = Disk(folder)
        self.log = SegmentLog.open(folder, SetClock(), files=self.disk)
        self.backlog = Backlog()
        self.probe_mail = FakeProbeMail()
        super().__init__(policy)

    def make_devices(self) -> DeviceApi:
        hub_of = self.hubs.by_number
        feedback = Feedback(self.state, self.clock, self.ids, hub_of)
        self.queues = CloudToDevice(
            self.state, self.clock, self.ids, hub_of=hub_of, feedback=feedback, connected=self.connected
        )
        self.file_notifications = notification_queue(self.state, self.clock, self.ids, hub_of)
        self.uploads = FileUploads(
            self.state, self.clock, self.ids, notifications=self.file_notifications, hubs=self.hubs.all
        )
        self.storage = FakeStorage(self.clock)
        self.uploads.storage = self.storage
        self.accept = Accept(self.log, self.twins.snapshots)
        self.devices = DeviceApi(
            DeviceHttpServices(
                hubs=self.hubs,
                inlet=self.accept,
                backlog=self.backlog,
                devicebound=self.queues,
                uploads=self.uploads,
                probe_mail=self.probe_mail,
                throttles=self.throttles,
                clock=self.clock,
            )
        )
        return self.devices

    async def __aexit__(self, *reason: object) -> None:
        await super().__aexit__(*reason)
        await self.queues.close()
        await self.uploads.close()
        await self.file_notifications.close()
        await self.log.close()

    async def device_token(self, name: str) -> str:
        """Registers a device and gives its token."""
        identity = await self.registry.require(await self.add(name))
        assert identity.primary_key is not None
        module = f"/modules/{identity.module_id}" if identity.module_id else ""
        return self.sign(f"{HOST}/devices/{identity.device_id}{module}", identity.primary_key)

    async def send(
        self, token: str, body: bytes = b"", headers: Mapping[str, str] | None = None, device: str = "dev1"
    ) -> Answer:
        """One message, or a batch by its Content-Type."""
        named = {"Content-Type": "application/octet-stream", **(headers or {})}
        return await self.ask("POST", f"/devices/{device}/messages/events", body, token=token, headers=named)

    async def command(self, ref: DeviceRef, payload: bytes, **more: object) -> None:
        """Queues a command."""
        await self.queues.send(self.hub, ref.device_id, C2DMessage(payload, **more))  # type: ignore[arg-type]

    @property
    def stored(self) -> list[tuple[Envelope, bytes]]:
        """What readers of the built-in endpoint see."""
        records = read_whole(self.log, Partition(self.hub.number, 0))
        return [(decode_envelope(record.envelope), record.payload) for record in records]
