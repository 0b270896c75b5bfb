"""A draft: what is written is read, and one commit in the end says it all, or nothing."""

import pytest

from devices.fakes import HUB
from isthmus.backends.memory import MemoryState
from isthmus.base.state import Check, Conflict, Delete, Key, OutboxEvent, Put
from isthmus.devices.draft import Draft

A, B, C = (Key("identity", HUB, name) for name in "abc")


async def test_what_is_written_is_read_and_nothing_is_committed() -> None:
    state = MemoryState()
    await state.commit([Put(A, b"1"), Put(B, b"1")])
    draft = Draft(state)
    await draft.commit([Put(A, b"2", 1), Delete(B, 1), Put(C, b"1", 0)])
    await draft.commit([Put(A, b"3", 2)])
    assert [stored and stored.body for stored in [await draft.get(key) for key in (A, B, C)]] == [b"3", None, b"1"]
    assert [stored.key for stored in await draft.scan("identity", HUB)] == [A, C]
    assert [stored.key for stored in await draft.scan("identity", HUB, after="a", limit=1)] == [C]
    assert (await draft.count("identity", HUB), await state.count("identity", HUB)) == (2, 2)
    stored = await state.get(A)
    assert stored is not None
    assert stored.body == b"1"


async def test_it_is_one_change_a_document_expected_at_what_was_first_found() -> None:
    state = MemoryState()
    await state.commit([Put(A, b"1")])
    draft = Draft(state)
    await draft.commit([Put(A, b"2", 1)], [OutboxEvent(HUB, b"first")])
    await draft.commit([Put(A, b"3", 2), Put(B, b"1"), Check(C, 0)], [OutboxEvent(HUB, b"second")])
    assert draft.changes == [Put(A, b"3", 1), Put(B, b"1", None), Check(C, 0)]
    assert [event.body for event in draft.events] == [b"first", b"second"]
    draft.clear()
    assert (draft.changes, draft.events) == ([], [])


async def test_what_comes_and_goes_within_it_leaves_nothing_but_the_expectation() -> None:
    draft = Draft(MemoryState())
    await draft.commit([Put(A, b"1", 0)])
    await draft.commit([Delete(A, 1), Delete(B)])
    assert draft.changes == [Check(A, 0)]


async def test_an_expectation_that_does_not_hold_changes_nothing() -> None:
    draft = Draft(MemoryState())
    with pytest.raises(Conflict) as failed:
        await draft.commit([Put(A, b"1", 0), Put(B, b"1", 4)])
    assert failed.value.index == 1
    assert await draft.get(A) is None


async def test_who_was_faster_makes_the_commit_fail() -> None:
    state = MemoryState()
    await state.commit([Put(A, b"1")])
    draft = Draft(state)
    await draft.commit([Put(A, b"2", 1)])
    await state.commit([Put(A, b"other")])
    with pytest.raises(Conflict):
        await state.commit(draft.changes)


async def test_one_that_trusts_leaves_it_to_the_commit_whether_an_expectation_holds() -> None:
    state = MemoryState()
    await state.commit([Put(A, b"1")])
    draft = Draft(state)
    draft.clear(trusts=True)
    await draft.commit([Put(A, b"2", 0), Put(B, b"1", 0)])
    assert draft.changes == [Put(A, b"2", 0), Put(B, b"1", 0)]
    with pytest.raises(Conflict):
        await state.commit(draft.changes)
    draft.clear()
    with pytest.raises(Conflict):
        await draft.commit([Put(A, b"2", 0)])
