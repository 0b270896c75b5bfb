"""File uploads: what is under way, how it ends, and that services hear of each file once."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from commands.storage import FakeStorage, notification_queue, storage_body
from devices.fakes import CountedIds
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.limits import FILE_UPLOADS_OPEN_MAX
from isthmus.base.state import Delete, Put, State, StateClosed
from isthmus.commands import servicebound
from isthmus.commands.file_upload import COMPLETED_KEPT_MAX
from isthmus.commands.file_uploads import SWEEP_MS, Credential, FileUploads, Opened
from isthmus.commands.upload_storage import StorageFault
from isthmus.devices.documents import identity_key
from isthmus.devices.identity import encode_identity, new_identity, parse_identity
from isthmus.resources.arm_patch import apply_patch
from isthmus.resources.file_upload import NO_UPLOADS
from isthmus.resources.hub import Hub
from queues.fakes import FailingState, MovedClock

HUB = apply_patch(Hub(HubId(1), "hub", "hub.example.test", 1, 5), storage_body())
DEVICE = DeviceRef(HUB.number, "dev1")
BY_KEY = Credential("print")


@dataclass
class Bench:
    """A hub with a container in memory; the clock is moved by hand."""

    state: State
    clock: MovedClock
    hub: Hub = HUB

    def __post_init__(self) -> None:
        ids = CountedIds()
        self.notifications = notification_queue(self.state, self.clock, ids, lambda number: self.hub)
        self.uploads = FileUploads(
            self.state, self.clock, ids, notifications=self.notifications, hubs=lambda: (self.hub,)
        )
        self.storage = FakeStorage(self.clock)
        self.uploads.storage = self.storage
        self.ids = ids

    async def restarted(self) -> "Bench":
        """The same after a crash: what is in memory is gone."""
        bench = replace(self)
        bench.storage.blobs = self.storage.blobs
        await bench.notifications.start([HUB.number])
        return bench

    async def register(self, ref: DeviceRef = DEVICE) -> None:
        identity = new_identity(ref, parse_identity(ref, {}), self.ids, self.clock.utc_ms())
        await self.state.commit([Put(identity_key(ref), encode_identity(identity))])

    async def open(self, name: str = "a.txt", ref: DeviceRef = DEVICE) -> Opened:
        return await self.uploads.open(self.hub, ref.device_id, name, BY_KEY)

    async def complete(self, correlation_id: str, *, succeeded: bool = True, ref: DeviceRef = DEVICE) -> None:
        await self.uploads.complete(self.hub, ref.device_id, correlation_id, succeeded=succeeded)

    async def uploaded(self, name: str = "a.txt", body: bytes = b"1234") -> Opened:
        """A file that is in storage and about which nobody was told."""
        opened = await self.open(name)
        self.storage.blobs[opened.upload.blob] = body
        return opened

    async def told(self) -> list[dict[str, Any]]:
        """The notifications that can be read now, settled."""
        read = []
        for message in await self.notifications.receive(HUB.number, 100):
            await self.notifications.complete(HUB.number, message.lock_token)
            read.append(json.loads(message.body))
        return read


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(MemoryState(), MovedClock())
    await made.register()
    yield made
    await made.uploads.close()
    await made.notifications.close()


async def test_a_file_goes_below_its_device_and_services_hear_of_it(bench: Bench) -> None:
    opened = await bench.uploaded("dir/my file.txt")
    assert (opened.place, opened.container) == ("plant.blob.example.test", "uploads")
    assert opened.upload.blob == "dev1/dir/my file.txt"
    assert opened.signature.startswith("sr=b&sp=rw")
    moment, upload_id, _, version = base64.b64decode(opened.correlation_id).decode().split("_")
    assert (len(moment), upload_id, version) == (12, opened.upload.upload_id, "ver2.0")
    await bench.complete(opened.correlation_id)
    assert await bench.told() == [
        {
            "deviceId": "dev1",
            "blobUri": "https://plant.blob.example.test/uploads/dev1/dir/my%20file.txt",
            "blobName": "dev1/dir/my file.txt",
            "lastUpdatedTime": "2026-01-01T00:00:00+00:00",
            "blobSizeInBytes": 4,
            "enqueuedTimeUtc": "2026-01-01T00:00:00.0000000Z",
        }
    ]


async def test_completing_again_is_as_good_as_once(bench: Bench) -> None:
    opened = await bench.uploaded()
    for _ in range(3):
        await bench.complete(opened.correlation_id)
    assert len(await bench.told()) == 1


async def test_a_failed_upload_is_told_to_nobody_and_frees_its_place(bench: Bench) -> None:
    opened = await bench.open()
    await bench.complete(opened.correlation_id, succeeded=False)
    assert await bench.told() == []
    for _ in range(FILE_UPLOADS_OPEN_MAX):
        await bench.open()


async def test_without_notifications_an_upload_ends_quietly(bench: Bench) -> None:
    bench.hub = apply_patch(HUB, {"properties": {"enableFileUploadNotifications": False}})
    await bench.complete((await bench.uploaded()).correlation_id)
    assert await bench.told() == []


async def test_a_device_has_ten_uploads_under_way_at_most(bench: Bench) -> None:
    for number in range(FILE_UPLOADS_OPEN_MAX):
        await bench.open(f"{number}")
    asked = len(bench.storage.signed)
    assert await refused(bench.open()) is Code.UPLOADS_EXCEEDED
    assert len(bench.storage.signed) == asked
    await bench.register(other := DeviceRef(HUB.number, "dev2"))
    await bench.open(ref=other)


async def test_time_frees_places(bench: Bench) -> None:
    for number in range(FILE_UPLOADS_OPEN_MAX):
        await bench.open(f"{number}")
    bench.clock.move(seconds=3_599)
    assert await refused(bench.open()) is Code.UPLOADS_EXCEEDED
    bench.clock.move(seconds=1)
    await bench.open()


async def test_after_its_time_a_correlation_id_has_expired(bench: Bench) -> None:
    opened = await bench.uploaded()
    bench.clock.move(seconds=3_600)
    assert await refused(bench.complete(opened.correlation_id)) is Code.EXPIRED_CORRELATION_ID
    await bench.uploads.tick()
    assert await refused(bench.complete(opened.correlation_id)) is Code.EXPIRED_CORRELATION_ID
    assert await bench.told() == []


@pytest.mark.parametrize("text", ["", "no base64!", "bm90aGluZw==", base64.b64encode(b"\xff" * 9).decode()])
async def test_what_is_no_correlation_id_is_invalid(bench: Bench, text: str) -> None:
    assert await refused(bench.complete(text)) is Code.INVALID_CORRELATION_ID


async def test_a_correlation_id_is_its_devices_own(bench: Bench) -> None:
    opened = await bench.uploaded()
    await bench.register(other := DeviceRef(HUB.number, "dev2"))
    assert await refused(bench.complete(opened.correlation_id, ref=other)) is Code.INVALID_CORRELATION_ID
    forged = base64.b64encode(base64.b64decode(opened.correlation_id).replace(b"dev1", b"dev2")).decode()
    assert await refused(bench.complete(forged, ref=other)) is Code.INVALID_CORRELATION_ID


async def test_success_without_a_blob_is_refused_and_can_be_put_right(bench: Bench) -> None:
    opened = await bench.open()
    assert await refused(bench.complete(opened.correlation_id)) is Code.INVALID_STORAGE_OR_BLOB
    bench.storage.blobs[opened.upload.blob] = b""
    await bench.complete(opened.correlation_id)
    assert len(await bench.told()) == 1


@pytest.mark.parametrize(
    ("fault", "at_opening", "at_completion"),
    [
        (StorageFault.TRANSIENT, Code.SERVICE_UNAVAILABLE, Code.SERVICE_UNAVAILABLE),
        *(
            (fault, Code.INVALID_STORAGE_ENDPOINT, Code.INVALID_STORAGE_OR_BLOB)
            for fault in StorageFault
            if fault is not StorageFault.TRANSIENT
        ),
    ],
)
async def test_the_owner_learns_what_the_storage_said(
    bench: Bench, fault: StorageFault, at_opening: Code, at_completion: Code
) -> None:
    opened = await bench.uploaded()
    bench.storage.fault = fault
    for attempt, code in ((bench.open(), at_opening), (bench.complete(opened.correlation_id), at_completion)):
        with pytest.raises(HubError) as caught:
            await attempt
        assert caught.value.code is code
        assert caught.value.refusal is not None
        assert caught.value.refusal.rule == f"egress.{fault.value}"
        assert caught.value.refusal.remedy
        assert "authorized" not in caught.value.message


async def test_without_a_container_there_is_nowhere_to_put_a_file(bench: Bench) -> None:
    bench.hub = replace(HUB, file_upload=NO_UPLOADS)
    assert await refused(bench.open()) is Code.NO_STORAGE_ENDPOINT


async def test_a_crash_loses_neither_an_upload_nor_what_services_hear(bench: Bench) -> None:
    first, second = await bench.uploaded("1"), await bench.uploaded("2")
    await bench.complete(first.correlation_id)
    again = await bench.restarted()
    again.storage.blobs[second.upload.blob] = b"x"
    await again.complete(first.correlation_id)
    await again.complete(second.correlation_id)
    assert [each["blobName"] for each in await again.told()] == ["dev1/1", "dev1/2"]


async def test_what_could_not_be_committed_has_not_happened() -> None:
    state = FailingState()
    bench = Bench(state, MovedClock())
    await bench.register()
    opened = await bench.uploaded()
    state.failures = 1
    with pytest.raises(StateClosed):
        await bench.complete(opened.correlation_id)
    assert await bench.told() == []
    await bench.complete(opened.correlation_id)
    assert len(await bench.told()) == 1


async def test_a_full_queue_ends_uploads_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicebound, "WAITING_MAX", 1)
    for name in ("1", "2"):
        await bench.complete((await bench.uploaded(name)).correlation_id)
    assert bench.uploads.dropped == 1
    assert [each["blobName"] for each in await bench.told()] == ["dev1/1"]


async def test_a_device_that_is_deleted_takes_its_uploads_along(bench: Bench) -> None:
    opened = await bench.uploaded()
    await bench.state.commit([Delete(identity_key(DEVICE)), *await bench.uploads.removal(DEVICE)])
    assert await bench.state.count("upload", HUB.number) == 0
    assert await refused(bench.complete(opened.correlation_id)) is Code.INVALID_CORRELATION_ID
    assert await refused(bench.open()) is Code.DEVICE_NOT_FOUND


async def test_what_nobody_completes_is_swept_out(bench: Bench) -> None:
    await bench.open()
    await bench.uploads.tick()
    assert await bench.state.count("upload", HUB.number) == 1
    bench.clock.move(seconds=3_600)
    await bench.uploads.tick()
    assert await bench.state.count("upload", HUB.number) == 0
    assert bench.uploads.next_deadline_ms() == bench.clock.utc_ms() + SWEEP_MS


async def test_few_completed_uploads_are_remembered(bench: Bench) -> None:
    first = await bench.uploaded("first")
    await bench.complete(first.correlation_id)
    for number in range(COMPLETED_KEPT_MAX):
        await bench.complete((await bench.uploaded(f"{number}")).correlation_id)
    assert await refused(bench.complete(first.correlation_id)) is Code.INVALID_CORRELATION_ID


@pytest.mark.parametrize(
    "name",
    ["", "../dev2/x", "a/../../b", ".", "a/./b", "/a", "a//b", "a/", "a\\b", "a\nb", "x" * 1_020, "a/" * 253 + "a"],
)
async def test_a_name_that_could_lead_elsewhere_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(HubError) as caught:
        await bench.open(name)
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == "contract.blob-name"


@pytest.mark.parametrize("name", ["a", "ä ö?#&%2e.txt", ".hidden", "..a", "x" * 1_019, "a/" * 252 + "a"])
async def test_other_names_are_the_devices_own_business(bench: Bench, name: str) -> None:
    assert (await bench.open(name)).upload.blob == f"dev1/{name}"


async def refused(attempt: Any) -> Code:
    with pytest.raises(HubError) as caught:
        await attempt
    return caught.value.code
