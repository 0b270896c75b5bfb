"""What a connector walks to when its hub asks, and what it does not."""

import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.connector.checking import PathChecks
from isthmus.paths.errand import Errand, Station, Verdict, Way, decode_walk, encode_errand

ADDRESS = "10.60.0.4"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound and not listened at, so that nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def performed(address: str, port: int, **members: Any) -> list[tuple[Station, Verdict, str]]:
    checks = PathChecks(lambda _: "127.0.0.1", lambda: {ADDRESS}, SystemClock(), RandomIds())
    errand = Errand(Way.MQTT, "hub.isthmus.test", address, port, "", "~probe-1", "a token", **members)
    walk = decode_walk(await checks.perform({"path": encode_errand(errand)}))
    return [(step.station, step.verdict, step.detail) for step in walk.steps]


async def test_it_walks_to_its_endpoint_where_that_is_listened_at(closed_port: int) -> None:
    steps = await performed(ADDRESS, closed_port)
    assert steps[-1] == (Station.TCP, Verdict.FAILED, "nobody listens there")


async def test_it_does_not_look_around_in_the_network(closed_port: int) -> None:
    (step,) = await performed("10.60.0.5", closed_port)
    assert step[:2] == (Station.VANTAGE, Verdict.FAILED)
    assert "no private endpoint at 10.60.0.5" in step[2]


async def test_it_asks_no_name_service_but_its_own(closed_port: int) -> None:
    steps = await performed(ADDRESS, closed_port, name_servers=(("10.60.0.53", 53),), own_resolver=True)
    assert steps[0] == (
        *(Station.NAME, Verdict.SKIPPED),
        "this hub serves no names there; clients need theirs to know the address",
    )


@pytest.mark.parametrize("request_", [{}, {"path": 1}, {"path": {"way": "gopher"}}])
async def test_what_is_no_path_is_not_walked(request_: dict[str, object]) -> None:
    checks = PathChecks(str, lambda: (), SystemClock(), RandomIds())
    with pytest.raises(msgspec.ValidationError):
        await checks.perform(request_)
