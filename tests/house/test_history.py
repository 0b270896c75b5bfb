"""The checker of histories finds what is wrong in each way it may be, and nothing in a history that is good."""

from collections.abc import Sequence

import pytest

from support.history import (
    Acknowledged,
    CommandReceived,
    CommandSent,
    FeedbackRead,
    Heard,
    Looked,
    MethodAnswered,
    MethodCalled,
    MethodExecuted,
    Patched,
    Read,
    Sent,
    Step,
    findings,
)

SUCCESS = "Success"


def read(*places: tuple[int, int], first: int = 0) -> list[Step]:
    """What a reader saw: connections and numbers, in one partition without a gap."""
    return [Read("d", connection, number, "0", first + at) for at, (connection, number) in enumerate(places)]


def sent(connection: int, *numbers: int) -> list[Step]:
    return [Sent("d", connection, number) for number in numbers]


def heard(*versions: int, connection: int = 1) -> list[Step]:
    """Patches that a device was told of; version 1 is the empty section, and version n has value n."""
    return [Heard("s", connection, version, version, whole=False) for version in versions]


def patched(*versions: int) -> list[Step]:
    """Patches of value n that were answered by version n."""
    return [Patched("s", version, version) for version in versions]


EMPTY = Looked("s", None, 1)

GOOD: dict[str, Sequence[Step]] = {
    "nothing": [],
    "what was not acknowledged may be there or not": [*sent(1, 0, 1, 2), Acknowledged("d", 0), *read((1, 0), (1, 1))],
    "what is sent again on the next connection": [
        *sent(1, 0, 1),
        *sent(2, 0, 1, 2),
        *[Acknowledged("d", number) for number in range(3)],
        *read((1, 0), (1, 1), (2, 0), (2, 1), (2, 2)),
    ],
    "an unanswered patch that was applied": [EMPTY, *patched(2), Patched("s", 3, None), Patched("s", 4, 4)],
    "an unanswered patch that was not applied": [EMPTY, *patched(2), Patched("s", 9, None), *patched(3)],
    "unanswered patches of which the second was applied": [
        EMPTY,
        Patched("s", 8, None),
        Patched("s", 9, None),
        Looked("s", 9, 2),
        *patched(3),
    ],
    "a device that hears everything from its twin on": [
        EMPTY,
        *patched(2),
        Heard("s", 1, 2, 2, whole=True),
        *patched(3, 4),
        *heard(3, 4),
        Heard("s", 2, 4, 4, whole=True),
        Looked("s", 4, 4),
    ],
    "a device that hears a patch before its twin": [
        EMPTY,
        *patched(2),
        *heard(2, 3),
        Heard("s", 1, 3, 3, whole=True),
        *patched(3),
    ],
    "a command that comes again after a crash": [
        CommandSent("d", "a", True),
        CommandReceived("d", 1, "a"),
        CommandReceived("d", 2, "a"),
        FeedbackRead("d", "a", SUCCESS),
    ],
    "a command of which nobody knows": [CommandSent("d", "a", False)],
    "feedback that comes again": [
        CommandSent("d", "a", True),
        CommandReceived("d", 1, "a"),
        FeedbackRead("d", "a", SUCCESS),
        FeedbackRead("d", "a", SUCCESS),
    ],
    "a method that was lost": [MethodCalled("d", 1), MethodCalled("d", 2), MethodExecuted("d", 2, 4)],
    "a method that was answered": [MethodCalled("d", 1), MethodExecuted("d", 1, 3), MethodAnswered("d", 1, 3)],
}

BAD: dict[str, Sequence[Step]] = {
    "acknowledged and lost": [*sent(1, 0, 1), Acknowledged("d", 1), *read((1, 0))],
    "sent something else": [*sent(1, 0, 1, 2), *read((1, 0), (1, 2))],
    "in another order": [*sent(1, 0, 1), *read((1, 1), (1, 0))],
    "an earlier connection's message comes behind": [*sent(1, 0, 1), *sent(2, 0), *read((1, 0), (2, 0), (1, 1))],
    "sequence number 2 follows 0": [*sent(1, 0, 1), Read("d", 1, 0, "0", 0), Read("d", 1, 1, "0", 2)],
    "4 where 3 is the highest possible: skipped": [EMPTY, *patched(2, 4)],
    "2 where 3 is the lowest possible: lost or repeated": [EMPTY, *patched(2), Patched("s", 3, 2)],
    "1 where 2 is the lowest possible": [EMPTY, *patched(2), EMPTY],
    "2 has 7, which it cannot have": [EMPTY, *patched(2), Looked("s", 7, 2)],
    "2 stands for 2 and for 3": [EMPTY, *patched(2), Heard("s", 1, 3, 2, whole=True)],
    "2 has 2, which nobody wrote": [EMPTY, *heard(2)],
    "3 was told and is not there in the end": [
        EMPTY,
        *patched(2),
        Patched("s", 3, None),
        *heard(3),
        Looked("s", 2, 2),
    ],
    "connection 1 heard of the versions 2, 4": [EMPTY, *patched(2, 3, 4), *heard(2, 4)],
    "connection 1 heard of the versions 2, 2": [EMPTY, *patched(2), *heard(2, 2)],
    "was given version 1, and heard next of 3": [
        EMPTY,
        Heard("s", 1, None, 1, whole=True),
        *patched(2, 3),
        *heard(3),
    ],
    "accepted and never received: a": [CommandSent("d", "a", True)],
    "received and never sent: b": [CommandReceived("d", 1, "b"), FeedbackRead("d", "b", SUCCESS)],
    "connection 1 received a, a, twice": [
        CommandSent("d", "a", True),
        CommandReceived("d", 1, "a"),
        CommandReceived("d", 1, "a"),
        FeedbackRead("d", "a", SUCCESS),
    ],
    "connection 1 received b, a": [
        CommandSent("d", "a", True),
        CommandSent("d", "b", True),
        CommandReceived("d", 1, "b"),
        CommandReceived("d", 1, "a"),
        FeedbackRead("d", "a", SUCCESS),
        FeedbackRead("d", "b", SUCCESS),
    ],
    "came for the first time before an earlier one": [
        CommandSent("d", "a", True),
        CommandSent("d", "b", True),
        CommandReceived("d", 1, "b"),
        CommandReceived("d", 2, "a"),
        FeedbackRead("d", "a", SUCCESS),
        FeedbackRead("d", "b", SUCCESS),
    ],
    "came again after feedback": [
        CommandSent("d", "a", True),
        CommandReceived("d", 1, "a"),
        FeedbackRead("d", "a", SUCCESS),
        CommandReceived("d", 2, "a"),
    ],
    "without feedback: a": [CommandSent("d", "a", True), CommandReceived("d", 1, "a")],
    "has two outcomes": [
        CommandSent("d", "a", True),
        CommandReceived("d", 1, "a"),
        FeedbackRead("d", "a", SUCCESS),
        FeedbackRead("d", "a", "Expired"),
    ],
    "told to be completed and never received: a": [CommandSent("d", "a", False), FeedbackRead("d", "a", SUCCESS)],
    "feedback about b of d, which nobody sent": [FeedbackRead("d", "b", "Expired")],
    "executed by d, for which nobody called": [MethodExecuted("d", 1, 3)],
    "executed by e, for which nobody called": [MethodCalled("d", 1), MethodExecuted("e", 1, 3)],
    "executed twice": [MethodCalled("d", 1), MethodExecuted("d", 1, 3), MethodExecuted("d", 1, 3)],
    "answered with 4, which d did not answer": [
        MethodCalled("d", 1),
        MethodExecuted("d", 1, 3),
        MethodAnswered("d", 1, 4),
    ],
    "answered with 3, which d did not answer": [MethodCalled("d", 1), MethodAnswered("d", 1, 3)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_good_history_is_without_findings(history: Sequence[Step]) -> None:
    assert findings(history) == []


@pytest.mark.parametrize(("words", "history"), BAD.items(), ids=BAD)
def test_broken_promise_is_found(words: str, history: Sequence[Step]) -> None:
    assert any(words in finding for finding in findings(history)), findings(history)
