"""The session index: finding by any part, cutting exactly those concerned, and hearing of the last end."""

import asyncio
from dataclasses import dataclass, field

import pytest

from isthmus.access.principal import Principal, PrincipalKind
from isthmus.base.errors import Code, Hop, Refusal
from isthmus.base.ids import HubId
from isthmus.network.door import PUBLIC_DOOR, Door, DoorKind
from isthmus.servers.gateway import sessions as sessions_module
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Sessions, Where

PRIVATE_DOOR = Door(DoorKind.PRIVATE, "/hubs/one", "plant")
REFUSAL = Refusal(Hop.NETWORK, "network.public-access", "Disabled", "Use a private endpoint.")
FIRST_HUB = HubId(1)
CODE = Code.UNAUTHORIZED


@dataclass(eq=False)
class Device:
    """A session that ends when it is told to."""

    sessions: Sessions
    hub: HubId = FIRST_HUB
    door: Door = PUBLIC_DOOR
    address: str = "10.0.0.1"
    name: str = "d1"
    device: str = "d1"
    key_fingerprint: str = "aa"
    plane: Plane = Plane.MQTT
    built_in: bool = False
    ends_at_once: bool = True
    cuts: list[tuple[Refusal, Code]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sessions.add(self)

    @property
    def principal(self) -> Principal:
        return Principal(PrincipalKind.DEVICE, self.name, frozenset(), "device", "sas", self.key_fingerprint)

    def cut(self, refusal: Refusal, code: Code) -> None:
        self.cuts.append((refusal, code))
        if self.ends_at_once:
            self.sessions.remove(self)


def test_sessions_are_found_by_any_part() -> None:
    sessions = Sessions()
    first = Device(sessions)
    second = Device(sessions, hub=HubId(2), door=PRIVATE_DOOR, address="10.0.0.2", name="d2", key_fingerprint="bb")
    third = Device(sessions, name="d2", device="d2/vision")

    assert sessions.all(HubId(1)) == (first, third)
    assert sessions.find(Where(door=PRIVATE_DOOR)) == (second,)
    assert sessions.find(Where(address="10.0.0.1")) == (first, third)
    assert sessions.find(Where(principal="device:d2")) == (second, third)
    assert sessions.find(Where(device_id="d2")) == (third,)
    assert sessions.find(Where(key_fingerprint="bb")) == (second,)
    assert sessions.find(Where(hub=HubId(1), principal="device:d2")) == (third,)
    assert sessions.find(Where(hub=HubId(2), address="10.0.0.1")) == ()
    assert sessions.find(Where()) == (first, second, third)


def test_removed_sessions_are_not_found() -> None:
    sessions = Sessions()
    device = Device(sessions)

    sessions.remove(device)
    sessions.remove(device)

    assert len(sessions) == 0
    assert sessions.find(Where(hub=HubId(1))) == ()


async def test_cut_concerns_exactly_those_chosen() -> None:
    sessions = Sessions()
    public, private, elsewhere = Device(sessions), Device(sessions, door=PRIVATE_DOOR), Device(sessions, hub=HubId(2))

    count = await sessions.cut(
        lambda each: REFUSAL if each.door == PUBLIC_DOOR else None, CODE, where=Where(hub=HubId(1))
    )

    assert count == 1
    assert public.cuts == [(REFUSAL, CODE)]
    assert private.cuts == elsewhere.cuts == []
    assert len(sessions) == 2


async def test_cut_answers_after_the_last_session_has_ended() -> None:
    sessions = Sessions()
    slow = [Device(sessions, ends_at_once=False) for _ in range(3)]

    cutting = asyncio.create_task(sessions.cut(lambda _: REFUSAL, CODE))
    for device in slow:
        await asyncio.wait([cutting], timeout=0)
        assert not cutting.done()
        sessions.remove(device)

    assert await asyncio.wait_for(cutting, 5) == 3


async def test_two_cuts_of_one_session_both_end() -> None:
    sessions = Sessions()
    device = Device(sessions, ends_at_once=False)
    cuts = [asyncio.create_task(sessions.cut(lambda _: REFUSAL, CODE)) for _ in range(2)]
    await asyncio.wait(cuts, timeout=0)

    sessions.remove(device)

    assert await asyncio.wait_for(asyncio.gather(*cuts), 5) == [1, 1]


async def test_sessions_that_do_not_end_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sessions_module, "CUT_SECONDS_MAX", 0.01)
    sessions = Sessions()
    Device(sessions, ends_at_once=False)

    assert await sessions.cut(lambda _: REFUSAL, CODE) == 1

    assert caplog.messages == ["cut sessions did not end"]


async def test_cutting_nobody_waits_for_nobody() -> None:
    assert await Sessions().cut(lambda _: REFUSAL, CODE) == 0
