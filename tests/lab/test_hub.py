"""What the lab's hub begins with."""

from pathlib import Path

from isthmus.base.ids import RandomIds
from isthmus.lab.hub import probe_device, seed_of
from isthmus.seed import load_seed
from lab.plans import factory


def test_the_seed_has_every_hub_every_device_and_a_probe_for_every_host(tmp_path: Path) -> None:
    plan = factory()
    keys = {host: RandomIds().key() for host in plan.hosts}
    path = tmp_path / "seed.toml"
    path.write_text(seed_of(plan, keys))
    seed = load_seed(str(path))
    assert [hub.name for hub in seed.hubs] == ["bakery"]
    devices = {(device.id, device.hub) for device in seed.devices}
    assert {("press-1", ""), ("oven", "bakery"), ("probe-oven", "bakery"), ("probe-till", "")} <= devices
    assert {probe_device(host) for host in plan.hosts} <= {device_id for device_id, _ in devices}
    assert ("till", "") not in devices
