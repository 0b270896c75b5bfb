"""Stock SDKs and tools against a running hub, over TLS, nothing changed but the host name and the trusted CA."""

import gc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import certifi
import pytest
from azure.iot.hub import IoTHubRegistryManager

from clients.managing import Managing, make_token, managing
from clients.reading import EventCollector
from support.loopback import Loopback
from support.server import RunningHub


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the SDKs themselves do with deprecated calls and open sockets is not ours to mend."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="module", autouse=True)
def swept_up() -> Iterator[None]:
    """The SDKs leave sockets to the garbage collector, whose warning would fail whichever test it comes in."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub of this module's own, on its own loopback address.

    The module may say `HUB_OPTIONS`, more options of `isthmus up`, `HUB_HOST`, the host name, and `HUB_SETTINGS`, the
    settings file.
    """
    options, host = getattr(request.module, "HUB_OPTIONS", ()), getattr(request.module, "HUB_HOST", "")
    folder, settings = tmp_path_factory.mktemp("hub"), getattr(request.module, "HUB_SETTINGS", "")
    with Loopback() as loopback:
        running = RunningHub(folder, loopback.take(), hostname=host, settings=settings, options=options)
        try:
            running.start()
            yield running
            gc.collect()  # msrest forgets its connections open, and a server that ends lets idle clients hang up first
            running.stop()
        finally:
            running.kill()


@pytest.fixture(scope="module")
def owner(hub: RunningHub) -> Iterator[Managing]:
    """The stock management clients of somebody who may do everything."""
    with managing(hub, make_token(hub, "owner")) as clients:
        yield clients


@pytest.fixture(autouse=True)
def trust(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes requests and uamqp, which read certifi's file only, trust the hub's CA, as `isthmus env` tells."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hub.ca))
    monkeypatch.setattr(certifi, "where", lambda: str(hub.ca))


@pytest.fixture
def device_id() -> str:
    """A device id of this test's own."""
    return f"dev-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def service(hub: RunningHub) -> Iterator[IoTHubRegistryManager]:
    """The stock service client, as the owner."""
    manager = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    yield manager
    manager.amqp_svc_client.disconnect_sync()


@pytest.fixture
def collect(hub: RunningHub) -> Iterator[Callable[..., EventCollector]]:
    """Starts readers of the built-in endpoint and stops them after the test."""
    started: list[EventCollector] = []

    def start(**options: object) -> EventCollector:
        collector = EventCollector(hub.events_connection_string(), str(hub.ca), **options)
        started.append(collector)
        return collector

    yield start
    if started:
        with ThreadPoolExecutor(len(started)) as closers:
            list(closers.map(EventCollector.close, started))
