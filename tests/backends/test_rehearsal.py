"""A rehearsal of the state: what it writes it reads back as any state would, and the committed one never changes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.backends.memory import MemoryState
from isthmus.backends.rehearsal import RehearsalState
from isthmus.base.ids import HubId
from isthmus.base.state import (
    Change,
    Check,
    Conflict,
    Delete,
    JournalFilter,
    JournalRow,
    Key,
    OutboxEvent,
    Put,
    Stored,
)

HUB = HubId(1)


def key(name: str, kind: str = "meta") -> Key:
    return Key(kind, HUB, name)


names = st.sampled_from(["a", "ab", "b", "ba", "c"])
expectations = st.sampled_from([None, None, 0, 1, 2])
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda name, body, expect: Put(key(name), body, expect), names, st.binary(max_size=3), expectations),
    st.builds(lambda name, expect: Delete(key(name), expect), names, expectations),
    st.builds(lambda name, expect: Check(key(name), expect or 0), names, expectations),
)
commits = st.lists(st.lists(changes, min_size=1, max_size=3), max_size=6)


@given(commits, commits)
async def test_a_rehearsal_behaves_as_the_state_itself(
    before: list[list[Change]], rehearsed: list[list[Change]]
) -> None:
    committed, model = MemoryState(), MemoryState()
    for each in before:
        assert await outcome(committed, each) == await outcome(model, each)
    unchanged = await seen(committed)
    rehearsal = RehearsalState(committed)
    for each in rehearsed:
        assert await outcome(rehearsal, each) == await outcome(model, each)
        assert await seen(rehearsal) == await seen(model)
    assert await seen(committed) == unchanged


async def test_nothing_of_a_rehearsal_is_journaled_or_relayed() -> None:
    committed = MemoryState()
    rehearsal = RehearsalState(committed)
    rehearsal.journal(JournalRow(1, "hub", "", "", "", "changed", b"{}"))
    await rehearsal.commit([Put(key("a"), b"1")], [OutboxEvent(HUB, b"event")])
    assert await rehearsal.journal_read(JournalFilter()) == []
    assert await rehearsal.outbox(after=0, limit=10) == []
    await rehearsal.close()
    assert await committed.get(key("a")) is None


async def test_a_rehearsal_sees_what_is_committed_meanwhile() -> None:
    committed = MemoryState()
    rehearsal = RehearsalState(committed)
    await committed.commit([Put(key("a"), b"1")])
    with pytest.raises(Conflict):
        await rehearsal.commit([Put(key("a"), b"2", expect=0)])


async def outcome(state: MemoryState | RehearsalState, commit: Sequence[Change]) -> list[int] | int:
    try:
        return await state.commit(commit)
    except Conflict as conflict:
        return -1 - conflict.index


async def seen(state: MemoryState | RehearsalState) -> list[object]:
    scans: list[list[Stored]] = [
        await state.scan("meta", HUB, prefix=prefix, after=after, limit=limit)
        for prefix, after, limit in (("", "", 10), ("", "", 2), ("a", "", 10), ("", "ab", 2), ("b", "b", 1))
    ]
    counts = [await state.count("meta", HUB, prefix=prefix) for prefix in ("", "a", "x")]
    return [*scans, *counts, [await state.get(key(name)) for name in ("a", "ab", "c")]]
