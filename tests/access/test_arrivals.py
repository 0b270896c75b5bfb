"""Who came to a hub lately, as the journal of its admitted connections tells."""

import pytest

from devices.fakes import NOW_MS, StandingClock
from isthmus.access import arrivals as arrivals_module
from isthmus.access.arrivals import Arrival, arrivals
from isthmus.access.journal import BUILT_IN, Decision, Journal, Verdict, asked_of_group
from isthmus.backends.memory import MemoryState

PRESS = Arrival("press", "device:press", "10.0.0.7", "public", "mqtt")


class Diary:
    """A journal in memory, and a clock."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.journal = Journal(MemoryState(), self.clock)

    def came(self, arrival: Arrival, *, hub: str = "hub", verdict: Verdict = Verdict.ALLOWED) -> None:
        self.clock.now_ms += 1_000
        self.journal.write(
            Decision(
                verdict,
                hub=hub,
                plane=arrival.plane,
                door=arrival.door,
                address=arrival.address,
                device=arrival.device,
                principal=arrival.principal,
                asked=arrival.asked,
            )
        )


async def test_the_latest_of_equal_arrivals_counts() -> None:
    diary = Diary()
    other = Arrival("press", "device:press", "10.0.0.8", "public", "mqtt")
    for each in (PRESS, other, PRESS):
        diary.came(each)
    found = await arrivals(diary.journal, "hub", 0)
    assert found.seen == {PRESS: NOW_MS + 3_000, other: NOW_MS + 2_000}
    assert found.complete


async def test_only_what_was_admitted_to_that_hub_since_then_counts() -> None:
    diary = Diary()
    diary.came(PRESS)
    diary.came(PRESS, hub="other")
    diary.came(PRESS, verdict=Verdict.REFUSED)
    assert (await arrivals(diary.journal, "hub", NOW_MS + 1_001)).seen == {}
    assert (await arrivals(diary.journal, "hub", NOW_MS + 1_000)).seen == {PRESS: NOW_MS + 1_000}


async def test_long_journals_are_read_in_pages_and_many_arrivals_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals_module, "PAGE_ENTRIES", 3)
    monkeypatch.setattr(arrivals_module, "ARRIVALS_MAX", 8)
    diary = Diary()
    every = [Arrival(f"d{n}", f"device:d{n}", "10.0.0.7", "public", "mqtt") for n in range(9)]
    for each in every[:8]:
        diary.came(each)
    found = await arrivals(diary.journal, "hub", 0)
    assert (set(found.seen), found.complete) == (set(every[:8]), True)
    diary.came(every[8])
    found = await arrivals(diary.journal, "hub", 0)
    assert (set(found.seen), found.complete) == (set(every[1:]), False)


@pytest.mark.parametrize(
    ("arrival", "group", "built_in", "policy", "device_id"),
    [
        (PRESS, "", False, "", "press"),
        (Arrival("press/vision", "policy:device", "a", "public", "mqtt"), "", False, "device", "press"),
        (Arrival("", "policy:service", "a", "public", "amqp", BUILT_IN), "", True, "service", ""),
        (Arrival("", "policy:service", "a", "public", "amqp", asked_of_group("b")), "b", True, "service", ""),
    ],
)
def test_what_an_arrival_means(arrival: Arrival, group: str, built_in: bool, policy: str, device_id: str) -> None:
    assert (arrival.consumer_group, arrival.built_in) == (group, built_in)
    assert (arrival.shared_access_policy, arrival.device_id) == (policy, device_id)
