"""The states of a private endpoint connection."""

from itertools import product

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.network.private_endpoints import (
    TRANSITIONS,
    ConnectionStatus,
    PrivateEndpointConnection,
    move,
    status_of,
)

PENDING, APPROVED, REJECTED, DISCONNECTED = ConnectionStatus
MOVES = {(PENDING, APPROVED), (PENDING, REJECTED), (APPROVED, REJECTED)} | {
    (status, DISCONNECTED) for status in (PENDING, APPROVED, REJECTED)
}


def connection(status: ConnectionStatus) -> PrivateEndpointConnection:
    return PrivateEndpointConnection("c", status, "before", "id", "10.1.0.7")


@pytest.mark.parametrize(("before", "after"), sorted(MOVES, key=str))
def test_moves(before: ConnectionStatus, after: ConnectionStatus) -> None:
    moved = move(connection(before), after, "why")
    assert (moved.status, moved.description) == (after, "why")


@pytest.mark.parametrize("status", ConnectionStatus)
def test_the_same_state_again_changes_the_description(status: ConnectionStatus) -> None:
    assert move(connection(status), status, "again").description == "again"


@pytest.mark.parametrize(
    ("before", "after"),
    [pair for pair in product(ConnectionStatus, repeat=2) if pair not in MOVES and pair[0] is not pair[1]],
)
def test_every_other_move_is_refused_with_both_names(before: ConnectionStatus, after: ConnectionStatus) -> None:
    with pytest.raises(HubError, match=f"{before.value} .* {after.value}") as caught:
        move(connection(before), after, "")
    assert caught.value.code is Code.INVALID_TRANSITION


def test_the_table_is_the_whole_of_it() -> None:
    assert TRANSITIONS == MOVES


def test_a_connection_that_is_not_there_is_disconnected() -> None:
    assert status_of("c", [connection(PENDING)]) is PENDING
    assert status_of("d", [connection(PENDING)]) is DISCONNECTED
