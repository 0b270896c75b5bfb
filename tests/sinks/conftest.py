"""One Azurite for all tests of a module, and the way out to it."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.routing.sink import Destination
from sinks.egress import LaidEgress
from support.azurite import PORT, Azurite, running_azurite, why_no_azurite
from support.loopback import Loopback


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """uvloop closes an aborted TLS transport in a later turn of its loop, which a test's has not always got."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="module", autouse=True)
def swept_up() -> Iterator[None]:
    """What these tests leave to the garbage collector must not fail whichever test it comes in."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A storage account; skips where Azurite is not installed."""
    if reason := why_no_azurite():
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("azurite")
    with Loopback() as loopback, running_azurite(folder, loopback.take()) as running:
        yield running


@pytest.fixture
def egress(azurite: Azurite) -> LaidEgress:
    """Leads the account's name, and its bare address, to Azurite."""
    there = [Destination(azurite.address, PORT)]
    return LaidEgress(azurite.ca, {azurite.host: there, azurite.address: there})
