"""File upload: a device asks where to put a file, puts it there, and says that it has; then services are told.

Theory of operation. What is under way is durable: one document for each device (`file_upload.Uploads`), changed by
compare-and-set together with a check that the device is still there, so that the limit holds and nothing outlives its
device. An upload is opened in this order: is there a container, is the name one, is there room; then the storage is
asked for a signature, and only when the upload is recorded does the device hear of it. A crash in between costs the
device nothing but another question.

A successful completion looks at the blob first, without which there is nothing to tell; then one commit marks the
upload as completed and enqueues the notification, so that services hear of each file once, however often a device that
heard no answer says so again. A crash finds an upload that is open, or one that is completed and told.

When the queue of notifications is full the upload is completed all the same and the notification dropped and counted:
a device can do nothing about services that do not read. What devices never complete is swept out by `tick`, some time
after its signature has run out; until then it only takes room in its device's document, not in its limit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef, Ids
from isthmus.base.state import Change, Check, Conflict, Delete, Key, Put, State, Stored
from isthmus.commands.file_upload import (
    CorrelationId,
    FileNotification,
    Upload,
    Uploads,
    blob_of,
    modified_text,
    read_correlation,
)
from isthmus.commands.servicebound import ServiceboundQueue
from isthmus.commands.upload_storage import (
    BlobFacts,
    NoStorage,
    StorageFault,
    StorageRefused,
    UploadStorage,
    UploadTarget,
)
from isthmus.devices.commit import Changes
from isthmus.devices.documents import identity_key
from isthmus.queues import QueueFull
from isthmus.resources.file_upload import RELAY_CONTAINER
from isthmus.resources.hub import Hub

UPLOAD_KIND = "upload"

FILE_NOTIFICATIONS = "file-notifications"
"""The name of the queues that services hear by."""

SWEEP_MS = 600_000
"""Between two looks for uploads that nobody completed."""

SWEPT_AT_ONCE = 256
"""Documents read in one piece."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Where a device is to put a file; without a `place` at the hub's own address, which it signs itself by `secret`.

    `place` is the account's address without its scheme, `signature` the query that opens it.
    """

    correlation_id: str
    upload: Upload
    container: str
    place: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Credential:
    """By which key somebody asks, and of which policy that is; empty for the device's own."""

    key_fingerprint: str
    policy: str = ""


class FileUploads:
    """The uploads of all hubs; belongs to one event loop. `DeviceQueues` of the registry is implemented here.

    `storage` is given by whoever connects the hub with the outside.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        ids: Ids,
        *,
        notifications: ServiceboundQueue,
        hubs: Callable[[], Iterable[Hub]],
    ) -> None:
        self._state = state
        self._clock = clock
        self._ids = ids
        self._notifications = notifications
        self._hubs = hubs
        self._changes = Changes()
        self._sweep_at_ms = clock.utc_ms() + SWEEP_MS
        self._dropped = 0
        self.storage: UploadStorage = NoStorage()

    @property
    def dropped(self) -> int:
        """Notifications dropped so far because nobody read those of their hub."""
        return self._dropped

    async def open(self, hub: Hub, device_id: str, name: str, credential: Credential) -> Opened:
        """Opens an upload for who asks by the credential; returns when it is durable.

        Raises HubError NO_STORAGE_ENDPOINT, ARGUMENT_INVALID for a bad name, UPLOADS_EXCEEDED, INVALID_STORAGE_ENDPOINT
        with the storage's reason for its owner, SERVICE_UNAVAILABLE, DEVICE_NOT_FOUND, SERVER_BUSY.
        """
        ref, endpoint = DeviceRef(hub.number, device_id), hub.file_upload.storage
        if not endpoint.configured:
            raise _not_configured(hub.name)
        blob, now_ms = blob_of(device_id, name), self._clock.utc_ms()
        upload = Upload(
            self._ids.uuid(),
            blob,
            now_ms,
            now_ms + endpoint.sas_ttl_ms,
            secret=self._ids.key() if endpoint.relay else "",
            key_fingerprint=credential.key_fingerprint,
            policy=credential.policy,
        )
        (await self._uploads(ref)).opened(upload, now_ms)
        correlation = CorrelationId(now_ms, upload.upload_id, device_id).text
        target = UploadTarget(hub.number, endpoint, blob)
        try:
            # Also when it is for nobody: a device is not sent on its way before the storage is known to take its file.
            signature = await self.storage.sign(target, upload.expires_ms)
        except StorageRefused as refused:
            raise refused_by_storage(refused, Code.INVALID_STORAGE_ENDPOINT) from refused
        await self._changes.make(lambda: self._record(ref, lambda uploads: uploads.opened(upload, now_ms)))
        if endpoint.relay:
            return Opened(correlation, upload, RELAY_CONTAINER)
        return Opened(correlation, upload, endpoint.container, endpoint.account.place, signature)

    async def complete(self, hub: Hub, device_id: str, correlation_id: str, *, succeeded: bool) -> None:
        """Completes an upload; returns when that, and the notification, are durable. Again is as good as once.

        Raises HubError INVALID_CORRELATION_ID, EXPIRED_CORRELATION_ID, INVALID_STORAGE_OR_BLOB, NO_STORAGE_ENDPOINT,
        SERVICE_UNAVAILABLE, SERVER_BUSY.
        """
        ref = DeviceRef(hub.number, device_id)
        upload = await self.find(hub, ref, correlation_id)
        if upload.completed:
            return
        message = b""
        if succeeded:
            facts = await self._facts(hub, upload)
            if hub.file_upload.notify:
                message = self._notification(hub, device_id, upload, facts)
        await self._changes.make(lambda: self._commit_end(ref, upload.upload_id, message))

    async def find(self, hub: Hub, ref: DeviceRef, correlation_id: str) -> Upload:
        """The upload of a correlation id; raises HubError INVALID_CORRELATION_ID or EXPIRED_CORRELATION_ID."""
        said, now_ms = read_correlation(correlation_id), self._clock.utc_ms()
        if said is None or said.device_id != ref.device_id:
            raise _bad_correlation(correlation_id)
        upload = (await self._uploads(ref)).find(said.upload_id)
        if upload is None and said.opened_ms + hub.file_upload.storage.sas_ttl_ms > now_ms:
            raise _bad_correlation(correlation_id)
        if upload is None or upload.expires_ms <= now_ms:
            raise _expired(said)
        return upload

    async def under_way(self, ref: DeviceRef, upload_id: str) -> Upload | None:
        """The upload of that id while it is neither completed nor over."""
        upload = (await self._uploads(ref)).find(upload_id)
        if upload is None or upload.completed or upload.expires_ms <= self._clock.utc_ms():
            return None
        return upload

    async def removal(self, ref: DeviceRef) -> Sequence[Change]:
        """The changes that forget the uploads of a device, to be part of the commit that deletes it."""
        return () if ref.module_id else (Delete(_key(ref)),)

    def next_deadline_ms(self) -> int | None:
        """When the next sweep is due."""
        return self._sweep_at_ms

    def on_earlier(self, wake: Callable[[], None]) -> None:
        """Sweeps never become due earlier."""

    async def tick(self) -> None:
        """Forgets uploads whose time is over."""
        now_ms = self._clock.utc_ms()
        self._sweep_at_ms = now_ms + SWEEP_MS
        for hub in tuple(self._hubs()):
            after = ""
            while page := await self._state.scan(UPLOAD_KIND, hub.number, after=after, limit=SWEPT_AT_ONCE):
                for stored in page:
                    await self._sweep(stored, now_ms)
                after = page[-1].key.name

    async def close(self) -> None:
        """Waits for the operations under way, and lets go of the storage."""
        await self._changes.settled()
        await self.storage.close()

    async def _facts(self, hub: Hub, upload: Upload) -> BlobFacts:
        endpoint = hub.file_upload.storage
        if not endpoint.configured:
            raise _not_configured(hub.name)
        try:
            facts = await self.storage.find(UploadTarget(hub.number, endpoint, upload.blob))
        except StorageRefused as refused:
            raise refused_by_storage(refused, Code.INVALID_STORAGE_OR_BLOB) from refused
        if facts is None:
            raise _no_blob(upload.blob)
        return facts

    def _notification(self, hub: Hub, device_id: str, upload: Upload, facts: BlobFacts) -> bytes:
        endpoint = hub.file_upload.storage
        told = FileNotification(
            device_id=device_id,
            blob_uri=f"{endpoint.account.blob_url}/{endpoint.container}/{quote(upload.blob, safe='/~')}",
            blob_name=upload.blob,
            last_updated_time=modified_text(facts.stamp.modified_ms),
            blob_size_in_bytes=facts.size,
            enqueued_time_utc=iso_utc(self._clock.utc_ms()),
        )
        return msgspec.json.encode(told)

    async def _commit_end(self, ref: DeviceRef, upload_id: str, message: bytes) -> None:
        """One try at the commit that ends an upload; with a message when services are to hear of it."""
        stored, identity = await self._state.get(_key(ref)), await self._identity(ref)
        uploads, now_ms = _decode(stored), self._clock.utc_ms()
        upload = uploads.find(upload_id)
        if upload is None or upload.completed:
            return  # somebody else was faster, or the device is gone
        changes: list[Change] = [identity, _put(ref, stored, uploads.completed(upload_id, now_ms))]
        if message:
            try:
                await self._notifications.send(ref.hub, message, along=changes)
            except QueueFull:
                self._dropped += 1
            else:
                return
        await self._state.commit(changes)

    async def _record(self, ref: DeviceRef, rule: Callable[[Uploads], Uploads]) -> None:
        stored, identity = await self._state.get(_key(ref)), await self._identity(ref)
        await self._state.commit([identity, _put(ref, stored, rule(_decode(stored)))])

    async def _identity(self, ref: DeviceRef) -> Check:
        stored = await self._state.get(identity_key(ref))
        if stored is None:
            raise HubError(Code.DEVICE_NOT_FOUND, f"Device {ref.device_id} not registered")
        return Check(stored.key, stored.revision)

    async def _uploads(self, ref: DeviceRef) -> Uploads:
        return _decode(await self._state.get(_key(ref)))

    async def _sweep(self, stored: Stored, now_ms: int) -> None:
        uploads = _decode(stored)
        live = uploads.live(now_ms)
        if live == uploads:
            return
        try:
            change = Put(stored.key, _encode(live), stored.revision) if live.uploads else None
            await self._state.commit([change or Delete(stored.key, stored.revision)])
        except Conflict:
            return  # whoever changed it has looked, too


def refused_by_storage(refused: StorageRefused, code: Code) -> HubError:
    """What the peer hears, as a code, and the owner, as a reason, of what the storage said."""
    rule, remedy = _REFUSALS[refused.fault]
    refusal = Refusal(Hop.EGRESS, rule, refused.reason[:400], remedy)
    if refused.fault is StorageFault.TRANSIENT:
        return HubError(Code.SERVICE_UNAVAILABLE, "The storage is not available, try again", refusal)
    return HubError(code, "The storage of the hub cannot be used", refusal)


_encode = msgspec.json.Encoder().encode


def _decode(stored: Stored | None) -> Uploads:
    return Uploads() if stored is None else msgspec.json.decode(stored.body, type=Uploads)


def _key(ref: DeviceRef) -> Key:
    return Key(UPLOAD_KIND, ref.hub, ref.device_id)


def _put(ref: DeviceRef, stored: Stored | None, uploads: Uploads) -> Put:
    return Put(_key(ref), _encode(uploads), stored.revision if stored else 0)


def _not_configured(hub: str) -> HubError:
    refusal = Refusal(
        Hop.CONTRACT,
        "contract.file-upload-storage",
        f"{hub} has no container for files",
        "isthmus iot hub update --fileupload-storage-connectionstring CS --fileupload-storage-container-name NAME",
    )
    return HubError(Code.NO_STORAGE_ENDPOINT, "There is no default storage endpoint for file uploads", refusal)


def _bad_correlation(text: str) -> HubError:
    refusal = Refusal(
        Hop.CONTRACT, "contract.correlation-id", ascii(text[:200]), "Send the one that the hub gave this device."
    )
    return HubError(Code.INVALID_CORRELATION_ID, "The correlation id is not valid", refusal)


def _expired(said: CorrelationId) -> HubError:
    value = f"opened {iso_utc(said.opened_ms)}"
    remedy = "Upload faster, or raise storageEndpoints.$default.sasTtlAsIso8601 of the hub."
    refusal = Refusal(Hop.LIMIT, "limit.file-upload-time", value, remedy)
    return HubError(Code.EXPIRED_CORRELATION_ID, "The correlation id has expired", refusal)


def _no_blob(blob: str) -> HubError:
    refusal = Refusal(
        Hop.EGRESS, "egress.blob", ascii(blob[:200]), "Put the file where the hub said before telling it of success."
    )
    return HubError(Code.INVALID_STORAGE_OR_BLOB, "The blob is not there", refusal)


_ROLE = "isthmus role assignment create --role 'Storage Blob Data Contributor' --assignee-object-id P --scope ACCOUNT"
_TRUST = "isthmus storage account update --bypass AzureServices, which lets the hub's own identity past; or an IP rule"
_REFUSALS = {
    StorageFault.TRANSIENT: ("egress.transient", "Look whether the account runs and can be reached from the hub."),
    StorageFault.IDENTITY: ("egress.identity", "isthmus iot hub identity assign --system-assigned"),
    StorageFault.ROLE: ("egress.role", _ROLE),
    StorageFault.NETWORK: ("egress.network", _TRUST),
    StorageFault.NAME: ("egress.name", "Give the account's name an address on the hub's machine."),
    StorageFault.NOT_FOUND: ("egress.not-found", "isthmus storage container create"),
    StorageFault.AUTHENTICATION: ("egress.authentication", "Give the hub the account's present connection string."),
    StorageFault.OUTBOUND: ("egress.outbound", "Add the account's host name to allowedFqdnList of the hub."),
    StorageFault.REQUEST: ("egress.request", "The storage's own words say why."),
}
"""Rule and remedy of what the storage, or the way to it, said no to."""
