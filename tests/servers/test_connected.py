"""Who is connected here, and who waits for whom."""

import asyncio

import pytest

from isthmus.access.principal import Principal, PrincipalKind
from isthmus.base.errors import Code, HubError, Refusal
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.limits import METHODS_IN_FLIGHT_MAX
from isthmus.devices.ports import MethodAnswer
from isthmus.servers.gateway import connected as module
from isthmus.servers.gateway.connected import Connected
from servers.mqtt_world import FakePresence, MovedClock, settled

REF = DeviceRef(HubId(1), "dev1")
OTHER_HUB = DeviceRef(HubId(2), "dev1")


class FakeSession:
    """A session that leaves when it is replaced, and is gone when it is let go."""

    connected_ms = 0
    principal = Principal(PrincipalKind.DEVICE, "dev1", frozenset(), "device", "sas")

    def __init__(self, connected: Connected, ref: DeviceRef = REF) -> None:
        self.connected = connected
        self.ref = ref
        self.methods = True
        self.was_replaced = False
        self.released = asyncio.Event()

    def accepts_methods(self) -> bool:
        return self.methods

    async def invoke(self, name: str, payload: bytes) -> MethodAnswer:
        return MethodAnswer(200, payload)

    def desired_changed(self, patch: bytes, version: int) -> None: ...

    def c2d_available(self) -> None: ...

    def replaced(self) -> None:
        self.was_replaced = True
        self.connected.leave(self.ref, self)

    def cut(self, refusal: Refusal, code: Code) -> None: ...

    async def gone(self) -> None:
        await self.released.wait()


@pytest.fixture
def presence() -> FakePresence:
    """Who hears of connections."""
    return FakePresence()


@pytest.fixture
def connected(presence: FakePresence) -> Connected:
    """An empty registry."""
    return Connected(presence, MovedClock())


async def test_hubs_do_not_see_each_other(connected: Connected) -> None:
    session = FakeSession(connected)
    await connected.enter(REF, session)

    assert connected.find(REF) is session
    assert connected.find(OTHER_HUB) is None
    assert (connected.count(HubId(1)), connected.count(HubId(2))) == (1, 0)


async def test_a_device_is_found_with_its_modules(connected: Connected) -> None:
    for ref in (REF, DeviceRef(HubId(1), "dev1", "mod1"), DeviceRef(HubId(1), "dev2"), OTHER_HUB):
        await connected.enter(ref, FakeSession(connected, ref))

    assert {ref.name for ref, _ in connected.below(REF)} == {"dev1", "dev1/mod1"}


async def test_presence_hears_of_what_has_begun(connected: Connected, presence: FakePresence) -> None:
    session = FakeSession(connected)
    await connected.enter(REF, session)
    assert presence.told == []
    connected.begun(REF, session)
    connected.leave(REF, session)
    connected.left(REF, session)

    assert presence.told == [("dev1", "connected"), ("dev1", "disconnected")]
    assert connected.count(HubId(1)) == 0


async def test_the_newest_stays_and_waits_for_all_before_it(connected: Connected, presence: FakePresence) -> None:
    first, second, third = (FakeSession(connected) for _ in range(3))
    await connected.enter(REF, first)
    entering = [asyncio.create_task(connected.enter(REF, each)) for each in (second, third)]
    await settled()
    assert (first.was_replaced, second.was_replaced, third.was_replaced) == (True, True, False)
    second.released.set()
    await settled()
    assert not entering[1].done()
    first.released.set()
    await asyncio.gather(*entering)

    assert connected.find(REF) is third
    assert connected.count(HubId(1)) == 1
    connected.begun(REF, second)
    assert presence.told == []


async def test_who_comes_back_waits_for_what_it_held(connected: Connected) -> None:
    first, second = FakeSession(connected), FakeSession(connected)
    await connected.enter(REF, first)
    connected.leave(REF, first)
    entering = asyncio.create_task(connected.enter(REF, second))
    await settled()
    assert not entering.done()
    first.released.set()
    connected.left(REF, first)
    await entering


async def test_a_takeover_does_not_wait_for_ever(connected: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKEOVER_SECONDS_MAX", 0.01)
    await connected.enter(REF, FakeSession(connected))
    newcomer = FakeSession(connected)
    await connected.enter(REF, newcomer)

    assert connected.find(REF) is newcomer


async def test_waiting_for_nobody_ends(connected: Connected) -> None:
    assert await connected.wait(REF, 0) is None
    assert await connected.wait(REF, 0.01) is None


async def test_waiting_ends_when_methods_are_taken(connected: Connected) -> None:
    session = FakeSession(connected)
    session.methods = False
    await connected.enter(REF, session)
    waiting = [asyncio.create_task(connected.wait(REF, 60)) for _ in range(3)]
    await settled()
    connected.accepts_methods(REF)
    await settled()
    assert not any(task.done() for task in waiting)
    session.methods = True
    waiting[0].cancel()
    connected.accepts_methods(REF)

    assert await asyncio.gather(*waiting[1:]) == [session, session]
    assert await connected.wait(REF, 0) is session


async def test_who_waits_for_one_device_is_bounded(connected: Connected) -> None:
    waiting = [asyncio.create_task(connected.wait(REF, 60)) for _ in range(METHODS_IN_FLIGHT_MAX)]
    await settled()
    with pytest.raises(HubError) as caught:
        await connected.wait(REF, 60)

    assert caught.value.code is Code.IN_FLIGHT_METHODS_EXCEEDED
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
