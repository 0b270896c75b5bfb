"""What every test gets: uvloop, watched for callbacks that block it, and loopback addresses of its own."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.loopback import Loopback
from support.server import RunningHub
from support.watched_loop import Stalls, WatchedLoop

HERE = Path(__file__).parent
WITH_SERVERS = frozenset({"clients", "lab", "app", "examples", "sinks", "cli", "names", "namespaces", "checks"})

STALLS = pytest.StashKey[Stalls]()

# No test judges by how fast a machine is. The daily run says the same twice; `make test-long` looks for new examples.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STALLS] = Stalls()


def pytest_asyncio_loop_factories(config: pytest.Config) -> Mapping[str, Callable[[], WatchedLoop]]:
    """The loop the server runs on, for every asynchronous test."""
    return {"uvloop": lambda: WatchedLoop.reporting_to(config.stash[STALLS])}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start servers come first: they wait most of the time, and side by side they wait together."""
    items.sort(key=lambda item: item.path.relative_to(HERE).parts[0] not in WITH_SERVERS)


@pytest.fixture(autouse=True)
def loop_not_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test whose code held the event loop for longer than `support.watched_loop` allows."""
    stalls = request.config.stash[STALLS]
    stalls.forget()
    yield
    if stalls.worst and not request.node.get_closest_marker("long"):
        pytest.fail(f"the event loop was blocked: {stalls.worst}")


@pytest.fixture
def loopback_addresses() -> Iterator[Callable[[], str]]:
    """Gives addresses in 127.0.0.0/8 that no other test or process of this suite holds, until the test ends."""
    with Loopback() as loopback:
        yield loopback.take


@pytest.fixture
def loopback_address(loopback_addresses: Callable[[], str]) -> str:
    """One address of the test's own, so that well-known ports never collide."""
    return loopback_addresses()


@pytest.fixture
def make_hub(tmp_path: Path, loopback_addresses: Callable[[], str]) -> Iterator[Callable[..., RunningHub]]:
    """Starts `isthmus up` processes, each at an address and a data folder of its own; ends what still runs."""
    started: list[RunningHub] = []

    def make(*options: str, hostname: str = "", settings: str = "", forked: bool = False) -> RunningHub:
        folder = tmp_path / f"hub{len(started)}"
        hub = RunningHub(
            folder, loopback_addresses(), hostname=hostname, options=options, settings=settings, forked=forked
        )
        started.append(hub)
        hub.start()
        return hub

    yield make
    for hub in started:
        hub.kill()


@pytest.fixture
def running_hub(make_hub: Callable[..., RunningHub]) -> Iterator[RunningHub]:
    """A hub that answers at its own address, and must end with exit code 0."""
    hub = make_hub()
    yield hub
    if hub.running:
        hub.stop()
