"""Jobs from their creation to their end, over containers in memory."""

import asyncio
from collections.abc import Callable

import pytest

from devices.fakes import HUB
from isthmus.base.errors import Code, HubError
from isthmus.jobs import import_export as import_export_module
from isthmus.jobs.import_export import STALLED_SECONDS_MAX
from isthmus.jobs.job import ImportExportJob, JobRequest, JobStatus
from isthmus.jobs.ports import ContainerFailure
from jobs.fakes import INPUT, OUTPUT, World, export_request, import_request, lines_in, text_of


async def done(world: World, request: JobRequest) -> ImportExportJob:
    """Creates a job and waits for its end."""
    return await end_of(world, (await world.jobs.create(world.hub, request)).job_id)


async def end_of(world: World, job_id: str) -> ImportExportJob:
    return await seen(world, job_id, lambda job: job.is_ended)


async def seen(world: World, job_id: str, wanted: Callable[[ImportExportJob], bool]) -> ImportExportJob:
    """The job as soon as it is what is waited for."""
    for _ in range(1_000_000):
        job = await world.jobs.get(HUB, job_id)
        if wanted(job):
            return job
        await asyncio.sleep(0)
    raise AssertionError("the job does not move")


async def test_what_was_exported_is_imported_elsewhere_as_it_was() -> None:
    world, other = World(), World()
    for number in range(250):
        await world.add(f"d{number:03}")
    await world.add("d000/m")
    ref = await world.add("edge", {"capabilities": {"iotEdge": True}})
    await world.twins.patch(ref, {"tags": {"hall": 1}, "properties": {"desired": {"x": {"y": 2}}}}, None)
    await world.twins.patch_reported(ref, {"r": True})
    job = await done(world, export_request())
    assert (job.status, job.progress, job.position.done) == (JobStatus.COMPLETED, 100, 254)
    other.input.blobs["devices.txt"] = world.output.blobs["devices.txt"]
    job = await done(other, import_request())
    assert (job.status, other.output.blobs["importErrors.log"]) == (JobStatus.COMPLETED, b"")
    assert (await other.registry.statistics(HUB)).total == 251
    moved = (await other.twins.get(ref)).twin
    kept = (await world.twins.get(ref)).twin
    assert (moved.tags, moved.properties, moved.metadata) == (kept.tags, kept.properties, kept.metadata)
    assert (moved.desired_version, moved.reported_version) == (kept.desired_version, kept.reported_version)
    for name in ("d000", "d249"):
        ref = ref._replace(device_id=name)
        assert (await other.registry.require(ref)).authentication == (await world.registry.require(ref)).authentication


async def test_keys_are_left_out_when_they_are_not_wanted_and_made_anew_by_an_import() -> None:
    world, other = World(), World()
    ref = await world.add("d")
    await done(world, export_request(excludeKeysInExport=True))
    (line,) = lines_in(world.output.blobs["devices.txt"])
    assert line["authentication"] == {
        "symmetricKey": {"primaryKey": None, "secondaryKey": None},
        "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
        "type": "sas",
    }
    other.input.blobs["devices.txt"] = world.output.blobs["devices.txt"]
    await done(other, import_request())
    assert (await other.registry.require(ref)).primary_key


async def test_lines_that_are_refused_are_logged_and_the_others_carried_out() -> None:
    world = World()
    await world.add("there")
    world.input.blobs["devices.txt"] = text_of(
        {"id": "new", "importMode": "create"},
        {"id": "there", "importMode": "create"},
        b"{broken",
        b"",
        {"id": "gone", "importMode": "delete"},
        {"id": "odd", "importMode": "never"},
        {"id": "odd", "authentication": {"type": "SELF_SIGNED"}},
        {"id": "there", "importMode": "Delete"},
    )
    job = await done(world, import_request())
    assert (job.status, job.position.errors) == (JobStatus.COMPLETED, 5)
    errors = lines_in(world.output.blobs["importErrors.log"])
    assert [(error["errorCode"], error.get("deviceId")) for error in errors] == [
        (409001, "there"),
        (400012, None),
        (404001, "gone"),
        (400004, "odd"),
        (400004, "odd"),
    ]
    assert str(errors[1]["errorStatus"]).startswith("Invalid device format in line: {broken. ")
    assert [each.ref.device_id for each in await world.registry.list(HUB)] == ["new"]


async def test_a_hub_has_one_job_at_a_time_and_may_have_the_next_when_it_is_cancelled() -> None:
    world = World()
    await world.add("d")
    first = await world.jobs.create(world.hub, export_request())
    with pytest.raises(HubError) as refused:
        await world.jobs.create(world.hub, export_request())
    assert refused.value.code is Code.JOB_QUOTA_EXCEEDED
    cancelled = await world.jobs.cancel(HUB, first.job_id)
    assert (cancelled.status, "sig=" in cancelled.output_container) == (JobStatus.CANCELLED, False)
    assert (await done(world, export_request())).status is JobStatus.COMPLETED
    assert (await world.jobs.cancel(HUB, first.job_id)).status is JobStatus.CANCELLED
    with pytest.raises(HubError) as unknown:
        await world.jobs.cancel(HUB, "none")
    assert unknown.value.code is Code.JOB_NOT_FOUND


async def test_a_job_goes_on_in_the_next_process_where_the_last_one_stopped() -> None:
    world = World()
    lines = [{"id": f"d{number:04}", "importMode": "create"} for number in range(1_000)]
    world.input.blobs["devices.txt"] = text_of(*lines, {"id": "d0000", "importMode": "create"})
    job = await world.jobs.create(world.hub, import_request())
    await seen(world, job.job_id, lambda job: job.position.done > 0)
    await world.jobs.close()
    left = await world.jobs.get(HUB, job.job_id)
    assert left.status is JobStatus.RUNNING
    assert 0 < left.position.done < left.position.total
    world.jobs = world.make_jobs()
    await world.jobs.start((HUB,))
    assert (await end_of(world, job.job_id)).position.errors == 1
    assert (await world.registry.statistics(HUB)).total == 1_000
    assert f"read devices.txt from {left.position.done}" in world.input.calls
    (error,) = lines_in(world.output.blobs["importErrors.log"])
    assert (error["errorCode"], error["deviceId"]) == (409001, "d0000")


async def test_what_the_storage_refuses_at_once_makes_no_job() -> None:
    world = World()
    with pytest.raises(HubError) as refused:
        await world.jobs.create(world.hub, import_request())
    assert refused.value.code is Code.BLOB_CONTAINER_VALIDATION
    assert "BlobNotFound" in refused.value.message
    assert await world.jobs.all(HUB) == []
    assert world.jobs.active == 0


async def test_a_storage_that_comes_back_is_waited_for_and_one_that_does_not_fails_the_job() -> None:
    world = World()
    await world.add("d")
    away = ContainerFailure("ServerBusy", "try again", lasting=False)
    job = await world.jobs.create(world.hub, export_request())
    world.output.failures = [away, away]
    assert (await end_of(world, job.job_id)).status is JobStatus.COMPLETED
    assert world.pauses == [1.0, 2.0]
    job = await world.jobs.create(world.hub, export_request())
    world.output.failures = [away] * 1_000
    failed = await end_of(world, job.job_id)
    assert (failed.status, failed.failure) == (JobStatus.FAILED, "ServerBusy: try again")
    assert sum(world.pauses[2:]) >= STALLED_SECONDS_MAX


async def test_an_input_that_changes_under_way_fails_the_job() -> None:
    world = World()
    world.input.blobs["devices.txt"] = text_of(*({"id": f"d{number}"} for number in range(500)))
    job = await world.jobs.create(world.hub, import_request())
    await seen(world, job.job_id, lambda job: job.position.done > 0)
    await world.jobs.close()
    world.input.blobs["devices.txt"] += text_of({"id": "late"})
    world.jobs = world.make_jobs()
    await world.jobs.start((HUB,))
    failed = await end_of(world, job.job_id)
    assert (failed.status, failed.failure) == (
        JobStatus.FAILED,
        "ConditionNotMet: the blob was written meanwhile",
    )


@pytest.mark.parametrize("identity", ["", "/subscriptions/s/identities/none"])
async def test_an_identity_that_the_hub_does_not_have_is_refused(identity: str) -> None:
    world = World()
    request = export_request(
        outputBlobContainerUri=OUTPUT.partition("?")[0],
        storageAuthenticationType="identityBased",
        identity={"userAssignedIdentity": identity or None},
    )
    with pytest.raises(HubError) as refused:
        await world.jobs.create(world.hub, request)
    assert refused.value.code is Code.MANAGED_IDENTITY_NOT_ENABLED


@pytest.mark.parametrize(
    "more",
    [
        {"type": "backup"},
        {"outputBlobContainerUri": None},
        {"outputBlobContainerUri": "https://acct.blob.example/out"},
        {"outputBlobContainerUri": "ftp://acct.blob.example/out?sig=x"},
        {"storageAuthenticationType": "identityBased"},
        {"storageAuthenticationType": "magic"},
        {"includeConfigurations": True},
        {"identity": {"userAssignedIdentity": "/x"}},
        {"outputBlobContainerUri": INPUT, "outputBlobName": "devices.txt"},
    ],
)
async def test_a_request_that_cannot_be_is_refused(more: dict[str, object]) -> None:
    world = World()
    with pytest.raises(HubError):
        await world.jobs.create(world.hub, import_request(**more))
    assert world.containers.asked == []


async def test_an_export_goes_on_behind_its_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.jobs.export_run.BLOCK_BYTES", 20_000)
    world = World()
    for number in range(500):
        await world.add(f"d{number:03}")
    await world.add("d000/m")
    job = await world.jobs.create(world.hub, export_request())
    await seen(world, job.job_id, lambda job: job.position.blocks >= 2)
    await world.jobs.close()
    left = await world.jobs.get(HUB, job.job_id)
    assert (left.status, "devices.txt" in world.output.blobs) == (JobStatus.RUNNING, False)
    world.output.staged["devices.txt", left.position.blocks] = b"of the process that died\n"
    world.jobs = world.make_jobs()
    await world.jobs.start((HUB,))
    done_job = await end_of(world, job.job_id)
    assert (done_job.status, done_job.position.done) == (JobStatus.COMPLETED, 501)
    lines = lines_in(world.output.blobs["devices.txt"])
    assert [line["id"] for line in lines] == [f"d{number:03}" for number in range(500)] + ["d000"]


async def test_errors_that_fill_a_block_are_staged_and_forgotten_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.jobs.import_run.BLOCK_BYTES", 5_000)
    world = World()
    gone = [{"id": f"d{number:04}", "importMode": "delete"} for number in range(700)]
    world.input.blobs["devices.txt"] = text_of(*gone)
    job = await done(world, import_request())
    assert (job.status, job.position.errors, job.position.blocks > 2) == (JobStatus.COMPLETED, 700, True)
    errors = lines_in(world.output.blobs["importErrors.log"])
    assert [error["deviceId"] for error in errors] == [line["id"] for line in gone]
    assert await world.state.scan("job-errors", HUB) == []


async def test_a_cancelled_import_leaves_what_it_did_and_no_waiting_errors() -> None:
    world = World()
    lines = [{"id": f"d{number:04}", "importMode": "create"} for number in range(1_000)]
    world.input.blobs["devices.txt"] = text_of({"id": "none", "importMode": "delete"}, *lines)
    job = await world.jobs.create(world.hub, import_request())
    await seen(world, job.job_id, lambda job: job.position.done > 0)
    assert (await world.jobs.cancel(HUB, job.job_id)).status is JobStatus.CANCELLED
    assert 0 < (await world.registry.statistics(HUB)).total < 1_000
    assert await world.state.scan("job-errors", HUB) == []
    assert "importErrors.log" not in world.output.blobs


async def test_the_job_of_a_hub_that_is_deleted_stops() -> None:
    world = World()
    world.input.blobs["devices.txt"] = text_of(*({"id": f"d{number}"} for number in range(1_000)))
    job = await world.jobs.create(world.hub, import_request())
    await seen(world, job.job_id, lambda job: job.position.done > 0)
    await world.jobs.hub_changed(world.hub, None)
    assert world.jobs.active == 0


async def test_two_who_ask_at_once_get_one_job() -> None:
    world = World()
    answers = await asyncio.gather(
        *(world.jobs.create(world.hub, export_request()) for _ in range(2)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, HubError)]
    assert [answer.code for answer in refused] == [Code.JOB_QUOTA_EXCEEDED]


async def test_of_many_jobs_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export_module, "HISTORY_MAX", 3)
    world = World()
    made = []
    for _ in range(6):
        world.clock.now_ms += 1
        made.append((await done(world, export_request())).job_id)
    assert [job.job_id for job in await world.jobs.all(HUB)] == made[:2:-1]


async def test_jobs_are_forgotten_after_a_month() -> None:
    world = World()
    first = await done(world, export_request())
    world.clock.now_ms += 31 * 86_400_000
    second = await done(world, export_request())
    assert [job.job_id for job in await world.jobs.all(HUB)] == [second.job_id]
    assert first.job_id != second.job_id
