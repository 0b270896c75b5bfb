"""Every implementation of the state port, for one suite over all of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.backends.sqlite import SqliteState
from isthmus.base.sealing import KEY_BYTES, Sealer, SealingKey
from isthmus.base.state import State


async def _memory(folder: Path) -> State:
    return MemoryState()


async def _sqlite(folder: Path) -> State:
    return await SqliteState.open(folder / "state.db")


async def _sealed(folder: Path) -> State:
    return await SqliteState.open(folder / "state.db", sealer=Sealer((SealingKey(b"k" * KEY_BYTES),)))


OPENERS: dict[str, Callable[[Path], Awaitable[State]]] = {"memory": _memory, "sqlite": _sqlite, "sealed": _sealed}


@pytest.fixture(params=sorted(OPENERS))
async def state(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[State]:
    """An empty state of each kind."""
    opened = await OPENERS[request.param](tmp_path)
    yield opened
    await opened.close()
