"""A hub that forgets, as continuous integration starts it: made from a seed, used by the stock clients, and gone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import CredentialError

from clients.devices import OTHER_KEY, client_of, twin_of
from clients.reading import EventCollector
from support.server import RunningHub

KEY = "a2V5LW9mLWEtc2VlZGVkLWRldmljZS1mb3ItdGVzdHM="
SECOND_KEY = "c2Vjb25kLWtleS1vZi1hLXNlZWRlZC1kZXZpY2UtISE="
SEED = f"""
[[devices]]
id = "press"
primary_key = "{KEY}"
secondary_key = "{SECOND_KEY}"
modules = ["vision"]
tags = {{ hall = 2 }}
desired = {{ interval = 5, limits = {{ high = 1.5 }} }}

[[devices]]
id = "off"
primary_key = "{KEY}"
enabled = false
"""


@pytest.fixture
def hub(make_hub: Callable[..., RunningHub], tmp_path: Path) -> RunningHub:
    (tmp_path / "seed.toml").write_text(SEED)
    return make_hub("--ephemeral", "--seed", str(tmp_path / "seed.toml"))


def test_device_connects_with_either_key_of_the_seed(hub: RunningHub, collect: Callable[..., EventCollector]) -> None:
    for key in (KEY, SECOND_KEY):
        with opened(client_of(hub, seeded(hub, "press", key))) as device:
            assert device.get_twin()["desired"] == {"interval": 5, "limits": {"high": 1.5}, "$version": 2}
            device.send_message(key)
    assert [event.body_as_str() for event in collect().of_device("press", 2)] == [KEY, SECOND_KEY]


def test_what_the_seed_does_not_let_in_is_refused(hub: RunningHub) -> None:
    for device_id, key, rule in (
        ("off", KEY, "auth.disabled"),
        ("press", OTHER_KEY, "auth.signature"),
        ("nobody", KEY, "auth.unknown-device"),
    ):
        device = client_of(hub, seeded(hub, device_id, key))
        with pytest.raises(CredentialError):
            device.connect()
        device.shutdown()
        assert hub.json("explain", "--device-id", device_id)[0]["rule"] == rule


def test_started_again_it_has_what_the_seed_says_and_nothing_else(
    hub: RunningHub, collect: Callable[..., EventCollector]
) -> None:
    hub.create_device("later")
    with opened(client_of(hub, seeded(hub, "press", KEY))) as device:
        device.patch_twin_reported_properties({"speed": 3})
        device.send_message("forgotten")
    hub.isthmus("c2d-message", "send", "-d", "press", "--data", "forgotten too")
    authority = hub.ca.read_bytes()

    hub.stop()
    hub.start()

    assert hub.ca.read_bytes() == authority, "clients go on trusting it"
    assert [twin["deviceId"] for twin in hub.json("device-identity", "list")] == ["off", "press"]
    assert twin_of(hub, "press")["cloudToDeviceMessageCount"] == 0
    with opened(client_of(hub, seeded(hub, "press", KEY))) as device:
        assert device.get_twin()["reported"] == {"$version": 1}
        device.send_message("after")
    (event,) = collect().of_device("press")
    assert event.body_as_str() == "after"
    assert event.sequence_number == 0


@contextmanager
def opened(device: IoTHubDeviceClient) -> Iterator[IoTHubDeviceClient]:
    """The client, connected; shut down afterwards."""
    device.connect()
    try:
        yield device
    finally:
        device.shutdown()


def seeded(hub: RunningHub, device_id: str, key: str) -> str:
    """The connection string that whoever wrote the seed can write too."""
    return f"HostName={hub.host_name};DeviceId={device_id};SharedAccessKey={key}"
