"""Seed files: what they may say, and what of it is applied to what is there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.starting import KEY
from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import StateClosed
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.seed import Seed, SeedDevice, SeedHub, SeedHubRules, SeedPrivateEndpoint, load_seed
from isthmus.seeding import Seeding
from servers.management_world import ADDRESS, ManagementWorld

PRESS = SeedDevice("press", primary_key=KEY, modules=("vision",), tags={"hall": 2}, desired={"interval": 5})


@pytest.fixture
async def world() -> ManagementWorld:
    return await ManagementWorld().start()


def seeding(world: ManagementWorld) -> Seeding:
    domain = world.domain
    return Seeding(domain.hubs, domain.endpoints, domain.registry, domain.twins)


def ref(device_id: str, module_id: str = "", hub: int = 1) -> DeviceRef:
    return DeviceRef(HubId(hub), device_id, module_id)


async def documents(world: ManagementWorld) -> Mapping[str, bytes]:
    kinds = ("identity", "twin", "hub", "endpoint")
    found = [stored for kind in kinds for hub in (0, 1, 2) for stored in await world.state.scan(kind, HubId(hub))]
    return {f"{stored.key}": stored.body for stored in found}


async def test_devices_modules_and_twins(world: ManagementWorld) -> None:
    await seeding(world).apply(Seed(devices=(PRESS, SeedDevice("off", enabled=False))))

    press = await world.domain.registry.require(ref("press"))
    assert (press.primary_key, press.secondary_key, press.enabled) == (KEY, KEY, True)
    assert (await world.domain.registry.require(ref("press", "vision"))).module_id == "vision"
    twin = (await world.domain.twins.get(ref("press"))).twin
    assert (twin.tags, twin.properties.desired) == ({"hall": 2}, {"interval": 5})
    off = await world.domain.registry.require(ref("off"))
    assert off.enabled is False
    assert off.primary_key != off.secondary_key


async def test_further_hubs_and_rules(world: ManagementWorld) -> None:
    seed = Seed(
        hub=SeedHubRules(public_network_access=False),
        hubs=(SeedHub("second"), SeedHub("third", "third.elsewhere.test")),
        devices=(SeedDevice("press", hub="second"),),
    )

    await seeding(world).apply(seed)

    hubs = world.domain.hubs.all()
    assert [hub.host_name for hub in hubs] == ["hub.example.test", "second.example.test", "third.elsewhere.test"]
    assert [hub.public_network_access for hub in hubs] == [False, True, True]
    assert await world.domain.registry.get(ref("press")) is None
    assert await world.domain.registry.get(ref("press", hub=2)) is not None


@pytest.mark.parametrize(("approved", "status"), [(True, "Approved"), (False, "Pending")])
async def test_private_endpoints(world: ManagementWorld, approved: bool, status: str) -> None:
    seed = Seed(private_endpoints=(SeedPrivateEndpoint("plant", ADDRESS, approved=approved),))
    await seeding(world).apply(seed)
    assert world.domain.endpoints.all() == ()

    await seeding(world).apply_endpoints(seed)

    (endpoint,) = world.domain.endpoints.all()
    assert isinstance(endpoint, PrivateEndpoint)
    assert world.domain.endpoints.status(endpoint).value == status


async def test_applied_twice_it_changes_nothing(world: ManagementWorld) -> None:
    seed = Seed(
        hub=SeedHubRules(public_network_access=False),
        hubs=(SeedHub("second"),),
        devices=(PRESS,),
        private_endpoints=(SeedPrivateEndpoint("plant", ADDRESS),),
    )
    await seeding(world).apply(seed)
    await seeding(world).apply_endpoints(seed)
    before = await documents(world)

    await seeding(world).apply(seed)
    await seeding(world).apply_endpoints(seed)

    assert await documents(world) == before


async def test_what_was_changed_since_stays(world: ManagementWorld) -> None:
    await seeding(world).apply(Seed(devices=(PRESS,)))
    await world.domain.twins.patch(ref("press"), {"tags": {"hall": None}}, None)
    before = await documents(world)

    await seeding(world).apply(Seed(devices=(PRESS,)))

    assert await documents(world) == before


async def test_a_seeding_that_was_cut_short_is_made_up_for(world: ManagementWorld) -> None:
    """The process ended between the identity and its twin."""
    await world.domain.registry.put(ref("press"), {}, None)

    await seeding(world).apply(Seed(devices=(PRESS,)))

    assert (await world.domain.twins.get(ref("press"))).twin.tags == {"hall": 2}


async def test_many_devices_are_made_and_the_first_refusal_is_told(world: ManagementWorld) -> None:
    devices = [SeedDevice(f"d{number}") for number in range(1_000)]
    devices[700] = SeedDevice("d 700")

    with pytest.raises(ConfigurationError, match=r"^The seed's device d 700 is refused: .*\.$"):
        await seeding(world).apply(Seed(devices=tuple(devices)))


async def test_a_state_that_fails_is_not_taken_for_a_bad_seed(world: ManagementWorld) -> None:
    await world.state.close()

    with pytest.raises(StateClosed):
        await seeding(world).apply(Seed(devices=(PRESS,)))


def load(folder: Path, text: str) -> Seed:
    path = folder / "seed.toml"
    path.write_text(text)
    return load_seed(str(path))


def test_a_file_with_everything(tmp_path: Path) -> None:
    text = """
        [hub]
        public_network_access = false
        [[hubs]]
        name = "second"
        hostname = "second.elsewhere.test"
        [[devices]]
        id = "press"
        hub = "second"
        primary_key = "cA=="
        secondary_key = "cw=="
        enabled = false
        modules = ["vision"]
        tags = { hall = 2 }
        desired = { interval = 5 }
        [[private_endpoints]]
        name = "plant"
        address = "127.0.0.2"
        approved = false
        hub = "second"
    """

    assert load(tmp_path, text) == Seed(
        SeedHubRules(public_network_access=False),
        (SeedHub("second", "second.elsewhere.test"),),
        (SeedDevice("press", "cA==", "cw==", False, "second", ("vision",), {"hall": 2}, {"interval": 5}),),
        (SeedPrivateEndpoint("plant", "127.0.0.2", False, "second"),),
    )


def test_an_empty_file_seeds_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Seed()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[devices]]\nname = 'x'", "name"),
        ("[[devices]]\nenabled = true", "id"),
        ("[[devices]]\nid = 7", "$.devices[0].id"),
        ("hatch = 1", "hatch"),
        ("[[devices]]\nid = 'a'\n[[devices]]\nid = 'a'", "the device a twice"),
        ("[[devices]]\nid = 'a'\nhub = 'h'\n[[devices]]\nid = 'a'\nhub = 'h'", "the device a of h twice"),
        ("[[hubs]]\nname = 'ab'\n[[hubs]]\nname = 'AB'", "the hub ab twice"),
        ("= 1", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, text)

    assert words in str(raised.value)
    assert str(raised.value).endswith(".")


def test_the_same_device_in_two_hubs_is_no_double(tmp_path: Path) -> None:
    seed = load(tmp_path, "[[devices]]\nid = 'a'\n[[devices]]\nid = 'a'\nhub = 'second'")

    assert len(seed.devices) == 2
