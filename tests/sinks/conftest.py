"""One Azurite for all tests of a module, and the way out to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.routing.sink import Destination
from sinks.egress import LaidEgress
from support.azurite import PORT, Azurite, running_azurite, why_no_azurite
from support.loopback import Loopback


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
