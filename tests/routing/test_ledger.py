"""What is kept of deliveries, and when it is written."""

from collections.abc import Sequence

import pytest

from isthmus.backends.memory import MemoryState
from isthmus.base.ids import HubId
from isthmus.base.state import Change, OutboxEvent, StateClosed
from isthmus.routing import ledger as ledger_module
from isthmus.routing.health import NOTHING_TRIED
from isthmus.routing.ledger import Delivered, Ledger

HUB = HubId(1)
HEALTH = NOTHING_TRIED.succeeded(1_750_000_000_000)


class FailingState(MemoryState):
    """Refuses to commit while `is_full`."""

    is_full = False
    commits = 0

    async def commit(self, changes: Sequence[Change], outbox: Sequence[OutboxEvent] = ()) -> list[int]:
        if self.is_full:
            raise StateClosed
        self.commits += 1
        return await super().commit(changes, outbox)


async def reopened(state: MemoryState) -> Ledger:
    ledger = Ledger(state)
    await ledger.load(HUB)
    return ledger


async def test_a_new_endpoint_begins_where_the_log_ended_and_that_is_durable() -> None:
    state = MemoryState()
    assert await Ledger(state).open(HUB, 2, 700) == Delivered(700)
    again = await reopened(state)
    assert await again.open(HUB, 2, 900) == Delivered(700)
    assert again.lowest() == 700


async def test_all_pages_are_read_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "DOCUMENTS_MAX", 2)
    state = MemoryState()
    for number in range(2, 7):
        await Ledger(state).open(HUB, number, number * 100)
    again = await reopened(state)
    assert [page.lowest for number in range(2, 7) if (page := again.page(HUB, number)) is not None] == [
        200,
        300,
        400,
        500,
        600,
    ]


async def test_what_is_noted_is_there_after_a_write() -> None:
    state = FailingState()
    ledger = Ledger(state)
    await ledger.open(HUB, 2, 0)
    ledger.note(HUB, 2, {0: 40, 1: 30}, HEALTH)
    assert ledger.lowest() == 30
    assert (await reopened(state)).lowest() == 0
    commits = state.commits
    await ledger.write()
    await ledger.write()
    assert state.commits == commits + 1
    page = (await reopened(state)).page(HUB, 2)
    assert page == Delivered(0, {0: 40, 1: 30}, HEALTH)


async def test_what_could_not_be_written_is_written_later() -> None:
    state = FailingState()
    ledger = Ledger(state)
    await ledger.open(HUB, 2, 0)
    ledger.note(HUB, 2, {0: 40}, HEALTH)
    state.is_full = True
    with pytest.raises(StateClosed):
        await ledger.write()
    state.is_full = False
    await ledger.write()
    assert (await reopened(state)).lowest() == 40


async def test_a_forgotten_endpoint_holds_nothing_back() -> None:
    state = MemoryState()
    ledger = Ledger(state)
    await ledger.open(HUB, 2, 10)
    await ledger.open(HUB, 3, 20)
    await ledger.forget(HUB, 2)
    ledger.note(HUB, 2, {0: 5}, HEALTH)
    await ledger.write()
    assert ledger.lowest() == 20
    assert (await reopened(state)).names() == [(HUB, 3)]


async def test_a_deleted_hub_holds_nothing_back() -> None:
    ledger = Ledger(MemoryState())
    await ledger.open(HUB, 2, 10)
    ledger.forget_hub(HUB)
    assert ledger.lowest() is None
