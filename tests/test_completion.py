"""Operations end whatever becomes of their caller."""

import asyncio

import pytest

from isthmus.completion import Completion


async def test_the_caller_gets_the_result_or_the_error() -> None:
    completion = Completion()

    async def seven() -> int:
        return 7

    async def broken() -> int:
        raise ValueError("broken")

    assert await completion.run(seven()) == 7
    with pytest.raises(ValueError, match="broken"):
        await completion.run(broken())


async def test_an_operation_outlives_its_caller_and_is_waited_for() -> None:
    completion, go, done = Completion(), asyncio.Event(), []

    async def operation() -> None:
        await go.wait()
        done.append(1)
        raise ValueError("told to nobody")

    caller = asyncio.create_task(completion.run(operation()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not done
    settling = asyncio.create_task(completion.settled())
    await asyncio.sleep(0)
    assert not settling.done()
    go.set()
    await settling
    assert done == [1]
