"""Probes live for minutes, at the doors only."""

from isthmus.base.errors import Hop, Refusal
from isthmus.base.ids import DeviceRef, HubId, RandomIds, is_probe, valid_id
from isthmus.devices.identity import Identity
from isthmus.devices.probes import PROBE_SECONDS, PROBES_MAX, Probe, Probes

HUB = HubId(1)
HOST = "hub.isthmus.test"
REFUSAL = Refusal(Hop.NETWORK, "network.public-access", "it is closed", "open it")


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1_000


class Registry:
    """Knows nobody, and who was asked for."""

    def __init__(self) -> None:
        self.asked: list[DeviceRef] = []

    async def get(self, ref: DeviceRef) -> Identity | None:
        self.asked.append(ref)
        return None


def make() -> tuple[Probes, Clock, Registry]:
    clock, registry = Clock(), Registry()
    return Probes(registry, clock, RandomIds()), clock, registry


async def identity(probes: Probes, probe: Probe, hub: HubId = HUB) -> Identity | None:
    return await probes.get(DeviceRef(hub, probe.device_id))


async def test_a_probe_is_known_at_the_doors_of_its_hub_and_asks_no_registry() -> None:
    probes, _, registry = make()
    probe = probes.make(HUB, HOST)
    found = await identity(probes, probe)
    assert found is not None
    assert found.enabled
    assert found.primary_key is not None
    assert await identity(probes, probe, HubId(2)) is None
    assert await probes.get(DeviceRef(HUB, probe.device_id, "module")) is None
    assert registry.asked == []


async def test_everybody_else_is_the_registrys() -> None:
    probes, _, registry = make()
    assert await probes.get(DeviceRef(HUB, "press")) is None
    assert registry.asked == [DeviceRef(HUB, "press")]


async def test_a_probe_dies_of_age_and_when_it_is_forgotten() -> None:
    probes, clock, _ = make()
    old, done = probes.make(HUB, HOST), probes.make(HUB, HOST)
    probes.forget(done)
    assert await identity(probes, done) is None
    clock.now_ms += PROBE_SECONDS * 1_000
    assert await identity(probes, old) is None


async def test_with_one_too_many_the_oldest_goes() -> None:
    probes, _, _ = make()
    first = probes.make(HUB, HOST)
    for _ in range(PROBES_MAX):
        last = probes.make(HUB, HOST)
    assert await identity(probes, first) is None
    assert await identity(probes, last) is not None


def test_why_a_probe_was_refused_is_told_when_it_is_forgotten() -> None:
    probes, _, _ = make()
    probe = probes.make(HUB, HOST)
    probes.refused("press", REFUSAL)
    probes.refused(probe.device_id, REFUSAL)
    assert probes.forget(probe) == REFUSAL
    assert probes.forget(probe) is None


def test_nobody_can_make_a_device_of_that_name_and_no_token_shows() -> None:
    probes, _, _ = make()
    probe = probes.make(HUB, HOST)
    assert is_probe(probe.device_id)
    assert not valid_id(probe.device_id)
    assert probe.token not in repr(probe)
