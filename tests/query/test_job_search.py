"""Queries over the rows of scheduled jobs."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import holds
from isthmus.query.job_search import JobSearch, job_search
from isthmus.query.parser import parse

ROW = {
    "deviceId": "d1",
    "jobId": "j",
    "status": "completed",
    "createdDateTimeUtc": "2026-01-01T00:00:00.0000000Z",
    "outcome": {"deviceMethodResponse": {"status": 200, "payload": {"taken": [1, "x"]}}},
}


def search(text: str) -> JobSearch:
    return job_search(parse(f"SELECT * FROM devices.jobs {text}"))


@pytest.mark.parametrize(
    ("text", "holding"),
    [
        ("jobId = 'j'", True),
        ("devices.jobs.jobId = 'j' AND devices.jobs.status = 'completed'", True),
        ("devices.jobs.createdTimeUtc > '2016-09-01'", True),
        ("createdDateTimeUtc < '2016-09-01'", False),
        ("STATUS = 'completed'", True),
        ("status != 'failed'", True),
        ("status = 'failed' OR deviceId = 'd1'", True),
        ("NOT status = 'failed'", True),
        ("deviceId IN ['d0', 'd1']", True),
        ("deviceId NIN ['d0', 'd1']", False),
        ("STARTSWITH(deviceId, 'd') AND 1 + 1 = 2", True),
        ("outcome.deviceMethodResponse.status = 200", True),
        ("outcome.deviceMethodResponse.payload.taken[1] = 'x'", True),
        ("outcome.deviceMethodResponse.status >= 201", False),
        ("outcome.deviceMethodResponse.status = '200'", False),
        ("error.code != 'x'", False),
        ("NOT error.code = 'x'", False),
        ("is_defined(error)", False),
        ("deviceId", False),
    ],
)
def test_a_condition_holds_only_where_it_is_true(text: str, holding: bool) -> None:
    assert holds(search(f"WHERE {text}").where, ROW) is holding


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("", ""),
        ("WHERE jobId = 'j'", "j"),
        ("WHERE status = 'x' AND 'j' = devices.jobs.jobid", "j"),
        ("WHERE jobId = 'j' OR status = 'x'", ""),
        ("WHERE jobId = 1", ""),
    ],
)
def test_the_only_job_that_is_meant_is_found(text: str, job_id: str) -> None:
    assert search(text).job_id == job_id


def test_what_devices_answered_is_looked_at_only_when_asked_for() -> None:
    assert search("WHERE outcome.deviceMethodResponse.status = 200").asks_outcome
    assert not search("WHERE status = 'completed'").asks_outcome


def test_the_first_rows_can_be_asked_for() -> None:
    assert job_search(parse("SELECT TOP 3 * FROM devices.jobs")).top == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT jobId FROM devices.jobs", "only SELECT"),
        ("SELECT COUNT() AS n FROM devices.jobs", "only SELECT"),
        ("SELECT * FROM devices.jobs GROUP BY status", "only SELECT"),
        ("SELECT * FROM devices.jobs WHERE tags.x = 1", "rows of devices.jobs have no member 'tags' at position 34"),
        ("SELECT * FROM devices.jobs WHERE LIKE(jobId)", "no function LIKE"),
    ],
)
def test_the_rest_is_refused(text: str, message: str) -> None:
    with pytest.raises(HubError, match=message) as caught:
        job_search(parse(text))
    assert caught.value.code is Code.ARGUMENT_INVALID
