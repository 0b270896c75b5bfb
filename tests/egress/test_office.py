"""The hub's side of egress and its workers together: delivery, failure, death, deletion, room in the log."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from egress.world import COLD, HOT, PLANT, World, hub, until
from isthmus.routing.health import HealthStatus
from isthmus.routing.sink import FailureKind, SinkFailure, Unacceptable
from isthmus.telemetry.message import Envelope

Make = Callable[..., World]
NO_ROLE = SinkFailure(FailureKind.ROLE, "no role", "AuthorizationPermissionMismatch")
BUSY = SinkFailure(FailureKind.TRANSIENT, "busy", "ServerBusy")


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[World] = []

    def one(**options: object) -> World:
        made.append(World(tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for world in made:
        await world.close()


async def test_every_endpoint_gets_its_records_in_order_with_a_token_of_the_hub(make: Make) -> None:
    world = make()
    await world.office.start([PLANT])
    await world.write(b"a", b"b", partition=0)
    await world.write(b"c", partition=1)
    await world.write(b"d", partition=0, to=(1, 2))
    hot, cold = world.targets["hot"], world.targets["cold"]
    await until(lambda: len(hot.taken) == 4 and len(cold.taken) == 3)
    assert (hot.of(0), hot.of(1), cold.of(0)) == ([b"a", b"b", b"d"], [b"c"], [b"a", b"b"])
    assert set(hot.tokens) == {"token of 1 for https://target.example/.default"}
    assert hot.envelopes[0] == Envelope("pump")
    await until(lambda: world.office.health(PLANT.number, 2).status is HealthStatus.HEALTHY)
    await until(lambda: world.office.tally((PLANT.number, 2)).delivered == 4)


async def test_a_target_that_hangs_or_fails_delays_nobody(make: Make) -> None:
    world = make()
    cold = world.targets["cold"]
    cold.held = asyncio.Event()
    await world.office.start([PLANT])
    for place in range(50):
        await world.write(b"%d" % place)
    await until(lambda: len(world.targets["hot"].taken) == 50)
    assert cold.taken == []
    cold.held.set()
    await until(lambda: len(cold.taken) == 50)
    assert cold.payloads == [b"%d" % place for place in range(50)]


async def test_a_failure_shows_and_delivery_goes_on_by_itself_without_loss(make: Make) -> None:
    world = make()
    hot = world.targets["hot"]
    hot.failure = NO_ROLE
    await world.office.start([PLANT])
    await world.write(b"a", b"b")
    await until(lambda: world.office.health(PLANT.number, 2).status is HealthStatus.UNHEALTHY)
    assert world.office.health(PLANT.number, 2).last_code == "AuthorizationPermissionMismatch"
    hot.failure = None
    await world.write(b"c")
    await until(lambda: hot.payloads == [b"a", b"b", b"c"])
    await until(lambda: world.office.behind_bytes(PLANT.number, 2) == 0)


async def test_without_an_identity_the_reason_is_said_and_a_changed_one_is_used_at_once(make: Make) -> None:
    world = make()
    world.has_identity = False
    await world.office.start([PLANT])
    await world.write(b"a")
    await until(lambda: world.office.health(PLANT.number, 2).last_kind == "identity")
    assert "no identity" in world.office.health(PLANT.number, 2).last_reason
    world.has_identity = True
    made = world.targets["hot"].made
    identified = replace(PLANT, identity=replace(PLANT.identity, system=True, principal_id="p"))
    await world.office.resource_changed(PLANT, identified)
    await until(lambda: world.targets["hot"].payloads == [b"a"])
    assert world.targets["hot"].made == made + 1


async def test_outbound_rules_hold_from_the_change_on(make: Make) -> None:
    world = make()
    restricted = replace(PLANT, restrict_outbound=True, allowed_fqdns=("cold",))
    await world.office.start([restricted])
    await world.write(b"a")
    await until(lambda: world.office.health(PLANT.number, 2).last_kind == "outbound")
    assert world.targets["hot"].taken == []
    await world.office.resource_changed(restricted, replace(restricted, allowed_fqdns=("cold", "127.0.0.1")))
    lifted = replace(PLANT, endpoints=(replace(HOT, endpoint_uri="sb://127.0.0.1"), COLD))
    await world.office.resource_changed(restricted, lifted)
    await until(lambda: world.targets["hot"].payloads == [b"a"])


async def test_a_worker_that_dies_is_followed_by_one_that_goes_on(make: Make) -> None:
    world = make()
    await world.office.start([PLANT])
    await world.write(b"a")
    await until(lambda: world.targets["hot"].payloads == [b"a"])
    await until(lambda: world.office.behind_bytes(PLANT.number, 2) == 0)
    world.workers[0].cancel()
    await world.write(b"b")
    await until(lambda: world.targets["hot"].payloads == [b"a", b"b"])
    assert world.office.restarts == 1
    assert world.office.trouble == ""


async def test_a_restart_of_the_hub_goes_on_where_it_was(make: Make) -> None:
    world = make()
    await world.office.start([PLANT])
    await world.write(b"a")
    await until(lambda: world.targets["hot"].payloads == [b"a"])
    await world.office.close()
    await world.write(b"b")
    world.begin()
    await world.office.start([PLANT])
    await until(lambda: world.targets["hot"].payloads == [b"a", b"b"])


async def test_what_a_target_never_takes_is_a_dead_letter_and_the_rest_goes_on(make: Make) -> None:
    world = make()
    hot = world.targets["hot"]
    await world.office.start([hub(HOT)])
    hot.failure = Unacceptable(0, "too large")
    await world.write(b"large", to=(2,))
    await until(lambda: world.dead_letters.count(PLANT.number, 2) == 1)
    hot.failure = None
    await world.write(b"small", to=(2,))
    await until(lambda: hot.payloads == [b"small"])
    [dead] = world.dead_letters.listed(PLANT.number, 2)
    assert (dead.payload, dead.letter.reason) == (b"large", "too large")
    assert await world.dead_letters.redrive(PLANT, 2) == 1
    await until(lambda: hot.payloads == [b"small", b"large"])


async def test_a_message_that_its_enrichments_make_too_large_is_a_dead_letter(make: Make) -> None:
    world = make()
    await world.office.start([hub(HOT)])
    await world.write_stamped(b"x" * 262_140, {2: {"site": "Oslo"}})
    await until(lambda: world.dead_letters.count(PLANT.number, 2) == 1)
    [dead] = world.dead_letters.listed(PLANT.number, 2)
    assert "enrichments" in dead.letter.reason
    await world.write_stamped(b"small", {2: {"site": "Oslo"}, 3: {"site": "Bergen"}})
    await until(lambda: world.targets["hot"].payloads == [b"small"])
    assert world.targets["hot"].envelopes[0] == Envelope("pump", properties={"site": "Oslo"})


async def test_what_waits_for_a_dead_endpoint_is_buried_where_that_is_wanted(make: Make) -> None:
    world = make(bury_dead=True)
    world.targets["hot"].failure = NO_ROLE
    await world.office.start([hub(HOT)])
    await world.write(b"a", b"b", to=(2,))
    await until(lambda: world.dead_letters.count(PLANT.number, 2) == 2)
    reason = world.dead_letters.listed(PLANT.number, 2)[0].letter.reason
    assert reason == "the endpoint is dead; the last error: no role"
    world.targets["hot"].failure = None
    assert await world.dead_letters.redrive(PLANT, 2) == 2
    await until(lambda: world.targets["hot"].payloads == [b"a", b"b"])


async def test_an_owner_gives_up_on_what_waits_and_what_comes_later_waits_again(make: Make) -> None:
    world = make()
    hot = world.targets["hot"]
    hot.failure = BUSY
    await world.office.start([hub(HOT)])
    await world.write(b"a", b"b", to=(2,))
    world.office.bury_waiting(PLANT.number, 2, "given up by its owner")
    await until(lambda: world.dead_letters.count(PLANT.number, 2) == 2)
    await world.write(b"c", to=(2,))
    hot.failure = None
    await until(lambda: hot.payloads == [b"c"])
    assert await world.dead_letters.redrive(PLANT, 2) == 2
    await until(lambda: hot.payloads == [b"c", b"a", b"b"])


async def test_the_log_is_kept_for_an_endpoint_that_is_behind(make: Make) -> None:
    world = make()
    world.targets["cold"].failure = BUSY
    await world.office.start([PLANT])
    await _fill(world, 6)
    await until(lambda: world.office.behind_bytes(PLANT.number, 2) == 0)
    let_go = world.log.tick(world.clock.utc_ms(), world.office.keep_from())
    assert let_go > 0
    world.office.make_room(let_go)
    world.targets["cold"].failure = None
    await until(lambda: len(world.targets["cold"].taken) == len(world.targets["hot"].taken))
    await until(lambda: world.office.keep_from() or let_go <= 0)
    assert world.dead_letters.count(PLANT.number, 3) == 0


async def test_what_is_further_behind_than_the_log_is_kept_becomes_dead_letters(make: Make) -> None:
    world = make(pinned_bytes=1)
    cold = world.targets["cold"]
    cold.failure = BUSY
    await world.office.start([PLANT])
    await _fill(world, 6)
    await until(lambda: len(world.targets["hot"].taken) == 6 * 4)
    let_go = world.log.tick(world.clock.utc_ms(), world.office.keep_from())
    world.office.make_room(let_go)
    await until(lambda: (world.office.keep_from() or 0) >= let_go)
    assert world.log.counters.retired_segments == 0
    world.log.tick(world.clock.utc_ms(), world.office.keep_from())
    assert world.log.counters.retired_segments > 0
    buried = world.dead_letters.count(PLANT.number, 3)
    assert buried > 0
    letters = world.dead_letters.listed(PLANT.number, 3)
    assert "the log keeps" in letters[0].letter.reason
    assert "busy" in letters[0].letter.reason
    cold.failure = None
    await until(lambda: len(cold.taken) == 6 * 4 - buried)
    assert [each.payload for each in letters] + cold.payloads == world.targets["hot"].payloads


async def test_what_waits_for_a_deleted_endpoint_is_a_dead_letter_and_holds_nothing_back(make: Make) -> None:
    world = make()
    world.targets["cold"].failure = BUSY
    await world.office.start([PLANT])
    await world.write(b"a", b"b")
    await until(lambda: world.targets["cold"].attempts)
    await world.office.resource_changed(PLANT, hub(HOT))
    await until(lambda: world.ledger.names() == [(PLANT.number, 2)])
    assert [each.letter.reason.partition(";")[0] for each in world.dead_letters.listed(PLANT.number, 3)] == [
        "the endpoint was deleted"
    ] * 2


async def test_an_endpoint_that_was_deleted_while_the_hub_was_away_goes_as_well(make: Make) -> None:
    world = make()
    world.targets["cold"].failure = BUSY
    await world.office.start([PLANT])
    await world.write(b"a")
    await until(lambda: world.targets["cold"].attempts)
    await world.office.close()
    world.begin()
    await world.office.start([hub(HOT)])
    await until(lambda: world.ledger.names() == [(PLANT.number, 2)])
    assert [each.payload for each in world.dead_letters.listed(PLANT.number, 3)] == [b"a"]


async def test_a_deleted_hub_is_forgotten(make: Make) -> None:
    world = make()
    await world.office.start([PLANT])
    await world.write(b"a")
    await until(lambda: world.targets["hot"].taken)
    await world.office.resource_changed(PLANT, None)
    assert world.office.keep_from() is None
    await until(lambda: world.targets["hot"].closed == 1)


async def test_a_new_endpoint_gets_what_comes_and_nothing_that_was(make: Make) -> None:
    world = make()
    await world.office.start([hub()])
    assert world.workers == []
    await world.write(b"before")
    await world.office.resource_changed(hub(), hub(HOT))
    await world.write(b"after")
    await until(lambda: world.targets["hot"].payloads == [b"after"])


async def test_a_probe_says_what_is_wrong_and_makes_a_waiting_endpoint_try_again(make: Make) -> None:
    world = make()
    hot = world.targets["hot"]
    hot.failure = NO_ROLE
    await world.office.start([PLANT])
    with pytest.raises(SinkFailure) as refused:
        await world.office.probe(PLANT, HOT)
    assert (refused.value.kind, refused.value.code) == (FailureKind.ROLE, NO_ROLE.code)
    hot.failure = ValueError("a fault of the sink's own")
    with pytest.raises(SinkFailure, match="a fault of the sink's own"):
        await world.office.probe(PLANT, HOT)
    hot.failure = None
    await world.office.probe(PLANT, HOT)


async def _fill(world: World, segments: int) -> None:
    """Writes some segments' worth of records."""
    for place in range(segments * 4):
        await world.write(b"%04d" % place + bytes(2_040))
