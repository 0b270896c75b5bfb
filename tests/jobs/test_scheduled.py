"""Scheduled jobs from their creation to their end: twin updates and direct methods."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from devices.fakes import HUB, FakeDevice
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.commands.methods import Methods
from isthmus.devices.ports import MethodAnswer
from isthmus.jobs import scheduled as scheduled_module
from isthmus.jobs.job import JobStatus
from isthmus.jobs.scheduled import ScheduledJobs
from isthmus.jobs.scheduled_job import DeviceJob, DeviceJobStatus, ScheduledJob, scheduled_to_wire
from isthmus.jobs.scheduled_run import Tools
from isthmus.telemetry.message import MessageSource
from jobs import fakes

TWIN_JOB = {
    "type": "scheduleUpdateTwin",
    "queryCondition": "*",
    "updateTwin": {"etag": "*", "tags": {"a": 1}, "properties": {"desired": {"x": 2}}},
}
METHOD_JOB = {
    "type": "scheduleDeviceMethod",
    "queryCondition": "*",
    "cloudToDeviceMethod": {"methodName": "reboot", "payload": {"in": 5}},
}


class World(fakes.World):
    """Scheduled jobs over a state in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduled = self.make_scheduled()

    def make_scheduled(self) -> ScheduledJobs:
        methods = Methods(self.registry, self.connected)
        tools = Tools(self.state, self.clock, self.registry, self.twins, methods, self.connected)
        return ScheduledJobs(tools, pause=self._pause)

    async def create(self, job_id: str, body: object) -> ScheduledJob:
        return await self.scheduled.create(self.hub, job_id, body)

    async def seen(self, job_id: str, wanted: Callable[[ScheduledJob], bool]) -> ScheduledJob:
        """The job as soon as it is what is waited for."""
        async with asyncio.timeout(SEEN_SECONDS_MAX):
            while not wanted(job := await self.scheduled.get(HUB, job_id)):  # noqa: ASYNC110 - many things make it so
                await asyncio.sleep(0.001)
        return job

    async def done(self, job_id: str, body: object) -> ScheduledJob:
        await self.create(job_id, body)
        return await self.seen(job_id, lambda job: job.is_ended)

    async def rows(self, job_id: str) -> dict[str, DeviceJob]:
        return {name: row async for _, name, row in self.scheduled.device_jobs(HUB, "", job_id)}


class SilentDevice(FakeDevice):
    """A connected device that never answers."""

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


SEEN_SECONDS_MAX = 30.0
COUNT = 201
"""Devices, one more than a page."""


async def test_a_twin_job_patches_every_device_once_and_tells_who_is_connected() -> None:
    world = World()
    refs = [await world.add(f"d{number:03}") for number in range(COUNT)]
    device = world.connected.devices[refs[3]] = FakeDevice()
    job = await world.done("j1", TWIN_JOB)
    assert (job.status, job.total, job.succeeded, job.failed) == (JobStatus.COMPLETED, COUNT, COUNT, 0)
    twins = [(await world.twins.get(ref)).twin for ref in refs]
    assert {(twin.tags["a"], twin.properties.desired["x"], twin.desired_version) for twin in twins} == {(1, 2, 2)}
    assert device.desired == [({"x": 2, "$version": 2}, 2)]
    assert {row.status for row in (await world.rows("j1")).values()} == {DeviceJobStatus.COMPLETED}
    events = [event for event in await world.events() if event.source is MessageSource.DEVICE_JOB_LIFECYCLE]
    assert [event.op_type for event in events] == ["queued", "running", "completed"]
    assert msgspec.json.decode(events[-1].body)["deviceJobStatistics"]["succeededCount"] == COUNT


async def test_a_job_that_waits_is_gone_on_with_however_many_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of jobs once ended where the history does, so that a restart lost what came behind it by its name."""
    monkeypatch.setattr(scheduled_module, "HISTORY_MAX", 3)
    monkeypatch.setattr(scheduled_module, "ACTIVE_MAX", 2)
    world = World()
    world.connected.devices[await world.add("silent")] = SilentDevice()
    for name in ("waits-z", "waits-y"):
        await world.create(name, {**METHOD_JOB, "maxExecutionTimeInSeconds": 3_600})
    monkeypatch.setattr(scheduled_module, "ACTIVE_MAX", 3)
    for number in range(6):
        world.clock.now_ms += 1
        await world.done(f"ended-{number}", TWIN_JOB)
    monkeypatch.setattr(scheduled_module, "ACTIVE_MAX", 2)
    kept = {job.job_id for job in await world.scheduled.all(HUB)}
    await world.scheduled.close()
    assert kept == {"waits-z", "waits-y", "ended-3", "ended-4", "ended-5"}
    again = world.make_scheduled()
    await again.start([HUB])
    assert again.active == 2
    await again.close()


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("tags.hall = 1", {"a", "b"}),
        ("deviceId IN ['b', 'c', 'none']", {"b", "c"}),
        ("tags.hall = 1 AND deviceId IN ['b', 'c']", {"b"}),
        ("deviceId = 'c'", {"c"}),
        ("FROM devices.modules WHERE deviceId = 'a'", {"a/m"}),
    ],
)
async def test_a_job_is_for_the_devices_that_its_condition_names(condition: str, names: set[str]) -> None:
    world = World()
    for name, hall in (("a", 1), ("b", 1), ("c", 2)):
        await world.twins.patch(await world.add(name), {"tags": {"hall": hall}}, None)
    await world.add("a/m")
    await world.done("j", {**TWIN_JOB, "queryCondition": condition})
    assert set(await world.rows("j")) == names


async def test_a_method_job_calls_who_is_there_and_then_who_comes_until_its_time_is_over() -> None:
    world = World()
    there, later, odd, _ = [await world.add(name) for name in ("there", "later", "odd", "never")]
    answer = MethodAnswer(200, b'{"ok":true}')
    world.connected.devices[there] = FakeDevice(answer)
    world.connected.devices[odd] = FakeDevice(HubError(Code.DEVICE_CONNECTION_CLOSED, "Device unavailable"))
    await world.create("j", {**METHOD_JOB, "maxExecutionTimeInSeconds": 60})
    await world.seen("j", lambda job: job.succeeded == 1 and job.failed == 1)
    world.connected.come(later, FakeDevice(answer))
    await world.seen("j", lambda job: job.succeeded == 2)
    world.clock.now_ms += 61_000
    world.connected.come(later, FakeDevice(answer))
    job = await world.seen("j", lambda job: job.is_ended)
    assert (job.status, job.succeeded, job.failed) == (JobStatus.COMPLETED, 2, 2)
    rows = await world.rows("j")
    assert (rows["there"].answer, bytes(rows["there"].payload)) == (200, answer.payload)
    assert rows["odd"].error_code == "DeviceConnectionClosedRemotely"
    assert (rows["never"].status, rows["never"].error_code) == (DeviceJobStatus.FAILED, "DeviceNotOnline")
    assert world.connected.devices[there].invoked == [("reboot", b'{"in":5}')]


async def test_devices_that_do_not_answer_delay_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.jobs.scheduled_run.CALLS_AT_ONCE", 2)
    world = World()
    for number in range(COUNT):
        ref = await world.add(f"d{number:03}")
        world.connected.devices[ref] = FakeDevice(MethodAnswer(200, b"{}")) if number else SilentDevice()
    await world.create("j", {**METHOD_JOB, "maxExecutionTimeInSeconds": 60})
    await world.seen("j", lambda job: job.succeeded == COUNT - 1)
    world.clock.now_ms += 61_000
    job = await world.seen("j", lambda job: job.is_ended)
    assert (job.succeeded, job.failed) == (COUNT - 1, 1)
    assert (await world.rows("j"))["d000"].status is DeviceJobStatus.FAILED


async def test_a_device_that_leaves_while_it_is_called_is_called_again_when_it_comes_back() -> None:
    world = World()
    ref = await world.add("d")
    world.connected.devices[ref] = FakeDevice(MethodAnswer(200, b"{}"), subscribed=False)
    await world.create("j", METHOD_JOB)
    await world.seen("j", lambda job: job.selected)
    back = FakeDevice(MethodAnswer(200, b"{}"))
    world.connected.come(ref, back)
    world.connected.come(ref, back)
    job = await world.seen("j", lambda job: job.is_ended)
    assert (job.succeeded, len(back.invoked)) == (1, 1)


async def test_a_job_starts_when_its_time_has_come() -> None:
    world = World()
    await world.add("d")
    job = await world.create("j", {**TWIN_JOB, "startTime": "2026-01-01T01:00:00Z"})
    assert job.status is JobStatus.SCHEDULED
    job = await world.seen("j", lambda job: job.is_ended)
    assert job.began_ms >= job.start_ms


async def test_a_cancelled_job_leaves_its_devices_as_they_are() -> None:
    world = World()
    await world.add("d")
    await world.create("j", METHOD_JOB)
    await world.seen("j", lambda job: job.selected)
    job = await world.scheduled.cancel(HUB, "j")
    assert (job.status, scheduled_to_wire(job)["status"]) == (JobStatus.CANCELLED, "cancelled")
    assert (await world.rows("j"))["d"].status is DeviceJobStatus.CANCELED
    assert (await world.scheduled.cancel(HUB, "j")).status is JobStatus.CANCELLED
    assert world.scheduled.active == 0


async def test_a_job_goes_on_in_the_next_process() -> None:
    world = World()
    refs = [await world.add(f"d{number:03}") for number in range(300)]
    await world.create("j", TWIN_JOB)
    await world.seen("j", lambda job: job.succeeded > 0)
    await world.scheduled.close()
    assert (await world.scheduled.get(HUB, "j")).status is JobStatus.RUNNING
    world.scheduled = world.make_scheduled()
    await world.scheduled.start((HUB,))
    job = await world.seen("j", lambda job: job.is_ended)
    assert (job.succeeded, job.failed) == (300, 0)
    assert {(await world.twins.get(ref)).twin.desired_version for ref in refs} == {2}


async def test_a_device_that_was_deleted_meanwhile_fails_alone() -> None:
    world = World()
    for name in ("a", "b"):
        await world.add(name)
    await world.create("j", {**METHOD_JOB})
    await world.seen("j", lambda job: job.selected)
    await world.registry.delete(DeviceRef(HUB, "a"), None)
    world.connected.come(DeviceRef(HUB, "a"), FakeDevice(MethodAnswer(200, b"")))
    world.connected.come(DeviceRef(HUB, "b"), FakeDevice(MethodAnswer(200, b"")))
    job = await world.seen("j", lambda job: job.is_ended)
    assert (job.succeeded, job.failed) == (1, 1)
    assert (await world.rows("j"))["a"].error_code == "DeviceNotFound"


@pytest.mark.parametrize(
    ("job_id", "body", "code"),
    [
        ("j", {"type": "scheduleUpdateTwin", "queryCondition": "*"}, Code.ARGUMENT_NULL),
        ("j", {**TWIN_JOB, "queryCondition": ""}, Code.ARGUMENT_NULL),
        ("j", {**TWIN_JOB, "queryCondition": "tags.x >"}, Code.ARGUMENT_INVALID),
        ("j", {**TWIN_JOB, "jobId": "other"}, Code.ARGUMENT_INVALID),
        ("a b", TWIN_JOB, Code.ARGUMENT_INVALID),
        ("j", {**TWIN_JOB, "updateTwin": {"etag": "MA==", "tags": {}}}, Code.ARGUMENT_INVALID),
        ("j", {**TWIN_JOB, "updateTwin": {"etag": "*"}}, Code.ARGUMENT_NULL),
        ("j", {**TWIN_JOB, "updateTwin": {"tags": {"a.b": 1}}}, Code.ARGUMENT_INVALID),
        ("j", {**METHOD_JOB, "cloudToDeviceMethod": {"methodName": "a/b"}}, Code.ARGUMENT_INVALID),
        ("j", {**METHOD_JOB, "maxExecutionTimeInSeconds": 0}, Code.ARGUMENT_INVALID),
        ("j", {**METHOD_JOB, "startTime": "tomorrow"}, Code.ARGUMENT_INVALID),
        ("j", {**METHOD_JOB, "type": "rebootDevice"}, Code.ARGUMENT_INVALID),
        ("j", [], Code.ARGUMENT_INVALID),
    ],
)
async def test_what_cannot_be_scheduled_is_refused(job_id: str, body: object, code: Code) -> None:
    world = World()
    with pytest.raises(HubError) as refused:
        await world.create(job_id, body)
    assert refused.value.code is code


async def test_an_id_is_used_once() -> None:
    world = World()
    await world.create("j", TWIN_JOB)
    with pytest.raises(HubError) as refused:
        await world.create("j", TWIN_JOB)
    assert refused.value.code is Code.JOB_ALREADY_EXISTS
    with pytest.raises(HubError) as unknown:
        await world.scheduled.get(HUB, "none")
    assert unknown.value.code is Code.JOB_NOT_FOUND
