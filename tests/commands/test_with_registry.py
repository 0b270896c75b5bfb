"""Cloud-to-device queues under the identity registry, over each backend: what a deletion leaves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commands.fakes import DEVICE, HUB, OTHER_DEVICE, Bench
from isthmus.backends.memory import MemoryState
from isthmus.backends.sqlite import SqliteState
from isthmus.base.errors import Code, HubError
from isthmus.base.state import State
from isthmus.commands.cloud_to_device import Ack, C2DMessage
from isthmus.devices.registry import Registry


@pytest.fixture(params=["memory", "sqlite"])
async def state(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[State]:
    """An empty state of each kind."""
    opened = MemoryState() if request.param == "memory" else await SqliteState.open(tmp_path / "state.db")
    yield opened
    await opened.close()


@pytest.fixture
async def bench(state: State) -> AsyncIterator[Bench]:
    """Queues over that state."""
    bench = Bench(state=state)
    yield bench
    await bench.c2d.close()
    await bench.feedback.close()


@pytest.fixture
async def registry(bench: Bench) -> Registry:
    """A registry with two devices."""
    registry = Registry(bench.state, bench.clock, bench.ids, bench.c2d)
    registry.on_change(bench.c2d.identity_changed)
    for ref in (DEVICE, OTHER_DEVICE):
        await registry.put(ref, {}, None)
    return registry


async def test_a_deleted_devices_messages_go_with_it(bench: Bench, registry: Registry) -> None:
    for ref in (DEVICE, OTHER_DEVICE):
        await bench.send(C2DMessage(ref.device_id.encode(), ack=Ack.FULL), ref)
    held = await bench.receive()
    await registry.delete(DEVICE, None)
    with pytest.raises(HubError) as caught:
        await bench.c2d.complete(DEVICE, held.lock_token)
    assert caught.value.code is Code.MESSAGE_LOCK_LOST
    await registry.put(DEVICE, {}, None)
    assert await bench.c2d.receive(DEVICE, 10) == []
    assert (await bench.receive(OTHER_DEVICE)).payload == b"dev2"
    await bench.pass_time(seconds=0)
    assert await bench.records() == []


async def test_sends_and_deletions_at_once_leave_no_message_without_a_device(bench: Bench, registry: Registry) -> None:
    for _ in range(20):
        outcomes = await asyncio.gather(
            *(bench.send(C2DMessage(b"")) for _ in range(5)),
            registry.delete(DEVICE, None),
            *(bench.send(C2DMessage(b"")) for _ in range(5)),
            return_exceptions=True,
        )
        refused = {outcome.code for outcome in outcomes if isinstance(outcome, HubError)}
        assert refused <= {Code.DEVICE_NOT_FOUND}
        assert [
            outcome for outcome in outcomes if isinstance(outcome, Exception) and not isinstance(outcome, HubError)
        ] == []
        assert await bench.state.count("queue", HUB) == 0
        assert await bench.state.count("meta", HUB) == 0
        await registry.put(DEVICE, {}, None)


async def test_devices_work_at_once(bench: Bench, registry: Registry) -> None:
    async def send_and_complete(number: int) -> None:
        ref = (DEVICE, OTHER_DEVICE)[number % 2]
        await bench.send(C2DMessage(b"%d" % number, ack=Ack.FULL), ref)
        for locked in await bench.c2d.receive(ref, 1):
            await bench.c2d.complete(ref, locked.lock_token)

    await asyncio.gather(*(send_and_complete(number) for number in range(40)))
    assert [await bench.c2d.count(ref) for ref in (DEVICE, OTHER_DEVICE)] == [0, 0]
    await bench.pass_time(seconds=0)
    assert sum(len(batch) for batch in await bench.records()) == 40
