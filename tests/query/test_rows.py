"""Conditions over rows at hand."""

import pytest

from isthmus.base.errors import HubError
from isthmus.query.parser import parse
from isthmus.query.rows import equal_text, row_holds
from isthmus.query.syntax import Expression

ROW = {
    "deviceId": "d1",
    "jobId": "j",
    "status": "completed",
    "createdDateTimeUtc": "2026-01-01T00:00:00.0000000Z",
    "outcome": {"deviceMethodResponse": {"status": 200}},
}


def where(text: str) -> Expression:
    condition = parse(f"SELECT * FROM devices.jobs WHERE {text}").where
    assert condition is not None
    return condition


@pytest.mark.parametrize(
    ("text", "holds"),
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
        ("outcome.deviceMethodResponse.status = 200", True),
        ("outcome.deviceMethodResponse.status >= 201", False),
        ("outcome.deviceMethodResponse.status = '200'", False),
        ("error.code = 'x'", False),
        ("error.code != 'x'", False),
        ("NOT error.code = 'x'", False),
        ("is_defined(error)", False),
        ("deviceId > 1", False),
        ("deviceId", False),
        ("jobId = undefined", False),
    ],
)
def test_a_condition_holds_only_where_it_is_true(text: str, holds: bool) -> None:
    assert row_holds(where(text), ROW) is holds


@pytest.mark.parametrize("text", ["startswith(deviceId, 'd')", "1 + 1 = 2"])
def test_what_is_not_offered_is_refused(text: str) -> None:
    condition = where(text)
    if text.startswith("starts"):
        with pytest.raises(HubError):
            row_holds(condition, ROW)
    else:
        assert not row_holds(condition, ROW)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("jobId = 'j'", "j"),
        ("status = 'x' AND jobid = 'j'", "j"),
        ("jobId = 'j' OR status = 'x'", ""),
        ("jobId = 1", ""),
    ],
)
def test_a_member_that_must_equal_a_text_is_found(text: str, found: str) -> None:
    assert equal_text(where(text), "jobId") == found


def test_without_a_condition_nothing_is_fixed() -> None:
    assert equal_text(None, "jobId") == ""
