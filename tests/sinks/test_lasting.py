"""A connection that is shared, given up and made again."""

import asyncio

import pytest

from isthmus.sinks.lasting import Lasting


class Maker:
    """Makes numbered connections; waits for `gate` first, and fails while `failing`."""

    def __init__(self) -> None:
        self.made = 0
        self.ended: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.failing = False
        self.cancelled = False
        self.stubborn = False
        self.refused = asyncio.Event()
        self.all_ended = asyncio.Event()

    async def make(self) -> int:
        self.began.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            if not self.stubborn:
                self.cancelled = True
                raise
            self.refused.set()
            await self.gate.wait()
        if self.failing:
            raise OSError("no way")
        self.made += 1
        return self.made

    async def end(self, connection: int) -> None:
        self.ended.append(connection)
        self.all_ended.set()
        if connection == 1:
            raise OSError("a peer that is gone does not say goodbye")


async def test_all_share_one_connection() -> None:
    maker = Maker()
    maker.gate.clear()
    lasting = Lasting(maker.make, maker.end)
    waiting = [asyncio.create_task(lasting.get()) for _ in range(3)]
    await maker.began.wait()
    maker.gate.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert await lasting.get() == 1


async def test_after_a_failure_there_is_a_new_one() -> None:
    maker = Maker()
    lasting = Lasting(maker.make, maker.end)
    await lasting.give_up(await lasting.get())
    assert await lasting.get() == 2
    await lasting.give_up(1)
    assert await lasting.get() == 2, "who gives up an old one does not take the new one from others"
    assert maker.ended == [1, 1]


async def test_whoever_waits_hears_why_there_is_none() -> None:
    maker = Maker()
    maker.failing = True
    lasting = Lasting(maker.make, maker.end)
    with pytest.raises(OSError, match="no way"):
        await lasting.get()
    maker.failing = False
    assert await lasting.get() == 1


async def test_who_is_cancelled_leaves_the_connection_to_the_others() -> None:
    maker = Maker()
    maker.gate.clear()
    lasting = Lasting(maker.make, maker.end)
    first, second = asyncio.create_task(lasting.get()), asyncio.create_task(lasting.get())
    await maker.began.wait()
    first.cancel()
    maker.gate.set()
    assert await second == 1


async def test_closing_ends_what_is_there_and_what_is_being_made() -> None:
    maker = Maker()
    lasting = Lasting(maker.make, maker.end)
    await lasting.get()
    await lasting.close()
    assert maker.ended == [1]
    maker.gate.clear()
    maker.began.clear()
    waiting = asyncio.create_task(lasting.get())
    await maker.began.wait()
    await lasting.close()
    assert maker.cancelled
    with pytest.raises(ConnectionAbortedError):
        await waiting


async def test_a_connection_that_comes_about_after_closing_is_ended() -> None:
    """A client that swallows its cancellation must not leave a connection behind, nor hold up who closes."""
    maker = Maker()
    maker.gate.clear()
    maker.stubborn = True
    lasting = Lasting(maker.make, maker.end)
    waiting = asyncio.create_task(lasting.get())
    await maker.began.wait()
    closing = asyncio.create_task(lasting.close())
    await maker.refused.wait()
    maker.gate.set()
    await closing
    assert await waiting == 1
    await maker.all_ended.wait()
    assert maker.ended == [1]
