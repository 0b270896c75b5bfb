"""The neighbours of an installation: made, found, changed and deleted beside its hubs, with numbers of their own."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.neighbours import neighbours as rules
from isthmus.neighbours.neighbours import Neighbours, namespaces, storage_accounts
from isthmus.resources.directory import Directory
from isthmus.resources.guarded import ResourceKind
from resources.world import World

EVENT_HUBS, SERVICE_BUS, STORAGE = ResourceKind.EVENT_HUBS, ResourceKind.SERVICE_BUS, ResourceKind.STORAGE


class Site:
    """A hub, and room for neighbours of both domains."""

    def __init__(self, world: World) -> None:
        self.world = world
        shared = (world.state, world.clock, world.ids, lambda: "hub.isthmus.test")
        self.spaces: Neighbours = namespaces(*shared)
        self.accounts: Neighbours = storage_accounts(*shared)
        self.directory = Directory(world.hubs, self.spaces, self.accounts)
        for each in (world.hubs, self.spaces, self.accounts):
            each.host_owner(self.directory.by_host)


@pytest.fixture
async def site() -> Site:
    return Site(await World().with_hub())


async def test_no_number_is_given_twice_whatever_it_is_for(site: Site) -> None:
    made = [
        await site.spaces.create(EVENT_HUBS, "plant-events"),
        await site.accounts.create(STORAGE, "plantstore"),
        await site.spaces.create(SERVICE_BUS, "plant-bus"),
    ]
    await site.spaces.delete("plant-events")
    made.append(await site.spaces.create(EVENT_HUBS, "plant-events"))
    (hub,) = site.world.hubs.all()
    numbers = [hub.number, *(each.number for each in made)]
    assert numbers == sorted(set(numbers))


async def test_everything_is_found_by_name_number_and_id(site: Site) -> None:
    account = await site.accounts.create(STORAGE, "plantstore")
    assert site.directory.by_host("PLANTSTORE.blob.isthmus.test:443") == account
    assert site.directory.by_number(account.number) == account
    assert site.directory.by_resource_id(account.resource_id.upper()) == account
    assert site.directory.require(account.resource_id) == account
    assert site.directory.by_resource_id(account.resource_id.replace("storageAccounts", "IotHubs")) is None
    assert {each.kind for each in site.directory.all()} == {ResourceKind.HUB, STORAGE}
    with pytest.raises(HubError, match="no resource"):
        site.directory.require("/nothing")


async def test_namespaces_of_both_kinds_share_their_names(site: Site) -> None:
    await site.spaces.create(EVENT_HUBS, "plant-one")
    for kind in (EVENT_HUBS, SERVICE_BUS):
        with pytest.raises(HubError) as caught:
            await site.spaces.create(kind, "Plant-One")
        assert caught.value.code is Code.CONFLICT
    with pytest.raises(HubError, match="no servicebus namespace plant-one here"):
        site.spaces.find(SERVICE_BUS, "plant-one")


async def test_a_host_name_is_one_resources_only(site: Site) -> None:
    await site.world.hubs.create("other", host_name="plantstore.blob.isthmus.test", partitions=1)
    with pytest.raises(HubError, match="belongs to the hub other"):
        await site.accounts.create(STORAGE, "plantstore")


async def test_what_was_made_is_there_after_a_restart(site: Site) -> None:
    account = await site.accounts.create(STORAGE, "plantstore", location="line 3")
    again = Site(site.world)
    await again.accounts.load()
    assert again.accounts.all() == (account,)


async def test_so_many_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "NEIGHBOURS_MAX", 2)
    small = Site(site.world)
    for number in range(2):
        await small.accounts.create(STORAGE, f"store{number}")
    with pytest.raises(HubError) as caught:
        await small.accounts.create(STORAGE, "store2")
    assert caught.value.code is Code.QUOTA_EXCEEDED


async def test_a_neighbour_that_is_not_here_has_no_connections_to_change(site: Site) -> None:
    with pytest.raises(HubError) as caught:
        await site.directory.change_connections("/nothing", lambda connections: connections)
    assert caught.value.code is Code.NOT_FOUND
