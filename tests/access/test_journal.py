"""The journal: every decision is kept, a stranger can neither fill nor flush it, each door has its share."""

from dataclasses import dataclass, field, replace

import pytest

from devices.fakes import NOW_MS, StandingClock
from isthmus.access import journal as limits
from isthmus.access.journal import Decision, Journal, Verdict, source_prefix
from isthmus.backends.memory import MemoryState
from isthmus.base.state import JournalEntry, JournalFilter

STRANGER = Decision(
    Verdict.REFUSED,
    hub="hub",
    plane="mqtt",
    door="public",
    address="203.0.113.7",
    device="dev1",
    code="IotHubUnauthorizedAccess",
    hop="authentication",
    rule="auth.signature",
    value="the key of dev1",
    remedy="use the key in: isthmus connection-string --device-id dev1",
)
ALL = JournalFilter(limit=100_000)


@dataclass
class World:
    """A journal over a state in memory, at a time that stands."""

    clock: StandingClock = field(default_factory=StandingClock)
    state: MemoryState = field(default_factory=MemoryState)

    def __post_init__(self) -> None:
        self.journal = Journal(self.state, self.clock)

    def refuse(self, times: int, decision: Decision = STRANGER) -> int:
        """How many of so many refusals were stored by themselves."""
        return sum(self.journal.write(decision) for _ in range(times))

    def next_minute(self) -> None:
        self.clock.now_ms += 60_000
        self.journal.close_minute(self.clock.now_ms)

    async def all(self) -> list[Decision]:
        return await self.journal.read(ALL)


async def test_a_decision_is_read_as_it_was_written() -> None:
    world = World()
    world.journal.write(replace(STRANGER, tracking_id="T"))
    (read,) = await world.journal.read(JournalFilter(tracking_id="T"))
    assert read == replace(STRANGER, tracking_id="T", utc_ms=NOW_MS)


@pytest.mark.parametrize(
    "wanted",
    [
        JournalFilter(device="dev1"),
        JournalFilter(address="203.0.113.7"),
        JournalFilter(hub="hub", verdict="refused"),
        JournalFilter(since_ms=NOW_MS),
    ],
)
async def test_a_decision_is_found_by_what_the_owner_knows(wanted: JournalFilter) -> None:
    world = World()
    world.refuse(1)
    world.journal.write(Decision(Verdict.CHANGED, hub="other"))
    assert STRANGER.rule in [decision.rule for decision in await world.journal.read(wanted)]


async def test_the_newest_is_told_first_and_only_so_many() -> None:
    world = World()
    for rule in ("a", "b", "c"):
        world.refuse(1, replace(STRANGER, rule=rule))
    assert [decision.rule for decision in await world.journal.read(JournalFilter(limit=2))] == ["c", "b"]


async def test_a_flood_is_counted_and_told_once_a_minute() -> None:
    world = World()
    assert world.refuse(10_000) == limits.STORED_EACH_MAX
    world.next_minute()
    summary, *each = await world.all()
    assert len(each) == limits.STORED_EACH_MAX
    assert summary.count == 10_000 - limits.STORED_EACH_MAX
    assert (summary.address, summary.device, summary.rule) == ("203.0.113.0/24", "", "auth.signature")


async def test_the_next_minute_starts_anew() -> None:
    world = World()
    world.refuse(1_000)
    world.next_minute()
    assert world.refuse(1) == 1


async def test_a_summary_is_found_by_an_address_inside() -> None:
    world = World()
    world.refuse(limits.STORED_EACH_MAX + 3)
    world.next_minute()
    found = await world.journal.read(JournalFilter(address="203.0.113.7"))
    assert [decision.count for decision in found] == [3] + [1] * limits.STORED_EACH_MAX


async def test_planes_rules_and_sources_are_counted_apart() -> None:
    world = World()
    world.refuse(1_000)
    for other in (
        replace(STRANGER, plane="amqp"),
        replace(STRANGER, rule="auth.expired"),
        replace(STRANGER, address="203.0.114.7"),
        replace(STRANGER, address="2001:db8::1"),
        replace(STRANGER, door="private:plant"),
    ):
        assert world.refuse(1, other) == 1


async def test_one_source_cannot_use_up_its_doors_share() -> None:
    world = World()
    stored = sum(world.refuse(60, replace(STRANGER, rule=f"rule{number}")) for number in range(50))
    assert stored == limits.SOURCE_ENTRIES_MAX
    assert world.refuse(1, replace(STRANGER, address="198.51.100.1")) == 1


async def test_one_door_cannot_silence_another_nor_those_who_are_known() -> None:
    world = World()
    for network in range(100):
        world.refuse(60, replace(STRANGER, address=f"10.0.{network}.1"))
    assert world.refuse(1, replace(STRANGER, address="192.0.2.1")) == 0
    assert world.refuse(1, replace(STRANGER, door="private:plant")) == 1
    assert world.refuse(1, replace(STRANGER, principal="device:dev1", hop="contract", rule="contract.topic")) == 1
    world.next_minute()
    assert len(await world.all()) <= limits.DOOR_ENTRIES_MAX + 3


async def test_beyond_the_share_one_entry_a_minute_counts_everything() -> None:
    world = World()
    for network in range(100):
        world.refuse(60, replace(STRANGER, address=f"10.0.{network}.1"))
    world.next_minute()
    before = len(await world.all())
    for network in range(100):
        world.refuse(10, replace(STRANGER, address=f"10.1.{network}.1"))
    world.next_minute()
    newest, *older = await world.all()
    assert len(older) == before
    assert (newest.count, newest.address, newest.rule) == (1_000, limits.ELSEWHERE, "")


async def test_a_new_hour_gives_new_shares() -> None:
    world = World()
    for network in range(100):
        world.refuse(60, replace(STRANGER, address=f"10.0.{network}.1"))
    world.clock.now_ms += 3_600_000
    assert world.refuse(1) == 1


async def test_counters_are_bounded_and_nothing_is_lost_from_the_count() -> None:
    world = World()
    total = 0
    for network in range(limits.BUCKETS_PER_DOOR_MAX + 44):
        total += 25
        world.refuse(25, replace(STRANGER, address=f"10.{network // 250}.{network % 250}.1"))
    world.next_minute()
    assert sum(decision.count for decision in await world.all()) == total


async def test_what_was_allowed_and_changed_is_stored_each() -> None:
    world = World()
    for _ in range(500):
        world.journal.write(Decision(Verdict.ALLOWED, door="public", principal="device:dev1"))
        world.journal.write(Decision(Verdict.CHANGED, principal="uid:0"))
    assert len(await world.all()) == 1_000


async def test_the_end_of_the_process_stores_the_running_minute() -> None:
    world = World()
    world.refuse(limits.STORED_EACH_MAX + 1)
    world.journal.close_minute()
    assert (await world.all())[0].detail.startswith("1 more refusals")


async def test_what_strangers_write_is_cut_and_cannot_act_on_a_terminal() -> None:
    world = World()
    world.refuse(1, replace(STRANGER, device="\x1b[2J\ud800" + "x" * 10_000, value="a\nb"))
    (read,) = await world.all()
    assert read.device.startswith("\\x1b[2J\\ud800xxx")
    assert len(read.device) == limits.VALUE_CHARACTERS_MAX
    assert read.value == "a\\nb"


def test_a_body_that_the_store_replaced_is_still_told() -> None:
    entry = JournalEntry(1, NOW_MS, "hub", "dev1", "10.0.0.1", "T", "refused", b'{"cut":99999}', b"")
    decision = limits.decision_of(entry)
    assert (decision.verdict, decision.device, decision.tracking_id) == (Verdict.REFUSED, "dev1", "T")


@pytest.mark.parametrize(
    ("address", "prefix"),
    [("10.1.2.3", "10.1.2.0/24"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("unix", "unix"), ("", "")],
)
def test_sources_are_small_networks(address: str, prefix: str) -> None:
    assert source_prefix(address) == prefix
