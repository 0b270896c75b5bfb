"""What a deleted hub leaves is swept up: while the server runs, after a crash at any point, damage included."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.backends.sqlite import SqliteState
from isthmus.backends.sqlite.schema import connect
from isthmus.base.ids import HubId
from isthmus.base.state import NO_HUB, Key, Put, State, StateClosed
from isthmus.resources import removal
from isthmus.resources.removal import KINDS, Removal
from isthmus.resources.stored_resources import DELETED
from resources.world import World

GONE, KEPT = HubId(1), HubId(2)
TURNS_MAX = 10_000


class FailingState(MemoryState):
    """Commits a number of times, then fails like a full disk."""

    commits_left: int = 1_000_000

    async def commit(self, *arguments: object) -> list[int]:
        if self.commits_left <= 0:
            raise StateClosed("disk full")
        self.commits_left -= 1
        return await super().commit(*arguments)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "BATCH_MAX", 3)


@pytest.fixture
async def world() -> World:
    made = await World(FailingState()).with_hub("gone")
    await made.with_hub("kept")
    for hub in (GONE, KEPT):
        await fill(made.state, hub)
    return made


async def test_documents_go_while_the_server_runs_and_the_mark_stays(world: World) -> None:
    async with running(world.state, world) as sweeping:
        await world.hubs.delete("gone")
        await swept(sweeping)

        assert await counts(world.state, GONE) == [0] * len(KINDS)
        assert await counts(world.state, KEPT) == [5] * len(KINDS)
        assert await marks(world.state) == [f"{DELETED}{GONE}"]


async def test_the_next_start_finds_what_came_late_and_forgets_the_mark(world: World) -> None:
    await world.hubs.delete("gone")
    await fill(world.state, GONE)

    removed = await Removal(world.state).finish()

    assert removed == 5 * len(KINDS)
    assert await counts(world.state, KEPT) == [5] * len(KINDS)
    assert await marks(world.state) == []
    assert await Removal(world.state).finish() == 0


@pytest.mark.parametrize("commits", range(13))
async def test_a_crash_anywhere_is_made_up_for(world: World, commits: int) -> None:
    assert isinstance(world.state, FailingState)
    await world.hubs.delete("gone")
    world.state.commits_left = commits
    with pytest.raises(StateClosed):
        await Removal(world.state).finish()
    assert await marks(world.state) != []

    world.state.commits_left = 1_000_000
    await Removal(world.state).finish()

    assert await counts(world.state, GONE) == [0] * len(KINDS)
    assert await marks(world.state) == []


async def test_a_failed_sweep_is_taken_up_again(world: World) -> None:
    assert isinstance(world.state, FailingState)
    sweeping = Removal(world.state)
    await world.hubs.delete("gone")
    await sweeping.resource_changed(world.told[0][1], None)
    world.state.commits_left = 4
    with pytest.raises(StateClosed):
        await sweeping.run()

    world.state.commits_left = 1_000_000
    running_again = asyncio.create_task(sweeping.run())
    await swept(sweeping)

    assert await counts(world.state, GONE) == [0] * len(KINDS)
    running_again.cancel()
    await asyncio.gather(running_again, return_exceptions=True)


async def test_a_hub_of_the_same_name_has_nothing_of_the_old_one(world: World) -> None:
    await world.hubs.delete("gone")
    again = await world.hubs.create("gone", host_name="gone.example.test", partitions=4)

    await Removal(world.state).finish()

    assert again.number not in (GONE, KEPT)
    assert world.hubs.require("gone") == again


async def test_damaged_documents_go_too(tmp_path: Path) -> None:
    state = await SqliteState.open(tmp_path / "state.db")
    try:
        world = await World(state).with_hub("gone")
        await world.with_hub("kept")
        await fill(state, GONE)
        connection = connect(tmp_path / "state.db")
        connection.execute("UPDATE documents SET body = x'00' WHERE hub = ? AND name > 'd1'", (GONE,))
        connection.close()
        await world.hubs.delete("gone")

        assert await Removal(state).finish() == 5 * len(KINDS)
        assert await counts(state, GONE) == [0] * len(KINDS)
    finally:
        await state.close()


async def fill(state: State, hub: HubId) -> None:
    """Five documents of each kind."""
    await state.commit([Put(Key(kind, hub, f"d{number}"), b"{}") for kind in KINDS for number in range(5)])


async def counts(state: State, hub: HubId) -> list[int]:
    return [await state.count(kind, hub) for kind in KINDS]


async def marks(state: State) -> list[str]:
    return [stored.key.name for stored in await state.scan("meta", NO_HUB, prefix=DELETED)]


@contextlib.asynccontextmanager
async def running(state: State, world: World) -> AsyncIterator[Removal]:
    sweeping = Removal(state)
    world.hubs.on_change(sweeping.resource_changed)
    task = asyncio.create_task(sweeping.run())
    yield sweeping
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def swept(sweeping: Removal) -> None:
    for _ in range(TURNS_MAX):
        if not sweeping.waiting:
            return
        await asyncio.sleep(0)
    raise AssertionError("the sweep does not end")
