"""The journal by the management API: records with their numbers, and making room; and that every route writes one."""

import pytest

from isthmus.access.journal import Verdict
from isthmus.backends.memory import MemoryState
from isthmus.base.state import JournalLimit, WhenFull
from servers.management_world import HUB, HUBS, OWNER, ManagementWorld


@pytest.fixture
async def world() -> ManagementWorld:
    return await ManagementWorld().start()


async def test_records_are_listed_with_their_numbers_the_newest_first(world: ManagementWorld) -> None:
    for name in ("one", "two", "six"):
        await world.ask("PUT", f"{HUBS}/{name}")
    records = (await world.ask("GET", "/audit?top=2")).json
    assert [(each["sequence"], each["hub"], each["principal"]) for each in records] == [
        (3, "six", OWNER),
        (2, "two", OWNER),
    ]
    assert (await world.ask("GET", "/audit/1")).json["hub"] == "one"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (f"who={OWNER}", [2, 1]),
        ("who=owner:uid:7", []),
        ("verdict=read", [2]),
        ("hub=hub", [2]),
        ("until=2026-01-01T00:00:00Z", []),
        ("until=2026-01-02", [2, 1]),
    ],
)
async def test_records_are_found_by_who_kind_hub_and_time(world: ManagementWorld, query: str, found: list[int]) -> None:
    await world.ask("PUT", f"{HUBS}/other")
    await world.ask("POST", f"{HUB}/listkeys")
    assert [each["sequence"] for each in (await world.ask("GET", f"/audit?{query}")).json] == found


async def test_a_record_that_is_not_there_is_told_with_those_that_are(world: ManagementWorld) -> None:
    await world.ask("POST", f"{HUB}/listkeys")
    assert "the journal holds 1 to 1" in (await world.ask("GET", "/audit/7")).message
    assert (await world.ask("GET", "/audit/x")).code == "ArgumentInvalid"
    assert (await world.ask("GET", "/audit/0")).code == "ArgumentInvalid"
    assert (await world.ask("DELETE", "/audit/1")).code == "GenericNotFound"


async def test_pruning_is_a_record_of_its_own(world: ManagementWorld) -> None:
    for _ in range(3):
        await world.ask("POST", f"{HUB}/listkeys")
    assert (await world.ask("POST", "/audit/prune", {"upTo": 2})).json == {"upTo": 2, "removed": 2}
    assert [(each.verdict, each.principal) for each in await world.noted()] == [
        (Verdict.READ, OWNER),
        (Verdict.PRUNED, OWNER),
    ]
    assert (await world.ask("POST", "/audit/prune", {"upTo": 9})).code == "ArgumentInvalid"
    assert (await world.ask("POST", "/audit/prune", {"upTo": True})).code == "ArgumentInvalid"


async def test_a_full_journal_refuses_changes_until_room_is_made() -> None:
    state = MemoryState(journal=JournalLimit(3, WhenFull.REFUSE_CHANGES))
    world = await ManagementWorld(state).start()
    for _ in range(3):
        await world.ask("POST", f"{HUB}/listkeys")
    refused = await world.ask("PATCH", HUB, {"tags": {"a": "b"}})
    assert (refused.status, refused.code) == (403, "IotHubQuotaExceeded")
    assert "isthmus audit prune" in refused.message
    assert (await world.ask("GET", HUB)).status == 200
    await world.ask("POST", "/audit/prune", {"upTo": 3})
    assert (await world.ask("PATCH", HUB, {"tags": {"a": "b"}})).status == 200
