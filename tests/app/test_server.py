"""What runs as long as the server, and what is left of it when its disk has failed."""

import asyncio

import pytest

from isthmus.app import server
from isthmus.base.state import StateClosed


async def test_background_work_that_fails_is_taken_up_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "RETRY_SECONDS", 0)
    outcomes = iter((StateClosed("disk full"), ValueError("ours"), None))
    worked = asyncio.Event()

    async def work() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        worked.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(server._kept_up("relay", work))
    await asyncio.wait_for(worked.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert caplog.messages == ["background work failed"] * 2
    assert [bool(record.exc_info) for record in caplog.records] == [False, True]
