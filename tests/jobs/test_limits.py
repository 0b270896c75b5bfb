"""Limits of jobs: what is at the limit is taken, and one more is refused or cut.

The numbers stand here once more, so that whoever raises a limit is asked whether he meant to.
"""

import pytest

from devices.fakes import HUB
from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.jobs.job import JobStatus
from isthmus.jobs.line import LineError, read_line
from jobs.fakes import OUTPUT, World, export_request
from jobs.test_scheduled import METHOD_JOB, TWIN_JOB, SilentDevice
from jobs.test_scheduled import World as Scheduled

YEAR_MS = 365 * 86_400_000


async def test_an_address_that_is_too_long_is_refused() -> None:
    world = World()
    with pytest.raises(HubError, match="longer than 4096"):
        await world.jobs.create(world.hub, export_request(outputBlobContainerUri=OUTPUT + "x" * (4_097 - len(OUTPUT))))
    await world.jobs.create(world.hub, export_request(outputBlobContainerUri=OUTPUT + "x" * (4_096 - len(OUTPUT))))
    await world.jobs.close()


def test_an_error_shows_so_much_of_a_line_and_no_more() -> None:
    for length, shown in ((512, 512), (513, 512)):
        error = read_line(b"[" * length)
        assert isinstance(error, LineError)
        assert error.reason.count("[") == shown


async def test_a_start_may_lie_a_year_ahead() -> None:
    world = Scheduled()
    start = world.clock.now_ms + YEAR_MS
    with pytest.raises(HubError) as refused:
        await world.create("later", {**TWIN_JOB, "startTime": iso_utc(start + 1)})
    assert refused.value.code is Code.ARGUMENT_INVALID
    await world.create("year", {**TWIN_JOB, "startTime": iso_utc(start)})
    await world.scheduled.close()


async def test_a_hundred_jobs_may_be_open_of_which_ten_run() -> None:
    world = Scheduled()
    world.connected.devices[await world.add("d")] = SilentDevice()
    for number in range(100):
        await world.create(f"j{number:03}", METHOD_JOB)
    with pytest.raises(HubError) as refused:
        await world.create("one-more", METHOD_JOB)
    assert refused.value.code is Code.ACTIVE_JOBS_EXCEEDED
    await world.seen("j009", lambda job: job.status is JobStatus.RUNNING)
    jobs = [await world.scheduled.get(HUB, f"j{number:03}") for number in range(100)]
    assert [job.status for job in jobs] == [JobStatus.RUNNING] * 10 + [JobStatus.ENQUEUED] * 90
    await world.scheduled.close()
